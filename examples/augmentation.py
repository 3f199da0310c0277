"""An augmentation of your own, with a strength

woofbench run --dataset digits --import augmentation.py --aug light --aug-strength 0.4
"""
from woofbench import augs, Param


# An augmentation gets the recipe and gives a function of a batch of training images. Validation images never get there.
# `x` has shape (images, channels, height, width), and pixels from 0 to 1.
# `at` knows the seed, the epoch and the number of each image. Take all random numbers from `at.rand`:
# then both engines make the same images, and the seed can be trained again.
@augs.register('light', params=dict(strength=Param(.2, 'Largest change of the brightness', 0, 1)))
def light(r, *, strength):
    "Each image becomes brighter or darker"

    def g(x, at):
        factor = 1 + strength * (2 * at.rand(1)[:, 0] - 1)
        return (x * factor.to(x.device, x.dtype)[:, None, None, None]).clamp(0, 1)

    return g
