"""The image spec: its fingerprint tells any two specs apart, and refuses another version's."""

from dataclasses import replace

import pytest

from pneumospark import spec
from pneumospark.errors import ConfigError
from pneumospark.spec import ImageSpec


def test_each_field_is_in_the_fingerprint() -> None:
    others = [
        replace(ImageSpec(), **change) for change in ({"height": 225}, {"width": 225}, {"channels": 3}, {"fit": "pad"})
    ]
    assert len({one.fingerprint() for one in [ImageSpec(), *others]}) == 5


def test_another_algorithm_is_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = ImageSpec().to_dict()
    assert ImageSpec.from_dict(kept) == ImageSpec()
    monkeypatch.setattr(spec, "ALGORITHM", spec.ALGORITHM + 1)
    with pytest.raises(ConfigError, match="the images were prepared by another version of pneumospark"):
        ImageSpec.from_dict(kept)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"height": 7}, "image.height: expected 8 to 4096 pixels, got 7"),
        ({"width": 5000}, "image.width: expected 8 to 4096 pixels, got 5000"),
        ({"channels": 2}, "image.channels: expected 1 or 3, got 2"),
        ({"fit": "crop"}, "image.fit: expected one of stretch, pad, got 'crop'"),
    ],
)
def test_a_spec_that_makes_no_sense(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageSpec(**fields)  # type: ignore[arg-type]
