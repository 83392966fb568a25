"""Score as it runs every night: from files and from tables, in parts, named, tried out, and what a listing can tell."""

import json
import os
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import images
import numpy as np
import pytest
from conftest import SIDE, SPEC, Tables, Way, by_name, content, rows, runs, write
from images import dicom
from PIL import Image
from pyspark.sql import SparkSession
from test_score import GREY, png, rewritten

from pneumospark.errors import ConfigError, TableError
from pneumospark.io.run import run
from pneumospark.io.tables import read
from pneumospark.learn import drift
from pneumospark.pixels.facts import PIXEL_FACTS
from pneumospark.schemas import ADDED_LATER, PIXEL_STATISTICS, PREDICTIONS

pytestmark = [pytest.mark.spark, pytest.mark.tensorflow]


def by_path(table: Path) -> dict[str, float]:
    return {row["path"]: row["probability"] for row in rows(table)}


def test_tables_give_the_predictions_of_their_files_and_no_file_is_read(way: Way, tables: Tables) -> None:
    of_files = by_path(way.tables.predictions)
    images = ("--images", way.tables.images, "--bundle", way.tables.bundle)
    for name, more in (("a", ()), ("b", ("--prepared", way.tables.prepared))):
        ours = Tables(tables.folder / name)
        summary = ours.score_from(*images, *more)
        assert (summary["files"], summary["images"], summary["file_bytes"]) == (33, 33, 0)
        assert content(ours.predictions) == content(way.tables.predictions)
        assert by_path(ours.predictions) == pytest.approx(of_files, abs=1e-5)
        assert ours.score_from(*images, *more)["known"] == 33
    # the same key: what was scored from the tables is known where its files are listed
    again = ours.score(way.corpus, way.tables.bundle, "--quarantine", way.tables.quarantine)
    assert (again["known"], again["images"]) == (35, 0)


def test_tables_and_sources_that_do_not_fit_are_refused(way: Way, tables: Tables, tmp_path: Path) -> None:
    bundle = ("--bundle", way.tables.bundle)
    source, images = ("--source", way.corpus), ("--images", way.tables.images)
    for given in ((), (*source, *images)):
        with pytest.raises(ConfigError, match="expected either --source or --images"):
            tables.score_from(*bundle, *given)
    with pytest.raises(ConfigError, match="--prepared has pixels and no paths: expected --images too"):
        tables.score_from(*bundle, *source, "--prepared", way.tables.prepared)
    other = Tables(tmp_path / "other")
    other.extract("--images", way.tables.images, "--set=image.height=40")
    with pytest.raises(TableError, match=r"--prepared: expected rows of the bundle's spec, .*, found \['"):
        tables.score_from(*bundle, *images, "--prepared", other.prepared)


def test_a_newly_ingested_image_is_scored_alone(way: Way, tables: Tables, tmp_path: Path) -> None:
    source = write(tmp_path / "s", {f"NORMAL/{n}.png": png(n) for n in range(3)})
    score = ("--images", tables.images, "--bundle", way.tables.bundle)
    tables.ingest(source)
    tables.extract()
    assert tables.score_from(*score)["images"] == 3
    write(source, {"NORMAL/0.png": png(9), "NORMAL/new.png": png(8), "PNEUMONIA/same.png": png(8)})
    tables.ingest(source)
    shutil.rmtree(source)
    assert tables.score_from(*score, "--dry-run")["to_score"] == 3
    tables.extract(*SPEC)
    pixels = tables.score_from(*score, "--prepared", tables.prepared)
    # equal bytes with two labels are not in `prepared`: these two files cannot be scored from there
    assert (pixels["files"], pixels["images"], pixels["known"], pixels["without_pixels"]) == (3, 1, 2, 2)
    more = tables.score_from(*score)
    assert (more["files"], more["images"], more["known"]) == (5, 2, 3)
    assert len(rows(tables.predictions)) == 6 and len(runs(tables.predictions)) == 3


