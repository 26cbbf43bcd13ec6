#!/usr/bin/env bash
# Bad input: one clear message, the right exit code, no crash. usage: bad_input.sh LOGPI ROOT
. "$(dirname "$0")/lib.sh"
generate=("$logpi" generate --model "$tiny" --max_new_tokens 4)
train=("$logpi" train ppo --model "$tiny" --prompt hello --reward contains:e --max_new_tokens 4)

# ---- the command line: 2
expect 2 'usage' bash -c '"$1" 2>&1' - "$logpi"
expect 2 'unknown verb "genrate"; did you mean "generate"' "$logpi" genrate
expect 2 'unknown algorithm "pppo"' "$logpi" train pppo
expect 2 'did you mean --learning_rate' "${train[@]}" --learning_rat 1
expect 2 'did you mean --max_new_tokens' "${generate[@]}" --max-new-token 3 --prompt a
expect 2 'unknown verb "gen"; did you mean "generate"' "$logpi" gen
expect 2 'unknown option --adv; did you mean --advantage' "$logpi" step --adv 3
expect 2 'unknown option --; see --help' "$logpi" step --=3
expect 2 'unknown option -x' "${generate[@]}" -x
expect 2 'needs a value' "${generate[@]}" --prompt
expect 2 'no-adap_kl_ctrl takes no value; --adap_kl_ctrl=true says it' "${train[@]}" --no-adap-kl-ctrl=false
expect 2 'no-adap_kl_ctrl takes no value; --adap_kl_ctrl=false says it' "${train[@]}" --no-adap-kl-ctrl=true
expect 2 'unknown option --no_seed' "${train[@]}" --no_seed=1
expect 2 'given twice' "${train[@]}" --seed 1 --seed 2
expect 2 'must be a whole number' "${train[@]}" --batch_size 1.5
expect 2 'must be a number' "${train[@]}" --learning_rate abc
expect 2 'must be a number' "${train[@]}" --learning_rate nan
expect 2 'must lie in' "${train[@]}" --learning_rate -1
expect 2 'must lie in' "${train[@]}" --batch_size 0
expect 2 'must lie in' "${train[@]}" --gamma 1.5
expect 2 'must lie in' "${generate[@]}" --prompt a --top_p 0
expect 2 'must lie in' "${generate[@]}" --prompt a --temperature -1
expect 2 'must be true or false' "${train[@]}" --early_stopping=maybe
expect 2 'mini_batch_size 2 does not divide' "${train[@]}" --batch_size 3 --mini_batch_size 2
expect 2 'unknown reward "nonsense"' "$logpi" train ppo --model "$tiny" --prompt a --reward nonsense
expect 2 'unknown reward "contains:"' "$logpi" train ppo --model "$tiny" --prompt a --reward contains:
expect 2 'a reward is needed' "$logpi" train ppo --model "$tiny" --prompt a
expect 2 'a prompt is needed' "$logpi" train ppo --model "$tiny" --reward contains:a
expect 2 'kl_penalty is "k9"' "${train[@]}" --kl_penalty k9
expect 2 'rng is "mersenne"' "$logpi" step --rng mersenne
expect 2 'must lie in' "$logpi" step --d 0
expect 2 'with --rng numpy it must lie in \[0, 4294967295\]' "$logpi" step --rng numpy --seed 4294967296
expect 2 'isa is "mmx"' "${generate[@]}" --prompt a --isa mmx
expect 2 'LOGPI_ISA' env LOGPI_ISA=sse9 "${generate[@]}" --prompt a
expect 2 'info needs one model' "$logpi" info
expect 2 'bench needs one of' "$logpi" bench nothing
expect 2 'bench train has no option --new_tokens' "$logpi" bench train --model "$tiny" --new_tokens 3
expect 2 'the model was made for 256 at most' "$logpi" bench prefill --model "$tiny" --prompt_tokens 100000

