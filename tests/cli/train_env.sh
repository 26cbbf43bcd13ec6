#!/usr/bin/env bash
# Training and evaluation in environments: what a run leaves, and what it refuses. usage: train_env.sh LOGPI ROOT
. "$(dirname "$0")/lib.sh"
examples=$(dirname "$logpi")/examples
steps=(--env CartPole-v1 --n_envs 4 --n_timesteps 2000 --n_steps 50) # ten rollouts
ppo=("$logpi" train ppo "${steps[@]}" --batch_size 100 --n_epochs 4)
sum() { sha256sum <"$1/final/policy.safetensors"; }

# ---- help
expect 0 '^  train reinforce +.*' "$logpi" --help
expect 0 '^usage: logpi train reinforce --env ENV' "$logpi" train --help
for word in n_timesteps clip_range_vf init_kl_coef; do # both kinds of PPO
    expect 0 "^  --$word " "$logpi" train ppo --help
    expect 0 "^  --$word " "$logpi" train ppo --env CartPole-v1 -h
done
expect 0 '^       logpi train ppo \[--model MODEL\] --prompt TEXT' "$logpi" train ppo --help
expect 0 '^  --log_interval N .*\[100\]$' "$logpi" train a2c --help
"$logpi" train a2c --help | grep -q clip_range && wrong "the help of a2c has options of ppo"
expect 0 '^CartPole-v1 +4 numbers +one of 2 +500 +475  ' "$logpi" envs
expect 0 '^\[\{"name":"CartPole-v1",.*"action":\{"kind":"discrete","n":2\},"max_episode_steps":500,' "$logpi" envs --json

# ---- a run: its folder and what it prints
expect 0 '^2000 steps in [0-9.]+ s, [0-9]+ steps/s$' "${ppo[@]}" --log_interval 1 --output_dir "$work/run"
[ "$(grep -cE '^step [0-9]+/2000  return ([0-9.]+|-)  length ([0-9.]+|-)  kl -?[0-9.]+  [0-9]+ steps/s$' "$work/err")" = 10 ] ||
    wrong "not one line of progress a rollout"
grep -q "^logpi: the policy after 2000 steps is in $work/run/final/policy.safetensors$" "$work/err" ||
    wrong "the run does not say where its policy is"
grep -qE '^mean return of the last [0-9]+ episodes: [0-9.]+, length [0-9.]+$' "$work/out" || wrong "no mean return"
[ "$(cd "$work/run" && find . -type f | sort | xargs)" = './.lock ./config.yaml ./final/policy.safetensors ./metrics.jsonl' ] ||
    wrong "the folder of a run has other files: $(find "$work/run")"
[ "$(wc -l <"$work/run/metrics.jsonl")" = 10 ] || wrong "metrics.jsonl has not one line a rollout"

# The names of metrics are, in every line, Stable-Baselines3's for that algorithm and logpi's own: neither more nor fewer.
always='rollout/ep_len_mean rollout/ep_rew_mean time/episodes time/fps time/iterations time/rollout time/time_elapsed
    time/total_timesteps time/update train/entropy_loss train/explained_variance train/grad_norm train/learning_rate
    train/n_updates train/ratio_max_dev train/value_loss'