def test_what_ingest_refuses_is_scored_all_the_same(way: Way, tables: Tables, tmp_path: Path) -> None:
    """It has reasons of its own, a limit or a leak; and what only score refuses is no less an image to learn from."""
    source = write(tmp_path / "s", {f"NORMAL/{n}.png": png(n) for n in range(3)} | {"NORMAL/bad.png": images.TEXT})
    assert tables.ingest(source, "--max-pixels", 10)["reasons"] == {"not_an_image": 1, "too_large": 3}
    scored = tables.score(source, way.tables.bundle)
    assert (scored["known"], scored["images"], scored["reasons"]) == (0, 3, {"not_an_image": 1})
    assert tables.score(source, way.tables.bundle)["known"] == 4
    assert tables.ingest(source)["known"] == 4
    stages = sorted((row["stage"], row["reason"]) for row in rows(tables.quarantine))
    assert stages == [("ingest", "not_an_image")] + [("ingest", "too_large")] * 3 + [("score", "not_an_image")]


def test_an_archive_among_the_images_is_refused_unread(way: Way, tables: Tables, tmp_path: Path) -> None:
    source = write(tmp_path / "s", {"NORMAL/a.png": png(1), "NORMAL/images.tar.gz": b"", "NORMAL/copy.tar.gz": b""})
    for name in ("images", "copy"):
        os.truncate(source / f"NORMAL/{name}.tar.gz", 2**41)  # two terabytes of nothing, which no memory holds
    for made in (tables.ingest(source), tables.score(source, way.tables.bundle)):
        assert (made["images"], made["reasons"]) == (1, {"too_large": 2})
        assert made["file_bytes"] < 10_000


def test_a_limit_a_time_and_a_name(way: Way, tables: Tables, tmp_path: Path) -> None:
    source = write(tmp_path / "s", {f"{n}.png": png(n) for n in range(6)} | {"bad.png": images.TEXT})
    os.utime(source / "5.png", (1e9, 1e9))  # 2001-09-09 01:46:40
    args = (source, way.tables.bundle)
    tried = tables.score(*args, "--dry-run", "--since", "2001-09-09T01:46:41")
    assert (tried["to_score"], tried["older"], tried["files"]) == (6, 1, 7)
    assert not tables.folder.exists()
    first = tables.score(*args, "--limit", 2, "--run-id", "nightly-1")
    assert (first["images"], first["later"], first["known"]) == (2, 5, 0)
    assert set(by_name(tables.predictions)) == {"0.png", "1.png"}
    second = tables.score(*args, "--since", "2020-01-01", "--run-id", "nightly-1")
    assert (second["images"], second["quarantined"], second["older"], second["known"]) == (3, 1, 1, 2)
    assert first["run_id"] < second["run_id"] and all(name.endswith("-nightly-1") for name in runs(tables.predictions))
    last = tables.score(*args)
    assert (last["images"], last["known"], last["older"], last["later"]) == (1, 6, 0, 0)
    for flag, value in (("--since", "yesterday"), ("--run-id", "a/b")):
        with pytest.raises(ConfigError, match=f"{flag} "):
            tables.score(*args, flag, value)


def test_a_file_replaced_by_one_of_an_older_time_is_seen(way: Way, tables: Tables, tmp_path: Path) -> None:
    source = write(tmp_path / "s", {f"{n}.png": png(n) for n in range(3)})
    tables.score(source, way.tables.bundle)
    write(source, {"0.png": png(30), "1.png": images.jpeg(images.ramp())})
    for name, time in (("0.png", 1e9), ("1.png", (source / "2.png").stat().st_mtime)):
        os.utime(source / name, (time, time))
    again = tables.score(source, way.tables.bundle)
    assert (again["images"], again["known"]) == (2, 1)
    os.utime(source / "0.png")  # touched: it is read once more to see that, and not every night
    looked = [tables.score(source, way.tables.bundle) for _ in range(2)]
    size = (source / "0.png").stat().st_size
    assert [(run["known"], run["file_bytes"]) for run in looked] == [(3, size), (3, 0)]
    write(source, {"0.png": png(31)})
    assert tables.score(source, way.tables.bundle)["images"] == 1


