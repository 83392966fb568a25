"""Score and evaluate: every file ends as a prediction or a reason, once for each model, by the pixels of training."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import images
import numpy as np
import pytest
from conftest import SIDE, Tables, Way, by_name, content, rows, runs, write
from sklearn.metrics import confusion_matrix, roc_auc_score
from test_ingest import NAMES

from pneumospark.errors import BundleError, ConfigError, SourceError, TableError
from pneumospark.io.bundle import _content_id
from pneumospark.pixels.prepare import pixels_of
from pneumospark.spec import ImageSpec

pytestmark = [pytest.mark.spark, pytest.mark.tensorflow]

GREY = images.ramp(48, 48)


def png(number: int) -> bytes:
    return images.png(GREY // 2 + number)


def test_every_file_is_a_prediction_or_a_reason_also_equal_bytes(way: Way) -> None:
    files = {f"file://{path}" for path in way.corpus.rglob("*") if path.is_file()}
    scored, summary = rows(way.tables.predictions), way.summaries["score"]
    refused = {row["path"] for row in rows(way.tables.quarantine) if row["stage"] == "score"}
    assert refused == {row["path"] for row in rows(way.tables.quarantine) if row["stage"] == "ingest"}
    assert {row["path"] for row in scored} | refused == files and len(scored) + len(refused) == len(files)
    assert (summary["files"], summary["images"], summary["known"], summary["quarantined"]) == (len(files), 33, 0, 2)
    assert len({row["image_id"] for row in scored}) == len(scored) - 1
    assert sum(summary["predictions"].values()) == len(scored)


def test_the_probability_is_the_models_for_the_pixels_of_the_file(way: Way) -> None:
    import keras

    model = keras.models.load_model(way.tables.bundle / "model.keras", compile=False)
    facts, spec = json.loads((way.tables.bundle / "bundle.json").read_text()), ImageSpec(height=SIDE, width=SIDE)
    scored = rows(way.tables.predictions)
    pixels = [pixels_of(Path(row["path"].removeprefix("file://")).read_bytes(), spec) for row in scored]
    expected = np.asarray(model(np.stack(pixels)))[:, 0]
    np.testing.assert_allclose([row["probability"] for row in scored], expected, rtol=0, atol=1e-5)
    assert np.ptp(expected) > 1e-4  # not one number for all
    for row in scored:
        called = "pneumonia" if row["probability"] >= row["threshold"] else "normal"
        assert (row["prediction"], row["threshold"]) == (called, facts["threshold"]["value"])
        assert (row["model_id"], row["spec"]) == (facts["model_id"], spec.fingerprint())


def rewritten(bundle: Path, folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of a bundle with other facts and the model_id that fits them."""
    shutil.copytree(bundle, folder)
    facts = json.loads((folder / "bundle.json").read_text())
    del facts["model_id"]
    change(facts)
    model_id = _content_id((folder / "model.keras").read_bytes(), facts)
    (folder / "bundle.json").write_text(json.dumps({"model_id": model_id, **facts}))
    return folder


def test_new_and_changed_files_are_scored_known_ones_not(way: Way, tables: Tables, tmp_path: Path) -> None:
    source = write(tmp_path / "s", {f"{n}.png": png(n) for n in range(4)} | {"bad.png": images.TEXT})
    first = tables.score(source, way.tables.bundle)
    assert (first["files"], first["images"], first["reasons"]) == (5, 4, {"not_an_image": 1})
    before = content(tables.predictions)

    again = tables.score(source, way.tables.bundle)
    assert (again["known"], again["images"], again["quarantined"]) == (5, 0, 0)
    assert content(tables.predictions) == before and len(runs(tables.predictions)) == 1

    write(source, {"1.png": png(50), "2.png": images.TEXT, "new/0.png": png(0)})
    os.utime(source / "3.png")  # touched, not changed
    more = tables.score(source, way.tables.bundle)
    assert (more["files"], more["images"], more["reasons"]) == (6, 2, {"not_an_image": 1})
    added = [row["path"].removeprefix(f"file://{source}/") for row in rows(tables.predictions)]
    assert sorted(added) == ["0.png", "1.png", "1.png", "2.png", "3.png", "new/0.png"]
    refused = [row["path"].rpartition("/")[2] for row in rows(tables.quarantine)]
    assert sorted(refused) == ["2.png", "bad.png"]


def test_another_model_is_scored_beside_the_first_and_evaluated_by_name(way: Way, tables: Tables, tmp_path) -> None:
    other = rewritten(way.tables.bundle, tmp_path / "other", lambda facts: facts["threshold"].update(value=0.999))
    shutil.copytree(way.tables.predictions, tables.predictions)
    summary = tables.score(way.corpus, other)
    assert (summary["images"], summary["quarantined"]) == (33, 2)
    scored = rows(tables.predictions)
    by_model = {row["model_id"]: row["threshold"] for row in scored}
    assert len(scored) == 66 and by_model[summary["model_id"]] == 0.999 and len(by_model) == 2
    with pytest.raises(
        TableError, match=r"predictions: expected predictions of one model, found \[.*\]; name one with --mod"
    ):
        tables.evaluate("--images", way.tables.images)
    judged = tables.evaluate("--images", way.tables.images, "--model-id", summary["model_id"], "--split", "all")
    positive = sum(row["label"] == "pneumonia" for row in rows(way.tables.images))
    assert judged["images"] == 33
    assert judged["confusion"] == {"tn": 33 - positive, "fp": 0, "fn": positive, "tp": 0}