of_ppo='train/approx_kl train/clip_fraction train/clip_range train/loss train/policy_gradient_loss'
metrics() { # RUN NAME...
    local want line
    want=$(printf '%s\n' $always "${@:2}" | sort | xargs)
    while read -r line; do
        [ "$(grep -oE '"[a-z_]+/[a-z_]+":(-?[0-9.e-]+|null)[,}]' <<<"$line" | cut -d'"' -f2 | sort | xargs)" = "$want" ] && continue
        wrong "$1 does not have the metrics $want: $line"
        return
    done <"$1/metrics.jsonl"
}
metrics "$work/run" $of_ppo
for line in 'algo: ppo' 'env: CartPole-v1' 'n_envs: 4' 'n_timesteps: 2000' 'batch_size: 100' 'learning_rate: 0.0003' \
    'net_arch: \[64, 64\]' 'normalize_advantage: true' 'isa: (scalar|avx2|avx512|avx512_bf16)' "output_dir: $work/run" 'seed: 0'; do
    grep -qE "^$line$" "$work/run/config.yaml" || wrong "config.yaml lacks $line"
done
grep -qvE '^[a-z_]+: .+$' "$work/run/config.yaml" && wrong "config.yaml has lines that are no settings"

# ---- every algorithm: all its options are in config.yaml; Stable-Baselines3's name for the loss; JSON
for algorithm in reinforce a2c; do
    expect 0 "^\{\"env\":\"CartPole-v1\",\"algorithm\":\"$algorithm\",\"seed\":3,\"timesteps\":2000,.*\"eval_mean\":[0-9.]+,\"eval_std\":[0-9.]+,\"eval_episodes\":5,\"policy\":" \
        env -C "$work" "$logpi" train $algorithm "${steps[@]}" --seed 3 --eval_episodes 5 --json
    [ "$(wc -l <"$work/out")" = 1 ] || wrong "$algorithm --json prints more than an object"
    run=$work/runs/CartPole-v1-$algorithm-seed3
    [ "$(cut -d: -f1 <"$run/config.yaml" | sort)" = \
        "$( (echo algo; "$logpi" train $algorithm --help | sed -nE 's/^  --(\[no-\])?([a-z_]+).*/\2/p') | sort)" ] ||
        wrong "config.yaml of $algorithm has other keys than its help"
    grep -q "^output_dir: runs/CartPole-v1-$algorithm-seed3$" "$run/config.yaml" || wrong "config.yaml has not the folder of the run"
    metrics "$run" train/policy_loss
done
grep -q '^optimizer: rmsprop$' "$run/config.yaml" || wrong "a2c has not its own optimizer"
expect 0 '"eval_mean":null,"eval_std":null,"eval_episodes":0,' "${ppo[@]}" --json --output_dir "$work/json"

# ---- progress: none, every fifth rollout; on a terminal one line over and over
expect 0 'mean return' "${ppo[@]}" --output_dir "$work/second"
[ "$(grep -c '^step' "$work/err")" -lt 5 ] || wrong "more than a line of progress a second"
grep -q '^step 2000/2000' "$work/err" || wrong "the last line of progress is missing"
expect 0 'mean return' "${ppo[@]}" --log_interval 0 --output_dir "$work/quiet"
[ "$(grep -c '^step' "$work/err")" = 0 ] || wrong "--log_interval 0 shows progress"
expect 0 'mean return' "${ppo[@]}" --log_interval 5 --output_dir "$work/fifth"
[ "$(grep -o '^step [0-9]*' "$work/err" | xargs)" = 'step 1000 step 2000' ] || wrong "--log_interval 5 shows other steps"
if on_terminal "$work/shown" "${ppo[@]/#50/5}" --output_dir "$work/terminal"; then
    [ "$(tr -d '\n' <"$work/shown" | grep -o $'\rstep 2000/2000' | wc -l)" = 1 ] &&
        [ "$(grep -c 'step [0-9]*/2000' "$work/shown")" = 1 ] || wrong "a terminal gets more than one line of progress"
    [ "$(grep -o $'\rstep' "$work/shown" | wc -l)" -lt 100 ] || wrong "a terminal gets each of 100 rollouts"
    grep -q '^logpi: the policy after' "$work/shown" || wrong "on a terminal the line of progress does not end"
fi

# ---- settings reach the trainer
expect 0 'mean return' "${ppo[@]}" --learning_rate lin_0.001 --clip_range lin_0.2 --net_arch 16,8,4 --activation_fn relu \
    --output_dir "$work/linear"
awk -F'[:,{]' '{ for (i = 1; i < NF; i++) { # after k of 10 rollouts k tenths are gone
        if ($i == "\"train/learning_rate\"") rate = $(i + 1)
        if ($i == "\"train/clip_range\"") clip = $(i + 1) }
    bad += (rate - 0.0001 * (10 - NR)) ^ 2 > 1e-18 || (clip - 0.02 * (10 - NR)) ^ 2 > 1e-12 }
    END { exit NR != 10 || bad }' "$work/linear/metrics.jsonl" || wrong "a linear schedule is not linear"
