import images
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pneumospark.errors import DecodeError
from pneumospark.pixels.decode import decode
from pneumospark.pixels.prepare import pixels_of, prepare, windowed
from pneumospark.spec import ImageSpec

SMALL = ImageSpec(height=16, width=24)

specs = st.builds(
    ImageSpec,
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    channels=st.sampled_from([1, 3]),
    fit=st.sampled_from(["stretch", "pad"]),
)
shapes = st.tuples(st.integers(1, 70), st.integers(1, 70))
pictures = st.sampled_from([np.uint8, np.uint16]).flatmap(lambda dtype: hnp.arrays(dtype, shapes))
deep = hnp.arrays(np.uint16, shapes)


@given(pictures, specs)
def test_every_picture_becomes_the_spec(pixels: np.ndarray, spec: ImageSpec) -> None:
    before = pixels.copy()
    prepared = prepare(pixels, spec)
    assert prepared.dtype == np.uint8
    assert prepared.shape == spec.shape
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(prepared, np.repeat(prepared[:, :, :1], spec.channels, axis=2))


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (3, 5000)])
@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_thin_pictures_keep_their_grey(shape: tuple[int, int], fit: str) -> None:
    prepared = prepare(np.full(shape, 200, np.uint8), ImageSpec(height=16, width=24, fit=fit))
    assert set(np.unique(prepared)) <= ({200} if fit == "stretch" else {0, 200})
    assert 200 in prepared


@given(st.integers(1, 300), st.integers(1, 300), st.integers(8, 60), st.integers(8, 60))
def test_pad_keeps_the_aspect_and_the_centre(height: int, width: int, rows: int, columns: int) -> None:
    prepared = prepare(np.full((height, width), 255, np.uint8), ImageSpec(rows, columns, fit="pad"))[:, :, 0]
    inside = np.argwhere(prepared == 255)
    (top, left), (bottom, right) = inside.min(axis=0), inside.max(axis=0)
    shown = (bottom - top + 1, right - left + 1)
    assert len(inside) == shown[0] * shown[1] == np.count_nonzero(prepared)  # one rectangle, black around it
    assert shown[0] == rows or shown[1] == columns
    scale = min(rows / height, columns / width)
    assert abs(shown[0] - height * scale) <= 1 and abs(shown[1] - width * scale) <= 1
    assert abs(top - (rows - 1 - bottom)) <= 1 and abs(left - (columns - 1 - right)) <= 1


@given(hnp.arrays(np.uint8, st.just((16, 24))))
def test_eight_bits_of_the_right_size_are_kept_as_they_are(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(prepare(pixels, SMALL)[:, :, 0], pixels)


def test_eight_bits_are_not_windowed() -> None:
    assert np.unique(prepare(np.full((50, 50), 37, np.uint8), SMALL)).tolist() == [37]
    faint = prepare(images.ramp(160, 240, white=40), SMALL)
    assert faint.max() <= 40


@given(deep)
def test_windowing_is_monotone_and_in_range(pixels: np.ndarray) -> None:
    shades = windowed(pixels)
    assert shades.dtype == np.float32
    assert shades.min() >= 0 and shades.max() <= 255
    order = np.argsort(pixels, axis=None)
    assert (np.diff(shades.ravel()[order]) >= 0).all()


@given(deep, st.integers(0, 200))
def test_windowing_does_not_depend_on_an_offset(pixels: np.ndarray, offset: int) -> None:
    low = pixels // 2
    np.testing.assert_allclose(windowed(low + np.uint16(offset)), windowed(low), atol=1e-3)


@given(hnp.arrays(np.uint16, shapes, elements=st.integers(0, 4095)))
def test_windowing_does_not_depend_on_the_container(pixels: np.ndarray) -> None:
    np.testing.assert_allclose(windowed(pixels * np.uint16(16)), windowed(pixels), atol=1e-3)


@given(hnp.arrays(np.uint16, st.just((16, 24))))
def test_shades_are_rounded_once(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(prepare(pixels, SMALL)[:, :, 0], np.rint(windowed(pixels)))


def test_one_dead_pixel_does_not_darken_the_rest() -> None:
    pixels = images.ramp(100, 100, white=4095)
    dead = pixels.copy()
    dead[50, 50] = 65535
    assert np.abs(windowed(dead) - windowed(pixels)).max() <= 130  # the pixel itself
    assert np.abs(np.delete((windowed(dead) - windowed(pixels)).ravel(), 5050)).max() <= 1


def test_a_flat_picture_is_black_and_a_small_object_is_seen() -> None:
    flat = np.full((40, 40), 3000, np.uint16)
    assert windowed(flat).max() == 0
    flat[3, 4:6] = 3050, 3100
    assert windowed(flat)[3, 3:6].tolist() == [0, 127.5, 255]


def test_sixteen_bits_are_not_cut_to_the_high_byte() -> None:
    faint = images.ramp(16, 24).astype(np.uint16)  # one high byte for all
    assert len(np.unique(prepare(faint, SMALL))) > 200


def test_fine_stripes_are_averaged_not_aliased() -> None:
    stripes = np.tile(np.array([[0, 255]], np.uint8), (500, 250))  # (500, 500)
    inner = prepare(stripes, ImageSpec(40, 40))[2:-2, 2:-2]
    assert np.abs(inner.astype(int) - 127.5).max() <= 8


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((9, 9, 3), np.uint8),
        np.zeros((9, 9), np.int16),
        np.zeros((9, 9), np.float32),
        np.zeros((0, 9), np.uint8),
        np.zeros(9, np.uint8),
    ],
)
def test_other_arrays_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(height, width\) of uint8 or uint16, got "):
        prepare(pixels, SMALL)


@pytest.mark.parametrize("content", [images.png(images.ramp()), images.dicom(images.ramp(white=4095))])
def test_pixels_of_is_decode_and_prepare(content: bytes) -> None:
    np.testing.assert_array_equal(pixels_of(content, SMALL), prepare(decode(content), SMALL))


def test_pixels_of_a_large_jpeg_are_close_to_those_of_the_whole() -> None:
    rows, columns = np.indices((640, 960))
    content = images.jpeg((127.5 + 127 * np.cos((rows**2 + columns**2) / 900)).astype(np.uint8))  # ever finer rings
    spec = ImageSpec(160, 240)
    difference = pixels_of(content, spec).astype(int) - prepare(decode(content), spec)
    assert 0 < np.abs(difference).mean() < 4  # at once the size of the spec it is 12.7


@pytest.mark.parametrize("name", images.bad())
def test_pixels_of_bad_files_say_why(name: str) -> None:
    content, reason = images.bad()[name]
    with pytest.raises(DecodeError, match=f"^{reason}: "):
        pixels_of(content, SMALL)


def test_pixels_of_keeps_the_limit() -> None:
    with pytest.raises(DecodeError, match="too_large: 40 x 24 pixels, limit 900"):
        pixels_of(images.png(images.ramp()), SMALL, max_pixels=900)


@pytest.mark.parametrize("pattern", ["originals/*/*.jpeg", "nih/images/*.png", "dicom/*.dcm"])
def test_real_files_use_the_range(pattern: str) -> None:
    files = images.real(pattern)
    if not files:
        pytest.skip(f"no {pattern} under {images.DATA}")
    for file in files[:: max(1, len(files) // 6)]:
        prepared = pixels_of(file.read_bytes(), ImageSpec())
        assert prepared.shape == (224, 224, 1)
        assert np.ptp(prepared) > 120
