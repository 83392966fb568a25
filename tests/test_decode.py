import pickle
import struct
import time
import warnings
from io import BytesIO

import imagecodecs
import images
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mutations import KINDS, mutated, originals
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_windowing
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    SMPTEST211020UncompressedProgressiveActiveVideo,
)

from pneumospark.errors import DecodeError
from pneumospark.pixels import decode as decode_module
from pneumospark.pixels import dicom, dicom_header
from pneumospark.pixels.decode import decode, without_identity

GREY, GREY16 = images.ramp(), images.ramp(white=4095)


def reason_of(content: bytes, **options: object) -> str | None:
    """None where it decodes; any other error than DecodeError fails the test."""
    try:
        decode(content, **options)
    except DecodeError as error:
        assert "\n" not in error.detail and 0 < len(error.detail) <= 160
        assert not any(secret in error.detail for secret in (images.NAME, images.BIRTH_DATE, images.ACCESSION, "P-001"))
        return error.reason
    return None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (images.png(GREY), ("PNG", 8, "MONOCHROME2")),
        (images.png(GREY, "RGB"), ("PNG", 8, "RGB")),
        (images.png(GREY, "LA"), ("PNG", 8, "MONOCHROME2")),
        (images.png(GREY, "RGBA"), ("PNG", 8, "RGB")),
        (images.png(GREY16), ("PNG", 16, "MONOCHROME2")),
        (images.tiff(GREY), ("TIFF", 8, "MONOCHROME2")),
        (images.tiff(GREY16), ("TIFF", 16, "MONOCHROME2")),
        (images.tiff(GREY16, compression="tiff_lzw"), ("TIFF", 16, "MONOCHROME2")),
        (images.saved(Image.fromarray(GREY), "BMP"), ("BMP", 8, "MONOCHROME2")),
        (images.saved(Image.fromarray(GREY), "GIF"), ("GIF", 8, "MONOCHROME2")),
        (images.saved(Image.fromarray(GREY), "WEBP", lossless=True), ("WEBP", 8, "RGB")),
        (images.dicom(GREY), ("DICOM", 8, "MONOCHROME2")),
        (images.dicom(GREY, ImplicitVRLittleEndian), ("DICOM", 8, "MONOCHROME2")),
    ],
)
def test_grey_without_loss_comes_out_as_it_was(content: bytes, expected: tuple[str, int, str]) -> None:
    decoded = decode(content)
    want = GREY16 if expected[1] == 16 else GREY
    np.testing.assert_array_equal(decoded.pixels, want)
    assert decoded.pixels.dtype == want.dtype
    assert (decoded.format, decoded.bits, decoded.photometric) == expected
    assert (decoded.width, decoded.height) == (40, 24)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_colour_becomes_luma(colour: tuple[int, int, int]) -> None:
    content = images.saved(Image.new("RGB", (3, 2), colour), "PNG")
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]  # ITU-R BT.601
    assert np.abs(decode(content).pixels - luma).max() <= 0.51


def test_a_colour_jpeg_of_a_grey_picture_equals_the_grey_jpeg() -> None:
    colour = np.repeat(GREY[:, :, np.newaxis], 3, axis=2)
    np.testing.assert_array_equal(decode(images.jpeg(colour)).pixels, decode(images.jpeg(GREY)).pixels)
    assert decode(images.jpeg(colour)).photometric == "RGB"


def test_the_luma_of_a_colour_jpeg_is_the_one_it_stores() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3)).astype(np.uint8)
    content = images.jpeg(noise, quality=20)  # coarse, so that many stored colours lie outside RGB
    stored = Image.open(BytesIO(content))
    stored.draft("YCbCr", None)
    np.testing.assert_array_equal(decode(content).pixels, np.asarray(stored)[:, :, 0])


@pytest.mark.parametrize(("grey", "alpha", "expected"), [(255, 255, 255), (255, 0, 0), (200, 128, 100), (0, 7, 0)])
def test_transparency_lies_over_black(grey: int, alpha: int, expected: int) -> None:
    assert np.unique(decode(images.translucent(grey, alpha)).pixels).tolist() == [expected]


def test_a_transparent_level_is_black() -> None:
    for picture in (GREY, GREY16):
        content = images.saved(Image.fromarray(picture), "PNG", transparency=int(picture[5, 5]))
        np.testing.assert_array_equal(decode(content).pixels, np.where(picture == picture[5, 5], 0, picture))


@pytest.mark.parametrize("grey", [0, 100, 255])
def test_cmyk_as_adobe_writes_it_is_not_a_negative(grey: int) -> None:
    decoded = decode(images.cmyk(grey))
    assert np.abs(decoded.pixels.astype(int) - grey).max() <= 2
    assert decoded.photometric == "CMYK"


