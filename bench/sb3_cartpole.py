"""Stable-Baselines3's PPO on CartPole-v1 with rl-zoo's settings: the work of `logpi bench ppo`. Prints steps per second.
usage: sb3_cartpole.py [STEPS]"""
import sys
import time

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

torch.set_num_threads(2)
steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
model = PPO("MlpPolicy", make_vec_env("CartPole-v1", n_envs=8, seed=0), seed=0, device="cpu", n_steps=32, batch_size=256,
            n_epochs=20, gae_lambda=0.8, gamma=0.98, ent_coef=0.0, learning_rate=lambda left: left * 1e-3,
            clip_range=lambda left: left * 0.2)
start = time.perf_counter()
model.learn(steps)
print(f"{model.num_timesteps / (time.perf_counter() - start):.0f}")
