"""Drift: quiet where nothing has changed, however few the images, and loud where something has."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from conftest import SIDE, Way, rows
from hypothesis import given
from hypothesis import strategies as st
from images import real
from matplotlib.figure import Figure
from scipy.stats import ks_2samp

from pneumospark.io import runs
from pneumospark.io.files import Store
from pneumospark.io.runs_page import drift_plot, write_runs_page
from pneumospark.io.stock import patients, pixel_rows, take_stock
from pneumospark.labels import from_path
from pneumospark.learn import drift
from pneumospark.pixels.facts import PIXEL_FACTS, pixel_facts
from pneumospark.pixels.prepare import pixels_of
from pneumospark.spec import ImageSpec

LIMITS = (0.25, 0.2, 0.001)
"""The settings' own: PSI, KS, chance."""

figures = st.lists(st.integers(0, 30), min_size=drift.FEWEST, max_size=80).map(lambda many: np.array(many) / 30)


def compared(reference: dict, found: dict[str, np.ndarray]) -> dict:
    edges = {name: figure["edges"] for name, figure in reference["figures"].items()}
    return drift.compare(reference, {name: drift.binned(name, found[name], edges[name]) for name in edges}, *LIMITS)


@given(figures, figures)
def test_the_bins_keep_every_image_and_what_they_say_of_the_distance(before: np.ndarray, now: np.ndarray) -> None:
    name = drift.PROBABILITY
    kept = drift.reference({name: before}, len(before))
    edges = kept["figures"][name]["edges"]
    counts = drift.binned(name, now, edges)
    assert counts.sum() == len(now) and len(counts) == len(edges) + 1 <= drift.BINS
    of_bins = kept["figures"][name]["counts"]
    values, images = np.unique(drift.rounded(name, before), return_counts=True)
    assert sum(of_bins) == len(before) and (all(of_bins) or images.max() * drift.BINS >= len(before))
    often = images > len(before) / 10 + 2
    of_its_own = np.searchsorted(np.float32(edges), values[often])
    assert [of_bins[at] for at in of_its_own] == images[often].tolist()
    ks = compared(kept, {name: now})["figures"][name]["ks"]
    old, new = (drift.rounded(name, values) for values in (before, now))
    at_edges = [abs(np.mean(old <= edge) - np.mean(new <= edge)) for edge in np.float32(edges)]
    assert ks == pytest.approx(max(at_edges, default=0), abs=1e-4)
    assert ks <= ks_2samp(old, new, method="asymp").statistic + 1e-4
    assert compared(kept, {name: before})["drifted"] == []


def test_the_index_is_that_of_the_formula() -> None:
    expected, found = np.array([50_000, 50_000]), np.array([25_000, 75_000])
    by_hand = (0.25 - 0.5) * np.log(0.25 / 0.5) + (0.75 - 0.5) * np.log(0.75 / 0.5)
    assert drift.population_stability(expected, found) == pytest.approx(by_hand, abs=1e-4)
    assert drift.population_stability(expected, np.array([0, 10])) < 10  # an empty bin is no infinity


@pytest.mark.parametrize("images", [20, 50, 200, 500])
def test_nights_of_any_size_are_quiet_and_shifted_ones_are_not(images: int) -> None:
    random = np.random.default_rng(images)
    names = [drift.PROBABILITY, *PIXEL_FACTS]

    def drawn(many: int, shift: float = 0) -> dict[str, np.ndarray]:
        return {name: random.beta(2 + shift, 2, many) for name in names}

    kept = drift.reference(drawn(600), 600)
    assert sum(bool(compared(kept, drawn(images))["drifted"]) for _ in range(200)) <= 2
    loud = [compared(kept, drawn(images, shift=4))["drifted"] for _ in range(20)]
    assert all(loud) and (images < 50 or all(set(found) == set(names) for found in loud))


@pytest.mark.parametrize("common", [0.0, 255.0])
def test_a_figure_that_was_always_the_same_may_not_become_another(common: float) -> None:
    before = {name: np.full(300, common) for name in PIXEL_FACTS} | {drift.PROBABILITY: np.linspace(0, 1, 300)}
    before["white"][:3] = 100.0  # nearly always
    kept = drift.reference(before, 300)
    night = {name: values[::3] for name, values in before.items()}
    assert compared(kept, night)["drifted"] == []
    for other in (common - 1, common + 1):
        changed = {name: night[name] if name == drift.PROBABILITY else np.full(100, other) for name in night}
        assert set(compared(kept, changed)["drifted"]) == set(PIXEL_FACTS)