expect 2 'LOGPI_ISA' env LOGPI_ISA=sse9 "$logpi" --version
expect 2 'LOGPI_ISA.*available here: scalar' env LOGPI_ISA=sse9 "$logpi" info "$tiny"
expect 2 'version takes no argument "foo"' "$logpi" --version foo
expect 0 '"text"' env LOGPI_ISA=sse9 "${generate[@]}" --prompt a --isa scalar --json
expect 0 'usage: logpi generate' env LOGPI_ISA=sse9 "$logpi" generate --help
expect 2 'LOGPI_ISA.*available here: scalar' env LOGPI_ISA=sse9 "$logpi" step

# ---- what the machine does not give is no mistake of the command line: 1 (a sanitizer needs its address space)
if ! grep -q __asan_init "$logpi"; then
    short=(bash -c 'ulimit -v 200000; exec "$@"' -)
    expect 1 'thread' "${short[@]}" "${generate[@]}" --prompt a --threads 256
    expect 1 'thread' env LOGPI_ISA=scalar "${short[@]}" "${generate[@]}" --prompt a --threads 256
    expect 1 'thread' "${short[@]}" "${generate[@]}" --prompt a --threads 256 --isa scalar
    expect 2 'LOGPI_ISA' env LOGPI_ISA=sse9 "${short[@]}" "${generate[@]}" --prompt a --threads 1
fi

# ---- what ends a text
expect 2 'stop string 2 is empty' "${generate[@]}" --prompt a --stop b --stop ''
expect 2 'stop string 1: invalid UTF-8' "${generate[@]}" --prompt a --stop "$(printf '\xe9')"
expect 2 'stop string 1 has more than 1024 bytes' "${generate[@]}" --prompt a --stop "$(printf 'x%.0s' {1..1025})"
expect 2 '17 stop strings' "${generate[@]}" --prompt a $(printf -- '--stop x %.0s' {1..17})
expect 2 'more than 64 of --stop' "${generate[@]}" --prompt a $(printf -- '--stop x %.0s' {1..65})
expect 2 'stop_tokens has 512: tokens are 0..511' "${generate[@]}" --prompt a --stop_token_ids 3,512
expect 2 'stop_token_ids' "${generate[@]}" --prompt a --stop_token_ids 3,x
expect 2 'stop_token_ids' "${generate[@]}" --prompt a --stop_token_ids -1
expect 2 'min_new_tokens is 5: it must lie in 0..max_new_tokens' "${generate[@]}" --prompt a --min_new_tokens 5
expect 2 'min_p' "${generate[@]}" --prompt a --min_p 1.5
expect 2 'batch_size' "${generate[@]}" --prompt a --batch_size -1
expect 2 'dtype is "float16"' "${generate[@]}" --prompt a --dtype float16
expect 2 'prompt_index is 1: it must lie in 0..0, of 1 prompt$' "${generate[@]}" --prompt a --prompt_index 1
expect 2 'prompt_index' "${generate[@]}" --prompt a --prompt_index -1

# ---- prompts
expect 2 'prompt 1 is empty' "${generate[@]}" --prompt ''
expect 2 'more than the context' "${generate[@]}" --prompt "$(printf 'word %.0s' {1..400})"
expect 2 'must lie in 1..255, one less than the context' "$logpi" train ppo --model "$tiny" --prompt a --reward contains:a --max_new_tokens 100000
expect 2 'prompt 1: .*UTF-8' "${generate[@]}" --prompt "$(printf 'caf\xe9')"
expect 2 'prompt 2: message 1: invalid UTF-8' "${generate[@]}" --chat --prompt a --prompt "$(printf 'caf\xe9')"
expect 3 'No such file' "${generate[@]}" --prompts "$work/none.txt"
: >"$work/empty.txt"
expect 3 'no prompts in it' "${generate[@]}" --prompts "$work/empty.txt"
printf '{"prompt": "a"}\n{"text": "b"}\n' >"$work/bad.jsonl"
expect 3 'bad.jsonl:2: "prompt" is missing' "${generate[@]}" --prompts "$work/bad.jsonl"
printf '{"prompt": \n' >"$work/bad.jsonl"
expect 3 'bad.jsonl:1: not JSON' "${generate[@]}" --prompts "$work/bad.jsonl"
printf 'a\0b\n' >"$work/zero.txt"
expect 3 'zero byte' "${generate[@]}" --prompts "$work/zero.txt"
printf '{"prompt": "a\\u0000b"}\n' >"$work/zero.jsonl"
expect 3 'zero.jsonl:1: "prompt" has a zero character \(.u0000\)' "${generate[@]}" --prompts "$work/zero.jsonl"
sed 's/llama.context_length\x04\x00\x00\x00\x00\x01/llama.context_length\x04\x00\x00\x00\x01\x00/' "$tiny" >"$work/short.gguf"
expect 2 'the context of this model is 1 token: no prompt' "$logpi" generate --model "$work/short.gguf" --prompt a

