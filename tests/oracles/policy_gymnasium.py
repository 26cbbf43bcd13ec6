"""A policy that logpi saved, played in Gymnasium by PyTorch: mean and deviation of its returns. usage: FILE [EPISODES]"""
import sys
import gymnasium, numpy as np, torch
from safetensors import safe_open
with safe_open(sys.argv[1], "pt") as f:
    meta, w = f.metadata(), {name: f.get_tensor(name) for name in f.keys()}
layers, act = sum("actor." in name for name in w) // 2, getattr(torch, meta["activation"])
env, returns = gymnasium.make(meta["env"]), []
for episode in range(int(sys.argv[2]) if len(sys.argv) > 2 else 100):
    (x, _), total, over = env.reset(seed=episode), 0.0, False
    while not over:
        h = torch.from_numpy(np.asarray(x, np.float32))
        for i in range(layers):
            h = w[f"actor.{i}.weight"] @ h + w[f"actor.{i}.bias"]
            h = act(h) if i + 1 < layers else h
        a = int(h.argmax()) if meta["action"] == "discrete" else h.numpy().clip(env.action_space.low, env.action_space.high)
        x, reward, terminated, truncated, _ = env.step(a)
        total, over = total + reward, terminated or truncated
    returns.append(total)
print(f"{np.mean(returns):.3f} {np.std(returns):.3f}")