grep -qa '"activation":"relu"' "$work/linear/final/policy.safetensors" || wrong "activation_fn does not reach the policy"
grep -qa '"actor.3.weight":{"dtype":"F32","shape":\[2,4\]' "$work/linear/final/policy.safetensors" ||
    wrong "net_arch does not reach the policy"
expect 0 'mean return' "${ppo[@]}" --net_arch '' --output_dir "$work/none"
grep -qa '"actor.0.weight":{"dtype":"F32","shape":\[2,4\]' "$work/none/final/policy.safetensors" || wrong "an empty net_arch has layers"
for way in '--n_epochs 3' '--gamma 0.9' '--gae_lambda 0.5' '--ent_coef 0.1' '--vf_coef 0.1' '--max_grad_norm 0.1' \
    '--no-normalize_advantage' '--clip_range 0.01' '--clip_range_vf 0.01' '--target_kl 1e-9' '--optimizer rmsprop' \
    '--optimizer_eps 0.1' '--seed 1' '--batch_size 70' '--n_steps 40' '--n_envs 5'; do
    # the last one counts: what is given twice is a mistake
    words=()
    skip=0
    for word in "${ppo[@]}"; do
        ((skip-- > 0)) && continue
        skip=0
        [ "$word" = "${way%% *}" ] && skip=1 && continue
        words+=("$word")
    done
    "${words[@]}" $way --output_dir "$work/way" >/dev/null 2>"$work/err" || wrong "$way: $(cat "$work/err")"
    [ "$(sum "$work/way")" != "$(sum "$work/run")" ] || wrong "$way changes nothing"
    rm -r "$work/way"
done

# ---- sizes that do not divide: one line of warning, and what was given in config.yaml
sizes() { # PATTERN OPTION...
    expect 0 "$1" "$logpi" train "${@:2}" --env CartPole-v1 --log_interval 0 --output_dir "$work/sizes" --overwrite
}
sizes '^logpi: warning: --batch_size 7 does not divide a rollout, n_steps 10 \* n_envs 1 = 10: the last of every 2 minibatches has 3 steps$' \
    ppo --n_steps 10 --batch_size 7 --n_timesteps 50
[ "$(wc -l <"$work/err")" = 2 ] || wrong "more than one line of warning"
grep -qx 'batch_size: 7' "$work/sizes/config.yaml" || wrong "config.yaml has another batch_size than the one given"
sizes '^logpi: warning: --batch_size 64 is larger than a rollout, n_steps 5 \* n_envs 4 = 20: every minibatch has 20 steps$' \
    ppo --n_steps 5 --n_envs 4 --n_timesteps 50
grep -qx 'batch_size: 64' "$work/sizes/config.yaml" || wrong "config.yaml has another batch_size than the default"
for way in 'ppo --n_steps 10 --n_envs 2 --batch_size 5' 'ppo --n_steps 10 --batch_size 10' 'a2c --n_steps 7' 'reinforce --n_steps 7'; do
    sizes 'mean return|no episode' $way --n_timesteps 50
    grep -q warning "$work/err" && wrong "$way is warned of"
done

"${ppo[@]}" --clip_range_vf lin_0.3 --output_dir "$work/vf" >/dev/null 2>&1
metrics "$work/vf" $of_ppo train/clip_range_vf

# ---- the same bits for any number of threads, and for the same seed
for threads in 1 2 3; do
    "$logpi" train ppo --env CartPole-v1 --n_envs 200 --n_steps 10 --n_timesteps 6000 --batch_size 500 --n_epochs 2 --seed 5 \
        --threads $threads --output_dir "$work/threads$threads" >/dev/null 2>&1 || wrong "training fails with $threads threads"
    [ "$(sum "$work/threads$threads")" = "$(sum "$work/threads1")" ] || wrong "$threads threads change the policy"
done
"${ppo[@]}" --output_dir "$work/again" >/dev/null 2>&1
[ "$(sum "$work/again")" = "$(sum "$work/run")" ] || wrong "the same seed gives another policy"

