#!/usr/bin/env bash
# logpi train grpo: what it prints, its folder, its metrics, and what it refuses. usage: train_grpo.sh LOGPI ROOT
. "$(dirname "$0")/lib.sh"
grpo=("$logpi" train grpo --model "$tiny" --reward contains:e --max_completion_length 8)

printf 'One, two\nThree, four\n' >"$work/prompts.txt"
expect 0 'train grpo' "$logpi" train --help
expect 0 '^  --num_generations N +.*\[8\]' "$logpi" train grpo --help
expect 0 'GRPO update step completed' "${grpo[@]}" --prompts "$work/prompts.txt" --num_prompts 2
expect 0 '^  ratio_max_dev +0$' "${grpo[@]}" --prompts "$work/prompts.txt"
[ "$("${grpo[@]}" --prompts "$work/prompts.txt" --num_prompts 2 | grep -c '^Generated response: ')" = 16 ] ||
    wrong "not every completion is printed"
expect 0 'mean reward of the last 48 samples: ' "${grpo[@]}" --prompt a --max_steps 6 --num_iterations 2 --num_prompts 2
expect 0 '^step 2/2  reward .*  kl .*  length 8\.0 ' "${grpo[@]}" --prompt a --max_steps 2 --beta 0.04


# ---- what log pi is of: sampled from the kept tokens, the ratio is 1, in PPO too; otherwise there is nothing to compare
limits='--top_k 30 --top_p 0.9 --min_p 0.01 --min_new_tokens 3 --temperature 0.8'
ppo=("$logpi" train ppo --model "$tiny" --reward contains:e --max_new_tokens 8 --batch_size 4 --mini_batch_size 2)
for logp in sampled tempered raw; do
    dev=$([ $logp = sampled ] && echo 0.0 || echo null)
    # shellcheck disable=SC2086
    expect 0 "\"ratio_max_dev\":$dev[,}]" "${grpo[@]}" --prompt a $limits --logp $logp --json
    # shellcheck disable=SC2086
    expect 0 "\"ratio_max_dev\":$dev[,}]" "${ppo[@]}" --prompt a $limits --logp $logp --json
done
expect 0 '"ratio_max_dev":0.0[,}]' "${grpo[@]}" --prompt a --temperature 0.8 --logp tempered --json
expect 0 '"ratio_max_dev":0.0[,}]' "${ppo[@]}" --prompt a --logp raw --dtype bfloat16 --json
expect 0 '"ratio_max_dev":0.0[,}]' "${ppo[@]}" --prompt a --temperature 0 --json
for verb in ppo grpo; do
    expect 0 '^  --logp sampled\|tempered\|raw +.*\[sampled\]' "$logpi" train $verb --model "$tiny" --help
    expect 0 '^  --min_p P +.*\[0\]' "$logpi" train $verb --model "$tiny" --help
done
expect 2 '--logp tempered divides logits by --temperature, which is 0' "${ppo[@]}" --prompt a --temperature 0 --logp tempered
expect 2 '"whole".*sampled\|tempered\|raw' "${grpo[@]}" --prompt a --logp whole
expect 2 'min_p.*must lie in \[0, 1\]' "${ppo[@]}" --prompt a --min_p 2

# ---- the folder
expect 0 'the weights after 3 whole steps are in ' "${grpo[@]}" --prompts "$work/prompts.txt" --max_steps 3 --beta 0.04 \
    --exact_kl --learning_rate 1e-3 --output_dir "$work/run"
[ "$(cd "$work/run" && find . -type f | sort | xargs)" = \
    './.lock ./config.yaml ./final/chat_template.jinja ./final/config.json ./final/generation_config.json ./final/model.safetensors ./final/tokenizer.json ./final/tokenizer_config.json ./metrics.jsonl' ] || wrong "the run has other files"
[ "$(wc -l <"$work/run/metrics.jsonl")" = 3 ] || wrong "not a line of metrics a step"
for line in 'algo: grpo' 'beta: 0.04' 'num_generations: 8' 'max_steps: 3' 'loss_type: dapo'; do
    grep -qx "$line" "$work/run/config.yaml" || wrong "config.yaml lacks $line"