def test_palette_and_one_bit() -> None:
    palette = Image.fromarray(GREY).convert("RGB").quantize(256)
    decoded = decode(images.saved(palette, "PNG"))
    np.testing.assert_array_equal(decoded.pixels, np.asarray(palette.convert("RGB").convert("L")))
    assert decoded.photometric == "PALETTE COLOR"
    checks = np.indices((9, 12)).sum(axis=0) % 2 * np.uint8(255)
    one_bit = decode(images.png(checks.astype(np.uint8), "1"))
    np.testing.assert_array_equal(one_bit.pixels, checks)
    assert one_bit.bits == 1


def test_a_transparent_entry_of_a_palette_is_black() -> None:
    palette = Image.fromarray(GREY).convert("RGB").quantize(256)
    clear = int(np.asarray(palette)[5, 5])
    decoded = decode(images.saved(palette, "PNG", transparency=clear))
    grey = np.asarray(palette.convert("RGB").convert("L"))
    np.testing.assert_array_equal(decoded.pixels, np.where(np.asarray(palette) == clear, 0, grey))
    assert decoded.photometric == "PALETTE COLOR"


@pytest.mark.parametrize("picture", [GREY, GREY[:, :, None].repeat(3, axis=2)], ids=["grey", "colour"])
def test_a_progressive_jpeg_equals_the_baseline_one(picture: np.ndarray) -> None:
    baseline, progressive = (decode(images.jpeg(picture, progressive=flag)) for flag in (False, True))
    np.testing.assert_array_equal(progressive.pixels, baseline.pixels)


@pytest.mark.parametrize("picture", [GREY, GREY16])
def test_a_tiff_with_white_at_zero_is_turned_round(picture: np.ndarray) -> None:
    entry = b"\x06\x01\x03\x00\x01\x00\x00\x00"  # tag 262, a short, one value
    content = images.tiff(picture)
    assert entry + b"\1" in content
    decoded = decode(content.replace(entry + b"\1", entry + b"\0"))
    np.testing.assert_array_equal(decoded.pixels, np.iinfo(picture.dtype).max - picture)
    assert decoded.photometric == "MONOCHROME1"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("at_least", [None, (24, 10)])
def test_exif_turns_the_picture_and_its_size(orientation: int, at_least: tuple[int, int] | None) -> None:
    upright = images.ramp(48, 20)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]  # EXIF 2.3, tag 274
    decoded = decode(images.turned(np.ascontiguousarray(stored), orientation), at_least=at_least)
    assert (decoded.height, decoded.width) == (48, 20)
    assert decoded.pixels.shape == (at_least or (48, 20))
    want = upright if at_least is None else upright.reshape(24, 2, 10, 2).mean(axis=(1, 3))
    assert np.abs(decoded.pixels - want.astype(float)).max() <= 6


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40))
def test_a_jpeg_never_comes_smaller_than_asked(height: int, width: int, rows: int, columns: int) -> None:
    decoded = decode(images.jpeg(images.ramp(height, width)), at_least=(rows, columns))
    assert (decoded.height, decoded.width) == (height, width)
    assert decoded.pixels.shape[0] >= min(rows, height)
    assert decoded.pixels.shape[1] >= min(columns, width)


@pytest.mark.parametrize("name", images.bad())
def test_bad_files_are_refused_with_their_reason(name: str) -> None:
    content, reason = images.bad()[name]
    assert reason_of(content) == reason


@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "PNG", "WEBP", "MPO"])
def test_several_frames_are_refused(file_format: str) -> None:
    with pytest.raises(DecodeError, match=r"^multi_frame: \w+ with several frames"):
        decode(images.several_frames(file_format))


@pytest.mark.parametrize("content", [images.jpeg(GREY), images.png(GREY), images.tiff(GREY), images.dicom(GREY)])
def test_the_declared_size_is_checked_before_anything_is_decoded(content: bytes) -> None:
    assert reason_of(content, max_pixels=40 * 24) is None
    with pytest.raises(DecodeError, match="too_large: 40 x 24 pixels, limit 959"):
        decode(images.truncated(content, 0.9), max_pixels=959)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(DecodeError, match="too_large: 10000 x 10001 pixels, limit 100000000"):
        decode(images.bomb(10_000, 10_001))  # Pillow only warns
    with pytest.raises(DecodeError, match="too_large: Image size"):
        decode(images.bomb())


@pytest.mark.parametrize("mode", ["RGB;16", "I", "F"])
def test_depth_that_pillow_would_cut_is_refused(mode: str) -> None:
    if mode == "RGB;16":
        deep = images.flipped(images.png(GREY, "RGB"), 24, 3)  # IHDR: 8 bits become 0
        deep = images.flipped(deep, 24, 4)  # and 16
        with pytest.raises(DecodeError, match="unsupported: PNG with 16 bits a sample as RGB"):
            decode(images.with_header_checksum(deep))
    else:
        with pytest.raises(DecodeError, match=f"unsupported: TIFF with 32 bits a sample as {mode}"):
            decode(images.saved(Image.new(mode, (12, 9)), "TIFF"))


