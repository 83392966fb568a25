"""A perceptual hash that tells an X-ray that was saved anew from the next patient's."""

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 16
"""The hash has SIDE x SIDE bits, one per cosine of the image's lower frequencies.

Not the usual 8 x 8, to which chest X-rays are all alike: among 13.7 million pairs of different patients of Kermany et
al. 190 differ in at most 4 of 64 bits, as an image differs from itself made brighter; of 256 bits none differ in fewer
than 33, while an image differs from itself by up to 8 bits as a JPEG of quality 50, by 6 at half its size, by 26
with other brightness, contrast or gamma, by 30 with 1 % cut off each side (60 full-size originals).
"""


def likeness(pixels: npt.NDArray[np.uint8]) -> list[int]:
    """The perceptual hash of a grey image, (height, width) or (height, width, channels), as SIDE numbers of SIDE bits.

    Each number is a diagonal of the square of frequencies, low and high ones mixed: two images that differ in few bits
    agree in at least one of the numbers, and others seldom do. So equal numbers find the pairs to compare.
    """
    grey = pixels[:, :, 0] if pixels.ndim == 3 else pixels
    bits = imagehash.phash(Image.fromarray(grey), hash_size=SIDE).hash  # (SIDE, SIDE) of bool
    rows = np.arange(SIDE)
    diagonals = np.stack([bits[rows, (rows + shift) % SIDE] for shift in range(SIDE)])  # (SIDE, SIDE)
    return [int(number) for number in diagonals @ (1 << rows)]
