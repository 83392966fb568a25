"""The hottest region's box: where it is in the original, whatever the spec does to its shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumospark.pixels.heat import Box, hottest, smooth
from pneumospark.spec import ImageSpec

sizes = st.integers(8, 300)


def heated(row: int, column: int, side: int = 7) -> np.ndarray:
    heat = np.zeros((side, side), np.float32)
    heat[row, column] = 1
    return heat


@given(st.integers(0, 6), st.integers(0, 6), sizes, sizes)
def test_the_box_holds_the_hot_place_of_a_stretched_picture(row: int, column: int, width: int, height: int) -> None:
    box = hottest(heated(row, column), ImageSpec(70, 140), width, height)
    assert box.left < (column + 0.5) / 7 < box.right and box.top < (row + 0.5) / 7 < box.bottom
    assert box.right - box.left < 0.35 > box.bottom - box.top
    left, top, right, bottom = box.in_pixels(width, height)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height


@given(st.integers(0, 6), st.integers(0, 6), sizes, sizes)
def test_on_a_padded_picture_it_is_cut_at_the_border(row: int, column: int, width: int, height: int) -> None:
    box = hottest(heated(row, column), ImageSpec(70, 70, fit="pad"), width, height)
    if box:
        assert 0 <= box.left < box.right <= 1 and 0 <= box.top < box.bottom <= 1


def test_padding_is_no_part_of_the_picture() -> None:
    spec = ImageSpec(70, 70, fit="pad")  # 100 wide, 50 high: rows 18 to 52 of 70 are the picture
    assert hottest(heated(0, 3), spec, 100, 50) is None
    middle = hottest(heated(3, 0), spec, 100, 50)
    assert middle.left == 0 and middle.top < 0.5 < middle.bottom and middle.bottom - middle.top > 0.3


@given(st.integers(0, 6), st.integers(0, 6), sizes, sizes, st.sampled_from(["pad", "stretch"]))
def test_a_picture_on_its_side_has_its_box_on_its_side(
    row: int, column: int, width: int, height: int, fit: str
) -> None:
    spec, heat = ImageSpec(70, 70, fit=fit), heated(row, column)
    upright, aside = hottest(heat, spec, width, height), hottest(heat.T, spec, height, width)
    assert (upright is None) == (aside is None)
    if upright and aside:
        left, top, right, bottom = aside
        assert (top, left, bottom, right) == pytest.approx(upright, abs=1e-6)


def test_of_two_hot_regions_the_hotter_one_counts_and_of_none_none() -> None:
    heat = heated(1, 1) * 0.9 + heated(5, 5)
    box = hottest(heat, ImageSpec(70, 70), 70, 70)
    assert box.left > 0.5 and box.top > 0.5
    assert hottest(np.zeros((7, 7), np.float32), ImageSpec(70, 70), 70, 70) is None


def test_pixels_of_a_box_never_cut_it() -> None:
    assert Box(0.11, 0, 0.51, 1).in_pixels(10, 3) == (1, 0, 6, 3)
    assert smooth(heated(0, 0), 20, 30).shape == (20, 30)
    with pytest.raises(TypeError):
        Box(0.1)
