"""Augmentation as Keras layers: in the training graph only, never in a bundle."""

import keras
from keras import layers


def augmentation(shape: tuple[int, ...], seed: int) -> keras.Model:
    """Small changes that a technician or a machine makes too: turn, shift, zoom, contrast, brightness; 0..255 in, out.

    No flips: the heart lies on the left, and a chest is never upside down.
    """
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.RandomRotation(10 / 360, fill_mode="constant", seed=seed),
            layers.RandomTranslation(0.05, 0.05, fill_mode="constant", seed=seed + 1),
            layers.RandomZoom((-0.1, 0.1), (-0.1, 0.1), fill_mode="constant", seed=seed + 2),
            layers.RandomContrast(0.2, value_range=(0, 255), seed=seed + 3),
            layers.RandomBrightness(0.1, value_range=(0, 255), seed=seed + 4),
        ],
        name="augmentation",
    )
