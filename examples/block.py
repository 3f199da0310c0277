"""A residual block of your own

woofbench run --dataset digits --import block.py --block scaled
"""
import torch
from torch import nn
from woofbench import acts, blocks, conv_path, id_path


# A block goes from `ni` to `nf` channels. `spec` has all fields of the model, so the block follows
# `--act`, `--attn` and the like when it makes its layers with `conv_path`, `id_path` and `acts`.
@blocks.register('scaled')
class ScaledBlock(nn.Module):
    "A block that learns how much its convolutions count; it begins with .5"

    def __init__(self, spec, ni, nf, stride=1):
        super().__init__()
        self.convpath, self.idpath = conv_path(spec, ni, nf, stride), id_path(spec, ni, nf, stride)
        self.share, self.act = nn.Parameter(torch.tensor(.5)), acts(spec.act)()

    def forward(self, x):
        return self.act(self.idpath(x) + self.share * self.convpath(x))
