#!/usr/bin/env bash
# The layers point one way: a file includes only headers of its own layer and of those that its layer may see; the
# command line, the examples and the public headers see public headers only. And no source file is over 800 lines.
set -u
cd "$(dirname "$0")/../.." || exit 1

declare -A may=(
    [base]="base"
    [kernels]="base kernels"
    [tensor]="base kernels tensor"
    [pg]="base kernels tensor pg"
    [nn]="base kernels tensor nn"
    [env]="base env"
    [run]="base kernels tensor run"
    [text]="base kernels tensor text"
    [lm]="base kernels tensor nn text lm"
    [train]="base kernels tensor pg nn run env text lm train"
)
passed=0 failed=0
wrong() {
    echo "layers: $1"
    failed=$((failed + 1))
}

check_include() { # file layer header
    local target=${3%%/*} allowed=${may[$2]}
    [[ $3 == */* ]] || return 0 # a neighbour in its own folder
    [[ $3 == logpi/* ]] && { target=${3#logpi/} && target=${target%.h}; }
    [[ " $allowed " == *" $target "* ]] || wrong "$1 (layer $2) must not include $3"
}

while read -r file; do
    case $file in
    src/*/*)
        layer=${file#src/} layer=${layer%%/*}
        [[ -n ${may[$layer]:-} ]] || wrong "$file: no such layer: $layer"
        while read -r header; do check_include "$file" "$layer" "$header"; done < <(
            sed -nE 's/^ *# *include +"([^"]+)".*/\1/p; s/^ *# *include +<(logpi\/[^>]+)>.*/\1/p' "$file")
        ;;
    cli/* | examples/* | include/*)
        while read -r header; do
            [[ $header == cli.h || $header == bench.h || $header == train_lm.h ]] && [[ $file == cli/* ]] ||
                [[ $header == lessons/lesson.h && $file == cli/lesson.c ]] ||
                [[ $header == lesson*.h && $file == cli/lessons/* ]] || wrong "$file must not include \"$header\""
        done < <(sed -nE 's/^ *# *include +"([^"]+)".*/\1/p' "$file")
        ;;
    esac
    lines=$(wc -l <"$file")
    ((lines <= 800)) || wrong "$file has $lines lines, over 800: it is two ideas"
    passed=$((passed + 1))
done < <(find src cli examples include tests tools bench -name '*.[ch]' -o -name '*.inc' -o -name '*.py' | sort)

while read -r file; do
    lines=$(wc -l <"$file")
    ((lines <= 40)) || wrong "$file has $lines lines: an example has at most 40"
done < <(find examples -name '*.c')

echo "layers: $passed files read, $failed mistakes"
((failed == 0 && passed > 0))
