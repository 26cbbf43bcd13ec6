# Sourced by test.sh --oracles: installs the peers, and compares logpi with them live.

need_packages python3:python3 python3-venv
build release
need_smollm2
say "installing the peers (PyTorch, transformers, TRL): minutes, the first time"
tests/oracles/install.sh || die "the peers could not be installed"

oracles=.venv-oracles/bin/python trl=.venv-trl/bin/python
reference=$(mktemp -d)
trap 'rm -rf "$reference"' EXIT

say "rungs 1 and 2: 1,000 seeds beside NumPy and PyTorch"
check "step beside NumPy and PyTorch" "$oracles" tests/oracles/step.py build/logpi

say "token ids of every character and of 20,000 lines beside tokenizers: ten minutes"
check "token ids" "$oracles" tests/oracles/tokenizer.py build/tests/text/encode_lines "$SMOLLM2_FILE"
check "damaged tokenizers" "$oracles" tests/oracles/tokenizer_damage.py build/tests/text/encode_lines

say "SmolLM2: logits, gradients, greedy continuation beside transformers"
check "transformers' reference" "$oracles" tests/oracles/hf_logits.py live "$reference" --gguf "$SMOLLM2_FILE"
check "SmolLM2 beside transformers" build/tests/compare_hf "$SMOLLM2_FILE" "$reference/hf_reference.safetensors"

# families: each family and variant, and GPT-2 at its true size, beside transformers; then what logpi converts, read by itself,
# by transformers and, where it is installed, by llama.cpp (whose GELU is a table of halves).
families() {
    local live=$reference/models written=$reference/written name close bad=0
    "$oracles" tests/oracles/hf_models.py live "$live" || return 1
    mkdir -p "$written"
    for name in $(ls "$live"); do
        echo "-- $name"
        build/tests/compare_hf "$live/$name" "$live/$name/hf_reference.safetensors" || bad=1
        build/logpi convert "$live/$name" "$written/$name" || bad=1
        build/logpi convert "$live/$name" "$written/$name.gguf" --dtype float32 || bad=1 # llama.cpp rounds what halves multiply
        for to in "$written/$name" "$written/$name.gguf"; do
            build/tests/compare_hf "$to" "$live/$name/hf_reference.safetensors" >"$reference/out" || { cat "$reference/out"; bad=1; }
        done
        case $name in gpt2*) close=1e-3 ;; *) close=2e-4 ;; esac
        "$oracles" tests/oracles/llama_cpp_logits.py "$written/$name.gguf" "$live/$name/hf_reference.safetensors" $close ||
            [ $? = 77 ] || bad=1
    done
    "$oracles" tests/oracles/hf_models.py check "$live" "$written" || bad=1
    rm -rf "$live" "$written"
    return $bad
}
say "Llama, GPT-2, Qwen2: logits, gradients and files beside transformers"
check "families of models" families

say "SmolLM2: log-probabilities while sampling and while learning"
check "SmolLM2: ratios are 1 exactly" build/tests/lm/test_lm_exact "$SMOLLM2_FILE" 8

say "SmolLM2: 200 steps of supervised training in fp32 and in bf16"
cat README.md docs/*.md include/logpi/*.h >"$reference/text"
check "SmolLM2: bf16 learns like fp32" build/tests/learn_precision "$SMOLLM2_FILE" "$reference/text"

# in_gymnasium STEPS: a policy after so many steps has, in Gymnasium and PyTorch, the mean return that logpi gives it, within 4
# standard errors; one that always reaches 500 has 500 there.
in_gymnasium() {
    local run=$reference/cartpole-$1
    build/logpi train ppo --env CartPole-v1 --n_envs 8 --n_timesteps "$1" --n_steps 32 --batch_size 256 --n_epochs 20 \
        --gae_lambda 0.8 --gamma 0.98 --learning_rate lin_0.001 --clip_range lin_0.2 --log_interval 0 \
        --output_dir "$run" >/dev/null 2>&1
    build/logpi eval "$run" --episodes 100 --json | sed -n 's/.*"mean":\([0-9.]*\).*"std":\([0-9.]*\).*/\1 \2/p' >"$run/returns"
    "$oracles" tests/oracles/policy_gymnasium.py "$run/final/policy.safetensors" 100 >>"$run/returns"
    cat "$run/returns"
    awk '{ mean[NR] = $1; square += $2 * $2 / 100 } END { d = mean[1] - mean[2]; exit !(NR == 2 && d * d <= 16 * square) }' \
        "$run/returns"
}
say "policies that logpi trained, in Gymnasium"
check "a policy that is half trained, in Gymnasium" in_gymnasium 10000
check "a trained policy in Gymnasium" in_gymnasium 100000

say "fixtures made anew by the peers, and the tests that read them"
export LOGPI_FIXTURES=$reference/fixtures
cp -r tests/fixtures "$LOGPI_FIXTURES"
for script in torch_ops_fixtures.py "hf_logits.py tiny" "hf_models.py small" rng_fixtures.py tokenizer_fixtures.py gguf_fixtures.py \
    "cartpole_fixture.py 1 100000" sb3_fixtures.py trl_grpo_fixtures.py trl_grpo_steps.py; do
    check "$script" "$oracles" tests/oracles/$script
done
for script in trl_ppo_fixtures.py trl_whole_steps.py; do
    check "$script" "$trl" "tests/oracles/$script"
done
suite release -R 'base/rng|tensor|pg|env|train|text|lm'
unset LOGPI_FIXTURES
