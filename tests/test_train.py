"""The training job's other ways: an ensemble of bundles, and flags that contradict each other."""

import json

import numpy as np
import pytest
import train
from conftest import Tables, Way, call, rows

from pneumospark.errors import BundleError, ConfigError

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
        (["--head-epochs", "1"], "--head-epochs: expected --network finetuned"),
        (["--tensorboard", "s3://bucket/log"], r"train\.tensorboard: expected a local folder, got 's3://bucket/log'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_at_once(
    way: Way, tables: Tables, flags: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        tables.train("--prepared", way.tables.prepared, *flags)
