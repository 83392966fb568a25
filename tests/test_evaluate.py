"""Evaluate: what two tables say becomes figures, subgroups, comparisons and pictures, from tables written by hand."""

import json
import shutil
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import images as made
import numpy as np
import pytest
from conftest import Tables, Way
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pneumospark.errors import BundleError, ConfigError, TableError
from pneumospark.io.tables import append, read
from pneumospark.learn.compare import compare
from pneumospark.learn.metrics import metrics
from pneumospark.schemas import IMAGES, PREDICTIONS
from pneumospark.tables import evaluation
from pneumospark.tables.images import without_run_id

pytestmark = pytest.mark.spark
COUNT = 48
NOW = datetime(2026, 1, 2, tzinfo=UTC)
TRUTH = np.arange(COUNT) % 2
PROBABILITY = np.clip(np.random.default_rng(3).normal(0.35 + 0.3 * TRUTH, 0.2), 0.01, 0.99)
OTHER = np.clip(PROBABILITY + np.random.default_rng(4).normal(0, 0.2, COUNT), 0.01, 0.99)


def image(number: int, **other: Any) -> dict[str, Any]:
    """Three images a patient; every fourth pneumonia is viral; bits tell the device."""
    ill = number % 2 == 1
    return {
        "image_id": f"{number:064x}",
        "path": f"file:///x/räum 1%/{number}.png",
        "source": "file:///x",
        "bits": 8 if number % 3 else 16,
        "patient_id": f"p{number // 3}" if number < 45 else None,
        "label": "pneumonia" if ill else "normal",
        "findings": ["viral" if number % 8 == 1 else "bacterial"] if ill else [],
        "split": "test",
        "content": made.png(made.ramp(40, 30)),
        **other,
    }


def prediction(number: int, probability: float, model_id: str = "a" * 16, threshold: float = 0.5) -> dict[str, Any]:
    return {
        "image_id": f"{number:064x}",
        "path": f"file:///x/räum 1%/{number}.png",
        "probability": float(probability),
        "prediction": "pneumonia" if probability >= threshold else "normal",
        "threshold": threshold,
        "model_id": model_id,
        "spec": "s",
        "scored_at": NOW,
    }


