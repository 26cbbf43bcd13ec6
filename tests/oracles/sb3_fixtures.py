"""Oracle: Stable-Baselines3's PPO and A2C. Writes tests/fixtures/sb3.json.

Each run has one real rollout (with terminals, and truncations whose reward holds gamma V of the final observation), what
RolloutBuffer makes of it, and the weights before and after ten whole updates (`train()`) from it, the permutations noted.

usage: sb3_fixtures.py (no options)"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv

import fixture

UPDATES = 10
NET = dict(net_arch=[24, 16])


def names(state):
    """logpi's names of Stable-Baselines3's parameters."""
    out = {}
    for key, value in state.items():
        value = value.detach().clone()
        parts = key.split(".")
        if key == "log_std":
            out["log_std"] = value.reshape(1, -1)
        elif parts[0] == "mlp_extractor":
            side = "actor" if parts[1] == "policy_net" else "critic"
            out[f"{side}.{int(parts[2]) // 2}.{parts[3]}"] = value
        else:
            out[f"{'actor' if parts[0] == 'action_net' else 'critic'}.2.{parts[1]}"] = value
    return out


def short_episodes(env_id, limit):
    return DummyVecEnv([lambda: gym.wrappers.TimeLimit(gym.make(env_id).unwrapped, limit) for _ in range(3)])


def one(name, algorithm, env, progress, **options):
    torch.manual_seed(7)
    env.seed(11)
    model = algorithm("MlpPolicy", env, seed=5, device="cpu", policy_kwargs=dict(NET), **options)
    model.set_logger(configure(None, []))
    with torch.no_grad():  # heads that decide something from the start
        model.policy.action_net.weight *= 50
    _, callback = model._setup_learn(100_000, None)
    model.collect_rollouts(env, callback, model.rollout_buffer, n_rollout_steps=model.n_steps)
    b = model.rollout_buffer
    last = model.policy.predict_values(torch.as_tensor(model._last_obs)).detach().numpy().flatten()
    ended = np.concatenate([b.episode_starts[1:], model._last_episode_starts[None].astype(np.float32)])
    run = {"name": name, "algorithm": algorithm.__name__.lower(), "progress": progress, "discrete":
           isinstance(env.action_space, gym.spaces.Discrete), "actions": int(getattr(env.action_space, "n", 0) or
           env.action_space.shape[0]), "T": b.buffer_size, "N": b.n_envs,
           "settings": {k: (v(progress) if callable(v) else v) for k, v in options.items()},
           "observation": b.observations.copy(), "action": b.actions.copy(), "reward": b.rewards.copy(),
           "ended": ended, "value": b.values.copy(), "log_prob": b.log_probs.copy(), "last_value": last,
           "advantage": b.advantages.copy(), "returns": b.returns.copy(), "initial": names(model.policy.state_dict())}
    assert ended.sum() >= 3
    permutations, draw = [], np.random.permutation
    np.random.permutation = lambda n: permutations.append(draw(n)) or permutations[-1]
    try:
        stats = []
        for _ in range(UPDATES):
            model._current_progress_remaining = progress
            model.train()
            stats.append({k: float(v) for k, v in model.logger.name_to_value.items() if k.startswith("train/")})
            permutations.append(None)
    finally:
        np.random.permutation = draw
    run["permutations"] = [p for p in permutations if p is not None]
    run["epochs_made"] = [len(e) for e in split(permutations)]
    assert "target_kl" not in options or min(run["epochs_made"]) < model.n_epochs  # it did stop early
    run["stats"] = stats
    run["final"] = names(model.policy.state_dict())
    return run


def split(permutations):
    out = [[]]
    for p in permutations:
        if p is None:
            out.append([])
        else:
            out[-1].append(p)
    return out[:-1]


def losses():
    """PPO's loss on fixed tensors in float64, with its gradients: the lines of PPO.train."""
    g = torch.Generator().manual_seed(3)
    cases = []
    for clip, clip_vf, ent, vf in [(0.2, None, 0.0, 0.5), (0.2, 0.3, 0.01, 0.5), (0.1, None, 0.05, 1.0)]:
        n = 32
        rand = lambda: torch.randn(n, generator=g, dtype=torch.float64).float().double()
        old_log_prob, old_value, advantage, returns = -rand().abs(), rand(), rand(), rand()
        log_prob = (old_log_prob + 0.4 * rand()).float().double().requires_grad_()
        value = (old_value + 0.5 * rand()).float().double().requires_grad_()
        entropy = rand().abs().requires_grad_()
        ratio = torch.exp(log_prob - old_log_prob)
        policy_loss = -torch.min(advantage * ratio, advantage * torch.clamp(ratio, 1 - clip, 1 + clip)).mean()
        pred = value if clip_vf is None else old_value + torch.clamp(value - old_value, -clip_vf, clip_vf)
        value_loss = torch.nn.functional.mse_loss(returns, pred)
        loss = policy_loss + ent * -entropy.mean() + vf * value_loss
        loss.backward()
        cases.append({"clip_range": clip, "clip_range_vf": clip_vf or 0.0, "ent_coef": ent, "vf_coef": vf,
                      "old_log_prob": old_log_prob, "old_value": old_value, "advantage": advantage, "returns": returns,
                      "log_prob": log_prob, "value": value, "entropy": entropy, "loss": loss.item(),
                      "grad_log_prob": log_prob.grad, "grad_value": value.grad, "grad_entropy": entropy.grad
                      if entropy.grad is not None else torch.zeros(n)})
    return cases


def main():
    torch.set_num_threads(1)
    lin = lambda x: (lambda left: left * x)
    ppo = dict(n_steps=40, batch_size=32, n_epochs=3)
    runs = [
        one("ppo, zoo", PPO, short_episodes("CartPole-v1", 13), 0.7, learning_rate=lin(1e-3), clip_range=lin(0.2),
            gae_lambda=0.8, gamma=0.98, **ppo),
        one("ppo, all terms", PPO, short_episodes("CartPole-v1", 13), 1.0, clip_range_vf=0.2, ent_coef=0.02,
            vf_coef=0.7, max_grad_norm=0.1, normalize_advantage=False, **ppo),
        one("ppo, target_kl", PPO, short_episodes("CartPole-v1", 13), 1.0, learning_rate=1e-2, target_kl=0.001, **ppo),
        # a loss that is seen but not learnt from: its gradient hangs on whether a value is, to the bit, the old one
        one("ppo, value clipped to nothing", PPO, short_episodes("CartPole-v1", 13), 0.0, clip_range_vf=lin(0.2),
            vf_coef=0.0, learning_rate=1e-3, **ppo),
        one("ppo, box", PPO, short_episodes("Pendulum-v1", 11), 1.0, ent_coef=0.01, **ppo),
        one("a2c", A2C, short_episodes("CartPole-v1", 13), 1.0, n_steps=20),
        one("a2c, box", A2C, short_episodes("Pendulum-v1", 11), 1.0, n_steps=20, ent_coef=0.01, gae_lambda=0.9,
            normalize_advantage=True),
    ]
    fixture.write("sb3.json", __file__, ["stable-baselines3", "gymnasium", "torch", "numpy"], {
        "convention": "time-major [T, N]; ended: the step was the last of its episode; permutations index env T + t; "
                      "stats: of each update, train/... of the logger; float32, losses in float64",
        "losses": losses(), "runs": runs})


if __name__ == "__main__":
    main()
