#!/usr/bin/env bash
# Reruns the learning experiment of docs/performance.md: PPO teaches SmolLM2 to use a word. Minutes a seed.
#   bench/learn.sh [SEED...]     default: 3 4 5
# Prints the machine and a line a seed; exit code 1 if a mean reward is below 0.95. For trying the script itself:
# LOGPI is the program, LEARN_MODEL the model, LEARN_STEPS the number of steps.
set -euo pipefail
logpi=${LOGPI:-$(dirname "$0")/../build/logpi}
[ -x "$logpi" ] || { echo "learn.sh: $logpi is not there: ./run.sh --build makes it" >&2 && exit 1; }
[ $# -gt 0 ] || set -- 3 4 5

echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1); $("$logpi" --version)"
low=0
for seed in "$@"; do
    closing=$("$logpi" train ppo --model "${LEARN_MODEL:-smollm2}" --chat \
        --prompt "This is a test. Generate a sentence that includes the word: reward" --reward contains:reward \
        --batch_size 16 --mini_batch_size 4 --ppo_epochs 2 --learning_rate 2e-5 --init_kl_coef 0.01 \
        --v_head_init zeros --max_new_tokens 32 --steps "${LEARN_STEPS:-30}" --seed "$seed" | tail -n 1)
    reward=${closing#*: } reward=${reward%%,*}
    [[ $reward =~ ^[0-9.]+$ ]] || { echo "learn.sh: the closing line of logpi was not understood: $closing" >&2 && exit 1; }
    echo "seed $seed: ${closing#mean }"
    awk "BEGIN { exit !($reward < 0.95) }" && low=1
done
exit $low