@pytest.mark.parametrize("file_format", ["PPM", "TGA", "ICO", "JPEG2000", "SGI"])
def test_other_formats_of_pillow_are_out_of_reach(file_format: str) -> None:
    assert reason_of(images.saved(Image.new("RGB", (16, 16)), file_format)) == "not_an_image"


def test_a_flipped_bit_in_the_pixels_of_a_png_is_noticed() -> None:
    content = images.png(images.ramp(100, 150))
    found = {reason_of(images.flipped(content, position, 5)) for position in range(41, len(content) - 16)}
    assert found == {"corrupt"}


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("at_least", [None, (8, 8)])
def test_a_jpeg_cut_anywhere_is_truncated(progressive: bool, at_least: tuple[int, int] | None) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    content = images.jpeg(noise, progressive=progressive)
    found = {reason_of(content[:end], at_least=at_least) for end in range(100, len(content) - 2, 7)}
    assert found == {"truncated"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (images.png(GREY)[:20], "truncated: Truncated File Read"),
        (images.saved(Image.fromarray(GREY), "GIF")[:200], "truncated: IndexError in the decoder"),
        (images.jpeg(GREY)[:30], "truncated: Truncated File Read"),
    ],
)
def test_an_image_cut_within_its_header_is_truncated(content: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        decode(content)


def test_an_error_crosses_processes() -> None:
    with pytest.raises(DecodeError) as caught:
        decode(images.TEXT)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


# DICOM


@pytest.mark.parametrize(("white", "dtype"), [(1023, "u2"), (4095, "u2"), (65535, "u2"), (2000, "i2")])
def test_deep_grey_is_stretched_without_merging_levels(white: int, dtype: str) -> None:
    stored = images.ramp(white=white).astype(dtype) - (1000 if dtype == "i2" else 0)
    decoded = decode(images.dicom(stored.astype(dtype), BitsStored=max(10, int(white).bit_length())))
    assert decoded.pixels.dtype == np.uint16
    assert (decoded.pixels.min(), decoded.pixels.max()) == (0, 65535)
    assert (np.argsort(decoded.pixels, axis=None, kind="stable") == np.argsort(stored, axis=None, kind="stable")).all()
    assert len(np.unique(decoded.pixels)) == len(np.unique(stored))


@pytest.mark.parametrize("picture", [GREY, images.ramp(white=65535)])
def test_monochrome1_is_turned_round(picture: np.ndarray) -> None:
    decoded = decode(images.dicom(picture, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(decoded.pixels, np.iinfo(picture.dtype).max - picture)
    assert decoded.photometric == "MONOCHROME1"


UNSIGNED = Dataset()
UNSIGNED.add_new("PixelPaddingValue", "US", 63536)
PADDING = {
    "above": (np.uint16, 65535, {}),
    "twelve bits": (np.uint16, 4095, {"BitsStored": 12}),
    "signed": (np.int16, -32768, {}),
    "signed, written unsigned": (np.int16, -2000, {"private": UNSIGNED, "PixelPaddingValue": 63536}),
    "a range": (np.uint16, 65000, {"PixelPaddingValue": 65535, "PixelPaddingRangeLimit": 64000}),
    "rescaled": (np.uint16, 0, {"RescaleSlope": 2, "RescaleIntercept": -500}),
    "in a window": (np.uint16, 65535, {"WindowCenter": 2000, "WindowWidth": 1000}),
    "eight bits": (np.uint8, 255, {}),
    "eight bits, an empty value": (np.uint8, 0, {"PixelPaddingRangeLimit": ""}),
}


@pytest.mark.parametrize("photometric", dicom.MONOCHROME)
@pytest.mark.parametrize(("dtype", "value", "elements"), PADDING.values(), ids=PADDING)
def test_padding_is_black_and_the_rest_is_as_without(dtype, value: int, elements: dict, photometric: str) -> None:
    anatomy = np.tile(np.linspace(*((20, 200) if dtype == np.uint8 else (1000, 3000)), 64), (40, 1)).astype(dtype)
    padded = np.pad(anatomy, 3, constant_values=value)
    elements = {"PixelPaddingValue": value, "PhotometricInterpretation": photometric, **elements}
    decoded = decode(images.dicom(padded, **elements)).pixels
    want = decode(images.dicom(anatomy, **elements)).pixels
    np.testing.assert_array_equal(decoded, np.pad(want, 3))


def test_a_picture_of_padding_alone_is_refused() -> None:
    with pytest.raises(DecodeError, match="corrupt: DICOM whose pixels are all padding"):
        decode(images.dicom(np.full((24, 40), 7, np.uint16), PixelPaddingValue=7))


@given(st.data())
def test_the_table_of_levels_gives_what_each_pixel_would(data: st.DataObject) -> None:
    bits, signed = data.draw(st.integers(9, 16)), data.draw(st.booleans())
    least = -(2 ** (bits - 1)) * signed
    values = st.integers(least, least + 2**bits - 1)
    stored = data.draw(hnp.arrays(np.int16 if signed else np.uint16, (5, 4), elements=values))
    tags = {"WindowCenter": data.draw(values), "WindowWidth": data.draw(st.integers(2, 2**bits))}
    tags |= data.draw(st.sampled_from([{}, {"RescaleSlope": -0.5, "RescaleIntercept": 100}]))
    header = dcmread(BytesIO(images.dicom(stored, BitsStored=bits, **tags)))
    shown = apply_windowing(apply_modality_lut(stored, header), header)
    if "RescaleSlope" in tags:  # pydicom's is the negative then: see the test below
        shown = -shown
    expected = np.rint((shown - shown.min()) * (65535 / (np.ptp(shown) or 1)))
    np.testing.assert_array_equal(decode(images.dicom(stored, BitsStored=bits, **tags)).pixels, expected)


def test_window_and_rescale_are_applied_in_this_order() -> None:
    stored = np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8)
    content = images.dicom(
        stored, BitsStored=12, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=1000.5, WindowWidth=2001
    )
    # PS3.3 C.11.2.1.2.1: black up to 0, white above 2000; so 500 and 1500 as stored
    expected = np.clip((stored * 2.0 - 1000) / 2000, 0, 1) * 65535
    assert np.abs(decode(content).pixels - expected).max() <= 1


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_a_negative_slope_turns_the_picture_with_and_without_a_window(function: str) -> None:
    """The largest stored value is the lowest rescaled one: black, as a window's low end is (PS3.3, C.11.2.1.2)."""
    stored = np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8)
    tags = {"BitsStored": 12, "RescaleSlope": -1, "RescaleIntercept": 4095}
    for window in ({}, {"WindowCenter": 2048, "WindowWidth": 4096, "VOILUTFunction": function}):
        pixels = decode(images.dicom(stored, **tags, **window)).pixels.ravel()
        assert pixels[0] == 65535 and pixels[-1] == 0 and (np.diff(pixels.astype(int)) < 0).all()


@pytest.mark.parametrize(
    "empty", [{"RescaleSlope": "", "RescaleIntercept": ""}, {"WindowCenter": "", "WindowWidth": ""}]
)
def test_empty_elements_count_as_absent(empty: dict[str, str]) -> None:
    np.testing.assert_array_equal(decode(images.dicom(GREY, **empty)).pixels, GREY)


@pytest.mark.parametrize(
    "identity", [{"RescaleSlope": 1, "RescaleIntercept": 0}, {"WindowCenter": 128, "WindowWidth": 256}]
)
def test_eight_bits_stay_as_they_are_where_the_header_changes_nothing(identity: dict[str, int]) -> None:
    np.testing.assert_array_equal(decode(images.dicom(GREY, **identity)).pixels, GREY)


@pytest.mark.parametrize("allocated", [np.uint8, np.uint16])
@pytest.mark.parametrize("window", [(128, 256), (128, 255), (127, 255), (127.5, 255), (100, 50)], ids=str)
def test_a_window_of_eight_bits_is_no_reason_to_stretch_them(window: tuple[float, int], allocated: type) -> None:
    faint = (images.ramp(white=40) + 90).astype(allocated)
    center, width = window
    tags = {"BitsStored": 8, "WindowCenter": center, "WindowWidth": width}
    shown = np.clip(((faint - (center - 0.5)) / (width - 1) + 0.5) * 255, 0, 255)  # PS3.3, C.11.2.1.2.1
    decoded = decode(images.dicom(faint, **tags)).pixels
    assert decoded.dtype == np.uint8 and np.abs(decoded - shown).max() <= 0.51
    negative = decode(images.dicom(faint, **tags, PhotometricInterpretation="MONOCHROME1")).pixels
    np.testing.assert_array_equal(negative, 255 - decoded)


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.int8), (8, np.int16), (6, np.uint8), (6, np.int8), (1, np.uint8)])
def test_eight_bits_or_fewer_keep_their_range(bits: int, dtype: type) -> None:
    least = -(2 ** (bits - 1)) if dtype in (np.int8, np.int16) else 0
    stored = (np.array([[0.25, 0.5, 0.75, 0.5]]) * (2**bits - 1) + least).astype(dtype)
    decoded = decode(images.dicom(stored, BitsStored=bits)).pixels
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, np.rint((stored.astype(int) - least) * (255 / (2**bits - 1))))


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", ExplicitVRBigEndian])
@pytest.mark.parametrize("bits", [8, 16])
def test_a_lookup_table_is_applied(bits: int, syntax: str) -> None:
    table = np.arange(512)[::-1] // (2 if bits == 8 else 1)
    lut = Dataset()
    lut.LUTDescriptor = [512, 100, bits]
    big = syntax == ExplicitVRBigEndian
    lut.LUTData = table.astype("u1" if bits == 8 else ">u2" if big else "<u2").tobytes()
    lut["LUTData"].VR = "OW"
    stored = np.arange(0, 800, 5, dtype=np.uint16).reshape(10, 16)
    content = images.dicom(stored.byteswap() if big else stored, syntax, BitsStored=12, VOILUTSequence=[lut])
    shown = table[np.clip(stored.astype(int) - 100, 0, 511)]
    expected = (shown - shown.min()) / np.ptp(shown) * 65535
    assert np.abs(decode(content).pixels - expected).max() <= 1