def test_names_and_bad_files_are_scored_as_they_are(way: Way, tables: Tables, tmp_path: Path) -> None:
    good = {f"räum [1] 50%/{place}/{name}": png(place) for place, name in enumerate(NAMES)}
    bad = {name: data for name, (data, _) in images.bad().items()}
    summary = tables.score(write(tmp_path / "s *", good | bad), way.tables.bundle)
    assert (summary["images"], summary["quarantined"]) == (len(NAMES), len(bad))
    assert set(by_name(tables.predictions)) == set(NAMES)
    found = {name: (row["reason"], row["stage"]) for name, row in by_name(tables.quarantine).items()}
    assert found == {name: (reason, "score") for name, (_, reason) in images.bad().items()}


def flip(file: Path) -> None:
    file.write_bytes(images.flipped(file.read_bytes(), file.stat().st_size // 2))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda b: flip(b / "model.keras"), "expected the content of model .*: it was changed after it was written"),
        (
            lambda b: (b / "bundle.json").write_text((b / "bundle.json").read_text().replace("0.5", "0.1")),
            "was changed",
        ),
        (lambda b: (b / "bundle.json").unlink(), "expected a bundle of model.keras and bundle.json: FileNotFoundError"),
        (lambda b: (b / "bundle.json").write_text("{"), "expected a bundle of .*: JSONDecodeError"),
        (shutil.rmtree, "/bundle: expected a bundle of model.keras and bundle.json: FileNotFoundError"),
    ],
    ids=["weights", "facts", "half", "cut", "none"],
)
def test_a_bundle_that_is_not_whole_is_refused(way: Way, tables: Tables, tmp_path: Path, spoil, message: str) -> None:
    bundle = shutil.copytree(way.tables.bundle, tmp_path / "bundle")
    spoil(bundle)
    with pytest.raises(BundleError, match=message):
        tables.score(way.corpus, bundle)
    assert not tables.folder.exists()


def test_a_bundle_of_another_spec_is_refused(way: Way, tables: Tables, tmp_path: Path) -> None:
    other = rewritten(way.tables.bundle, tmp_path / "other", lambda facts: facts["spec"].update(fingerprint="0" * 16))
    with pytest.raises(
        ConfigError, match=r"expected fingerprint .*, got 0000000000000000: the images were prepared by an"
    ):
        tables.score(way.corpus, other)


def test_tables_of_another_schema_are_refused(way: Way, tables: Tables) -> None:
    with pytest.raises(TableError, match=r"/images: expected a column 'probability' \(double\), found \['image_id'"):
        tables.score(way.corpus, way.tables.bundle, "--predictions", way.tables.images)
    with pytest.raises(TableError, match=r"/images: expected a column 'stage' \(string\)"):
        tables.score(way.corpus, way.tables.bundle, "--quarantine", way.tables.images)
    assert len(runs(way.tables.images)) == 1


def test_a_source_without_files_is_an_error(way: Way, tables: Tables, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"--source file://.*/nowhere: expected a folder or a file, found nothing"):
        tables.score(tmp_path / "nowhere", way.tables.bundle)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="/empty: expected image files, found none"):
        tables.score(tmp_path / "empty", way.tables.bundle)


def test_evaluate_says_what_the_two_tables_say(way: Way) -> None:
    truth = {(row["path"], row["image_id"]): row for row in rows(way.tables.images)}
    pairs = [(truth[row["path"], row["image_id"]], row) for row in rows(way.tables.predictions)]
    pairs = [(image, row) for image, row in pairs if image["split"] == "test"]
    label = [image["label"] == "pneumonia" for image, _ in pairs]
    summary = way.summaries["evaluate"]
    assert (summary["split"], summary["images"]) == ("test", len(pairs)) and len(pairs) > 4
    assert summary["roc_auc"] == pytest.approx(roc_auc_score(label, [row["probability"] for _, row in pairs]))
    called = [row["prediction"] == "pneumonia" for _, row in pairs]
    (tn, fp), (fn, tp) = confusion_matrix(label, called, labels=[False, True]).tolist()
    assert summary["confusion"] == {"tn": tn, "fp": fp, "fn": fn, "tp": tp}
    assert summary["mse"] == pytest.approx(
        np.mean([(row["probability"] - y) ** 2 for (_, row), y in zip(pairs, label, strict=True)])
    )
    assert (way.tables.report / "index.html").stat().st_size > 10_000
    assert json.loads((way.tables.report / "metrics.json").read_text())


def test_evaluate_survives_source_files_that_are_gone(way: Way, tables: Tables, tmp_path: Path) -> None:
    source = write(tmp_path / "s", {f"{('NORMAL', 'PNEUMONIA')[n % 2]}/{n}.png": png(n) for n in range(6)})
    tables.ingest(source, "--shares", "0,0,1")
    tables.score(source, way.tables.bundle)
    shutil.rmtree(source)
    assert tables.evaluate()["images"] == 6