@pytest.mark.parametrize("common", [0.0, 0.5, 1.0])
def test_many_images_of_one_value_cannot_move_in_silence(common: float) -> None:
    """A sure network: 195 images spread over a twentieth, and 734 that are all said to be the same."""
    random, name = np.random.default_rng(1), drift.PROBABILITY
    spread = np.linspace(0.2, 0.25, 195)
    kept = drift.reference({name: np.append(spread, np.full(734, common))}, 485)
    night = random.permutation(np.append(spread, np.full(734, common)))[:300]
    assert compared(kept, {name: night})["drifted"] == []
    for other in {0.1, 0.3, common + 0.01, common - 0.01}:
        found = compared(kept, {name: np.where(night == common, other, night)})["figures"][name]
        assert found["psi"] > 1 and found["ks"] > 0.7, other


def test_two_bins_are_two() -> None:
    kept = {"images": 1000, "patients": 1000, "figures": {drift.PROBABILITY: {"edges": [0.5], "counts": [600, 400]}}}
    for shares, shift in ((40, False), (90, True)):
        night = np.where(np.arange(100) < shares, 0.9, 0.1)
        found = compared(kept, {drift.PROBABILITY: night})
        assert bool(found["drifted"]) == shift and (found["figures"][drift.PROBABILITY]["psi"] > 1) == shift


def test_figures_of_few_values_are_quiet_where_nothing_has_changed() -> None:
    random = np.random.default_rng(0)
    names = [drift.PROBABILITY, *PIXEL_FACTS]

    def drawn(many: int) -> dict[str, np.ndarray]:
        return {name: random.choice([0, 0.02, 0.9, 1], many, p=[0.3, 0.1, 0.1, 0.5]) for name in names}

    for images in (20, 100, 500):
        alarms = sum(bool(compared(drift.reference(drawn(600), 600), drawn(images))["drifted"]) for _ in range(100))
        assert alarms <= 1


def test_images_of_one_patient_count_less() -> None:
    random = np.random.default_rng(0)
    before, now = random.normal(size=400), random.normal(0.5, 1, size=60)
    apart, alike = (
        compared(drift.reference({drift.PROBABILITY: before}, patients), {drift.PROBABILITY: now})
        for patients in (400, 100)
    )
    of = drift.PROBABILITY
    assert alike["figures"][of]["psi_by_chance"] == pytest.approx(4 * apart["figures"][of]["psi_by_chance"], rel=1e-3)
    assert alike["figures"][of]["psi"] == apart["figures"][of]["psi"]
    assert alike["figures"][of]["ks_p"] > apart["figures"][of]["ks_p"]


def test_of_too_few_images_nothing_is_said() -> None:
    values = np.linspace(0, 1, 50)
    kept = drift.reference({drift.PROBABILITY: values}, 50)
    found = compared(kept, {drift.PROBABILITY: np.ones(drift.FEWEST - 1)})
    assert (found["drifted"], found["said"]) == ([], "nothing of fewer than 20 images")
    with pytest.raises(ValueError, match="expected 20 validation images at least, got 19"):
        drift.reference({drift.PROBABILITY: values[:19]}, 19)


def test_real_nights_of_the_same_children_are_quiet_and_those_of_another_hospital_loud() -> None:
    """Pixels alone: the reference is of 350 children, a night is of others."""
    children = real("chest_xray/train/*/*.jp*g")
    adults = real("external/**/*.jp*g")
    if not (children and adults):
        pytest.skip("no real images beside the checkout")
    random = np.random.default_rng(3)
    of_patient = defaultdict(list)
    for path in children:
        of_patient[from_path(f"{path.parent.name}/{path.name}").patient_id or path.name].append(str(path))
    patients = [of_patient[name] for name in random.permutation(sorted(of_patient))]
    before, after = patients[:350], patients[350:]
    kept = drift.reference(looked_at(np.concatenate(before)), len(before))
    nights = np.concatenate(after)
    for images in (20, 50, 200):
        for start in range(0, 600, 200):
            assert compared(kept, looked_at(nights[start : start + images]))["drifted"] == []
    others = [str(path) for path in random.permutation(np.array([str(path) for path in adults]))[:100]]
    assert len(compared(kept, looked_at(others))["drifted"]) > 2


def looked_at(paths) -> dict[str, np.ndarray]:
    """PIXEL_FACTS of files as the recipe prepares them; the probability is left out of play."""
    for path in paths:
        if path not in SEEN:
            SEEN[path] = pixel_facts(pixels_of(Path(path).read_bytes(), ImageSpec()))
    found = {name: np.array([SEEN[path][name] for path in paths]) for name in PIXEL_FACTS}
    return found | {drift.PROBABILITY: np.linspace(0, 1, len(paths))}