def test_colour_dicom_becomes_luma() -> None:
    colour = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)
    np.testing.assert_array_equal(decode(images.dicom(colour)).pixels, np.asarray(Image.fromarray(colour).convert("L")))


@pytest.mark.parametrize(
    ("syntax", "file_format", "options"),
    [(JPEGBaseline8Bit, "JPEG", {"quality": 100}), (JPEG2000Lossless, "JPEG2000", {"no_jp2": True})],
)
def test_a_compressed_frame_is_decoded_and_must_have_the_size_of_the_header(
    syntax: str, file_format: str, options: dict[str, object]
) -> None:
    frame = images.saved(Image.fromarray(GREY), file_format, **options)
    decoded = decode(images.dicom(GREY, syntax, frame))
    assert np.abs(decoded.pixels.astype(int) - GREY).max() <= 1
    with pytest.raises(DecodeError, match="corrupt: DICOM of 40 x 23 pixels holds 40 x 24"):
        decode(images.dicom(GREY[:-1], syntax, frame))


def lossless(pixels: np.ndarray, bits: int) -> bytes:
    return imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=bits)


ENCODERS = {
    JPEGLossless: lossless,
    JPEGLosslessSV1: lossless,
    JPEGLSLossless: lambda pixels, bits: imagecodecs.jpegls_encode(pixels),
    JPEGLSNearLossless: lambda pixels, bits: imagecodecs.jpegls_encode(pixels, level=1),
    JPEGExtended12Bit: lambda pixels, bits: imagecodecs.jpeg8_encode(pixels, bitspersample=bits, level=100),
    RLELossless: lambda pixels, bits: images.rle(pixels),
}
LOSSY = {JPEGLSNearLossless: 1, JPEGExtended12Bit: 2}
"""How many of the stored levels a pixel may be off."""


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("syntax", ENCODERS, ids=lambda syntax: syntax.name[:24])
def test_each_compression_gives_the_pixels_of_the_uncompressed_file(syntax, bits: int) -> None:
    if syntax == JPEGExtended12Bit and bits not in (8, 12):
        pytest.skip("the process has 8 or 12 bits (ITU-T T.81, table B.2)")
    stored = images.ramp(white=2**bits - 1)
    plain = decode(images.dicom(stored, BitsStored=bits))
    decoded = decode(images.dicom(stored, syntax, ENCODERS[syntax](stored, bits), BitsStored=bits))
    step = 1 if bits == 8 else 65535 / (2**bits - 1)
    off = np.abs(decoded.pixels.astype(int) - plain.pixels).max()
    assert off <= (LOSSY[syntax] * step + 1 if syntax in LOSSY else 0)
    assert (decoded.bits, decoded.pixels.dtype) == (bits, plain.pixels.dtype)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, RLELossless], ids=lambda syntax: syntax.name[:24])