# all prompts and settings are checked before training, not at the step that reaches them, under the user's numbers
long=$(printf 'word %.0s' {1..400})
expect 2 'prompt 2 has [0-9]+ tokens' "${train[@]}" --prompt "$long" --output_dir "$work/unmade"
[ -e "$work/unmade" ] && wrong "a mistaken command line makes a folder"
expect 2 'prompt 2 has [0-9]+ tokens' "${generate[@]}" --prompt a --prompt "$long" --num_return_sequences 3
expect 2 'prompt 3 is empty' "${generate[@]}" --prompt a --prompt b --prompt '' --num_return_sequences 2
expect 2 'min_new_tokens is 5: it must lie in 0..max_new_tokens' "${train[@]}" --min_new_tokens 5
expect 2 'temperature is 1e-38' "${train[@]}" --temperature 1e-38
printf 'good\n\n%s\n' "$long" >"$work/long.txt"
expect 3 'long.txt:3: prompt 2 has' "${generate[@]}" --prompts "$work/long.txt"
expect 3 'long.txt:3: prompt 3 has' "${train[@]}" --prompts "$work/long.txt"
expect 2 'logpi: max_new_tokens is 256' "$logpi" generate --model "$tiny" --prompts "$work/long.txt" \
    --max_new_tokens 256
printf 'good\r\ncaf\xe9\n' >"$work/latin.txt"
expect 3 'latin.txt:2: prompt 2: .*UTF-8' "${train[@]:0:5}" --reward contains:e --prompts "$work/latin.txt"
printf '{"prompt": "a"}\n{"prompt": ""}\n' >"$work/none.jsonl"
expect 3 'none.jsonl:2: prompt 2 is empty' "${generate[@]}" --prompts "$work/none.jsonl"

# ---- model files: 3
expect 3 'neither a file nor a known name' "$logpi" info nosuchmodel
expect 3 'no config.json' "$logpi" info "$work"
expect 3 'No such file' "$logpi" info "$work/none.gguf"
printf 'PK\3\4archive/data.pkl' >"$work/model.pt"
expect 3 'refused: .*pickle, which can run code; convert it' "$logpi" generate --model "$work/model.pt" --prompt a
mkdir "$work/bin" && echo '{"model_type":"gpt2"}' >"$work/bin/config.json" && cp "$work/model.pt" "$work/bin/pytorch_model.bin"
expect 3 'pytorch_model.bin: refused: ' "$logpi" info "$work/bin"
gpt2=$(dirname "$0")/../fixtures/models/gpt2
expect 3 'name the folder' "$logpi" info "$gpt2/model.safetensors"
expect 2 'convert needs a model and where' "$logpi" convert "$tiny"
expect 2 'dtype.* float32\|float16\|bfloat16' "$logpi" convert "$tiny" "$work/x.gguf" --dtype int8
expect 3 'cannot create' "$logpi" convert "$tiny" "$work/none/x.gguf"
expect 3 'Not a directory' "$logpi" convert "$tiny" "$work/model.pt/x"
[ -e "$work/x.gguf" ] && wrong "a conversion that is refused writes"
: >"$work/e.gguf"
expect 3 'e.gguf' "$logpi" info "$work/e.gguf"
echo "this is no model, but it is long enough to hold a header" >"$work/t.gguf"
expect 3 'GGUF' "$logpi" info "$work/t.gguf"
size=$(stat -c %s "$tiny")
for cut in 3 20 100 5000 $((size / 2)) $((size - 1)); do
    head -c "$cut" "$tiny" >"$work/cut.gguf"
    expect 3 'cut.gguf' "$logpi" info "$work/cut.gguf"