# ---- evaluation: of a run, of a file, the same as at the end of training
expect 0 '^CartPole-v1, the most likely actions: mean [0-9.]+, std [0-9.]+, n 7, mean length [0-9.]+$' "$logpi" eval "$work/run" --episodes 7
expect 0 '^CartPole-v1, sampled actions: mean' "$logpi" eval "$work/run/final/policy.safetensors" --stochastic
expect 0 '^\{"mean":[0-9.]+,"std":[0-9.]+,"n":20,"env":"CartPole-v1","deterministic":true,"mean_length":[0-9.]+,' \
    "$logpi" eval "$work/run" --episodes 20 --json --env CartPole-v1
cp "$work/out" "$work/folder"
"$logpi" eval "$work/run/final/policy.safetensors" --episodes 20 --json --threads 1 | cmp -s - "$work/folder" ||
    wrong "a run and its file are not evaluated alike"
"$logpi" eval "$work/run" --episodes 20 --json --seed 1 | cut -d, -f1-3 | cmp -s - <(cut -d, -f1-3 "$work/folder") &&
    wrong "another seed gives the same episodes"
"$logpi" eval "$work/run" --episodes 20 --json --stochastic | cut -d, -f1-3 | cmp -s - <(cut -d, -f1-3 "$work/folder") &&
    wrong "sampled actions are the most likely ones"
expect 0 '"eval_mean"' "${ppo[@]}" --eval_episodes 20 --json --output_dir "$work/evaluated"
[ "$(sed -E 's/.*"eval_mean":([^,]*),"eval_std":([^,]*),.*/\1 \2/' "$work/out")" = \
    "$(sed -E 's/.*"mean":([^,]*),"std":([^,]*),.*/\1 \2/' "$work/folder")" ] || wrong "eval and --eval_episodes disagree"

# ---- two runs do not mix
before=$(contents "$work/run")
expect 2 "$work/run holds a run already: choose another --output_dir, or --overwrite it" "${ppo[@]}" --output_dir "$work/run"
expect 2 'holds a run already' "$logpi" train a2c "${steps[@]}" --output_dir "$work/run/"
[ "$(contents "$work/run")" = "$before" ] || wrong "a run that is refused touches the folder"
expect 0 '^2000 steps' "${ppo[@]}" --seed 1 --output_dir "$work/run" --overwrite
[ "$(wc -l <"$work/run/metrics.jsonl")" = 10 ] && grep -q '^seed: 1$' "$work/run/config.yaml" || wrong "--overwrite mixes two runs"
mkdir -p "$work/part/final" && echo '{}' >"$work/part/metrics.jsonl"
expect 2 'part holds a run already' "${ppo[@]}" --output_dir "$work/part"
: >"$work/part/metrics.jsonl"
expect 0 '^2000 steps' "${ppo[@]}" --output_dir "$work/part" # nothing was done in it
mkdir -p "$work/lm/final" && touch "$work/lm/final/config.json" "$work/lm/config.yaml"
expect 2 'holds a run already' "${ppo[@]}" --output_dir "$work/lm"
expect 2 'lm has a file final/config.json of another kind of run' "${ppo[@]}" --output_dir "$work/lm" --overwrite
[ "$(contents "$work/lm" | wc -l)" = 2 ] || wrong "a run of another kind is touched"

mkdir -p "$work/backup/final" && touch "$work/backup/final/policy.safetensors.bak"
expect 2 'backup has a file final/policy.safetensors.bak of another kind of run' "${ppo[@]}" --output_dir "$work/backup" --overwrite
mkdir "$work/unlocked" && touch "$work/unlocked/.lock" # what a run that made no step leaves
expect 0 '^2000 steps' "${ppo[@]}" --output_dir "$work/unlocked"