def test_compressed_signed_and_coloured_pictures_are_those_of_the_uncompressed_file(syntax) -> None:
    signed = (images.ramp(white=4000).astype(np.int16) - 1500).astype("<i2")
    frame = ENCODERS[syntax](signed.view(np.uint16) & 0x0FFF, 12)
    plain, decoded = (decode(images.dicom(signed, *more, BitsStored=12)) for more in ((), (syntax, frame)))
    np.testing.assert_array_equal(decoded.pixels, plain.pixels)
    colour = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)
    decoded = decode(images.dicom(colour, syntax, ENCODERS[syntax](colour, 8)))
    np.testing.assert_array_equal(decoded.pixels, decode(images.dicom(colour)).pixels)
    assert decoded.photometric == "RGB"


@pytest.mark.parametrize("syntax", ENCODERS, ids=lambda syntax: syntax.name[:24])
def test_a_compressed_frame_of_another_size_or_cut_is_refused(syntax) -> None:
    stored = np.random.default_rng(0).integers(0, 4096, (12, 20)).astype(np.uint16)  # small: it is cut everywhere
    frame = ENCODERS[syntax](stored, 12)
    other = images.dicom(stored[:-1], syntax, frame, BitsStored=12)
    assert reason_of(other) == "corrupt"
    if syntax != RLELossless:
        with pytest.raises(DecodeError, match="corrupt: DICOM of 20 x 11 pixels holds 20 x 12"):
            decode(other)
    reasons = {reason_of(images.dicom(stored, syntax, frame[:end], BitsStored=12)) for end in range(70, len(frame) - 2)}
    assert reasons <= {"truncated", "corrupt"}


