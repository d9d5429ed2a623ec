"""The model that the banks agree on: a small neural network that gives one logit for each loan."""

import torch
from torch import nn

HIDDEN = 16


def build(inputs: int) -> nn.Module:
    """Build the network in its initial state, the same on every machine.

    The output layer starts at zero, so that version 0 of the global model gives every loan the
    same score and the first round owes nothing to luck.

    Args:
        inputs: columns of the input, float32 (loans, inputs).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))
    nn.init.zeros_(network[2].weight)
    nn.init.zeros_(network[2].bias)
    return network
