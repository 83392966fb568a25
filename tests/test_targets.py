"""What a network is to tell: from labels and findings to outputs, and a run of each from table to predictions."""

import shutil

import numpy as np
import pytest
from conftest import Tables, Way, rows
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from pneumospark.learn.calibrate import calibrate, fit_softmax
from pneumospark.targets import BINARY, FINDINGS, KIND, TARGETS, UNKNOWN

LABELS = np.array(["normal", "pneumonia", "pneumonia", "pneumonia", "pneumonia", "other", None], object)
SAID = np.array(["", "bacteria", "virus", "", "bacteria|virus", "mass|nodule", "None"], object)


def test_two_labels_are_told_whatever_is_found() -> None:
    assert BINARY.truth(LABELS[:6], SAID[:6]).tolist() == [0, 1, 1, 1, 1, UNKNOWN]
    assert BINARY.known(LABELS, SAID).tolist() == [True] * 5 + [False] * 2


def test_a_kind_is_known_where_one_is_named() -> None:
    assert KIND.known(LABELS, SAID).tolist() == [True, True, True, False, False, False, False]
    assert KIND.truth(LABELS[:3], SAID[:3]).tolist() == np.eye(3).tolist()


def test_a_finding_is_known_where_the_others_were_looked_for() -> None:
    truth = TARGETS["findings"].truth(LABELS, SAID)
    place = FINDINGS.index
    assert truth[0].tolist() == [0] * 14
    assert truth[1, place("pneumonia")] == 1 and (np.delete(truth[1], place("pneumonia")) == UNKNOWN).all()
    assert truth[5, [place("mass"), place("nodule"), place("pneumonia")]].tolist() == [1, 1, 0]
    assert (truth[6] == UNKNOWN).all()


@given(st.lists(st.floats(-20, 20), min_size=3, max_size=3))
def test_pneumonia_is_the_sum_of_its_kinds(logits: list[float]) -> None:
    given = softmax(np.array([logits]), axis=1)
    assert KIND.pneumonia(given)[0] == pytest.approx(given[0, 1:].sum(), abs=1e-9)


def test_a_known_scaling_of_three_classes_is_found() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (8_000, 3))
    honest = softmax(logits, axis=1)
    truth = np.eye(3, dtype=int)[[random.choice(3, p=each) for each in honest]]
    temperatures, biases = fit_softmax(truth, softmax(2 * logits - [0, 1, -1], axis=1))
    assert temperatures == pytest.approx([2, 2, 2], rel=0.1)
    assert biases == pytest.approx([0, 1, -1], abs=0.15)


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["kind", "findings"])
def test_a_network_of_several_outputs_is_calibrated_in_place(name: str) -> None:
    import keras
    from sklearn.metrics import log_loss

    target, random = TARGETS[name], np.random.default_rng(0)
    k = len(target.outputs)
    inputs = keras.Input((k,))
    network = keras.Model(inputs, keras.layers.Dense(k, activation=target.activation)(inputs))
    network.layers[-1].set_weights([4 * np.eye(k), np.full(k, 0.5)])
    x = random.normal(size=(600, k)).astype(np.float32)
    truth = (random.uniform(size=(600, k)) < 1 / (1 + np.exp(-x))).astype(int)
    if name == "kind":
        truth = np.eye(k, dtype=int)[[random.choice(k, p=each) for each in softmax(x, axis=1)]]
    truth[:50] = truth[:50] if name == "kind" else UNKNOWN
    before = np.asarray(network(x))
    facts = calibrate(network, truth, before, target)
    after = np.asarray(network(x))
    assert sorted(facts["outputs"]) == sorted(target.outputs)
    for at in range(k):
        assert log_loss(truth[50:, at], after[50:, at]) < log_loss(truth[50:, at], before[50:, at])


@pytest.mark.tensorflow
def test_what_is_unknown_teaches_nothing() -> None:
    import tensorflow as tf

    from pneumospark.learn.weights import EachBinaryCrossentropy, masked

    y = np.array([[1, 0, UNKNOWN], [UNKNOWN, UNKNOWN, UNKNOWN]], np.float32)
    said = tf.Variable([[0.7, 0.2, 0.9], [0.1, 0.2, 0.3]])
    (_, truth, weights) = next(iter(masked(tf.data.Dataset.from_tensors((np.zeros((2, 1)), y)))))
    with tf.GradientTape() as tape:
        loss = EachBinaryCrossentropy()(truth, said, sample_weight=weights)
    moved = tape.gradient(loss, said).numpy() != 0
    assert moved.tolist() == [[True, True, False], [False] * 3]
    assert float(loss) == pytest.approx(-(np.log(0.7) + np.log(0.8)) / 6, abs=1e-5)


@pytest.fixture(scope="module")
def told(way: Way, tmp_path_factory: pytest.TempPathFactory) -> Way:
    """The corpus again, with a manifest that names a finding of each pneumonia; ingested and prepared."""
    source = tmp_path_factory.mktemp("told") / "corpus"
    shutil.copytree(way.corpus, source)
    lines = ["path,label,patient_id,split,findings"]
    for number, row in enumerate(row for row in rows(way.tables.images) if row["label"]):
        said = "No Finding" if row["label"] == "normal" else ("bacteria", "virus|Mass")[number % 2]
        path = row["path"].removeprefix(f"file://{way.corpus}/")
        lines.append(f"{path},{row['label']},{row['patient_id']},{row['split']},{said}")
    (source / "manifest.csv").write_text("\n".join(lines))
    tables = Tables(source.parent)
    tables.ingest(source, "--splits", "given", "--layout", "manifest")
    tables.extract()
    return Way(source, tables, {})


@pytest.mark.spark
@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["kind", "findings"])
def test_several_outputs_go_the_whole_way(told: Way, tables: Tables, name: str) -> None:
    tables.train("--prepared", told.tables.prepared, "--target", name, "--threshold", "1e-9")
    explained = ("--explain", "positives", "--explanations", tables.explanations)
    summary = tables.score(told.corpus, tables.bundle, *explained)
    scored, images = rows(tables.predictions), rows(told.tables.images)
    assert len(scored) == summary["images"] == summary["explained"] == len(images) == len(rows(tables.explanations))
    for row in scored:
        each = dict(row["probabilities"])
        assert set(each) == set(TARGETS[name].outputs)
        ill = each["bacterial"] + each["viral"] if name == "kind" else each["pneumonia"]
        assert row["probability"] == pytest.approx(ill, abs=1e-6)
        assert name == "findings" or sum(each.values()) == pytest.approx(1, abs=1e-6)
    judged = tables.evaluate("--images", told.tables.images, "--bundle", tables.bundle)
    assert judged["confusion"]["fp"] > 0 and judged["confusion"]["fn"] == 0  # the threshold's doing
    assert "Grad-CAM" in (tables.report / "index.html").read_text()
