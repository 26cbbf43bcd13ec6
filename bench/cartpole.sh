#!/usr/bin/env bash
# The figures of CartPole-v1 in docs/performance.md: returns of three algorithms over several seeds, and the speed of PPO
# beside Stable-Baselines3 (in turn, where .venv-oracles has it). Two or three minutes. Exit code 1 if an algorithm does not
# reach what it should: PPO 500 on 9 of 10 seeds and never below 475, A2C and REINFORCE 475 on 4 of 5.
#   bench/cartpole.sh
set -euo pipefail
cd "$(dirname "$0")/.."
logpi=build/logpi python=.venv-oracles/bin/python
[ -x $logpi ] || { echo "cartpole.sh: $logpi is not there: ./run.sh --build makes it" >&2 && exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

zoo=(--n_envs 8 --n_timesteps 100000 --n_steps 32 --batch_size 256 --n_epochs 20 --gae_lambda 0.8 --gamma 0.98
    --ent_coef 0 --learning_rate lin_0.001 --clip_range lin_0.2)
a2c=(--n_envs 8 --n_timesteps 500000)
reinforce=(--n_envs 8 --n_steps 250 --learning_rate lin_0.005 --n_timesteps 1000000)

# returns NAME SEEDS ALGORITHM OPTION...: a line with the mean return of 100 episodes for each seed, into $work/NAME too
returns() {
    local name=$1 seeds=$2
    shift 2
    for ((seed = 0; seed < seeds; seed++)); do
        $logpi train "$@" --env CartPole-v1 --seed "$seed" --log_interval 0 --output_dir "$work/$name$seed" >/dev/null 2>&1
        $logpi eval "$work/$name$seed" --episodes 100 --seed 10000 --json | sed -n 's/.*"mean":\([0-9.]*\).*/\1/p'
    done >"$work/$name"
    echo "$name: $(xargs <"$work/$name")"
}
count() { awk -v least="$2" '$1 >= least { n++ } END { print n + 0 }' "$work/$1"; }

echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1); $($logpi --version)"
returns ppo 10 ppo "${zoo[@]}"
returns a2c 5 a2c "${a2c[@]}"
returns reinforce 5 reinforce "${reinforce[@]}"

if $python -c 'import stable_baselines3' 2>/dev/null; then
    for i in 1 2 3; do
        ours=$($logpi bench ppo --threads 0 --seconds 2 --json | sed -n 's/.*"rate":\([0-9.e+]*\).*/\1/p')
        theirs=$($python -W ignore bench/sb3_cartpole.py 20000)
        awk -v a="$ours" -v b="$theirs" 'BEGIN { printf "steps/s: logpi %.0f, Stable-Baselines3 %.0f: %.1f times\n", a, b, a / b }'
    done
fi
[ "$(count ppo 500)" -ge 9 ] && [ "$(count ppo 475)" = 10 ] && [ "$(count a2c 475)" -ge 4 ] && [ "$(count reinforce 475)" -ge 4 ]