def test_a_table_of_before_is_gone_on_with(way: Way, tables: Tables, spark: SparkSession, tmp_path: Path) -> None:
    source = write(tmp_path / "s", {f"{n}.png": png(n) for n in range(3)})
    now = Tables(tmp_path / "now")
    now.score(source, way.tables.bundle)
    old = spark.read.parquet(str(now.predictions)).drop("run_id", *ADDED_LATER)
    old.write.parquet(f"{tables.predictions}/run_id=r20200101")
    write(source, {"new.png": png(7)})
    future = 2e9
    os.utime(source / "1.png", (future, future))  # newer than its row: it is looked at, and holds what it held
    more = tables.score(source, way.tables.bundle)
    assert (more["images"], more["known"]) == (1, 3) and more["file_bytes"] > (source / "new.png").stat().st_size
    last = tables.score(source, way.tables.bundle)
    assert (last["images"], last["known"], last["file_bytes"]) == (0, 4, 0)
    kept = read(spark, str(tables.predictions), PREDICTIONS).collect()
    assert sorted(row["length"] is None for row in kept) == [False, True, True, True]


def test_dicom_files_are_checked_as_ingest_checks_them(way: Way, tables: Tables, tmp_path: Path) -> None:
    grey = images.ramp(48, 48)
    source = write(
        tmp_path / "s",
        {
            "chest.dcm": dicom(grey),
            "ct.dcm": dicom(grey, Modality="CT"),
            "knee.dcm": dicom(grey, BodyPartExamined="KNEE"),
            "text.dcm": dicom(grey, BurnedInAnnotation="YES"),
        },
    )
    summary = tables.score(source, way.tables.bundle)
    assert summary["reasons"] == {"burned_in_annotation": 1, "not_a_chest_radiograph": 1} and summary["images"] == 2
    retried = ("--retry-quarantine", "--dicom-check", "none", "--burned-in", "keep")
    assert tables.score(source, way.tables.bundle, *retried)["images"] == 2
    strict = Tables(tmp_path / "strict").score(source, way.tables.bundle, "--dicom-check", "chest")
    assert strict["reasons"] == {"burned_in_annotation": 1, "not_a_chest_radiograph": 2}


def test_each_run_leaves_its_summary_beside_the_rows_and_where_it_is_told(way: Way, tables: Tables, tmp_path) -> None:
    source = write(tmp_path / "s", {"0.png": png(0), "bad.png": images.TEXT})
    summary = tables.score(source, way.tables.bundle, "--summary", tmp_path / "out/summary.json")
    kept = [json.loads(path.read_text()) for path in (tables.predictions / "_runs").iterdir()]
    assert kept == [json.loads((tmp_path / "out/summary.json").read_text())] == [{"job": "score", **summary}]
    assert kept[0]["run_id"] == runs(tables.predictions)[0]
    assert {"start", "listing", "choosing", "scoring", "quarantine", "counting", "other"} <= set(kept[0]["stages"])
    sizes = sum((source / name).stat().st_size for name in ("0.png", "bad.png", "bad.png"))  # refused: looked at twice
    assert kept[0]["file_bytes"] == sizes and kept[0]["bytes_to_score"] < sizes
    assert kept[0]["versions"]["pyspark"] and kept[0]["reasons"] == {"not_an_image": 1}


def test_statistics_of_the_pixels_are_kept(way: Way) -> None:
    assert tuple(PIXEL_STATISTICS.names) == PIXEL_FACTS
    found: list[dict[str, Any]] = [row["statistics"] for row in rows(way.tables.predictions)]
    assert all(tuple(row) == PIXEL_FACTS and 0 < row["mean"] < 255 for row in found)