# ---- nor do two at once, whether the first one has finished a step or not
long=("$logpi" train ppo --env CartPole-v1 --n_steps 1000000 --n_timesteps 1000000000 --batch_size 1000) # a step takes seconds
"${hearing[@]}" "${long[@]}" --output_dir "$work/two" >/dev/null 2>&1 &
first=$!
"${hearing[@]}" "${ppo[@]/2000/1000000000}" --output_dir "$work/three" >/dev/null 2>&1 &
second=$!
lines 3 "$work/three/metrics.jsonl"
for _ in $(seq 300); do [ -e "$work/two/metrics.jsonl" ] && break; sleep 0.1; done # empty, but the folder is locked
for run in two three; do
    expect 4 "another run is using $work/$run" timeout -s KILL 5 "${ppo[@]}" --output_dir "$work/$run"
    expect 4 "another run is using $work/$run" timeout -s KILL 5 "${ppo[@]}" --output_dir "$work/$run" --overwrite
done
kill -INT $first $second
wait $first $second
[ -z "$(ls "$work/two/final")" ] || wrong "a run that is refused leaves a policy"
expect 0 '^2000 steps' "${ppo[@]}" --output_dir "$work/three" --overwrite

# ---- --overwrite: an old run stays until there is something to put in its place
before=$(contents "$work/three")
expect 130 'stopped by signal 2; no step was finished: no policy is saved' "${stopped[@]}" "${long[@]}" --output_dir "$work/three" --overwrite
[ "$(contents "$work/three")" = "$before" ] || wrong "a run that is stopped before its first step removes the old one"
before=$(sum "$work/three")
"${hearing[@]}" "${ppo[@]/2000/1000000000}" --seed 7 --output_dir "$work/three" --overwrite >/dev/null 2>&1 &
pid=$!
for _ in $(seq 300); do grep -qs '^seed: 7$' "$work/three/config.yaml" && break; sleep 0.1; done
[ "$(sum "$work/three")" = "$before" ] || wrong "the old policy goes before there is a new one"
[ "$(grep -c '"time/iterations":1,' "$work/three/metrics.jsonl")" = 1 ] || wrong "metrics.jsonl has two runs"
kill -INT $pid
wait $pid
[ "$(sum "$work/three")" != "$before" ] || wrong "the old policy stays when there is a new one"

# ---- the command line: 2, one message, and no folder
refuse() { # PATTERN WORD...
    expect 2 "$1" "$logpi" train "${@:2}" --output_dir "$work/unmade"
    [ -e "$work/unmade" ] && wrong "a mistaken command line makes a folder: ${*:2}" && rm -r "$work/unmade"
}
expect 2 'train needs an algorithm: reinforce, a2c, ppo' "$logpi" train
refuse 'unknown algorithm "reinforced"; did you mean "reinforce"' reinforced
refuse 'unknown algorithm "dqn"; known: reinforce, a2c, ppo' dqn
refuse 'train ppo needs something to train: --env ENV, or --model MODEL' ppo
refuse 'train ppo needs something to train: --env ENV, or --model MODEL' ppo --n_envs 4
refuse 'an environment \(--env\) and a language model \(--model' ppo --env CartPole-v1 --model tiny
refuse 'an environment \(--env\) and a language model \(--model' ppo --prompt=a --env=CartPole-v1
expect 0 'PPO update step completed' "$logpi" train ppo --model "$tiny" --prompt --env --reward contains:a --max_new_tokens 2
refuse 'an environment is needed: --env ENV; logpi envs' a2c
refuse 'an environment is needed: --env ENV; logpi envs' reinforce --n_envs 2
refuse 'unknown environment "cartpole"; did you mean "CartPole-v1"' ppo --env cartpole
refuse 'unknown environment "CartPole-v0"; did you mean "CartPole-v1"' a2c --env CartPole-v0
refuse 'unknown environment "LunarLander"; logpi envs lists them' reinforce --env LunarLander
expect 2 '--env needs a value' "$logpi" train ppo --env
refuse 'unknown option --n_step; did you mean --n_steps' ppo "${steps[@]}" --n_step 3
refuse 'unknown option --clip_range' a2c "${steps[@]}" --clip_range 0.2
refuse 'train a2c takes no argument "CartPole-v1"' a2c "${steps[@]}" CartPole-v1
refuse 'n_envs is 0: it must lie in \[1, 65536\]' ppo --env CartPole-v1 --n_envs 0
refuse 'n_timesteps is 0: it must lie in' ppo --env CartPole-v1 --n_timesteps 0
refuse 'n_timesteps is "1e5": it must be a whole number' ppo --env CartPole-v1 --n_timesteps 1e5
refuse 'n_steps times --n_envs must be greater than 1, or --no-normalize_advantage' ppo --env CartPole-v1 --n_steps 1
refuse 'n_steps times --n_envs must be greater than 1' reinforce --env CartPole-v1 --n_steps 1
refuse 'a rollout of 10000000 steps of 65536 environments is too long' ppo --env CartPole-v1 --n_steps 10000000 --n_envs 65536
refuse 'batch_size is 0: it must lie in' ppo "${steps[@]}" --batch_size 0
refuse 'batch_size is 2147483648: it must lie in' ppo "${steps[@]}" --batch_size 2147483648
refuse 'batch_size must be greater than 1, or --no-normalize_advantage' ppo "${steps[@]}" --batch_size 1
for rate in lin_ lin_x linear_0.1 lin_lin_1 x ''; do
    refuse "learning_rate is \"$rate\": it must be a number in decimal digits \(0.001\), or lin_ and a number" ppo "${steps[@]}" \
        --learning_rate "$rate"