@pytest.fixture(scope="module")
def hospital(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """48 test images scored by two models, 4 of another disease, 2 to train on; the folder's name is no plain one."""
    tables = Tables(tmp_path_factory.mktemp("evaluated") / "räum 50%")
    images = [image(number) for number in range(COUNT)]
    images += [image(number, label="other", findings=["mass"]) for number in range(COUNT, COUNT + 4)]
    images += [image(number, split="train") for number in range(COUNT + 4, COUNT + 6)]
    write(spark, tables.images, images, IMAGES)
    scored = [prediction(number, p) for number, p in enumerate([*PROBABILITY, 0.9, 0.8, 0.7, 0.1, 0.2, 0.8])]
    scored += [prediction(number, p, "b" * 16, 0.45) for number, p in enumerate(OTHER)]
    write(spark, tables.predictions, scored, PREDICTIONS)
    before = {"image_id": "f" * 64}  # what a file held before it changed counts no more
    write(spark, tables.images, [image(0, label="pneumonia", **before)], IMAGES, "r0")
    write(spark, tables.predictions, [prediction(0, 0.99) | before], PREDICTIONS, "r0")
    return tables


def write(spark: SparkSession, table: Path, found: list[dict[str, Any]], schema: Any, run_id: str = "r1") -> None:
    append(spark.createDataFrame(found, without_run_id(schema)), f"file://{table}", schema, run_id)


def evaluated(hospital: Tables, report: Path, *more: object) -> tuple[dict[str, Any], str]:
    """metrics.json and the page."""
    hospital.evaluate("--report", report, "--model-id", "a" * 16, "--resamples", 50, *more)
    return json.loads((report / "metrics.json").read_text()), (report / "index.html").read_text()


def test_figures_subgroups_and_other_labels(hospital: Tables, tmp_path: Path) -> None:
    figures, page = evaluated(hospital, tmp_path, "--subgroups", "findings,bits", "--prevalence", "0.2", "--seed", "7")
    alone = metrics(TRUTH, PROBABILITY, 0.5)
    for name in ("confusion", "roc_auc", "recall", "ece"):
        assert figures[name] == pytest.approx(alone[name]), name
    assert figures["intervals"]["roc_auc"] == pytest.approx(alone["intervals"]["roc_auc"])
    assert (figures["split"], figures["prevalence"]) == ("test", 0.2)
    # 45 images of 15 patients, and 3 whose patient is not known
    assert {**figures["bootstrap"], "intervals": None} == {
        "patients": 18,
        "resamples": 50,
        "seed": 7,
        "intervals": None,
    }
    assert figures["other_labels"] == {"other": {"n": 4, "called": 3}}
    groups = {(group["fact"], group["group"]): (group["n"], group["positives"]) for group in figures["subgroups"]}
    assert groups == {
        ("findings", "(none)"): (24, 0),
        ("findings", "bacterial"): (18, 18),
        ("findings", "viral"): (6, 6),
        ("bits", "8"): (32, 16),
        ("bits", "16"): (16, 8),
    }
    assert "4 further images are labelled" in page


def test_labelled_images_without_a_prediction_are_counted(
    spark: SparkSession, hospital: Tables, tmp_path: Path
) -> None:
    assert evaluated(hospital, tmp_path / "all")[0]["unscored"] == 0
    more = Tables(tmp_path / "more")
    shutil.copytree(hospital.folder, more.folder)
    new = [image(COUNT + 10), image(COUNT + 11, label="other"), image(COUNT + 12, label=None)]
    write(spark, more.images, [*new, image(COUNT + 13, split="train")], IMAGES, "r2")
    figures, page = evaluated(more, tmp_path / "some")
    assert (figures["unscored"], figures["n"]) == (1, COUNT)
    assert "1 further labelled images have no prediction" in page


def test_equal_bytes_with_two_labels_are_not_judged_and_counted(
    spark: SparkSession, hospital: Tables, tmp_path: Path
) -> None:
    """`prepared` leaves them out, so the bundle's own figures do not have them either: one of the two is wrong."""
    more = Tables(tmp_path / "more")
    shutil.copytree(hospital.folder, more.folder)
    copy = {"path": "file:///x/copy.png"}
    write(spark, more.images, [image(7) | copy | {"label": "normal"}], IMAGES, "r2")
    write(spark, more.predictions, [prediction(7, PROBABILITY[7]) | copy], PREDICTIONS, "r2")
    figures, page = evaluated(more, tmp_path / "some")
    assert (figures["contradictory"], figures["unscored"], figures["n"]) == (2, 0, COUNT - 1)
    assert "2 further files have two labels" in page
    assert evaluated(hospital, tmp_path / "all")[0]["contradictory"] == 0


def test_the_surest_mistakes_come_first_and_from_the_table(hospital: Tables, tmp_path: Path) -> None:
    figures, page = evaluated(hospital, tmp_path)
    wrong = [n for n in range(COUNT) if (PROBABILITY[n] >= 0.5) != TRUTH[n]]
    expected = sorted(wrong, key=lambda n: -abs(PROBABILITY[n] - 0.5))[:12]
    shown = [int(part.partition(".png")[0]) for part in page.split("/x/räum 1%/")[1:]]
    assert shown[: len(expected)] == expected and len(expected) > 5
    assert len(shown) == len(set(shown)) == len(expected) + 12
    assert page.count("data:image/jpeg") == len(shown)
    assert figures["confusion"]["fp"] + figures["confusion"]["fn"] == len(wrong)


def test_two_models_are_compared_on_the_same_images(hospital: Tables, tmp_path: Path) -> None:
    figures, _ = evaluated(hospital, tmp_path, "--against", "b" * 16)
    expected = compare(TRUTH, (PROBABILITY, 0.5), (OTHER, 0.45), np.arange(COUNT))
    assert figures["comparison"]["mcnemar"] == expected["mcnemar"]
    for name in ("first", "second", "interval", "p"):
        assert figures["comparison"]["delong"][name] == pytest.approx(expected["delong"][name])
    assert (figures["comparison"]["first"], figures["comparison"]["second"]) == ("a" * 16, "b" * 16)
    with pytest.raises(TableError, match=r"expected predictions of model c, found those of \['a+', 'b+'\]"):
        evaluated(hospital, tmp_path, "--against", "c")


def test_an_external_set_stands_beside(spark: SparkSession, hospital: Tables, tmp_path: Path) -> None:
    other = Tables(tmp_path / "other")
    write(spark, other.images, [image(n, split=("train", "test")[n % 3 // 2]) for n in range(20)], IMAGES)
    write(spark, other.predictions, [prediction(n, p) for n, p in enumerate(OTHER[:20])], PREDICTIONS)
    both = ("--external-predictions", other.predictions, "--external-images", other.images)
    figures, page = evaluated(hospital, tmp_path, *both, "--subgroups", "findings")
    (external,) = figures["external"]
    assert external["name"] == str(other.images)
    assert external["confusion"] == metrics(TRUTH[:20], OTHER[:20], 0.5)["confusion"]
    assert {group["fact"] for group in external["subgroups"]} == {"findings"}
    assert "Beside other sets" in page
    with pytest.raises(ConfigError, match="as many --external-predictions as --external-images"):
        evaluated(hospital, tmp_path, *both[:2])


def test_further_columns_of_a_manifest_make_groups(spark: SparkSession, hospital: Tables) -> None:
    view = F.when(F.col("bits") == 8, "PA").otherwise("")
    images = read(spark, f"file://{hospital.images}", IMAGES)
    images = images.withColumn("extra", F.when(F.col("label") == "normal", F.create_map(F.lit("view"), view)))
    scored = evaluation.of_model(read(spark, f"file://{hospital.predictions}", PREDICTIONS), "a" * 16)
    cases = evaluation.cases(
        evaluation.judged(evaluation.labelled(scored, images, ["view", "split"])), ["view", "split"]
    )
    found = Counter(cases["groups"]["view"])
    assert found == {("PA",): 16 + 1, (): 24 + 8 + 1}  # no column for pneumonia, an empty one for 16 bits
    assert Counter(cases["groups"]["split"]) == {("test",): COUNT, ("train",): 2}


def test_what_is_asked_for_and_not_there(hospital: Tables, way: Way, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"expected facts of images \(.*bits, .*\), got \['view'\]"):
        evaluated(hospital, tmp_path, "--subgroups", "view")
    with pytest.raises(BundleError, match=r"--bundle .*: expected that of model aaaaaaaaaaaaaaaa, found that of"):
        evaluated(hospital, tmp_path, "--bundle", way.tables.bundle)
    with pytest.raises(ConfigError, match=r"evaluate.prevalence: expected more than 0 and less than 1, got 1\.5"):
        evaluated(hospital, tmp_path, "--prevalence", "1.5")


@pytest.mark.tensorflow
def test_with_the_bundle_mistakes_show_where_the_network_looked(way: Way, tmp_path: Path) -> None:
    way.tables.evaluate("--report", tmp_path, "--bundle", way.tables.bundle, "--split", "all")
    confusion = json.loads((tmp_path / "metrics.json").read_text())["confusion"]
    page = (tmp_path / "index.html").read_text()
    assert "These are not test images alone (split: all)" in page
    wrong = min(confusion["fp"] + confusion["fn"], 12)
    assert wrong and page.count("bright where the network found pneumonia") == wrong
    assert page.count("data:image/jpeg") == 2 * wrong + min(12, sum(confusion.values()) - wrong)
