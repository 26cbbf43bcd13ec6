#!/usr/bin/env bash
# logpi bench: each bench of a language model on the tiny one, its fixed keys, and the machine beside it. usage: bench.sh
# LOGPI ROOT
. "$(dirname "$0")/lib.sh"
bench=("$logpi" bench --model "$tiny" --seconds 0.05)
long=("$logpi" bench --model "$tiny" --seconds 60)
keys=(name rate unit seconds peak_share peak_rss_bytes isa threads barrier_ns fp32_gflops bf16_gflops read_gbps dtype model)

for name in prefill generate train grpo lmppo; do
    shape=()
    [ $name = prefill ] && shape=(--prompt_tokens 100)
    expect 0 "^$name, float32, .*: [0-9.]+ tokens/s.* s a step, [0-9.]+ % of the peak, peak memory [0-9.]+ GB" "${bench[@]}" $name "${shape[@]}"
    [ "$(grep -c '^machine \(before\|after\): barrier [0-9]* ns, fp32 [0-9]* GFLOP/s' "$work/out")" = 2 ] ||
        wrong "bench $name does not say what the machine does before and after"
    expect 0 "^.\"name\":\"$name\"," "${bench[@]}" $name "${shape[@]}" --json --threads 2
    for key in "${keys[@]}"; do
        grep -q "\"$key\":" "$work/out" || wrong "bench $name --json lacks $key"
    done
    grep -q '"threads":2' "$work/out" && ! grep -q 'null' "$work/out" || wrong "bench $name: $(cat "$work/out")"
done
expect 0 '"rate_total":[0-9.]+,"batch":3,"prompt_tokens":5,"new_tokens":7' "${bench[@]}" generate --batch 3 --prompt_tokens 5 \
    --new_tokens 7 --json
expect 0 '"num_prompts":2,"num_generations":3' "${bench[@]}" grpo --num_prompts 2 --num_generations 3 --new_tokens 4 --json
expect 0 'savepoint [0-9.]+ s, later ones [0-9.]+ s; weights finite' "${bench[@]}" train --batch 2 --sequence 9

# matrix products: five shapes, three passes
for dtype in float32 bfloat16; do
    expect 0 '"unit":"GFLOP/s"' "$logpi" bench gemm --batch 4 --seconds 0.01 --json --dtype $dtype
    [ "$(grep -o '"pass":' "$work/out" | wc -l)" = 15 ] || wrong "bench gemm leaves products out"
    grep -q "\"dtype\":\"$dtype\"" "$work/out" || wrong "bench gemm is of another dtype"
done
expect 0 '^dW +4 rows +576 -> 49152 .* GFLOP/s' "$logpi" bench gemm --batch 4 --seconds 0.01 --isa scalar --threads 1

# Ctrl-C
for name in train grpo gemm; do
    expect 130 'stopped by signal 2' "${stopped[@]}" "${long[@]}" $name
done
finish
