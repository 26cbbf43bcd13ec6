#!/usr/bin/env bash
# Makes the Python environments of the oracles in the project's root: .venv-oracles and .venv-trl. One that is there
# and was made from the same requirements is left alone.
#
# usage: tests/oracles/install.sh [oracles] [trl]     (default: both)
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
python="${PYTHON:-python3}"

install_one() {
    local name="$1" venv="$root/.venv-$1" files=("$here/requirements-$1.txt") nodeps="$here/requirements-$1-nodeps.txt"
    [[ -f "$nodeps" ]] && files+=("$nodeps")
    local wanted
    wanted="$(cat "${files[@]}" | sha256sum | cut -d' ' -f1)"
    if [[ -x "$venv/bin/python" && "$(cat "$venv/.stamp" 2>/dev/null)" == "$wanted" ]]; then
        echo "oracles: $venv is up to date"
        return
    fi
    echo "oracles: installing $venv (PyTorch is large: this can take minutes)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check -r "$here/requirements-$name.txt"
    if [[ -f "$nodeps" ]]; then
        "$venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --no-deps -r "$nodeps"
    fi
    echo "$wanted" >"$venv/.stamp"
    echo "oracles: $venv is ready"
}

(($#)) || set -- oracles trl
for name in "$@"; do
    if [[ ! -f "$here/requirements-$name.txt" ]]; then
        echo "oracles: no environment is called '$name'; there are: oracles, trl" >&2
        exit 2
    fi
done
for name in "$@"; do
    install_one "$name"
done
