"""The image spec: what it refuses, and that its fingerprint tells any two of them apart."""

import json
from dataclasses import FrozenInstanceError, fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumospark import spec as module
from pneumospark.errors import ConfigError
from pneumospark.spec import FITS, ImageSpec

sides = st.integers(8, 4096)
FINGERPRINT = "286f1ab9974ab90d"
specs = st.builds(ImageSpec, sides, sides, st.sampled_from([1, 3]), st.sampled_from(FITS))


def test_this_fingerprint_stays_what_it_is() -> None:
    """Written down, not computed: another one would orphan every table and bundle there is."""
    assert ImageSpec().fingerprint() == FINGERPRINT


@settings(deadline=None)
@given(specs, specs)
def test_fingerprints_are_equal_where_specs_are(one: ImageSpec, two: ImageSpec) -> None:
    assert (one.fingerprint() == two.fingerprint()) == (one == two)


@pytest.mark.parametrize("change", [{"height": 225}, {"width": 225}, {"channels": 3}, {"fit": "pad"}])
def test_each_field_is_in_the_fingerprint(change: dict[str, object]) -> None:
    assert replace(ImageSpec(), **change).fingerprint() != ImageSpec().fingerprint()


def test_the_changes_above_are_all_fields() -> None:
    assert [field.name for field in fields(ImageSpec)] == ["height", "width", "channels", "fit"]


def test_height_and_width_are_not_the_same() -> None:
    assert ImageSpec(100, 200).fingerprint() != ImageSpec(200, 100).fingerprint()


@settings(deadline=None)
@given(specs)
def test_what_a_bundle_keeps_is_the_spec(spec: ImageSpec) -> None:
    assert ImageSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.nbytes == spec.shape[0] * spec.shape[1] * spec.shape[2]
    assert spec.shape == (spec.height, spec.width, spec.channels)


def test_a_changed_field_is_refused() -> None:
    kept = ImageSpec().to_dict() | {"height": 225}
    with pytest.raises(
        ConfigError, match=rf"expected fingerprint .*, got {FINGERPRINT}: the images were prepared by an"
    ):
        ImageSpec.from_dict(kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": 3}, "expected the fields of this version .*'crop'"),
        ({"fingerprint": None}, "got None: the images were"),
    ],
)
def test_fields_of_another_version_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageSpec.from_dict(ImageSpec().to_dict() | change)


def test_another_version_of_the_algorithm_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ImageSpec().to_dict()
    monkeypatch.setattr(module, "ALGORITHM", 99)
    assert ImageSpec().fingerprint() != FINGERPRINT
    with pytest.raises(ConfigError, match=r"algorithm 99 of this version\), got .* by another version of pneumospark"):
        ImageSpec.from_dict(kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 7}, r"image\.height: expected 8 to 4096 pixels, got 7"),
        ({"height": 4097}, r"image\.height: expected 8 to 4096 pixels, got 4097"),
        ({"width": 0}, r"image\.width: expected 8 to 4096 pixels, got 0"),
        ({"channels": 2}, r"image\.channels: expected 1 or 3, got 2"),
        ({"fit": "crop"}, r"image\.fit: expected one of stretch, pad, got 'crop'"),
    ],
)
def test_a_value_out_of_range_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageSpec(**change)  # type: ignore[arg-type]


def test_a_spec_never_changes() -> None:
    with pytest.raises(FrozenInstanceError):
        ImageSpec().height = 100  # type: ignore[misc]
