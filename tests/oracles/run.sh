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

say "SmolLM2: log-probabilities while sampling and while learning"
check "SmolLM2: ratios are 1 exactly" build/tests/lm/test_lm_exact "$SMOLLM2_FILE" 8

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
for script in torch_ops_fixtures.py "hf_logits.py tiny" rng_fixtures.py tokenizer_fixtures.py gguf_fixtures.py \
    "cartpole_fixture.py 1 100000" sb3_fixtures.py trl_grpo_fixtures.py trl_grpo_steps.py; do
    check "$script" "$oracles" tests/oracles/$script
done
for script in trl_ppo_fixtures.py trl_whole_steps.py; do
    check "$script" "$trl" "tests/oracles/$script"
done
suite release -R 'base/rng|tensor|pg|env|train|text|lm'
unset LOGPI_FIXTURES