def test_a_damaged_frame_of_jpeg_ls_takes_no_longer_than_a_good_one() -> None:
    """CharLS counts two thousand million zero bits at the end of a cut frame that ends in zeros."""
    frame = imagecodecs.jpegls_encode(np.random.default_rng(0).integers(0, 65536, (64, 80)).astype(np.uint16))
    started = time.process_time()
    for end in range(3000, 3400):
        cut = images.dicom(np.zeros((64, 80), np.uint16), JPEGLSLossless, frame[:end] + b"\0")
        assert reason_of(cut) == "truncated"
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (images.dicom(GREY, NumberOfFrames=2), "multi_frame: DICOM with 2 frames"),
        (images.dicom(GREY, Rows=60_000, Columns=60_000), "too_large: 60000 x 60000 pixels, limit 100000000"),
        (images.dicom(GREY, PixelData=None, Rows=None), "unsupported: DICOM without pixel data"),
        (images.dicom(GREY, PixelData=None), "truncated: DICOM without pixel data"),
        (images.dicom(GREY, Rows=25), "truncated: ValueError in the decoder"),
        (images.dicom(GREY, BitsStored=None), "corrupt: AttributeError in the decoder"),
        (images.dicom(GREY, PhotometricInterpretation="PALETTE COLOR"), "unsupported: DICOM photometric"),
        (images.dicom(GREY.astype(np.uint32)), "unsupported: DICOM with 32 bits a sample as MONOCHROME2"),
        (
            images.dicom(GREY16 * 16, BitsStored=12, HighBit=15),
            "unsupported: DICOM with 12 bits a sample up to bit 15, not 11",
        ),
        (images.dicom(GREY, RescaleSlope="1e308", RescaleIntercept="0"), "corrupt: DICOM rescale or window gives val"),
        (images.dicom(GREY, WindowCenter="nan", WindowWidth="100"), "corrupt: DICOM rescale or window gives values"),
        (
            images.dicom(GREY, SMPTEST211020UncompressedProgressiveActiveVideo, b"\xff\xd8"),
            "unsupported: DICOM transfer syntax SMPTE ST 2110-20",
        ),
        (images.dicom(GREY, DeflatedExplicitVRLittleEndian), "unsupported: DICOM transfer syntax Deflated"),
        (
            images.dicom(GREY).replace(b"10008.1.2.1\0", b"99999.1.2.1\0"),
            "unsupported: DICOM transfer syntax missing or unknown",
        ),
        (images.dicom(GREY)[:132], "unsupported: DICOM transfer syntax missing or unknown"),
    ],
)
def test_dicom_that_cannot_be_shown_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        decode(content)


def test_a_rescale_may_be_as_large_as_numbers_go() -> None:
    content = images.dicom(GREY, RescaleSlope="1e300", RescaleIntercept="1e302")
    np.testing.assert_array_equal(decode(content).pixels, GREY.astype(np.uint16) * 257)


COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)
WORD = images.NAME.encode()


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def marked(frame: bytes) -> bytes:
    """A frame with a name wherever a file may have one that is no part of the picture."""
    if frame.startswith(b"\xff\xd8"):
        scan = frame.index(b"\xff\xda")
        kinds = (*range(0xE0, 0xF0), 0xFE)
        begin = b"".join(segment(kind, WORD) for kind in kinds) + segment(0xE1, b"Exif\0\0" + WORD)
        return frame[:2] + begin + frame[2:scan] + segment(0xFE, WORD) + b"\xff" + frame[scan:] + WORD + b"\xff\xd9"
    if frame.startswith(b"\xff\x4f"):
        size = 4 + struct.unpack_from(">H", frame, 4)[0]  # SOC and SIZ
        return frame[:size] + segment(0x64, b"\0\1" + WORD) + frame[size:] + WORD
    if frame[4:8] == b"jP  ":
        place = frame.index(b"jp2c") - 4
        box = struct.pack(">I4s", 8 + len(WORD), b"xml ") + WORD
        return frame[:place] + box + b"\0\0\0\0jp2c" + marked(frame[place + 8 :])
    return frame[: 64 - len(WORD)] + WORD + frame[64:]  # RLE: its header has places for 15 segments