done
refuse 'learning_rate is -1: it must lie in \[0, ' ppo "${steps[@]}" --learning_rate -1
refuse 'clip_range is lin_-0.2: it must lie in \[0, ' ppo "${steps[@]}" --clip_range lin_-0.2
for arch in 64,,64 64, ,64 0 64x 64.5 2000000; do
    refuse "net_arch is \"$arch\": it must be whole numbers in \[1, 1048576\]" ppo "${steps[@]}" --net_arch $arch
done
refuse 'net_arch has 8 hidden layers: 7 at most' ppo "${steps[@]}" --net_arch 2,2,2,2,2,2,2,2
refuse 'activation_fn is "gelu": it must be one of tanh\|relu' ppo "${steps[@]}" --activation_fn gelu
refuse 'optimizer is "sgd": it must be one of adam\|rmsprop' a2c "${steps[@]}" --optimizer sgd
refuse 'gamma is 1.1: it must lie in' ppo "${steps[@]}" --gamma 1.1
expect 2 'name of --output_dir is empty' "${ppo[@]}" --output_dir ''
expect 2 'eval needs one policy' "$logpi" eval
expect 2 'eval needs one policy' "$logpi" eval "$work/run" "$work/run"
expect 2 'episodes is 0' "$logpi" eval "$work/run" --episodes 0
expect 2 'unknown environment "CartPole"; did you mean' "$logpi" eval "$work/run" --env CartPole
expect 2 'unknown verb "env"; did you mean "envs"' "$logpi" env
expect 2 'envs takes no argument' "$logpi" envs CartPole-v1
expect 2 'unknown verb "trian"; did you mean "train"' "$logpi" trian
# a policy of another shape than the environment's
for other in $("$logpi" envs | awk 'NR > 1 && !($2 == 4 && $6 == 2) { print $1 }'); do
    expect 2 "the policy takes 4 numbers and gives one of 2; $other has" "$logpi" eval "$work/run" --env "$other"
done

# ---- files that are no policies: 3
expect 3 'lm is a folder without final/policy.safetensors: the folder of a run .* or a .safetensors file is expected' "$logpi" eval "$work/lm"
expect 3 'No such file' "$logpi" eval "$work/nothing"
expect 3 'config.yaml: ' "$logpi" eval "$work/run/config.yaml"
policy=$work/run/final/policy.safetensors size=$(stat -c %s "$work/run/final/policy.safetensors")
for cut in 0 1 7 8 9 200 $((size / 2)) $((size - 4)) $((size - 1)); do
    head -c "$cut" "$policy" >"$work/cut.safetensors"
    expect 3 'cut.safetensors: ' "$logpi" eval "$work/cut.safetensors"