SEEN: dict[str, dict[str, float]] = {}


def a_run(number: int, drifted: list[str], n: int = 60) -> dict:
    figure = {"psi": 0.1 + number, "psi_by_chance": 0.4, "ks": 0.1, "ks_p": 0.5}
    told = dict.fromkeys((drift.PROBABILITY, "mean", "sharpness"), figure)
    return {
        "run_id": f"r20261124T18{number:02}00000000-nightly",
        "model_id": "0123456789abcdef",
        **{"files": 1000 + n, "known": 1000, "images": n, "quarantined": 2, "seconds": 30.5},
        "exit_code": 4 if drifted else 0,
        "reasons": {"not_an_image": 2},
        "drift": {"images": n, "figures": told, "drifted": drifted} if n else {"drifted": [], "said": "nothing: <b>"},
        "versions": {"pyspark": "4.0.5"},
    }


def test_the_page_shows_the_last_runs_and_takes_text_for_text(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/runs.html"
    write_runs_page(uri, [a_run(0, []), a_run(1, ["mean", "sharpness"])], Store())
    text = (tmp_path / "runs.html").read_text()
    for shown in ("2026-11-24 18:01", "mean, sharpness", "drift", "not_an_image 2", "1,060", "0123456789abcdef"):
        assert shown in text
    assert text.index("18:01") < text.index("18:00") and "data:image/svg+xml" in text and "http://" not in text
    write_runs_page(uri, [a_run(0, [], n=0)], Store())
    assert "nothing: &lt;b&gt;" in (tmp_path / "runs.html").read_text()


def test_a_figure_that_a_run_does_not_tell_is_a_gap() -> None:
    told = [a_run(number, []) for number in range(3)]
    del told[1]["drift"]["figures"]["mean"]
    told[2]["drift"]["figures"]["mean"] = {"psi": 0.0, "psi_by_chance": 0.4}
    axes = Figure().add_subplot()
    drift_plot.__wrapped__(axes, told)
    assert axes.lines[0].get_ydata() == pytest.approx([0.1, np.nan, 0.01], nan_ok=True)


def test_runs_are_read_in_order_and_one_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    table = f"file://{tmp_path}/predictions"
    assert runs.last(table, Store(), 5) == []
    for number in (2, 0, 1):
        runs.record(a_run(number, []), table, Store())
    (tmp_path / "predictions/_runs/r20261124T1900.json").write_text('{"run_id": "r2026')
    assert runs.last(table, Store(), 3) == [a_run(1, []), a_run(2, [])]


def test_a_run_that_never_told_is_known_to_the_next_ones_until_one_of_them_has(tmp_path: Path) -> None:
    table = f"file://{tmp_path}/predictions"
    first, second, third, fourth = (str(a_run(number, [])["run_id"]) for number in range(4))
    assert [runs.begin(run, table, Store()) for run in (first, second, second)] == [[], [first], [first]]
    assert runs.begin(third, table, Store()) == [first, second]
    runs.record(a_run(2, []), table, Store())
    assert runs.begin(fourth, table, Store()) == []


def test_the_run_judged_last_is_of_this_model_or_before_all_that_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "LAST", 3)
    table = f"file://{tmp_path}/predictions"
    ids = [a_run(number, [])["run_id"] for number in range(6)]
    told = [runs.judged_last(table, Store(), "old")]
    for number in range(6):
        runs.record(a_run(number, []) | {"model_id": "old" if number in (0, 1) else "new"}, table, Store())
        told.append(runs.judged_last(table, Store(), "old"))
    assert told == ["", ids[0], ids[1], ids[1], ids[1], ids[1], ids[2]]
    assert runs.judged_last(table, Store(), "new") == ids[5]


@pytest.mark.spark
def test_what_train_keeps_is_of_the_rows_of_the_table(ingested: Way) -> None:
    table = rows(ingested.tables.prepared)
    stock = take_stock(f"file://{ingested.tables.prepared}", "pixels", Store())
    for split in ("train", "validation"):
        of_split = [row for row in table if row["split"] == split and row["label"] in ("normal", "pneumonia")]
        assert patients(stock, Store(), split) == len({row["patient_id"] or row["image_id"] for row in of_split}) > 1
        found = drift.statistics(pixel_rows(stock, Store(), (split,), 1000), (SIDE, SIDE, 1))
        means = [np.frombuffer(row["pixels"], np.uint8).mean() for row in of_split]
        assert sorted(found["mean"]) == pytest.approx(sorted(means))
