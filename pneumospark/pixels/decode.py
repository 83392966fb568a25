"""The bytes of any file to one grey picture, or the DecodeError that says why not."""

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageChops, ImageFile, ImageOps, UnidentifiedImageError

from pneumospark.errors import DecodeError
from pneumospark.pixels import dicom
from pneumospark.pixels.dicom_header import DicomHeader

Grey = npt.NDArray[np.unsignedinteger[Any]]
"""(height, width), uint8 or uint16, 0 is black."""

MAX_PIXELS = 100_000_000
"""Ten times the largest radiograph: a detector of 43 x 43 cm at 0.1 mm has 18 million."""

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP")
"""Only these: Pillow knows some 40 more, and each is a parser that a hostile file could reach."""

PHOTOMETRIC = {
    "1": "MONOCHROME2",
    "L": "MONOCHROME2",
    "LA": "MONOCHROME2",
    "I;16": "MONOCHROME2",
    "I;16B": "MONOCHROME2",
    "P": "PALETTE COLOR",
    "PA": "PALETTE COLOR",
    "RGB": "RGB",
    "RGBA": "RGB",
    "RGBX": "RGB",
    "CMYK": "CMYK",
    "YCbCr": "YBR_FULL",
}
"""Pillow's mode in the words of DICOM PS3.3, C.7.6.3.1.2. A mode that is absent has no known black, or no grey."""

_SIDEWAYS = range(5, 9)  # EXIF orientations that swap width and height
_TRUNCATED = ("truncated", "less than expected", "unexpected end", "cannot load this image")  # the last: header only
_UNSUPPORTED = ("unsupported", "not supported", "cannot handle", "unknown pixel mode", "unknown data organization")


@dataclass(frozen=True, eq=False)
class Decoded:
    """One picture in grey, and what its file said of it."""

    pixels: Grey  # (height, width), or fewer where `at_least` allowed it; turned as EXIF asks
    width: int  # native, as shown
    height: int
    format: str  # one of FORMATS, or "DICOM"
    bits: int  # stored bits a sample: 1 to 16
    photometric: str  # as stored, in the words of DICOM
    header: DicomHeader | None = None  # None unless DICOM


def decode(content: bytes, max_pixels: int = MAX_PIXELS, at_least: tuple[int, int] | None = None) -> Decoded:
    """Decode a JPEG, PNG, TIFF, BMP, GIF, WebP or DICOM file, whatever its name, to grey.

    Colour becomes ITU-R 601 luma, and transparency lies over black. 8 bits stay as they are; more stay uint16, not cut
    to the high byte. With `at_least` (height, width) a JPEG may come 2, 4 or 8 times smaller, but not below it.
    Raises DecodeError, and nothing else, for any bytes.
    """
    if not content:
        raise DecodeError("empty", "zero bytes")
    try:
        if dicom.is_dicom(content):
            picture = dicom.read(content, max_pixels)
            height, width = picture.pixels.shape
            return Decoded(picture.pixels, width, height, "DICOM", *picture[1:])
        return _decode_raster(content, max_pixels, at_least)
    except DecodeError:
        raise
    # Decoders written by others raise whatever they like for damaged bytes, and one bad file must not stop a night's
    # run. `from None`, since their messages can quote the file, and a traceback would print them.
    except Exception as error:
        raise _refusal(error, quotable=not dicom.is_dicom(content)) from None


def without_identity(content: bytes) -> bytes:
    """The bytes that a table may keep: of a DICOM file its picture alone, with the same pixels. Raises DecodeError."""
    if not dicom.is_dicom(content):
        return content
    try:
        return dicom.deidentified(content)
    except Exception as error:  # as in `decode`
        raise _refusal(error, quotable=False) from None


def _decode_raster(content: bytes, max_pixels: int, at_least: tuple[int, int] | None) -> Decoded:
    image = _open(content, max_pixels)
    bits, photometric = _stored_bits(image, content), _photometric(image)
    if image.format == "PNG":
        # Pillow skips the checksums of the pixel data: of a small PNG, one flipped bit in three passed.
        Image.open(BytesIO(content), formats=("PNG",)).verify()
    native = _draft(image, at_least) if image.format == "JPEG" else None
    image.load()
    inverted = photometric == "MONOCHROME1" and image.mode == "I;16"  # Pillow inverts 8 bits itself, not 16
    ImageOps.exif_transpose(image, in_place=True)
    pixels = _grey(image)
    width, height = native or image.size
    return Decoded(~pixels if inverted else pixels, width, height, str(image.format), bits, photometric)


