"""Frames of DICOM files in JPEG Lossless, JPEG-LS, 12-bit JPEG and RLE: what pydicom alone decodes unsafely or not."""

import struct
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom import uid

from pneumospark.errors import DecodeError

Shape = tuple[int, ...]
"""(rows, columns), or (rows, columns, samples) for colour."""

JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
JPEG = (uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
SYNTAXES = (*JPEG, *JPEG_LS, uid.RLELossless)

_FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF of ITU-T T.81, table B.1, and of T.87, C.1.1
_END = b"\xff\xd9"  # EOI
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length: TEM, RST0 to RST7, SOI (T.81, B.1.1.4)


def decompress(frame: bytes, syntax: uid.UID, shape: Shape, bits_allocated: int) -> npt.NDArray[Any]:
    """The samples of one frame, uint8 or uint16 of `shape`, as stored: signed ones are still as unsigned.

    `shape` and bits allocated are what the header declares. Raises DecodeError where the frame declares another size,
    before any memory is taken for it, and what imagecodecs raises for damaged bytes.
    """
    if syntax == uid.RLELossless:
        return _from_rle(frame, shape, bits_allocated)
    check_size(frame_size(frame), shape)
    # Without it libjpeg fills in what is missing and imagecodecs does not say so, and CharLS 2.4.2 may count 2**31 zero
    # bits before it gives up: 3 s for each such file.
    if not frame.rstrip(b"\0").endswith(_END):
        raise DecodeError("truncated", "DICOM frame without its end marker")
    return np.asarray((imagecodecs.jpegls_decode if syntax in JPEG_LS else imagecodecs.jpeg8_decode)(frame))


def check_size(found: Shape, declared: Shape) -> None:
    """Raise DecodeError where a frame's own size is not the one that the DICOM header declares."""
    if found != declared:
        sizes = (" x ".join(str(side) for side in (size[1], size[0], *size[2:])) for size in (declared, found))
        raise DecodeError("corrupt", "DICOM of {} pixels holds {}".format(*sizes))


def frame_size(frame: bytes) -> Shape:
    """The shape that the frame header of a JPEG or JPEG-LS codestream declares; raises DecodeError without one."""
    place = 0
    while place + 4 <= len(frame):
        if frame[place] != 0xFF:
            raise DecodeError("corrupt", "DICOM frame is no JPEG codestream")
        marker = frame[place + 1]
        if marker in _FRAME_HEADERS and place + 10 <= len(frame):
            rows, columns, samples = struct.unpack_from(">HHB", frame, place + 5)
            return (rows, columns) if samples == 1 else (rows, columns, samples)
        if marker == 0xFF:  # a fill byte
            place += 1
        elif marker in _BARE:
            place += 2
        else:
            place += 2 + struct.unpack_from(">H", frame, place + 2)[0]
    raise DecodeError("truncated", "DICOM frame ends before its size")


def _from_rle(frame: bytes, shape: Shape, bits_allocated: int) -> npt.NDArray[Any]:
    """PS3.5, annex G: a segment for each byte of each sample, so colour comes plane by plane.

    Not pydicom's own decoder, which inflates a segment without a limit before it looks at its length.
    """
    dtype = np.dtype(f"<u{bits_allocated // 8}")
    count = int(np.prod(shape))
    content = imagecodecs.dicomrle_decode(frame, dtype, out=count * dtype.itemsize)
    samples = np.frombuffer(content, dtype)
    if samples.size != count:
        raise DecodeError("truncated", f"DICOM frame of {count} samples holds {samples.size}")
    return samples.reshape(shape) if len(shape) == 2 else np.moveaxis(samples.reshape(shape[2:] + shape[:2]), 0, 2)
