# Sourced by the tests of the command line: expect CODE 'PATTERN' COMMAND..., and a summary.
set -u
logpi=$1 root=$2
tiny=$root/models/tiny.gguf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0 passed=0

wrong() {
    echo "WRONG: $*"
    failed=$((failed + 1))
}

# The command must exit with CODE, and its output (stdout, then stderr) must match the extended regular expression. A
# failure is one message, one line on stderr, beside progress and the notice that a signal came.
expect() {
    local code=$1 pattern=$2 got
    shift 2
    timeout 120 "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    if [ "$got" != "$code" ]; then
        wrong "exit code $got, not $code: $*"
        head -5 "$work/err"
    elif ! cat "$work/out" "$work/err" | grep -Eq -- "$pattern"; then
        wrong "no match for '$pattern': $*"
        cat "$work/out" "$work/err" | head -5
    elif [ "$code" != 0 ] && [ "$(grep -Evc '^step [0-9]+/[0-9]+ |^$|^== |^logpi: stopping \(' "$work/err")" -gt 1 ]; then
        wrong "more than one message: $*"
        head -8 "$work/err"
    elif grep -q Sanitizer "$work/err"; then
        wrong "a sanitizer complains: $*"
        head -20 "$work/err"
    else
        passed=$((passed + 1))
    fi
}

# A job in the background of a script ignores Ctrl-C; behind these words a program does not, wherever the tests run.
hearing=(env --default-signal=INT,TERM,HUP)
# These words before a command stop it by Ctrl-C after a second.
stopped=("${hearing[@]}" timeout --foreground --preserve-status -s INT 1)

# Runs a command on a pseudo-terminal; what it shows goes to a file. False, after saying so, where there are none (a bare
# chroot): the checks of it are then left out.
on_terminal() { # FILE COMMAND...
    local shown=$1
    shift
    if ! script -qec true /dev/null </dev/null >/dev/null 2>&1; then
        echo "no pseudo-terminal can be made here: checks are left out"
        return 1
    fi
    script -qec "$(printf '%q ' "$@")" /dev/null </dev/null >"$shown"
    return 0
}

# What a folder holds, to be compared.
contents() { (cd "$1" && find . -type f | sort | xargs -r sha256sum); }

# Waits until a file has so many lines, half a minute at most.
lines() { # COUNT FILE
    for _ in $(seq 300); do
        [ "$(wc -l 2>/dev/null <"$2" || echo 0)" -ge "$1" ] && return
        sleep 0.1
    done
    wrong "no $1 lines in $2"
}

finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}