@pytest.mark.parametrize("good", [3, 0])
def test_what_a_killed_run_refused_is_said_by_the_next(way: Way, tables: Tables, tmp_path: Path, good: int) -> None:
    """It finds those files known, and would end with 0: nobody would hear of a broken export."""
    files = {f"good-{n}.png": images.png(GREY // (n + 2)) for n in range(good)} | {
        f"bad-{n}.png": b"%d" % n for n in range(12)
    }
    source = write(tmp_path / "s", files)
    score = ("--source", source, "--bundle", way.tables.bundle, "--drift", "off")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pneumospark.io.runs.record", lambda *_: 1 / 0)
        assert run("score", lambda: tables.score_from(*score)) == 70
    assert [run("score", lambda: tables.score_from(*score)) for _ in range(2)] == [3, 0]


def test_what_was_found_is_said_though_the_page_cannot_be_written(way: Way, tables: Tables, tmp_path, caplog) -> None:
    (tmp_path / "no-folder").write_text("")
    source = write(tmp_path / "s", {f"bad-{n}.png": b"%d" % n for n in range(12)})
    places = ("--bundle", way.tables.bundle, "--drift", "off", "--drift-page", tmp_path / "no-folder/runs.html")
    assert run("score", lambda: tables.score_from("--source", source, *places)) == 3
    assert "no-folder/runs.html: cannot be written" in caplog.text
    (source / "good.png").write_bytes(images.png(GREY))
    assert run("score", lambda: tables.score_from("--source", source, *places)) == 1


def test_files_that_can_never_be_read_are_news_once(way: Way, tables: Tables, tmp_path: Path, capsys) -> None:
    source = write(tmp_path / "s", {"good.png": images.png(GREY)})
    for number in range(12):
        (source / f"gone-{number}.png").symlink_to(tmp_path / "nowhere")
    score = ("--source", source, "--bundle", way.tables.bundle, "--drift", "off")
    assert [run("score", lambda: tables.score_from(*score)) for _ in range(2)] == [3, 0]
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["quarantined"], last["again"]) == (12, 12)  # tried, and said, all the same
    ingest = ("--layout", "folders")
    assert [run("ingest", lambda: tables.ingest(source, *ingest)) for _ in range(2)] == [3, 0]