done
damage() { # SED-EXPRESSION PATTERN: in as many bytes
    LC_ALL=C sed "$1" "$policy" >"$work/damaged.safetensors"
    cmp -s "$policy" "$work/damaged.safetensors" && wrong "nothing is damaged: $1"
    expect 3 "damaged.safetensors: .*$2" "$logpi" eval "$work/damaged.safetensors"
}
damage 's/logpi policy 1/logpi policy 9/' 'it is no policy \(its format is "logpi policy 9"'
damage 's/"env":"CartPole-v1"/"env":"CartPole-v7"/' 'its environment is none that logpi has; --env ENV says which'
expect 0 'mean' "$logpi" eval "$work/damaged.safetensors" --env CartPole-v1
damage 's/"activation":"tanh"/"activation":"gelu"/' 'activation is "gelu"'
damage 's/"action":"discrete"/"action":"discrepe"/' 'action is "discrepe"'
damage 's/actor.1.weight/actor.9.weight/' ''
damage 's/"dtype":"F32"/"dtype":"X32"/' ''
damage 's/"shape":\[64,4\]/"shape":[64,8]/' ''
damage 's/"shape":\[64,4\]/"shape":[16,4]/' ''
(head -c $((size - 4)) "$policy" && printf '\0\0\xc0\x7f') >"$work/nan.safetensors"
expect 3 'nan.safetensors: a weight of the policy is no finite number' "$logpi" eval "$work/nan.safetensors"
"$logpi" train ppo --model "$tiny" --prompt a --reward contains:a --max_new_tokens 2 --output_dir "$work/language" >/dev/null 2>&1
expect 3 'language is a folder without final/policy.safetensors' "$logpi" eval "$work/language"
expect 3 'model.safetensors: it is no policy' "$logpi" eval "$work/language/final/model.safetensors"
expect 2 'language has a file final/[a-z_.]+ of another kind of run' "${ppo[@]}" --output_dir "$work/language" --overwrite

# ---- files that cannot be written: 4
touch "$work/file"
expect 4 'file' "${ppo[@]}" --output_dir "$work/file/run"
mkdir -p "$work/blocked/final/policy.safetensors"
expect 4 'final/policy.safetensors is there and is no regular file' "${ppo[@]}" --output_dir "$work/blocked" --overwrite
mkdir -p "$work/blocked2/diverged/policy.safetensors.logpi.tmp"
expect 4 'policy.safetensors.logpi.tmp is there and is no regular file' "${ppo[@]}" --output_dir "$work/blocked2" --overwrite
expect 4 'metrics.jsonl: File too large; the policy after [0-9]+ steps is not saved: .*File too large' \
    bash -c 'ulimit -f 2; exec "$@"' - "${ppo[@]}" --output_dir "$work/full"
[ -e "$work/full/final/policy.safetensors" ] && wrong "half a policy was left behind"
"${ppo[@]}" --output_dir "$work/unsaid" >/dev/full 2>"$work/err"
[ $? = 4 ] && grep -q 'could not write to standard output' "$work/err" && [ -s "$work/unsaid/final/policy.safetensors" ] ||
    wrong "results that do not reach stdout are no failure"

# ---- a run that diverges: one message, and the policy of the last whole step, beside final/
diverge=("$logpi" train ppo --env CartPole-v1 --n_envs 4 --n_steps 50 --batch_size 200 --n_epochs 1 --net_arch 64,64,64,64
    --activation_fn relu --max_grad_norm 0 --learning_rate 10000)
expect 5 'update after 400 timesteps: .*; the policy after 200 steps is in .*/gone/diverged/policy.safetensors$' "${diverge[@]}" \
    --output_dir "$work/gone"
[ -z "$(ls "$work/gone/final")" ] || wrong "a run that diverges writes final/"
expect 2 'gone holds a run already' "${ppo[@]}" --output_dir "$work/gone"
"${diverge[@]}" --n_timesteps 200 --output_dir "$work/whole" >/dev/null 2>&1
[ "$(sha256sum <"$work/gone/diverged/policy.safetensors")" = "$(sum "$work/whole")" ] || wrong "after a run that diverges the policy is not that of its last whole step"
# with 20 epochs at 20 times the rate it diverges in the first step
expect 5 'update after 200 timesteps: .*; no step was finished: no policy is saved' "${diverge[@]/#1/20}" --output_dir "$work/at_once"