DEEP = images.ramp(white=4000)
FRAMES = {
    "baseline": (JPEGBaseline8Bit, GREY, images.jpeg(GREY)),
    "progressive": (JPEGBaseline8Bit, GREY, images.jpeg(GREY, progressive=True, restart_marker_rows=1)),
    "colour": (JPEGBaseline8Bit, COLOUR, images.jpeg(COLOUR, subsampling=2)),
    "colour as RGB": (JPEGBaseline8Bit, COLOUR, images.jpeg(COLOUR, keep_rgb=True)),
    "twelve bits, colour": (JPEGExtended12Bit, COLOUR, images.jpeg(COLOUR, keep_rgb=True)),
    "j2k": (JPEG2000Lossless, GREY, images.saved(Image.fromarray(GREY), "JPEG2000", no_jp2=True)),
    "j2k tiles": (
        JPEG2000Lossless,
        COLOUR,
        images.saved(Image.fromarray(COLOUR), "JPEG2000", no_jp2=True, tile_size=(16, 16)),
    ),
    "jp2": (JPEG2000Lossless, GREY, images.saved(Image.fromarray(GREY), "JPEG2000")),
    "htj2k": (HTJ2KLossless, DEEP, imagecodecs.htj2k_encode(DEEP)),
    "rle colour": (RLELossless, COLOUR, images.rle(COLOUR)),
    **{syntax.name: (syntax, DEEP, encode(DEEP, 12)) for syntax, encode in ENCODERS.items()},
}


@pytest.mark.parametrize(("syntax", "stored", "frame"), FRAMES.values(), ids=FRAMES)
def test_what_a_table_keeps_of_a_frame_is_the_picture_alone(syntax: str, stored: np.ndarray, frame: bytes) -> None:
    tags = {"BitsStored": 12 if stored.dtype == np.uint16 else 8}
    for content in (images.dicom(stored, syntax, kind, **tags) for kind in (frame, marked(frame))):
        kept = without_identity(content)
        assert WORD not in kept
        before, after = decode(content), decode(kept)
        np.testing.assert_array_equal(after.pixels, before.pixels)
        assert after.pixels.dtype == before.pixels.dtype
        assert without_identity(content) == kept == without_identity(kept)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize(
    "stored", [DEEP, GREY, GREY[:23, :39], COLOUR[:23, :39]], ids=["deep", "even", "odd", "colour"]
)
def test_what_a_table_keeps_of_plain_pixels_ends_with_them(syntax: str, stored: np.ndarray) -> None:
    whole = images.dicom(stored, syntax)
    more = images.dicom(stored, syntax, PixelData=stored.tobytes() + b"\0" * (stored.size % 2) + WORD)
    np.testing.assert_array_equal(decode(more).pixels, decode(whole).pixels)
    assert without_identity(more) == without_identity(whole)
    np.testing.assert_array_equal(decode(without_identity(more)).pixels, decode(whole).pixels)


@pytest.mark.parametrize("entries", [bytes(range(256)), np.arange(256, dtype="<u2").tobytes()], ids=["8", "16"])
def test_what_a_table_keeps_of_a_lookup_table_ends_with_its_entries(entries: bytes) -> None:
    whole, more = Dataset(), Dataset()
    for lut, data in ((whole, entries), (more, entries + WORD)):
        lut.LUTDescriptor, lut.LUTData = [256, 0, 8], data
        lut["LUTData"].VR = "OW"
    kept = without_identity(images.dicom(GREY, VOILUTSequence=[more]))
    assert WORD not in kept and kept == without_identity(images.dicom(GREY, VOILUTSequence=[whole]))
    np.testing.assert_array_equal(decode(kept).pixels, GREY)


def test_what_a_table_keeps_of_a_damaged_file_that_decodes_has_its_pixels() -> None:
    files = [content for _, content in mutated(seed=5, count=3 * len(KINDS) * len(originals()))]
    good = [content for content in files if dicom.is_dicom(content) and reason_of(content, max_pixels=10**7) is None]
    assert len(good) > 20
    for content in good:
        np.testing.assert_array_equal(decode(without_identity(content)).pixels, decode(content).pixels)


@pytest.mark.parametrize(("stored", "expected"), [("P-001", "P-001"), (" 7 ", "7"), ("", None), (None, None)])
def test_only_the_patient_id_is_taken(stored: str | None, expected: str | None) -> None:
    header = decode(images.dicom(GREY, PatientID=stored)).header
    assert header and header.patient_id == expected


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize(
    ("tags", "subject", "reason"),
    [
        ({"BurnedInAnnotation": "Yes"}, "none", "burned_in_annotation"),
        ({"BurnedInAnnotation": "no"}, "none", None),
        ({"Modality": "dx", "BodyPartExamined": "Chest PA"}, "chest", None),
        ({"Modality": "Ct"}, "modality", "not_a_chest_radiograph"),
        ({"BodyPartExamined": "Knee"}, "chest", "not_a_chest_radiograph"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "modality", "unsupported"),
        ({"PresentationIntentType": "For Processing"}, "chest", "unsupported"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "none", None),
        ({"PresentationIntentType": "FOR PRESENTATION"}, "chest", None),
    ],
)
def test_what_a_header_says_counts_in_any_case(tags: dict[str, str], subject: str, reason: str | None) -> None:
    header = decode(images.dicom(GREY, **tags)).header
    try:
        dicom_header.check(header, subject, "quarantine")
        found = None
    except DecodeError as error:
        found = error.reason
    assert found == reason


