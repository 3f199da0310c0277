"""A whole network of your own

woofbench run --dataset digits --import model.py --arch patches --arch-width 32
"""
from torch import nn
from woofbench import archs, Param


# A whole network is a function of the number of classes and the side of the images.
# Fields of the package's own network, such as `--act`, cannot be set for it: give it parameters.
@archs.register('patches', params=dict(width=Param(32, 'Channels', 1, 1024), depth=Param(2, 'Layers', 1, 64)))
def patches(n_out, size, *, width, depth):
    "Patches of 4x4 pixels, depthwise and pointwise convolutions, https://arxiv.org/abs/2201.09792"

    def layer(*convs):
        return nn.Sequential(*convs, nn.GELU(), nn.BatchNorm2d(width))

    body = [layer(nn.Conv2d(width, width, 5, padding=2, groups=width), nn.Conv2d(width, width, 1))
            for _ in range(depth)]
    return nn.Sequential(layer(nn.Conv2d(3, width, 4, stride=4)), *body,
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_out))