done
[ "$(cut -d: -f1 <"$work/run/config.yaml" | sort | xargs)" = \
    "$({ echo algo; "$logpi" train grpo --help | sed -nE 's/^  --(\[no-\])?([a-z0-9_]+).*/\2/p'; } | sort | xargs)" ] ||
    wrong "config.yaml has other keys than the help"
for name in step loss grad_norm learning_rate num_tokens completions/mean_length completions/min_length completions/max_length \
    completions/clipped_ratio completions/mean_terminated_length completions/min_terminated_length \
    completions/max_terminated_length reward reward_std rewards/contains/mean rewards/contains/std frac_reward_zero_std \
    entropy kl kl/exact clip_ratio/low_mean clip_ratio/low_min clip_ratio/high_mean clip_ratio/high_max clip_ratio/region_mean \
    ratio_max_dev step_time; do
    [ "$(grep -c "\"$name\":" "$work/run/metrics.jsonl")" = 3 ] || wrong "metrics.jsonl lacks $name"
done
[ "$(grep -c '"ratio_max_dev":0,' "$work/run/metrics.jsonl")" = 3 ] || wrong "ratio_max_dev is not 0"
expect 2 'holds a run already' "${grpo[@]}" --prompt a --output_dir "$work/run"
expect 0 'completed' "${grpo[@]}" --prompt a --output_dir "$work/run" --overwrite
# the folder of a PPO run has a file that this one has not
expect 0 'completed' "$logpi" train ppo --model "$tiny" --prompt a --reward contains:e --max_new_tokens 2 --output_dir "$work/ppo"
expect 2 'value_head.safetensors of another kind of run' "${grpo[@]}" --prompt a --output_dir "$work/ppo" --overwrite

# ---- the same bits for any number of threads and any micro-batch; JSON
for how in '--threads 1' '--threads 3 --micro_batch_size 1' '--threads 2 --micro_batch_size 5'; do
    # shellcheck disable=SC2086
    "${grpo[@]}" --prompts "$work/prompts.txt" --num_prompts 2 --max_steps 4 --num_iterations 2 --learning_rate 1e-3 \
        --json $how --output_dir "$work/bits" --overwrite 2>/dev/null | grep -o '"loss":[^,]*' >>"$work/losses"
    sha256sum <"$work/bits/final/model.safetensors" >>"$work/sums"
done
[ "$(sort -u "$work/sums" | wc -l)" = 1 ] || wrong "threads or micro-batches change the weights"
[ "$(wc -l <"$work/losses")" = 6 ] || wrong "--json does not print an object a step"

# ---- what ends a run
expect 5 'the weights after [0-9]+ whole steps? are in .*/diverged|no step was finished' "${grpo[@]}" --prompt a --max_steps 39 --beta 0.04 \
    --num_iterations 3 --learning_rate 1e6 --lr_scheduler_type constant --output_dir "$work/diverged"
expect 130 'stopped by signal 2; ' "${stopped[@]}" "${grpo[@]}" --prompt a --max_steps 100000000 --output_dir "$work/stopped"
[ -s "$work/stopped/final/model.safetensors" ] || wrong "a stopped run has no weights"

# ---- mistakes
expect 2 'a prompt is needed' "${grpo[@]}"
expect 2 'a reward is needed' "$logpi" train grpo --model "$tiny" --prompt a
expect 2 'unknown reward "length"' "$logpi" train grpo --model "$tiny" --prompt a --reward length
expect 2 'did you mean --num_generations' "${grpo[@]}" --prompt a --num_generation 4
expect 2 'must lie in \[2, 4096\]' "${grpo[@]}" --prompt a --num_generations 1
expect 2 '"gspo".*dapo|loss_type' "${grpo[@]}" --prompt a --loss_type gspo
expect 2 '--num_iterations 3 does not divide --max_steps 4' "${grpo[@]}" --prompt a --num_iterations 3 --max_steps 4
expect 2 'does not divide the batch' "${grpo[@]}" --prompt a --per_device_train_batch_size 3
expect 2 'takes no argument "x"' "${grpo[@]}" --prompt a x
expect 3 'neither a file nor a known name' "$logpi" train grpo --model nothing --prompt a --reward contains:e
finish