def test_tags_that_name_a_person_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    def spy(pixels: np.ndarray, header: Dataset) -> np.ndarray:
        kept.extend(element.keyword for element in header)
        return pixels

    monkeypatch.setattr(dicom, "_grey", spy)
    decode(images.dicom(GREY))
    assert "Rows" in kept
    assert set(kept) <= set(dicom.TAGS)
    assert not {"PatientName", "PatientBirthDate", "AccessionNumber"} & set(dicom.TAGS)


def test_no_warning_quotes_the_header() -> None:
    content = images.dicom(GREY, NumberOfFrames=1234).replace(b"1234", b"Doe^")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert reason_of(content) == "corrupt"
    assert "Doe" not in " ".join(str(warning.message) for warning in said)


# Hostile bytes

SAMPLES = {
    "jpeg": images.jpeg(GREY),
    "turned": images.turned(GREY, 6),
    "png": images.png(GREY, "P"),
    "png16": images.png(GREY16),
    "tiff": images.tiff(GREY16, compression="tiff_lzw"),
    "gif": images.saved(Image.fromarray(GREY), "GIF"),
    "webp": images.saved(Image.fromarray(GREY), "WEBP"),
    "dicom": images.dicom(GREY16, BitsStored=12, WindowCenter=2000, WindowWidth=3000),
    "j2k": images.dicom(
        GREY, JPEG2000Lossless, images.saved(Image.fromarray(GREY), "JPEG2000", no_jp2=True), RescaleSlope=2
    ),
    "lossless": images.dicom(GREY16, JPEGLosslessSV1, lossless(GREY16, 12), BitsStored=12),
    "ls": images.dicom(GREY16, JPEGLSLossless, imagecodecs.jpegls_encode(GREY16), BitsStored=12),
    "rle": images.dicom(GREY16, RLELossless, images.rle(GREY16), BitsStored=12),
}


@given(st.binary(max_size=400), st.sampled_from([b"", *(content[:132] for content in SAMPLES.values())]))
@settings(max_examples=300)
@example(b"DICM", bytes(128))
def test_nothing_but_a_decode_error_escapes_for_any_bytes(content: bytes, prefix: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reason_of(prefix + content)


@given(st.data())
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_but_a_decode_error_escapes_for_damaged_files(data: st.DataObject) -> None:
    content = SAMPLES[data.draw(st.sampled_from(sorted(SAMPLES)))]
    position = st.integers(0, len(content) - 1)
    for place, bit in data.draw(st.lists(st.tuples(position, st.integers(0, 7)), max_size=5)):
        content = images.flipped(content, place, bit)
    content = content[: data.draw(st.one_of(st.just(len(content)), position))]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        whole, drafted = reason_of(content), reason_of(content, at_least=(8, 8))
    assert (whole is None) == (drafted is None)  # what ingest accepts, scoring accepts
    assert not any(images.NAME in str(warning.message) for warning in said)


# Real files


@pytest.mark.parametrize("pattern", ["originals/*/*.jpeg", "nih/images/*.png", "external/images/*.jpg", "dicom/*.dcm"])
def test_real_files_decode_and_cut_ones_are_noticed(pattern: str) -> None:
    files = images.real(pattern)
    if not files:
        pytest.skip(f"no {pattern} under {images.DATA}")
    for file in files[:: max(1, len(files) // 6)]:
        content = file.read_bytes()
        decoded = decode(content)
        assert decoded.pixels.shape == (decoded.height, decoded.width)
        assert decoded.pixels.max() > decoded.pixels.min()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert reason_of(images.truncated(content, 0.95), at_least=(224, 224)) == "truncated"


def test_the_largest_radiograph_fits_the_limit_with_room() -> None:
    assert decode_module.MAX_PIXELS > 5 * 4300 * 4300


def verdict(content: bytes, at_least: tuple[int, int] | None) -> tuple[object, ...]:
    """What is said of a file: facts, or the reason why it is refused."""
    try:
        found = decode(content, 10**7, at_least)
    except DecodeError as error:
        return (error.reason,)
    return found.width, found.height, found.format, found.bits, found.photometric


def test_decoding_to_an_eighth_tells_the_same_broken_files() -> None:
    """So ingest may: libjpeg reads and decodes all of the compressed bytes whatever the scale."""
    files = [content for _, content in mutated(seed=3, count=3 * len(KINDS) * len(originals()))]
    verdicts = [verdict(content, None) for content in files]
    assert [verdict(content, (1, 1)) for content in files] == verdicts
    assert 0.2 < sum(len(found) == 1 for found in verdicts) / len(files) < 0.9
