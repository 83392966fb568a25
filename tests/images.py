"""Small images as the bytes of files, good and bad: `import images`, then `images.jpeg(grey)`."""

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import ExplicitVRLittleEndian

DATA = Path(os.environ.get("PNEUMOSPARK_DATA") or Path(__file__).parents[2] / "shared" / "data")
NAME, BIRTH_DATE, ACCESSION = "Doe^Jane", "19700131", "ACC-4711"  # what must never come out of a DICOM file


def real(pattern: str) -> list[Path]:
    """Real files beside the checkout, in order; a test that gets none skips."""
    return sorted(DATA.glob(pattern))


def ramp(height: int = 24, width: int = 40, white: int = 255) -> np.ndarray:
    """(height, width) from 0 at the top left to `white` at the bottom right; uint8, or uint16 for more than 8 bits."""
    levels = np.linspace(0, white, height * width).reshape(height, width)
    return np.rint(levels).astype(np.uint8 if white < 256 else np.uint16)


def saved(image: Image.Image, file_format: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def jpeg(pixels: np.ndarray, **options: Any) -> bytes:
    """Of (height, width) or (height, width, 3), uint8; quality 95 unless told."""
    return saved(Image.fromarray(pixels), "JPEG", **{"quality": 95, "subsampling": 0, **options})


def png(pixels: np.ndarray, mode: str = "", **options: Any) -> bytes:
    """Of uint8, or of uint16 for 16 bits; with a mode ("RGB", "RGBA", "LA", "P", "1") it is converted first."""
    image = Image.fromarray(pixels)
    return saved(image.convert(mode) if mode else image, "PNG", **options)


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    return saved(Image.fromarray(pixels), "TIFF", **options)


def translucent(grey: int, alpha: int) -> bytes:
    """An RGBA PNG of one colour."""
    return saved(Image.new("RGBA", (12, 9), (grey, grey, grey, alpha)), "PNG")


def cmyk(grey: int) -> bytes:
    """A CMYK JPEG of one grey, in black ink only; Pillow writes it inverted, as Adobe does."""
    return saved(Image.new("CMYK", (12, 9), (0, 0, 0, 255 - grey)), "JPEG", quality=95)


def turned(pixels: np.ndarray, orientation: int) -> bytes:
    """A JPEG with an EXIF orientation, 1 to 8."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg(pixels, exif=exif)


def several_frames(file_format: str) -> bytes:
    """An animation (GIF, PNG, WEBP) or pages (TIFF, MPO): three of them."""
    first, *rest = (Image.new("L", (12, 9), grey) for grey in (0, 128, 255))
    return saved(first, file_format, save_all=True, append_images=rest)


def truncated(content: bytes, share: float = 0.5) -> bytes:
    return content[: int(len(content) * share)]


def flipped(content: bytes, position: int, bit: int = 0) -> bytes:
    """One bit changed."""
    damaged = bytearray(content)
    damaged[position] ^= 1 << bit
    return bytes(damaged)


def bomb(width: int = 100_000, height: int = 100_000) -> bytes:
    """A PNG of 60 bytes that declares a size: what a decompression bomb looks like from outside."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_header_checksum(content: bytes) -> bytes:
    """A PNG whose header (IHDR, bytes 12 to 29) was changed, with the checksum that fits again."""
    return content[:29] + struct.pack(">I", zlib.crc32(content[12:29])) + content[33:]


TEXT = b"This is a note that somebody named chest.jpg\n"
EMPTY = b""


def bad() -> dict[str, tuple[bytes, str]]:
    """Name -> (bytes, reason that `decode` must give): one of each for a test that reads a folder."""
    return {
        "empty.png": (EMPTY, "empty"),
        "text.jpg": (TEXT, "not_an_image"),
        "truncated.jpeg": (truncated(jpeg(ramp())), "truncated"),
        "bomb.png": (bomb(), "too_large"),
        "animation.gif": (several_frames("GIF"), "multi_frame"),
        "pages.tiff": (several_frames("TIFF"), "multi_frame"),
        "float.tiff": (tiff(ramp().astype(np.float32)), "unsupported"),
        "damaged.png": (flipped(png(ramp()), 60), "corrupt"),
    }


def dicom(
    pixels: np.ndarray,
    syntax: str = ExplicitVRLittleEndian,
    frame: bytes = b"",
    private: Dataset | None = None,
    **elements: Any,
) -> bytes:
    """Of (rows, columns) or (rows, columns, 3); `elements` are keywords such as WindowCenter=40, None to leave one out.

    `frame` is the compressed picture where the transfer syntax asks for one; `private` has more elements.
    """
    header = Dataset(private or {})
    header.PatientName, header.PatientBirthDate, header.AccessionNumber = NAME, BIRTH_DATE, ACCESSION
    header.PatientID, header.Modality = "P-001", "DX"
    header.Rows, header.Columns = pixels.shape[:2]
    header.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    header.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        header.PlanarConfiguration = 0
    header.BitsAllocated = header.BitsStored = pixels.dtype.itemsize * 8
    header.HighBit = (elements.get("BitsStored") or header.BitsStored) - 1
    header.PixelRepresentation = int(pixels.dtype.kind == "i")
    header.PixelData = encapsulate([frame]) if frame else pixels.tobytes()
    header["PixelData"].VR = "OB" if frame or pixels.itemsize == 1 else "OW"
    for keyword, value in elements.items():
        setattr(header, keyword, value)
        if value is None:
            delattr(header, keyword)
    return written(header, syntax)


def rle(pixels: np.ndarray) -> bytes:
    """One frame of RLE Lossless (PS3.5, annex G), of uint8 or uint16."""
    bits, samples = pixels.itemsize * 8, 1 if pixels.ndim == 2 else 3
    return RLELosslessEncoder.encode(
        pixels,
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        number_of_frames=1,
        samples_per_pixel=samples,
        bits_allocated=bits,
        bits_stored=bits,
        pixel_representation=0,
        photometric_interpretation="MONOCHROME2" if samples == 1 else "RGB",
        planar_configuration=0,
    )


def written(header: Dataset, syntax: str) -> bytes:
    """As a file, with preamble and file meta."""
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = "1.2.3.4"
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID
    file = BytesIO()
    header.save_as(file, enforce_file_format=True)
    return file.getvalue()
