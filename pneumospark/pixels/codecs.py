"""Frames of DICOM files: decoded where pydicom alone does it unsafely or not, and cleared of all but the picture."""

import re
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
_SOI, _END = b"\xff\xd8", b"\xff\xd9"  # the latter is EOI, and EOC of JPEG 2000
_BARE = {0x01, *range(0xD0, 0xD9)}  # markers without a length: TEM, RST0 to RST7, SOI (T.81, B.1.1.4)

_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")  # none that lies within a scan: RST, and 0xFF of the data
_NO_FILL = re.compile(rb"[^\xff]")
_APPLICATION = {0xE0: (b"JFIF\0", 14), 0xE8: (b"mrfx", 5), 0xEE: (b"Adobe", 12)}
"""APP segments that say how colour is stored, how they begin and how many bytes say it: JFIF, HP's JPEG-LS, Adobe."""
_BOXES = (b"jP  ", b"ftyp", b"jp2h", b"jp2c")
"""Of a JP2 file (T.800, annex I): what its picture needs."""


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


def picture_alone(frame: bytes, syntax: uid.UID) -> bytes:
    """A compressed frame with zeros for comments, application data and what is unused, and nothing behind its end.

    Zeros, since a length may be told elsewhere, too. What says how colour is stored stays.
    """
    cleared, end = bytearray(frame), len(frame)
    if syntax == uid.RLELossless:
        _clear(cleared, 4 + 4 * int.from_bytes(frame[:4], "little"), 64)  # places of segments that there are not
    elif frame.startswith(_SOI):
        end = _clear_jpeg(cleared)
    elif frame[4:8] == _BOXES[0]:
        end = _clear_boxes(cleared)
    else:
        end = _clear_jpeg_2000(cleared, 0)
    return bytes(cleared[:end])


def _clear_jpeg(frame: bytearray) -> int:
    """Clear COM and APP segments, and what lies between segments, in place; returns where EOI ends."""
    place, in_scan = len(_SOI), False
    while found := _MARKER.search(frame, place):
        if not in_scan:
            frame[place : found.start()] = _NO_FILL.sub(b"\0", frame[place : found.start()])
        start = found.end()
        marker = frame[start - 1]
        if marker == _END[1]:
            return start
        place, in_scan = start + (0 if marker in _BARE else _length(frame, start)), marker == 0xDA  # SOS
        if marker == 0xFE or 0xE0 <= marker <= 0xEF:
            word, count = _APPLICATION.get(marker, (b"", 0))
            _clear(frame, start + 2 + (count if frame.startswith(word, start + 2) else 0), place)
    return len(frame)


def _clear_jpeg_2000(frame: bytearray, start: int) -> int:
    """Clear the comments of a codestream (T.800, annex A) from `start` on in place; returns where EOC ends."""
    place, tile_end = start + 2, 0  # behind SOC
    while 0 <= place < len(frame) - 1 and frame[place] == 0xFF:
        marker, end = frame[place + 1], place + 2 + _length(frame, place + 2)
        if marker == _END[1]:
            return place + 2
        if marker == 0x90:  # SOT: how long the part of the tile is, or 0 up to EOC
            count = int.from_bytes(frame[place + 6 : place + 10])
            tile_end = place + count if count else frame.find(_END, place)
        elif marker == 0x93:  # SOD
            end = tile_end
        elif marker == 0x64:  # COM, behind its length whether it is text
            _clear(frame, place + 6, end)
        place = max(end, place + 2)
    return len(frame)


def _clear_boxes(frame: bytearray) -> int:
    """Clear the boxes of a JP2 file that make no picture in place; returns where the last one ends."""
    place = 0
    while place + 8 <= len(frame):
        length, kind, start = int.from_bytes(frame[place : place + 4]), frame[place + 4 : place + 8], place + 8
        if length == 1:  # it follows in 8 bytes
            length, start = int.from_bytes(frame[start : start + 8]), start + 8
        end = place + length if length else len(frame)
        if kind == b"jp2c":
            _clear(frame, _clear_jpeg_2000(frame, start), end)
        elif kind not in _BOXES:
            _clear(frame, start, end)
        place = max(start, end)
    return place


def _clear(frame: bytearray, start: int, end: int) -> None:
    end = min(end, len(frame))
    frame[start:end] = bytes(max(0, end - start))


def _length(frame: bytearray, place: int) -> int:
    return int.from_bytes(frame[place : place + 2])


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
