"""Train on a folder of your own images

Run this file: it makes a few coloured images, then trains on their folder. The same from the shell:

woofbench run --dataset ~/colours --size 32 --epochs 1 --seeds 1 --arch xresnet10_tiny --bs 16
"""
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from woofbench import run

COLOURS = dict(red=(200, 40, 40), green=(40, 200, 40), blue=(40, 40, 200))


def make_images(folder, n=20):
    "A folder for each class, with `n` images in it. A fifth of each class will validate, always the same images"
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(n):
            pixels = np.array(colour) + rng.normal(0, 20, (40, 40, 3))
            Image.fromarray(pixels.clip(0, 255).astype('uint8')).save(folder / name / f'{i:02}.png')
    return folder


def main(home):
    "Make the images in the folder `home`, train one seed for an epoch, and return the row"
    images = make_images(Path(home) / 'colours')
    # The name of the folder becomes the name of the dataset. The path is not in the record.
    return run(images, size=32, epochs=1, seeds=1, arch='xresnet10_tiny', bs=16, out=home)


if __name__ == '__main__':
    with tempfile.TemporaryDirectory() as home: print(main(home))
