"""The synthetic corpus: its layout and names, its bytes, and that no shortcut tells the class."""

import hashlib
import io
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score

from pneumospark.errors import SourceError
from pneumospark.synthetic import LABELS, NOT_AN_IMAGE, TRUNCATED, Body, draw, write_corpus

SAMPLE = 400
NAME = re.compile(r"synthetic(\d{4})-\d\.(jpeg|png)")


@pytest.fixture(scope="module")
def drawings() -> list[np.ndarray]:
    """Normal, pneumonia, normal, ...: every drawing of a body of its own."""
    return [draw(np.random.default_rng([7, n]), pneumonia=n % 2 == 1, size=96) for n in range(SAMPLE)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "corpus"
    write_corpus(folder, patients=10)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def images(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/synthetic[0-9]*"))


def jpeg_bytes(pixels: np.ndarray) -> int:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return len(buffer.getvalue())


# Chance alone lies within 0.41 to 0.59 for 400 drawings (3 standard errors); the largest true difference of these, over
# 1,200 drawings, is that of the median, 0.56. In the set of Kermany et al. size and sharpness alone reach 0.9.
@pytest.mark.parametrize(
    "number",
    [np.mean, np.std, np.median, np.max, lambda a: a[:6, -6:].mean(), lambda a: a.shape[1], jpeg_bytes],
    ids=["mean", "std", "median", "max", "corner", "width", "jpeg_bytes"],
)
def test_no_single_number_of_the_whole_image_tells_the_class(drawings, number):
    auc = roc_auc_score(np.arange(SAMPLE) % 2, [number(pixels) for pixels in drawings])
    assert 0.35 <= auc <= 0.65


def test_the_lungs_do_tell_the_class():
    """The same chest in the same pose, with and without: what differs is local, large, and inside the rib cage."""
    for seed in range(10):
        body = Body.sample(np.random.default_rng(seed))
        normal, pneumonia = (draw(np.random.default_rng(seed), label, 96, body) for label in (False, True))
        difference = gaussian_filter(pneumonia.astype(float) - normal, 2)
        height, width = np.unravel_index(difference.argmax(), difference.shape)
        assert difference.max() > 20
        assert 0.1 < height / difference.shape[0] < 0.9
        assert 0.1 < width / difference.shape[1] < 0.9
        assert abs(difference.mean()) < 4


def test_a_drawing_is_a_full_range_grey_image_of_about_the_size_asked_for(drawings):
    for pixels in drawings:
        assert pixels.dtype == np.uint8
        assert pixels.shape[0] == 96
        assert 0.95 * 96 - 1 <= pixels.shape[1] <= 1.15 * 96 + 1
        assert pixels.min() < 30
        assert pixels.max() > 190


def test_two_images_of_a_patient_are_alike_but_not_the_same():
    def cut(seed: int, body: int) -> np.ndarray:
        pixels = draw(np.random.default_rng(seed), False, 64, Body.sample(np.random.default_rng(body)))
        left = (pixels.shape[1] - 60) // 2
        return pixels[:, left : left + 60].astype(float)

    def unlikeness(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
        return float(np.mean([1 - np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]))

    same = unlikeness([(cut(2 * n, n), cut(2 * n + 1, n)) for n in range(40)])
    other = unlikeness([(cut(2 * n, n), cut(2 * n + 1, n + 100)) for n in range(40)])
    assert 0 < same < 0.7 * other


def test_the_counts_are_those_of_the_folder(corpus):
    counts = write_corpus(corpus)
    found = Counter(path.parent.name for path in images(corpus))
    assert counts == {**found, "broken": 2}
    assert set(found) == set(LABELS)
    assert sum(counts.values()) == len(contents(corpus))


def test_every_name_gives_the_patient_and_every_patient_has_one_class_and_one_to_four_images(corpus):
    classes: dict[str, list[str]] = {}
    for path in images(corpus):
        match = NAME.fullmatch(path.name)
        assert match, path.name
        classes.setdefault(match[1], []).append(path.parent.name)
    assert len(classes) == 10
    assert all(len(set(labels)) == 1 and len(labels) <= 5 for labels in classes.values())  # 5: with the duplicate
    assert Counter(labels[0] for labels in classes.values()) == {"NORMAL": 4, "PNEUMONIA": 6}


def test_sixty_patients_have_a_body_and_about_three_images_each(monkeypatch, tmp_path):
    bodies = []

    def noise(rng, pneumonia, size, body):
        bodies.append(body)
        return rng.integers(0, 256, (8, 8), dtype=np.uint8)

    monkeypatch.setattr("pneumospark.synthetic.draw", noise)
    counts = write_corpus(tmp_path / "corpus", patients=60)
    assert 150 <= len(bodies) <= 210
    assert counts["NORMAL"] + counts["PNEUMONIA"] == len(bodies) + 1  # the duplicate
    assert len(set(bodies)) == 60


def test_every_image_opens_in_grey_and_just_one_has_16_bits(corpus):
    modes = []
    for path in images(corpus):
        with Image.open(path) as image:
            image.load()
            modes.append((image.format, image.mode))
            assert 224 <= image.height <= 288
    assert set(modes) == {("JPEG", "L"), ("PNG", "L"), ("PNG", "I;16")}
    assert modes.count(("PNG", "I;16")) == 1


def test_the_broken_files_are_broken(corpus):
    with Image.open(corpus / TRUNCATED) as image, pytest.raises(OSError, match="truncated"):
        image.load()
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(corpus / NOT_AN_IMAGE)


def test_one_image_occurs_under_two_names_of_one_patient(corpus):
    names: dict[str, list[str]] = {}
    for name, digest in contents(corpus).items():
        names.setdefault(digest, []).append(name)
    (twins,) = (found for found in names.values() if len(found) > 1)
    assert len(twins) == 2
    assert len({name.split("-")[0] for name in twins}) == 1


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_corpus(tmp_path / folder, patients=2, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    common = set(contents(tmp_path / "a").values()) & set(contents(tmp_path / "c").values())
    assert len(common) == 1  # the text


def test_a_corpus_that_is_there_is_left_alone(corpus):
    before, start = {path: path.stat().st_mtime_ns for path in corpus.rglob("*")}, time.perf_counter()
    write_corpus(corpus, patients=500, seed=99)
    assert time.perf_counter() - start < 0.5
    assert {path: path.stat().st_mtime_ns for path in corpus.rglob("*")} == before


def test_a_corpus_that_fails_half_way_leaves_nothing_behind(monkeypatch, tmp_path):
    calls = iter(range(3))

    def failing(*arguments):
        if next(calls, None) is None:
            raise OSError("disk full")
        return draw(*arguments)

    monkeypatch.setattr("pneumospark.synthetic.draw", failing)
    with pytest.raises(OSError, match="disk full"):
        write_corpus(tmp_path / "corpus", patients=4)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_refused_and_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(SourceError, match="expected a synthetic corpus"):
        write_corpus(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_one_patient_is_too_few(tmp_path):
    with pytest.raises(SourceError, match="2 patients or more, got 1"):
        write_corpus(tmp_path / "corpus", patients=1)
