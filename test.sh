#!/usr/bin/env bash
# Installs what is missing, builds, and passes the tests.
#   ./test.sh             everything that needs no peer: layers, the tests in four builds (release; address and undefined-
#                         behaviour sanitizers; clang; no vector instructions), the thread sanitizer, mutants
#   ./test.sh --quick     the release build's tests only
#   ./test.sh --oracles   installs NumPy, PyTorch, transformers and TRL into .venv-* and compares live
set -euo pipefail
cd "$(dirname "$0")"
. tools/install.sh

passed=0 failed=0 skipped=0
result() { # NAME STATUS
    if [ "$2" = 0 ]; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        say "FAILED: $1"
    fi
}
check() { # NAME COMMAND...
    local name=$1 status=0
    shift
    "$@" || status=$?
    result "$name" "$status"
}

# The tests of one build; ctest's own counts go into ours.
suite() { # PRESET [CTEST OPTION...]
    local preset=$1 folder=build-$1 log=build-ctest.$$
    [ "$preset" = release ] && folder=build
    shift
    build "$preset"
    say "tests ($preset)"
    ctest --test-dir "$folder" --output-on-failure -j "$(nproc)" "$@" | tee "$log" || true
    local total good
    total=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#' "$log" || true)
    good=$(grep -cE '^ *[0-9]+/[0-9]+ Test +#.* Passed ' "$log" || true)
    rm -f "$log"
    [ "$total" -gt 0 ] || die "no test ran in the build $preset"
    passed=$((passed + good))
    failed=$((failed + total - good))
}

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}

need_packages "${BUILD_PACKAGES[@]}" libcmocka-dev
case ${1:-} in
--quick)
    suite release
    ;;
--oracles)
    . tests/oracles/run.sh
    ;;
'')
    need_packages clang:clang python3:python3
    check layers tests/layers/check.sh
    check "public headers in C++" clang -x c++ -std=c++17 -Wall -Wextra -Werror -Iinclude -fsyntax-only \
        include/logpi/logpi.h
    suite release
    suite asan
    suite tsan -R 'base/threads|kernels/gemm|^env|^nn|train/ppo'
    suite clang
    suite scalar
    check mutants tests/mutants/run.sh
    ;;
--help | -h)
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
*) die "unknown option $1; known: --quick, --oracles" ;;
esac
finish
