"""Episodes of Gymnasium's CartPole-v1: tests/fixtures/cartpole.json, read by tests/env/cartpole.c.

Random actions, and a controller that balances until time is up; in one episode it lets go so that the pole falls in the
very step in which time is up, which Gymnasium calls both terminated and truncated. Of each episode there are the state
that it began from, the actions, what Gymnasium says of its end, every tenth observation and the last one, the state at the
end in float64, and a hash of all observations, the first included.

Also single steps, before and after in float64: from anywhere, fast and past the ends of the track, where the order of the
operations shows in the last bits; and from the limits themselves and the numbers next to them.

The C side must have the same bits. sin and cos are the C library's, in NumPy as in C, but not every C library rounds them
alike, nor does one on every processor: sincos is a hash of their bits here.

usage: cartpole_fixture.py [SEED, default 0 [STEPS with random actions, default 10000]]"""
import sys

import gymnasium
import numpy as np

import fixture

EVERY, BALANCED = 10, 6


def fnv1a(data):
    """64 bits, as hexadecimal digits: JSON has no such integers."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def sincos():
    """Of 2,001 angles, the sine and the cosine of each in turn."""
    angles = np.arange(-1000, 1001) / 4096.0
    return fnv1a(np.array([[np.sin(a), np.cos(a)] for a in angles], dtype="<f8").tobytes())


def episode(env, seed, choose):
    """One episode; choose(step, state) gives the actions."""
    observation, _ = env.reset(seed=seed)
    state = env.unwrapped.state.copy()
    observations, actions, rewards, terminated, truncated = [observation], "", [], False, False
    while not (terminated or truncated):
        action = int(choose(len(rewards), env.unwrapped.state))
        observation, reward, terminated, truncated, _ = env.step(action)
        actions += str(action)
        observations.append(observation)
        rewards.append(reward)
    kept = observations[EVERY:-1:EVERY] + observations[-1:]
    assert len(set(rewards)) == 1
    return {"state": state, "actions": actions, "reward": float(rewards[0]), "terminated": terminated,
            "truncated": truncated, "observations": kept, "end": env.unwrapped.state,
            "hash": fnv1a(np.array(observations, dtype="<f4").tobytes())}


def single_steps(env, source, count):
    """[state, action, state after, terminated] of each, in four lists."""
    x, theta = env.x_threshold, env.theta_threshold_radians
    states = [source.uniform(-1, 1, 4) * [2.6, 5, 0.3, 30] for _ in range(count)]
    for limit, entry in [(x, 0), (theta, 2)]:
        for number in (limit, np.nextafter(limit, 0), np.nextafter(limit, 9)):
            states += [np.eye(4)[entry] * number, np.eye(4)[entry] * -number]
    actions, after, terminated = [int(source.randint(2)) for _ in states], [], []
    for state, action in zip(states, actions):
        env.reset()
        env.state = state.copy()
        terminated.append(env.step(action)[2])
        after.append(env.state)
    return {"state": states, "action": actions, "after": after, "terminated": terminated}


def balance(step, state):
    return state @ [0.05, 0.2, 1.0, 0.3] > 0


def both_ends(env, source):
    """Balanced until some step, then pushed to the right until the pole falls: in the last step that there is."""
    for _ in range(100):
        seed = int(source.randint(2**31))
        for let_go in range(494, 480, -1):
            e = episode(env, seed, lambda step, state: step >= let_go or balance(step, state))
            if e["terminated"] and e["truncated"]:
                return e
    raise SystemExit("no episode is both terminated and truncated")


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 10000
    env = gymnasium.make("CartPole-v1")
    source, episodes, taken = np.random.RandomState(seed), [], 0
    while taken < steps:
        episodes.append(episode(env, int(source.randint(2**31)), lambda step, state: source.randint(2)))
        taken += len(episodes[-1]["actions"])
    for _ in range(BALANCED):
        episodes.append(episode(env, int(source.randint(2**31)), balance))
    assert sum(e["truncated"] for e in episodes) >= BALANCED - 1
    episodes.append(both_ends(env, source))
    fixture.write("cartpole.json", __file__, ["gymnasium", "numpy"], {
        "seed": seed, "every": EVERY, "sincos": sincos(),
        "low": env.observation_space.low, "high": env.observation_space.high, "actions": int(env.action_space.n),
        "max_episode_steps": env.spec.max_episode_steps, "reward_threshold": env.spec.reward_threshold,
        "single_steps": single_steps(env.unwrapped, source, 300), "episodes": episodes})


main()
