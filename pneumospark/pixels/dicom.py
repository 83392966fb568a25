"""A DICOM file to one grey picture, by the `TAGS` of its header and no others."""

from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.config import disable_value_validation
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels.processing import apply_windowing
from pydicom.pixels.utils import get_expected_length, pixel_array

from pneumospark.errors import DecodeError
from pneumospark.pixels import codecs
from pneumospark.pixels.dicom_header import PICTURE_TAGS, TAGS, DicomHeader, facts_of

SYNTAXES = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.JPEGBaseline8Bit,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.HTJ2K,
    *codecs.SYNTAXES,
)
"""A fixed list, since what else a machine has installed must not change pixels. Deflated is absent on purpose: pydicom
inflates it without a limit."""

MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


class DicomPicture(NamedTuple):
    """`pixels` as `Decoded` has them, and what the header says besides."""

    pixels: npt.NDArray[np.unsignedinteger[Any]]
    bits: int
    photometric: str
    header: DicomHeader


def is_dicom(content: bytes) -> bool:
    """Whether the DICOM prefix follows the preamble of 128 bytes (PS3.10, section 7.1)."""
    return content[128:132] == b"DICM"


def header_of(content: bytes) -> DicomHeader | None:
    """What the header says, without a look at the picture; None for other files, and for headers that do not parse."""
    if not is_dicom(content):
        return None
    try:
        with disable_value_validation():
            return facts_of(dcmread(BytesIO(content), specific_tags=list(TAGS), stop_before_pixels=True))
    except Exception:  # damaged in some way of its own: `read` will say how
        return None


def read(content: bytes, max_pixels: int) -> DicomPicture:
    """The one frame of a DICOM file, in grey, black at 0, with the rescale and the window or LUT that its header names.

    Output: (rows, columns); uint8 for colour, and where up to 8 bits have no step but a window: their range is kept;
    otherwise uint16, the darkest pixel at 0 and the brightest at 65535. Raises DecodeError, and what pydicom raises for
    damaged bytes.
    """
    # Unread values stay unread, but a value that pydicom doubts would be quoted in its warnings, and so in a log.
    with disable_value_validation():
        syntax = _transfer_syntax(content)
        header = dcmread(BytesIO(content), specific_tags=list(TAGS))
        _check_header(header, max_pixels)
        photometric, bits = str(header.PhotometricInterpretation), int(header.BitsStored)
        if syntax in codecs.SYNTAXES:
            _decompress(header, syntax)
        elif syntax.is_encapsulated:
            _check_codestream(header)
        pixels = _grey(pixel_array(header), header)
        return DicomPicture(pixels, bits, photometric, facts_of(header))


def deidentified(content: bytes) -> bytes:
    """The same picture as a DICOM file of `PICTURE_TAGS`: all of it that a table may keep.

    `read` gives the same pixels for both. Raises what `read` raises.
    """
    with disable_value_validation():
        syntax = _transfer_syntax(content)
        header = dcmread(BytesIO(content), specific_tags=list(PICTURE_TAGS))
        if syntax.is_encapsulated:
            frame = get_frame(header.PixelData, 0, number_of_frames=1)
            header.PixelData = encapsulate([codecs.picture_alone(frame, syntax)])
        else:
            length = get_expected_length(header)
            header.PixelData = header.PixelData[: length + length % 2]
        for sequence in ("ModalityLUTSequence", "VOILUTSequence"):
            for item in header.get(sequence) or ():
                for element in list(item):
                    if element.keyword not in ("LUTDescriptor", "LUTData"):
                        del item[element.tag]
                if "LUTDescriptor" in item and "LUTData" in item:
                    item.LUTData = _entries(item)
        header.preamble = b"\0" * 128
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = syntax
        header.file_meta.MediaStorageSOPClassUID = uid.SecondaryCaptureImageStorage
        header.file_meta.MediaStorageSOPInstanceUID = uid.UID("2.25.1")  # always the same: equal bytes stay equal
        file = BytesIO()
        header.save_as(file, enforce_file_format=True)
        return file.getvalue()