def test_drift_is_said_after_all_is_written_and_shown_on_a_page(way: Way, tables: Tables, tmp_path, capsys) -> None:
    figures = {
        name: np.array([row["statistics"][name] for row in rows(way.tables.predictions)]) for name in PIXEL_FACTS
    }
    figures[drift.PROBABILITY] = np.array([row["probability"] for row in rows(way.tables.predictions)])
    kept = drift.reference(figures, 12)
    bundle = rewritten(way.tables.bundle, tmp_path / "bundle", lambda facts: facts.update(reference=kept))
    page = tmp_path / "page/runs.html"
    quiet = tables.score(way.corpus, bundle, "--drift-page", page)
    assert (quiet["drift"]["images"], quiet["drift"]["drifted"], quiet["exit_code"]) == (33, [], 0)
    assert quiet["drift"]["figures"]["mean"]["psi"] == 0  # the very images of the reference: every bin is as full

    white = write(tmp_path / "white", {f"{n}.png": images.png(255 - GREY // (n + 4)) for n in range(40)})
    score = ("--source", white, "--bundle", bundle, "--drift-page", page, "--max-quarantined", 100)
    assert run("score", lambda: tables.score_from(*score)) == 4
    said = capsys.readouterr()
    assert "score: DriftError: 40 images are unlike those that model" in said.err
    summary = json.loads(said.out.splitlines()[-1])
    assert "mean" in summary["drift"]["drifted"] and (summary["images"], summary["exit_code"]) == (40, 4)
    assert len(rows(tables.predictions)) == 73
    text = page.read_text()
    assert (
        text.count('class="path">r') == 2
        and "drifted" in text
        and "data:image/svg+xml" in text
        and "<script" not in text
    )
    assert run("score", lambda: tables.score_from(*score)) == 0  # the next night has nothing new
    for told in sorted(tables.predictions.glob("_runs/*.json"))[1:]:
        told.unlink()  # as if the run had been killed after its rows were written, before it could say so
    assert run("score", lambda: tables.score_from(*score)) == 4
    assert "score: DriftError: 40 images are unlike" in capsys.readouterr().err
    assert run("score", lambda: tables.score_from(*score)) == 0
    report = Tables(tmp_path / "report")
    assert report.score(white, bundle, "--drift", "report")["drift"]["drifted"] == summary["drift"]["drifted"]
    off = Tables(tmp_path / "off")
    assert off.score(white, bundle, "--drift", "off")["images"] == 40
    assert all(row["statistics"] is None for row in rows(off.predictions))


def test_a_bundle_without_a_reference_says_so(way: Way, tables: Tables, caplog) -> None:
    assert way.summaries["score"]["drift"]["drifted"] == []
    assert "holds no reference" in way.summaries["score"]["drift"]["said"]


def test_explanations_are_those_of_the_images_called_positive_once(way: Way, tables: Tables, tmp_path: Path) -> None:
    bundle = rewritten(way.tables.bundle, tmp_path / "b", lambda facts: facts["threshold"].update(value=median(way)))
    told = ("--explanations", tables.explanations)
    summary = tables.score(way.corpus, bundle, "--explain", "positives", *told)
    scored, found = rows(tables.predictions), rows(tables.explanations)
    positive = {row["path"] for row in scored if row["prediction"] == "pneumonia"}
    assert len(scored) == summary["images"] == 33 and 0 < len(positive) < 33
    assert {row["path"] for row in found} == positive and len(found) == len(positive) == summary["explained"]
    sizes = {row["path"]: (row["width"], row["height"]) for row in rows(way.tables.images)}
    for row in found:
        assert Image.open(BytesIO(row["png"])).size == (SIDE, SIDE) and row["model_id"] == summary["model_id"]
        if box := row["box"]:
            width, height = sizes[row["path"]]
            assert 0 <= box["left"] < box["right"] <= width and 0 <= box["top"] < box["bottom"] <= height
            assert box["left"] == int(row["relative_box"]["left"] * width)
    assert any(row["box"] for row in found)

    # killed between the two tables: the predictions are made anew, the explanations are there
    shutil.rmtree(tables.predictions)
    again = tables.score(way.corpus, bundle, "--explain", "all", *told)
    assert (again["images"], again["explained"]) == (33, 33 - len(positive))
    assert {row["path"] for row in rows(tables.explanations)} == {row["path"] for row in scored}
    assert len(rows(tables.explanations)) == 33
    with pytest.raises(ConfigError, match="--explain and --explanations belong together"):
        tables.score(way.corpus, bundle, "--explain", "all")


def median(way: Way) -> float:
    return float(np.median([row["probability"] for row in rows(way.tables.predictions)]))


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_fails_is_said_in_the_form_asked_for(tables: Tables, tmp_path, capsys, monkeypatch, log_format) -> None:
    args = ["--source", str(tmp_path / "none"), "--bundle", str(tmp_path), "--predictions", "p", "--quarantine", "q"]
    args += ["--log-format", log_format]
    monkeypatch.setattr("sys.argv", ["score.py", *args])
    import score

    assert run("score", lambda: score.main(args)) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    if log_format == "text":
        assert line.startswith("score: SourceError: --source file://")
    else:
        said = json.loads(line)
        assert (said["error"], said["exit_code"], said["level"], said["job"]) == ("SourceError", 1, "error", "score")
