"""Facts of pixels: what each says of images whose answer is known, and that none depends on how it is computed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pneumospark.pixels.facts import PERCENTILES, PIXEL_FACTS, pixel_facts

greys = arrays(np.uint8, st.tuples(st.integers(3, 40), st.integers(3, 40)))


@given(greys)
def test_brightness_is_what_numpy_says(grey: np.ndarray) -> None:
    facts = pixel_facts(grey)
    assert tuple(facts) == PIXEL_FACTS
    assert facts["mean"] == pytest.approx(grey.mean()) and facts["std"] == pytest.approx(grey.std(), abs=1e-6)
    for name in PERCENTILES:
        assert facts[f"percentile_{name}"] == np.percentile(grey, name, method="inverted_cdf")
    assert facts["black"] == pytest.approx((grey <= 5).mean()) and facts["white"] == pytest.approx((grey >= 250).mean())


@given(greys)
def test_turning_the_image_swaps_the_gradients_and_nothing_else(grey: np.ndarray) -> None:
    facts, turned = pixel_facts(grey), pixel_facts(grey.T)
    assert turned["gradient_x"] == facts["gradient_y"] and turned["gradient_y"] == facts["gradient_x"]
    assert turned["gradient_ratio"] == pytest.approx(1 - facts["gradient_ratio"])
    for name in set(PIXEL_FACTS) - {"gradient_x", "gradient_y", "gradient_ratio"}:
        assert turned[name] == pytest.approx(facts[name]), name


@given(greys)
def test_every_fact_is_a_number(grey: np.ndarray) -> None:
    assert np.isfinite(list(pixel_facts(grey).values())).all()


def test_stripes_and_a_frame() -> None:
    stripes = np.zeros((40, 40), np.uint8)
    stripes[:, ::2] = 200
    facts = pixel_facts(stripes)
    assert (facts["gradient_x"], facts["gradient_y"], facts["gradient_ratio"]) == (200, 0, 1)
    assert facts["sharpness"] == pytest.approx(400)  # the Laplacian is 400 and -400 by turns
    frame = np.full((40, 60), 100, np.uint8)
    frame[2:-2, 3:-3] = 7  # a twentieth on each side
    assert pixel_facts(frame)["border"] == 100


def test_a_flat_image_leans_to_no_side() -> None:
    facts = pixel_facts(np.full((8, 8), 9, np.uint8))
    assert (facts["gradient_ratio"], facts["sharpness"], facts["std"], facts["border"]) == (0.5, 0, 0, 9)


def test_of_three_equal_channels_one_counts() -> None:
    grey = np.arange(120, dtype=np.uint8).reshape(10, 12)
    assert pixel_facts(np.repeat(grey[:, :, None], 3, axis=2)) == pixel_facts(grey)


@pytest.mark.parametrize("pixels", [np.zeros((2, 9), np.uint8), np.zeros((9, 9)), np.zeros(9, np.uint8)])
def test_other_pixels_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(height, width\) of uint8, 3 x 3 at least, got \("):
        pixel_facts(pixels)