cp -r "$work/whole" "$work/good"
before=$(contents "$work/good")
expect 5 'no step was finished' "${diverge[@]/#1/20}" --output_dir "$work/good" --overwrite
[ "$(contents "$work/good")" = "$before" ] || wrong "a run that makes no step removes the old one"
expect 5 'good/diverged/policy.safetensors$' "${diverge[@]}" --output_dir "$work/good" --overwrite
[ -z "$(ls "$work/good/final")" ] || wrong "beside diverged/ there is the final/ of another run"
expect 0 '^2000 steps' "${ppo[@]}" --output_dir "$work/good" --overwrite
[ -e "$work/good/diverged" ] && wrong "beside final/ there is the diverged/ of another run"

# ---- Ctrl-C: exit code 130, and what was learnt is kept
for signal in INT TERM; do
    "${hearing[@]}" "${ppo[@]/2000/1000000000}" --output_dir "$work/$signal" >"$work/out" 2>"$work/err" &
    pid=$!
    lines 3 "$work/$signal/metrics.jsonl"
    kill -$signal $pid
    wait $pid
    code=$?
    [ $code = $((128 + $(kill -l $signal))) ] || wrong "SIG$signal ends with $code"
    rollouts=$(wc -l <"$work/$signal/metrics.jsonl")
    [ "$(grep -c '^logpi: ' "$work/err")" = 2 ] && # the notice of the signal is the other one
        grep -q "^logpi: stopped by signal $(kill -l $signal); the policy after $((200 * rollouts)) steps is in $work/$signal/final/policy.safetensors$" "$work/err" ||
        wrong "SIG$signal does not say in one line what it left"
    expect 0 '^CartPole-v1, ' "$logpi" eval "$work/$signal"
done
expect 130 'stopped by signal 2' "${stopped[@]}" "$logpi" eval "$work/run" --episodes 16777216

# ---- figures
expect 0 '^env CartPole-v1 n_envs=64: [0-9]+ steps/s' "$logpi" bench env --seconds 0.05
expect 0 '"unit":"steps/s".*"threads":2,"env":"CartPole-v1","n_envs":200\}' "$logpi" bench env --n_envs 200 --threads 2 --seconds 0.05 --json
sed -E 's/.*"rate":([^,]*),.*"seconds":([^,]*),.*/\1 \2/' "$work/out" | awk '{ exit !(($1 * $2 - 200) ^ 2 < 1) }' ||
    wrong "the rate of bench env does not count environments"
expect 0 '^ppo CartPole-v1 n_envs=8: [0-9]+ steps/s' "$logpi" bench ppo --seconds 0.05
expect 2 'bench env has no option --d' "$logpi" bench env --d 3
expect 2 'bench ppo has no option --n_envs' "$logpi" bench ppo --n_envs 3
expect 2 'bench tape has no option --env' "$logpi" bench tape --env CartPole-v1
expect 2 'bench linear is of one thread' "$logpi" bench linear --threads 2
expect 130 'stopped by signal 2' "${stopped[@]}" "$logpi" bench ppo --seconds 60
expect 130 'stopped by signal 2' "${stopped[@]}" "$logpi" bench env --seconds 60

expect 0 '^100 episodes: mean return [0-9.]+, std [0-9.]+$' "$examples/04_ppo_cartpole" 2000
for steps in abc 12x 1e5; do
    expect 2 "^STEPS is \"$steps\": it must be a whole number$" "$examples/04_ppo_cartpole" $steps
done
for steps in '' 0 -5 99999999999999999999; do
    expect 1 'n_timesteps is .*: it must lie in \[1, 1e\+15\]$' "$examples/04_ppo_cartpole" "$steps"
done
grep -qE '__[at]san_init' "$logpi" || # a sanitizer needs its address space
    expect 1 'the system gave only|memory' bash -c 'ulimit -v 10000; exec "$@"' - "$examples/04_ppo_cartpole" 2000
finish
