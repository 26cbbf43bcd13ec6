#!/usr/bin/env bash
# Installs what is missing, builds logpi, and runs the three programs of "Policy Gradient 101", one rung after the other.
#   ./run.sh           all of it
#   ./run.sh --build   install, build and fetch the model, run nothing; the program is then build/logpi
set -euo pipefail
cd "$(dirname "$0")"
. tools/install.sh

case ${1:-} in
'' | --build) ;;
--help | -h)
    sed -n '2,4s/^# //p' "$0"
    exit 0
    ;;
*) die "unknown option $1; known: --build" ;;
esac

need_packages "${BUILD_PACKAGES[@]}"
build release logpi-cli 01_softmax 02_autograd 03_ppo_language_model
if [ "${1:-}" = --build ]; then
    ( # what is built is of use without the model, too
        die() { say "warning: $*; until then use --model tiny, or a GGUF file of yours" && exit 1; }
        need_smollm2
    ) || true
    say "built: build/logpi"
    exit 0
fi
need_smollm2

show() {
    say "$1"
    shift
    printf '$'
    printf ' %q' "$@"
    printf '\n'
    "$@"
    echo
}

show "Rung 1: the softmax policy, its gradient written out by hand (the NumPy program)" \
    build/logpi step --d 4 --k 2 --learning-rate 0.01 --advantage 1 --rng numpy --seed 0
show "Rung 2: the same by automatic differentiation (the PyTorch program)" \
    build/logpi step --autograd --d 4 --k 3 --reward 1 --rng torch --seed 0
show "Rung 3: PPO on a pretrained language model (the TRL program)" \
    build/logpi train ppo --model smollm2 \
    --prompt "This is a test. Generate a sentence that includes the word:" --reward contains:reward \
    --learning_rate 1e-5 --batch_size 1 --mini_batch_size 1 --ppo_epochs 4 --init_kl_coef 0.01 --steps 1
