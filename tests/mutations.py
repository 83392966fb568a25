"""Files damaged on purpose, the same for the same seed: `mutated(seed, count)`; by hand `python mutations.py DIR N`."""

import random
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import images
import numpy as np
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless

KINDS = ("cut", "bits", "header", "swapped", "huge", "spliced")
SUFFIXES = (".jpeg", ".png", ".dcm", ".tiff")


def originals() -> dict[str, bytes]:
    """Good files of every kind by the suffix that they would have, with noise, so that they are no few bytes long."""
    noise = np.random.default_rng(0).integers(0, 60, (96, 120))
    grey = (images.ramp(96, 120) // 2 + noise).astype(np.uint8)
    deep = (images.ramp(96, 120, white=4000) // 2 + noise * 16).astype(np.uint16)
    colour = np.stack([grey, grey[::-1], grey[:, ::-1]], axis=2)
    j2k = images.saved(images.Image.fromarray(grey), "JPEG2000", no_jp2=True)
    lossless = imagecodecs.jpeg8_encode(deep, lossless=True, bitspersample=12)
    return {
        "grey.jpeg": images.jpeg(grey),
        "colour.jpeg": images.jpeg(colour, progressive=True),
        "turned.jpeg": images.turned(grey, 6),
        "grey.png": images.png(grey),
        "deep.png": images.png(deep),
        "palette.png": images.png(grey, "P"),
        "alpha.png": images.png(grey, "LA"),
        "deep.tiff": images.tiff(deep, compression="tiff_lzw"),
        "plain.dcm": images.dicom(deep, BitsStored=12, WindowCenter=2000, WindowWidth=3000),
        "jpeg.dcm": images.dicom(grey, JPEGBaseline8Bit, images.jpeg(grey)),
        "j2k.dcm": images.dicom(grey, JPEG2000Lossless, j2k),
        "lossless.dcm": images.dicom(deep, JPEGLosslessSV1, lossless, BitsStored=12),
        "ls.dcm": images.dicom(deep, JPEGLSLossless, imagecodecs.jpegls_encode(deep), BitsStored=12),
        "rle.dcm": images.dicom(deep, RLELossless, images.rle(deep), BitsStored=12),
    }


def mutated(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` names and contents; every kind of damage meets every kind of file."""
    files = list(originals().items())
    chance = random.Random(seed)
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        name, content = files[number // len(KINDS) % len(files)]
        suffix = chance.choice(SUFFIXES) if kind == "swapped" else Path(name).suffix
        yield f"{number:05}-{kind}-{Path(name).stem}{suffix}", _damaged(kind, content, chance, files)


def _damaged(kind: str, content: bytes, chance: random.Random, files: list[tuple[str, bytes]]) -> bytes:
    damaged = bytearray(content)
    if kind == "cut":
        return content[: chance.randrange(len(content))]
    if kind in ("bits", "header"):  # a header's bytes are a few, and most of what can go wrong
        start, end = (128, 400) if content[128:132] == b"DICM" else (0, 64)
        span = range(len(content)) if kind == "bits" else range(start, min(end, len(content)))
        for _ in range(chance.randint(1, 8)):
            damaged[chance.choice(span)] = chance.randrange(256)
    elif kind == "huge":
        _declare(damaged, chance)
    elif kind == "spliced":
        other = chance.choice(files)[1]
        return content[: chance.randrange(len(content))] + other[chance.randrange(len(other)) :]
    return bytes(damaged)


def _declare(content: bytearray, chance: random.Random) -> None:
    """Another size: in a PNG's header, with the checksum that fits, in a JPEG's SOF, in the tags of a DICOM file.

    Some are small enough for the limit of pixels, so that memory is really asked for.
    """
    height, width = (chance.choice((9_000, 65_535, 20_000)), chance.choice((9_000, 65_535, 300)))
    if content.startswith(b"\x89PNG"):
        struct.pack_into(">II", content, 16, width, height)
        content[:] = images.with_header_checksum(bytes(content))
    for marker in (b"\xff\xc0", b"\xff\xc2", b"\xff\xc3", b"\xff\xf7"):
        if (place := content.find(marker)) >= 0:
            struct.pack_into(">HH", content, place + 5, height, width)
    for tag, value in ((b"\x28\0\x10\0US\x02\0", height), (b"\x28\0\x11\0US\x02\0", width)):
        if (place := content.find(tag)) >= 0:
            struct.pack_into("<H", content, place + 8, value)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in mutated(0, int(sys.argv[2])):
        (folder / name).write_bytes(content)