def _open(content: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """Read the header only, and refuse what must not be decoded."""
    try:
        image = Image.open(BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise _why_unidentified(content) from None
    if image.width * image.height > max_pixels:
        raise DecodeError("too_large", f"{image.width} x {image.height} pixels, limit {max_pixels}")
    if getattr(image, "is_animated", False):
        raise DecodeError("multi_frame", f"{image.format} with several frames")
    return image


def _why_unidentified(content: bytes) -> DecodeError:
    """Ask the plug-in whose signature fits: `Image.open` swallows what it said."""
    for name in FORMATS:
        factory, accept = Image.OPEN[name]
        if accept is None or accept(content[:16]) is not True:
            continue
        try:
            factory(BytesIO(content), "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            return _refusal(error, quotable=True)
    return DecodeError("not_an_image", f"no signature of {', '.join(FORMATS)} or DICOM")


def _stored_bits(image: ImageFile.ImageFile, content: bytes) -> int:
    """Bits a sample, as the file says; raises DecodeError where Pillow would drop some of them."""
    bits = 1 if image.mode == "1" else 8
    if image.format == "PNG":
        bits = content[24]  # bit depth: PNG specification, 11.2.1 IHDR
    elif image.format == "TIFF":
        bits = _tiff_tag(image, 258, 1)  # BitsPerSample: TIFF 6.0, section 8
    if bits > 8 and not image.mode.startswith("I;16"):
        raise DecodeError("unsupported", f"{image.format} with {bits} bits a sample as {image.mode}")
    return bits


def _photometric(image: ImageFile.ImageFile) -> str:
    if image.mode not in PHOTOMETRIC:
        raise DecodeError("unsupported", f"{image.format} of mode {image.mode}")
    if image.format == "TIFF" and _tiff_tag(image, 262, 1) == 0:  # PhotometricInterpretation: WhiteIsZero
        return "MONOCHROME1"
    return PHOTOMETRIC[image.mode]


def _tiff_tag(image: ImageFile.ImageFile, tag: int, default: int) -> int:
    value = image.tag_v2.get(tag, default)  # type: ignore[attr-defined]
    return int(value[0] if isinstance(value, tuple) else value)


def _draft(image: ImageFile.ImageFile, at_least: tuple[int, int] | None) -> tuple[int, int]:
    """Let libjpeg give luma at the smallest scale that will do; returns the native (width, height) as shown.

    Luma is what a JPEG stores, so nothing is lost, and a colour JPEG decodes as fast as a grey one.
    """
    sideways = image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
    width, height = image.size
    target = at_least and (at_least if sideways else at_least[::-1])
    image.draft("L", target)
    return (height, width) if sideways else (width, height)


def _grey(image: Image.Image) -> Grey:
    """(height, width), uint8 or uint16."""
    if image.mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.uint16)
        return np.where(pixels == image.info.get("transparency", -1), np.uint16(0), pixels)
    if not image.has_transparency_data:
        return np.asarray(image.convert("L"))
    rgba = image.convert("RGBA")
    return np.asarray(ImageChops.multiply(rgba.convert("L"), rgba.getchannel("A")))


def _refusal(error: Exception, quotable: bool) -> DecodeError:
    """The reason for a decoder's own error; its message is kept only where it cannot hold a patient's data."""
    text = " ".join(str(error).split())
    spoken = isinstance(error, OSError | SyntaxError | Image.DecompressionBombError) and error.__cause__ is None
    detail = text[:120] if quotable and spoken else f"{type(error.__cause__ or error).__name__} in the decoder"
    return DecodeError(_reason(error, text.lower()), detail)


def _reason(error: Exception, text: str) -> str:
    if isinstance(error, MemoryError | Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "too_large"
    # Pillow turns an end of data in a header into a SyntaxError from one of these.
    ended = (EOFError, IndexError, struct.error)
    if isinstance(error, ended) or isinstance(error.__cause__, ended) or any(word in text for word in _TRUNCATED):
        return "truncated"
    return "unsupported" if any(word in text for word in _UNSUPPORTED) else "corrupt"