done
cp "$tiny" "$work/v.gguf"
printf '\x63' | dd of="$work/v.gguf" bs=1 seek=4 conv=notrunc status=none
expect 3 'version' "$logpi" info "$work/v.gguf"
sed 's/llama/xlama/' "$tiny" >"$work/a.gguf"
expect 3 'architecture "xlama"' "$logpi" info "$work/a.gguf"
sed 's/blk.1.ffn_up.weight/blk.1.ffn_ub.weight/' "$tiny" >"$work/n.gguf"
expect 3 'blk.1.ffn_up' "$logpi" generate --model "$work/n.gguf" --prompt a
expect 3 'blk.1.ffn_up' "$logpi" info "$work/n.gguf"
sed 's/llama.block_count\x04\x00\x00\x00\x02/llama.block_count\x04\x00\x00\x00\x03/' "$tiny" >"$work/b.gguf"
expect 3 'blk.2.attn_norm' "$logpi" info "$work/b.gguf"
expect 3 'blk.2.attn_norm' "${train[@]/#$tiny/$work/b.gguf}" --output_dir "$work/unmade"
(head -c -4 "$tiny" && printf '\0\0\xc0\x7f') >"$work/nan.gguf"
expect 3 'nan.gguf: tensor "output_norm.weight" has a NaN at \[0, 63\]' "$logpi" generate --model "$work/nan.gguf" --prompt a
expect 3 'nan.gguf: tensor "output_norm.weight" has a NaN' "${train[@]/#$tiny/$work/nan.gguf}" --output_dir "$work/unmade"
[ -e "$work/unmade" ] && wrong "a model that cannot be used makes a folder"

# ---- files that cannot be written: 4
expect 4 'metrics.jsonl|output|File exists|Not a directory' "${train[@]}" --output_dir "$work/empty.txt/run"
expect 4 'No space left|File too large' bash -c 'ulimit -f 64; exec "$@"' - "${train[@]}" --output_dir "$work/full"
expect 4 'metrics.jsonl(.logpi.tmp)?: File too large.*; the weights after 1 whole step are not saved: .*File too large' \
    bash -c 'ulimit -f 1; exec "$@"' - "${train[@]}" --batch_size 8 --output_dir "$work/fuller"
[ -e "$work/full/final/model.safetensors" ] || [ -e "$work/fuller/final/model.safetensors" ] && wrong "half a model was left behind"
expect 4 'could not write to standard output' bash -c '"$@" >/dev/full' - "$logpi" step
expect 2 'gradcheck takes no argument' "$logpi" gradcheck x
expect 2 'more than 65536 at once' bash -c 'yes a | head -n 20000 >"$1/many.txt"; shift; exec "$@"' - "$work" \
    "${generate[@]}" --prompts "$work/many.txt" --num_return_sequences 4096
expect 2 'temperature is 1e-38' "${generate[@]}" --prompt a --temperature 1e-38

# ---- a run that diverges: one message, and the weights of the last whole step, beside final/; a step that fails leaves no
# trace
"${train[@]}" --steps 1 --output_dir "$work/first" >/dev/null 2>&1
before=$(contents "$work/first")
expect 2 "$work/first holds a run already: choose another --output_dir, or --overwrite it" "${train[@]}" --steps 9 \
    --learning_rate 1e6 --ratio_threshold 1e300 --output_dir "$work/first"
[ "$(contents "$work/first")" = "$before" ] || wrong "a run that is refused touches the folder"
expect 5 'step 1, .*; no step was finished: no weights are saved' "${train[@]}" --steps 9 --learning_rate 1e6 \
    --ratio_threshold 1e300 --output_dir "$work/at_once"
