"""An activation of your own

woofbench run --dataset digits --import activation.py --act tanh_exp
"""
import torch
from torch import nn
from woofbench import acts


# An activation is a function without arguments, or a class, that makes a Module: `woofbench parts act` says so.
# The name that you register is the word behind `--act`. Names of the package cannot be taken.
@acts.register('tanh_exp')
class TanhExp(nn.Module):
    "x * tanh(exp(x)), https://arxiv.org/abs/2003.09855"

    def forward(self, x):
        # From 3 on, tanh(exp(x)) is 1. Without the limit, exp(x) could become infinite, and its gradient not a number.
        return x * torch.tanh(x.clamp(max=3).exp())
