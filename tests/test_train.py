"""The training job's other ways: an ensemble of bundles, and flags that contradict each other."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import train
from conftest import Tables, Way, call, rows
from PIL import Image
from processes import ROOT, environment

from pneumospark.errors import BundleError, ConfigError, SourceError

pytestmark = [pytest.mark.spark, pytest.mark.tensorflow]


def test_an_ensemble_of_a_bundle_with_itself_ranks_images_as_it_does(way: Way, tables: Tables) -> None:
    member = way.tables.bundle
    made = tables.train("--prepared", way.tables.prepared, "--members", f"{member},{member}", "--network", "finetuned")
    assert made["epochs"] == 0 and made["model_id"]
    tables.score(way.corpus, tables.bundle)

    def probabilities(of: Tables) -> dict[str, float]:
        return {row["path"]: row["probability"] for row in rows(of.predictions)}

    alone, together = probabilities(way.tables), probabilities(tables)
    paths = sorted(alone)
    assert paths == sorted(together)
    order = np.argsort([alone[path] for path in paths], kind="stable")
    assert (np.diff(np.array([together[path] for path in paths])[order]) >= -1e-6).all()  # calibrated anew, no more


def test_a_bundles_own_figures_have_intervals_over_patients(way: Way) -> None:
    facts = json.loads((way.tables.bundle / "bundle.json").read_text())
    own = {row["patient_id"] for row in rows(way.tables.prepared) if row["split"] == "validation" and row["label"]}
    found = facts["validation"]["bootstrap"]
    assert found["patients"] == len(own) and found["resamples"] == 2000
    assert (way.tables.bundle / "history.csv").read_text().count("\n") == 1 + 2  # epochs


@pytest.mark.cluster
def test_the_benchmark_of_the_feed_runs(ingested: Way) -> None:
    command = [sys.executable, ROOT / "tests/benchmark_feed.py", "--prepared", ingested.tables.prepared]
    command += ["--rounds", 1, "--epochs", 3, "--steps", 2]
    env = environment(PYTHONPATH=str(ROOT))
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert 0 < said["waiting"] < 1 and said["ratio"] == pytest.approx(said["feed"] / said["pyarrow"], abs=0.002)


def test_a_place_that_cannot_be_written_is_known_before_the_training(way: Way, tables: Tables) -> None:
    tables.folder.mkdir()
    (tables.folder / "file").write_text("where a folder was to be")
    with pytest.raises(SourceError, match=r"file/bundle/\.probe-.*: cannot be written: NotADirectoryError"):
        way.tables.train("--bundle", tables.folder / "file" / "bundle", "--epochs", "1")


def test_one_member_is_no_ensemble(way: Way, tables: Tables) -> None:
    with pytest.raises(BundleError, match="expected two bundles or more"):
        tables.train("--prepared", way.tables.prepared, "--members", way.tables.bundle)


def test_members_are_for_images(way: Way, tables: Tables) -> None:
    with pytest.raises(ConfigError, match="expected --prepared, got --features"):
        call(train, "--features", way.tables.features, "--bundle", tables.bundle, "--members", "/a,/b")


def test_a_network_that_learns_on_needs_something_to_start_from(way: Way, tables: Tables) -> None:
    with pytest.raises(ConfigError, match="--network finetuned and --backbone belong together"):
        tables.train("--prepared", way.tables.prepared, "--network", "finetuned")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--l2", "1e-4"], "l2: expected --network published, which has these options"),
        (["--head", "svm"], "--head svm learns on features: expected --features"),
        (["--augment", "none", "--augment-without", "turn"], "--augment-without: expected an --augment that has parts"),
        (["--head-epochs", "1"], "--head-epochs: expected --network finetuned"),
        (["--finetune-rate", "1e-5"], "--finetune-rate: expected --head-epochs before it"),
        (["--frozen", "0.5"], "--frozen: expected --network finetuned"),
        (["--tensorboard", "s3://bucket/log"], r"train\.tensorboard: expected a local folder, got 's3://bucket/log'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_at_once(
    way: Way, tables: Tables, flags: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        tables.train("--prepared", way.tables.prepared, *flags)


@pytest.mark.parametrize("head", ["logistic", "svm", "boosting"])
def test_a_classical_head_and_its_backbone_are_one_model_that_scores_images(
    way: Way, tables: Tables, head: str
) -> None:
    made = call(train, "--features", way.tables.features, "--bundle", tables.bundle, "--head", head)
    assert made["epoch_rows"] == [made["rows"]["train"]]
    scored = tables.score(way.corpus, tables.bundle)
    assert scored["images"] == way.summaries["score"]["images"]
    facts = json.loads((tables.bundle / "bundle.json").read_text())
    assert not {"network", "augment", "learning_rate"} & set(facts["recipe"])  # what had no part in it
    assert (
        f"on the features of a pre-trained backbone, `{facts['data']['version']}`"
        in (tables.bundle / "model_card.md").read_text()
    )
    assert facts["recipe"]["head"] == head and facts["validation"]["roc_auc"] == made["validation"]["roc_auc"]


def test_a_contact_sheet_shows_each_image_and_what_becomes_of_it(way: Way, tmp_path: Path) -> None:
    from pneumospark.__main__ import main

    out = tmp_path / "sheet.png"
    args = ["augmentations", "--prepared", str(way.tables.prepared), "--augment", "published", "--out", str(out)]
    assert main(args) == 0
    sheet = np.asarray(Image.open(out).convert("L"))
    assert sheet.shape[1] > sheet.shape[0] > 600 and sheet.std() > 30  # six rows of seven, and not white
    again = tmp_path / "again.png"
    assert main([*args[:-1], str(again)]) == 0 and again.read_bytes() == out.read_bytes()