[ -z "$(ls "$work/at_once/final")" ] && [ ! -e "$work/at_once/diverged" ] || wrong "a run that diverges at once saves weights"
diverge=("${train[@]}" --ppo_epochs 1 --steps 99 --learning_rate 1e5)
expect 5 'step [0-9]+, .*; the weights after [0-9]+ whole steps? are in .*/gone/diverged$' "${diverge[@]}" --output_dir "$work/gone"
[ -z "$(ls "$work/gone/final")" ] || wrong "a run that diverges writes final/"
done=$(wc -l <"$work/gone/metrics.jsonl")
[ "$done" -ge 1 ] || wrong "the run diverges at once"
grep -q "step $((done + 1)), .*after $done whole" "$work/err" || wrong "the message does not count whole steps"
"${diverge[@]/99/$done}" --output_dir "$work/whole" >/dev/null 2>&1
cmp -s "$work/gone/diverged/model.safetensors" "$work/whole/final/model.safetensors" ||
    wrong "the weights after a run that diverges are not those of its last whole step"

# ---- two runs do not mix: what holds one is refused, or replaced
expect 2 'gone/ holds a run already' "${train[@]}" --output_dir "$work/gone/"
rm "$work/gone/metrics.jsonl"
expect 2 'gone holds a run already' "${train[@]}" --output_dir "$work/gone"
expect 0 'completed' "${train[@]}" --steps 1 --output_dir "$work/gone" --overwrite
[ "$(cd "$work/gone" && find . | LC_ALL=C sort | xargs)" = ". ./.lock ./config.yaml ./final $(printf './final/%s ' chat_template.jinja \
    config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json value_head.safetensors)./metrics.jsonl" ] ||
    wrong "--overwrite leaves other files: $(find "$work/gone")"
[ "$(wc -l <"$work/gone/metrics.jsonl")" = 1 ] || wrong "--overwrite mixes two runs"
mkdir -p "$work/torn" && printf '{"step":1,"obj' >"$work/torn/metrics.jsonl"
expect 2 'torn holds a run already' "${train[@]}" --output_dir "$work/torn"
mkdir -p "$work/env/final" && touch "$work/env/final/policy.safetensors"
expect 2 'env has a file final/policy.safetensors of another kind of run' "${train[@]}" --output_dir "$work/env" --overwrite
before=$(contents "$work/whole")
expect 2 'mini_batch_size 2 does not divide' "${train[@]}" --batch_size 3 --mini_batch_size 2 --output_dir "$work/whole" --overwrite
expect 3 'e.gguf' "${train[@]/#$tiny/$work/e.gguf}" --output_dir "$work/whole" --overwrite
[ "$(contents "$work/whole")" = "$before" ] || wrong "a mistaken command line removes a run"

# ---- two at once in one folder: the second is refused; --overwrite leaves the old run until there is a new one
cp -r "$work/whole" "$work/old"
before=$(contents "$work/old")
expect 5 'step 1, .*; no step was finished: no weights are saved' "${train[@]}" --steps 9 --learning_rate 1e6 \
    --ratio_threshold 1e300 --output_dir "$work/old" --overwrite
[ "$(contents "$work/old")" = "$before" ] || wrong "a run that makes no step removes the old one"
sum() { sha256sum <"$work/old/final/model.safetensors"; }
before=$(sum)
"${hearing[@]}" "${train[@]}" --steps 1000000 --seed 5 --output_dir "$work/old" --overwrite >/dev/null 2>"$work/log" &
pid=$!
for _ in $(seq 300); do grep -qs "^step 2/" "$work/log" && break; sleep 0.1; done
expect 4 "another run is using $work/old" "${train[@]}" --output_dir "$work/old"
expect 4 "another run is using $work/old" "${train[@]}" --output_dir "$work/old" --overwrite
[ "$(sum)" = "$before" ] || wrong "the old weights go before there are new ones"
[ "$(grep -c '"step":1,' "$work/old/metrics.jsonl")" = 1 ] || wrong "metrics.jsonl has two runs"
kill -TERM $pid
wait $pid
[ "$(sum)" != "$before" ] || wrong "the old weights stay when there are new ones"
expect 5 'old/diverged$' "${diverge[@]}" --output_dir "$work/old" --overwrite
[ -z "$(ls "$work/old/final")" ] || wrong "beside diverged/ there is the final/ of another run"
expect 0 'completed' "${train[@]}" --steps 1 --output_dir "$work/old" --overwrite
[ -e "$work/old/diverged" ] && wrong "beside final/ there is the diverged/ of another run"

