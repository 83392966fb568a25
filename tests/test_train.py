"""The training job's other ways: an ensemble of bundles, and flags that contradict each other."""

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


def test_one_member_is_no_ensemble(way: Way, tables: Tables) -> None:
    with pytest.raises(BundleError, match="expected two bundles or more"):
        tables.train("--prepared", way.tables.prepared, "--members", way.tables.bundle)


def test_members_are_for_images(way: Way, tables: Tables) -> None:
    with pytest.raises(ConfigError, match="expected --prepared, got --features"):
        call(train, "--features", way.tables.features, "--bundle", tables.bundle, "--members", "/a,/b")


def test_a_network_that_learns_on_needs_something_to_start_from(way: Way, tables: Tables) -> None:
    with pytest.raises(ConfigError, match="--network finetuned and --backbone belong together"):
        tables.train("--prepared", way.tables.prepared, "--network", "finetuned")
