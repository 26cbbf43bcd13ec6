"""The two one-step programs that `logpi step` answers to: a linear softmax policy, one sampled action, one gradient;
with NumPy by the closed form, with PyTorch by automatic differentiation. The order of the random draws is part of it."""
import numpy as np

LEARNING_RATE, ADVANTAGE, REWARD = 0.01, 1.0, 1.0


def numpy_program(seed, d, k, keys=("x", "theta_before", "probs", "action", "grad", "theta")):
    """grad = x (e_a - p)^T, the gradient of log p(a|x); theta = theta_before + LEARNING_RATE * ADVANTAGE * grad."""
    np.random.seed(seed)
    theta_before = np.random.randn(d, k)
    x = np.random.randn(d)
    logits = np.dot(x, theta_before)
    weights = np.exp(logits - np.max(logits))
    probs = weights / np.sum(weights)
    action = int(np.random.choice(k, p=probs))
    chosen = np.zeros(k)
    chosen[action] = 1.0
    grad = np.outer(x, chosen - probs)
    theta = theta_before.copy()
    theta += LEARNING_RATE * ADVANTAGE * grad
    values = dict(x=x, theta_before=theta_before, probs=probs, action=action, grad=grad, theta=theta)
    return {key: values[key] for key in keys}


def torch_program(seed, d, k, keys=("x", "theta_before", "probs", "action", "grad", "theta")):
    """grad = theta.grad, the gradient of the loss -log p(a|x) * REWARD; theta does not change."""
    import torch

    torch.manual_seed(seed)
    x = torch.randn(d)
    theta = torch.nn.Parameter(torch.randn(d, k))
    probs = torch.nn.functional.softmax(x @ theta, dim=0)
    policy = torch.distributions.Categorical(probs)
    action = policy.sample()
    loss = -policy.log_prob(action) * REWARD
    loss.backward()
    numbers = theta.detach().numpy()
    values = dict(x=x.numpy(), theta_before=numbers, probs=probs.detach().numpy(), action=int(action),
                  grad=theta.grad.numpy(), theta=numbers)
    return {key: values[key] for key in keys}