# ---- an output folder that will not do is found before training, for every file that will be written
blocked() { # PATH, below the folder: a folder is made in its place
    mkdir -p "$work/blocked/$1"
    expect 4 "blocked/$1 is there and is no regular file: remove it" "${train[@]}" --steps 1000000 --output_dir "$work/blocked" --overwrite
    rm -r "$work/blocked"
}
for folder in final diverged; do
    for file in model.safetensors config.json value_head.safetensors; do
        blocked $folder/$file
        blocked $folder/$file.logpi.tmp
    done
    mkdir "$work/fd" && touch "$work/fd/$folder"
    expect 4 "$folder" "${train[@]}" --steps 1000000 --output_dir "$work/fd"
    rm -r "$work/fd"
done
blocked metrics.jsonl
mkdir "$work/ff" && mkfifo "$work/ff/metrics.jsonl"
expect 4 'metrics.jsonl' "${train[@]}" --output_dir "$work/ff"
expect 2 'name of --output_dir is empty' "${train[@]}" --output_dir ''
mkdir -p "$work/left/final" && echo half >"$work/left/final/model.safetensors.logpi.tmp" # of a run that was killed
expect 0 'completed' "${train[@]}" --output_dir "$work/left" --overwrite

# ---- some files written and others not: the message tells which
"${hearing[@]}" "${train[@]}" --steps 1000000 --output_dir "$work/half" >/dev/null 2>"$work/err" &
pid=$!
lines 2 "$work/half/metrics.jsonl"
mkdir "$work/half/final/value_head.safetensors"
kill -TERM $pid
wait $pid
[ $? = 4 ] || wrong "files that cannot be written are no failure"
grep -Eq 'stopped by signal 15; the weights after [0-9]+ whole steps are not all saved: .*value_head.safetensors.*; only model.safetensors, config.json, .*was written to .*/half/final$' \
    "$work/err" || wrong "the message does not tell what was written: $(cat "$work/err")"

"${train[@]}" --steps 1 --output_dir "$work/half2" >/dev/null 2>&1
"${hearing[@]}" "${train[@]}" --steps 1000000 --seed 5 --output_dir "$work/half2" --overwrite >/dev/null 2>"$work/err" &
pid=$!
lines 2 "$work/half2/metrics.jsonl"
rm "$work/half2/final/config.json" && mkdir "$work/half2/final/config.json"
kill -TERM $pid
wait $pid
grep -Eq 'not all saved: .*config.json.*; only model.safetensors was written to .*/half2/final; what else is there is of the run before$' \
    "$work/err" || wrong "the message does not tell old from new: $(tail -n 1 "$work/err")"

# ---- control characters of a file do not reach the terminal
sed 's/llama/l\x1b[1m/' "$tiny" >"$work/esc.gguf"
expect 3 'architecture "l\?\[1m' "$logpi" info "$work/esc.gguf"
sed 's/llama/l\xc2\x9bma/' "$tiny" >"$work/esc.gguf" # U+009B is ESC [ in one character
expect 3 'architecture "l\?ma' "$logpi" info "$work/esc.gguf"
sed 's/llama/l\x9b\xc3\xa9a/' "$tiny" >"$work/esc.gguf"
expect 3 'architecture "l\?éa' "$logpi" info "$work/esc.gguf"
expect 2 'unknown verb "\?\[1m' "$logpi" $'\x1b[1m'
finish