def _transfer_syntax(content: bytes) -> uid.UID:
    """Read before the rest is: `dcmread` would inflate a deflated file without a limit."""
    start = BytesIO(content)
    start.seek(132)
    meta = read_dataset(start, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    syntax = uid.UID(meta.get("TransferSyntaxUID", ""))
    if syntax not in SYNTAXES:
        known = syntax.name != syntax
        raise DecodeError("unsupported", f"DICOM transfer syntax {syntax.name if known else 'missing or unknown'}")
    return syntax


def _check_header(header: Dataset, max_pixels: int) -> None:
    """Raise DecodeError for what is no single still picture of a size, depth and colour that can be shown."""
    if "PixelData" not in header:
        image = "Rows" in header or not len(header)  # a report has no rows either, but pydicom drops all that is cut
        raise DecodeError("truncated" if image else "unsupported", "DICOM without pixel data")
    if int(header.get("NumberOfFrames") or 1) > 1:
        raise DecodeError("multi_frame", f"DICOM with {int(header.NumberOfFrames)} frames")
    if header.Rows * header.Columns > max_pixels:
        raise DecodeError("too_large", f"{header.Columns} x {header.Rows} pixels, limit {max_pixels}")
    bits, photometric = header.BitsStored, header.PhotometricInterpretation
    if photometric not in MONOCHROME + COLOUR:
        raise DecodeError("unsupported", "DICOM photometric interpretation that is neither grey, RGB nor YBR")
    if bits > (16 if photometric in MONOCHROME else 8):
        raise DecodeError("unsupported", f"DICOM with {bits} bits a sample as {photometric}")
    if header.get("HighBit") not in (None, bits - 1):  # older files may have them left-justified; PS3.5, section 8.1.1
        raise DecodeError("unsupported", f"DICOM with {bits} bits a sample up to bit {header.HighBit}, not {bits - 1}")


def _check_codestream(header: Dataset) -> None:
    """Raise DecodeError where the compressed frame declares another size, for the decoder would believe it."""
    frame = get_frame(header.PixelData, 0, number_of_frames=1)
    columns, rows = Image.open(BytesIO(frame), formats=("JPEG", "JPEG2000")).size
    codecs.check_size((rows, columns), (header.Rows, header.Columns))


def _decompress(header: Dataset, syntax: uid.UID) -> None:
    """Put the samples of the compressed frame in its place, so that pydicom goes on as with an uncompressed file."""
    samples = header.SamplesPerPixel
    shape = (header.Rows, header.Columns, samples)[: 2 if samples == 1 else 3]
    frame = get_frame(header.PixelData, 0, number_of_frames=1)
    pixels = codecs.decompress(frame, syntax, shape, header.BitsAllocated)
    header.PixelData = pixels.tobytes()
    header.BitsAllocated = pixels.itemsize * 8
    header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    if samples > 1:
        header.PlanarConfiguration = 0
        if syntax == uid.JPEGExtended12Bit:
            header.PhotometricInterpretation = "RGB"  # the decoder has converted it already


def _grey(values: npt.NDArray[Any], header: Dataset) -> npt.NDArray[np.unsignedinteger[Any]]:
    """(rows, columns) or (rows, columns, 3) as stored, to (rows, columns) of uint8 or uint16 with 0 as black.

    By a table over the stored values that occur, 65,536 at most: what is done to them in float64 takes no memory a
    pixel. Padding has no part in it and is black, as a collimator is.
    """
    if header.PhotometricInterpretation in COLOUR:
        return np.asarray(Image.fromarray(values).convert("L"))
    codes = values.astype(np.uint16, copy=False)  # pydicom has set the bits above BitsStored by the sign
    occurs = np.zeros(2**16, np.bool_)
    for row in codes:  # not all at once: numpy makes an index of 8 bytes a pixel
        occurs[row] = True
    stored = np.flatnonzero(occurs).astype(np.uint16).view(np.int16 if values.dtype.kind == "i" else np.uint16)
    stored = stored[~_is_padding(stored, header)]
    if not stored.size:
        raise DecodeError("corrupt", "DICOM whose pixels are all padding")
    levels = _levels(stored, header)
    table = np.zeros(2**16, levels.dtype)
    table[stored.view(np.uint16)] = levels
    return np.stack([table[row] for row in codes])


def _is_padding(stored: npt.NDArray[Any], header: Dataset) -> npt.NDArray[np.bool_]:
    """Where a stored value is the padding value, or lies between it and the range limit (PS3.3, C.7.5.1.1.2)."""
    found = header.get("PixelPaddingValue")
    if found is None:
        return np.zeros(stored.shape, np.bool_)
    limit = header.get("PixelPaddingRangeLimit")
    ends = np.array([found, found if limit is None else limit], np.int64) & (2**header.BitsStored - 1)
    if stored.dtype.kind == "i":  # a negative value may be written as an unsigned one
        ends[ends >= 2 ** (header.BitsStored - 1)] -= 2**header.BitsStored
    return np.asarray((stored >= ends.min()) & (stored <= ends.max()))


def _levels(stored: npt.NDArray[Any], header: Dataset) -> npt.NDArray[np.unsignedinteger[Any]]:
    """What is shown for each of some stored values, uint8 or uint16 with 0 as black."""
    rescaled = _rescaled(stored, header)
    shown = _windowed(rescaled, header)
    # A window gives values of the same range as the stored ones; a rescale or a LUT gives any.
    within = np.array_equal(np.rint(shown if header.get("VOILUTSequence") else rescaled), stored)
    if header.BitsStored <= 8 and within:
        low = -(2.0 ** (header.BitsStored - 1)) if header.PixelRepresentation else 0.0
        levels = _stretched(shown, low, low + 2**header.BitsStored - 1, np.uint8)
    else:
        levels = _stretched(shown, float(shown.min()), float(shown.max()), np.uint16)
    return ~levels if header.PhotometricInterpretation == "MONOCHROME1" else levels


def _rescaled(values: npt.NDArray[Any], header: Dataset) -> npt.NDArray[Any]:
    """The Modality LUT or rescale (PS3.3, C.11.1); an empty element counts as absent."""
    if header.get("ModalityLUTSequence"):
        return _looked_up(values, header.ModalityLUTSequence[0], header)
    rescale = _rescale(header)
    return values * rescale[0] + rescale[1] if rescale else values


def _rescale(header: Dataset) -> tuple[float, float] | None:
    """Slope and intercept; None where the header has not both, or a Modality LUT, which goes before them."""
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    if header.get("ModalityLUTSequence") or slope is None or intercept is None:
        return None
    return float(slope), float(intercept)


def _windowed(values: npt.NDArray[Any], header: Dataset) -> npt.NDArray[Any]:
    """The first VOI LUT, or else the first window (PS3.3, C.11.2)."""
    if header.get("VOILUTSequence"):
        return _looked_up(values, header.VOILUTSequence[0], header)
    if header.get("WindowCenter") is None or header.get("WindowWidth") is None:
        return values
    shown = np.asarray(apply_windowing(values, header))
    # pydicom takes the ends of the stored range, rescaled, in that order: by a negative slope the first would be white.
    rescale = _rescale(header)
    return -shown if rescale and rescale[0] < 0 else shown


def _looked_up(values: npt.NDArray[Any], lut: Dataset, header: Dataset) -> npt.NDArray[Any]:
    """Values through a LUT (PS3.3, C.11.1.1), below and above its range the first and the last entry.

    Not pydicom's `apply_voi`, which wraps indices at 256 where the entries have 8 bits and reads packed ones wrongly.
    """
    count, first, _ = lut.LUTDescriptor
    count = count or 2**16
    data = _entries(lut)
    if isinstance(data, bytes):
        wide = "<u2" if header.file_meta.TransferSyntaxUID.is_little_endian else ">u2"
        data = np.frombuffer(data, wide if len(data) == 2 * count else "u1")
    table = np.asarray(data)[:count]
    return np.asarray(table[np.clip(np.rint(values).astype(np.int32) - first, 0, len(table) - 1)])


def _entries(lut: Dataset) -> Any:
    """LUTData as stored, without what lies behind the entries: bytes of 8 or 16 bits an entry, or numbers."""
    count, data = lut.LUTDescriptor[0] or 2**16, lut.LUTData
    if isinstance(data, bytes):
        return data[: 2 * count if len(data) >= 2 * count else count + count % 2]
    return data[:count]


def _stretched(
    values: npt.NDArray[Any], low: float, high: float, dtype: type[np.unsignedinteger[Any]]
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """`low` to 0, `high` to the largest of `dtype`, linear: no two levels that fit into it become one. 0 where flat."""
    if not np.isfinite(high - low) or not np.isfinite(values).all():
        raise DecodeError("corrupt", "DICOM rescale or window gives values that are not finite")
    white = np.iinfo(dtype).max
    levels = np.rint((values - low) * (white / (high - low or 1)))
    return np.asarray(levels.clip(0, white).astype(dtype))
