"""Ingest: every file of a source ends as a row or a reason, whatever its bytes and its name, and is read once."""

import gzip
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import images
import pyarrow.parquet
import pytest
from conftest import Tables, Way, by_name, content, rows, runs, write
from mutations import KINDS, mutated, originals
from PIL import Image
from pydicom import dcmread
from pyspark.sql import SparkSession

from pneumospark.config import IngestConfig
from pneumospark.errors import ConfigError, LeakError, SourceError, TableError
from pneumospark.io.files import Store
from pneumospark.io.layouts import recognise
from pneumospark.io.run import run
from pneumospark.pixels.prepare import pixels_of
from pneumospark.spec import ImageSpec
from pneumospark.split import split_of
from pneumospark.tables import labels
from pneumospark.tables.sources import list_files

pytestmark = pytest.mark.spark

KEY = "PNEUMOSPARK_PATIENT_KEY"
GREY = images.ramp()
GOOD = {
    "grey.jpg": (images.jpeg(GREY), ("JPEG", 8, "MONOCHROME2")),
    "colour.jpg": (images.jpeg(GREY[:, :, None].repeat(3, axis=2)), ("JPEG", 8, "RGB")),
    "ink.jpg": (images.cmyk(100), ("JPEG", 8, "CMYK")),
    "translucent.png": (images.translucent(200, 128), ("PNG", 8, "RGB")),
    "deep.png": (images.png(images.ramp(white=65535)), ("PNG", 16, "MONOCHROME2")),
    "still.gif": (images.saved(Image.fromarray(GREY), "GIF"), ("GIF", 8, "MONOCHROME2")),
    "no-suffix": (images.tiff(GREY), ("TIFF", 8, "MONOCHROME2")),
}
NAMES = (
    "two words.png",
    'it\'s "quoted".png',
    "100%.png",
    "50%20percent.png",
    "star*.png",
    "[0-9].png",
    "{a,b}.png",
    "#1.png",
    "what?.png",
    "a;b&c=d+e,f:g.png",
    "back\\slash.png",
    "_underscore.png",
    ".dot.png",
    "Lungenentzündung.png",
    "肺炎.png",
    "ﬁ-⅓-🫁.png",
    "run_id=1.png",
)
"""A name that Spark's own listing hides, reads as a pattern, decodes, or takes for a partition."""


def png(number: int) -> bytes:
    """A picture of its own."""
    return images.png(GREY // 2 + number)


def reason(tables: Tables) -> dict[str, str]:
    return {name: row["reason"] for name, row in by_name(tables.quarantine).items()}


@pytest.fixture(scope="module")
def odd(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tables, dict[str, Any]]:
    """A folder of every good and bad kind of file under every name, ingested once."""
    folder = tmp_path_factory.mktemp("odd")
    source = write(folder / "räum [1] 100% *", {f"NORMAL/{name}": data for name, (data, _) in GOOD.items()})
    write(source, {f"PNEUMONIA/{name}": data for name, (data, _) in images.bad().items()})
    write(source, {f"NORMAL/.hidden/_below {place}/{name}": png(place) for place, name in enumerate(NAMES)})
    write(source, {"loose.png": png(40), "val/loose too.png": png(41)})
    tables = Tables(folder / "tables")
    return source, tables, tables.ingest(source)


def test_every_file_of_the_corpus_is_a_row_or_a_reason(ingested: Way) -> None:
    summary, tables = ingested.summaries["ingest"], ingested.tables
    files = {f"file://{path}": path for path in ingested.corpus.rglob("*") if path.is_file()}
    taken = {row["path"]: row for row in rows(tables.images)}
    refused = {row["path"]: row["reason"] for row in rows(tables.quarantine)}
    assert taken.keys() | refused.keys() == files.keys() and not taken.keys() & refused.keys()
    assert (summary["files"], summary["images"], summary["quarantined"]) == (len(files), len(taken), len(refused))
    assert sorted(refused.values()) == ["not_an_image", "truncated"] and summary["known"] == 0
    assert summary["reasons"] == {"not_an_image": 1, "truncated": 1}
    for path, row in taken.items():
        data = files[path].read_bytes()
        assert row["content"] == data and row["length"] == len(data)
        assert row["image_id"] == hashlib.sha256(data).hexdigest()
        assert row["label"] == files[path].parent.name.lower()
        assert row["patient_id"] == files[path].name[:13]


def test_a_patient_is_in_one_split_and_each_split_has_both_labels(ingested: Way) -> None:
    found = {(row["patient_id"], row["split"]) for row in rows(ingested.tables.images)}
    assert len(found) == len({patient for patient, _ in found}) == 12
    counted = ingested.summaries["ingest"]["splits"]
    assert set(counted) == {f"{s}/{n}" for s in ("train", "validation", "test") for n in ("normal", "pneumonia")}
    assert sum(counted.values()) == ingested.summaries["ingest"]["images"]


@pytest.mark.parametrize("name", GOOD)
def test_a_good_kind_becomes_a_row(odd, name: str) -> None:
    row = by_name(odd[1].images)[name]
    assert (row["format"], row["bits"], row["photometric"]) == GOOD[name][1]
    assert row["content"] == GOOD[name][0] and row["label"] == "normal"


@pytest.mark.parametrize("name", images.bad())
def test_a_bad_kind_becomes_a_reason(odd, name: str) -> None:
    row = by_name(odd[1].quarantine)[name]
    assert (row["reason"], row["stage"]) == (images.bad()[name][1], "ingest")
    assert row["detail"] and row["length"] == len(images.bad()[name][0])


@pytest.mark.parametrize(("place", "name"), list(enumerate(NAMES)), ids=[ascii(name) for name in NAMES])
def test_a_name_is_taken_as_it_is(odd, place: int, name: str) -> None:
    row = by_name(odd[1].images)[name]
    assert row["path"] == f"file://{odd[0]}/NORMAL/.hidden/_below {place}/{name}"
    assert row["content"] == png(place)


def test_an_unlabelled_file_is_a_row_without_a_label_and_counted(odd) -> None:
    found = by_name(odd[1].images)
    assert found["loose.png"]["label"] is None
    assert (found["loose too.png"]["label"], found["loose too.png"]["split"]) == (None, "validation")
    assert odd[2]["files_without_label"] == 2


def test_the_counts_of_both_sides_agree(odd) -> None:
    summary = odd[2]
    assert summary["files"] == len(GOOD) + len(images.bad()) + len(NAMES) + 2
    assert (summary["images"], summary["quarantined"]) == (len(GOOD) + len(NAMES) + 2, len(images.bad()))


def keep_times(path: Path, data: bytes) -> None:
    """Other bytes under the same name, length and time: a job that reads the file again would see it."""
    stat = path.stat()
    path.write_bytes(data.ljust(stat.st_size, b"\0")[: stat.st_size])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_known_files_are_not_read_again_new_and_changed_ones_are(tables: Tables, tmp_path: Path) -> None:
    source = write(tmp_path / "s", {f"NORMAL/{n}.png": png(n) for n in range(4)} | {"PNEUMONIA/bad.png": b"no"})
    assert tables.ingest(source)["images"] == 4
    before, refused = content(tables.images), content(tables.quarantine)
    keep_times(source / "NORMAL/0.png", b"unreadable")

    again = tables.ingest(source)
    assert (again["files"], again["known"], again["images"], again["quarantined"]) == (5, 5, 0, 0)
    assert (content(tables.images), content(tables.quarantine)) == (before, refused)

    write(source, {"NORMAL/1.png": png(50), "PNEUMONIA/new.png": png(51), "PNEUMONIA/bad.png": png(52)})
    os.utime(source / "NORMAL/2.png", (1, 1))  # touched, not changed
    write(source, {"NORMAL/3.png": images.TEXT})  # turned bad
    more = tables.ingest(source)
    assert (more["files"], more["known"], more["images"], more["reasons"]) == (6, 2, 3, {"not_an_image": 1})
    added = [row for row in rows(tables.images) if row["run_id"] == more["run_id"]]
    assert {row["path"].rpartition("/")[2]: row["content"] for row in added} == {
        "1.png": png(50),
        "new.png": png(51),
        "bad.png": png(52),
    }
    assert not before - content(tables.images)  # the row of the old bytes stays
    last = tables.ingest(source)  # nor is the touched file read again every night
    assert (last["known"], last["file_bytes"]) == (6, 0)


@pytest.mark.parametrize(
    ("layout", "image", "lists"),
    [
        ("manifest", "{:04}.dcm", ["manifest.csv"]),
        ("nih", "{:08}_000.png", ["Data_Entry_2017.csv", "test_list.txt"]),
        ("rsna", "{:036}.dcm", ["stage_2_detailed_class_info.csv", "stage_2_train_labels.csv"]),
    ],
)
def test_lists_are_found_beside_more_images_than_anyone_looks_at(
    tmp_path: Path, layout: str, image: str, lists: list[str]
) -> None:
    for name in (*lists, *(image.format(number) for number in range(1100))):
        (tmp_path / name).touch()
    root = f"file://{tmp_path}"
    found = recognise(IngestConfig(source=root, images="i", quarantine="q"), root, Store())
    assert found.name == layout and set(found.own_files) == {f"{root}/{name}" for name in lists}


def test_a_folder_that_is_moved_away_while_others_are_listed_has_no_files(spark: SparkSession) -> None:
    def listing(folder: str) -> list[tuple[str, bool, int, Any]]:
        if folder == "/r":
            names = [("/r/a.png", False), ("/r/gone", True), ("/r/shut", True)]
            return [(path, is_folder, 1, "2026-01-01") for path, is_folder in names if path != f"/r/{left_out}"]
        raise SourceError("cannot be listed") from (FileNotFoundError() if folder == "/r/gone" else PermissionError())

    left_out = "shut"
    assert [row["path"] for row in list_files(spark, "/r", listing).collect()] == ["/r/a.png"]
    left_out = "gone"
    with pytest.raises(Exception, match="cannot be listed"):
        list_files(spark, "/r", listing).collect()


def test_where_all_files_are_bad_there_is_no_error(tables: Tables, tmp_path: Path) -> None:
    source = write(tmp_path / "s", {"NORMAL/large.png": images.png(GREY), "NORMAL/b.jpg": images.TEXT})
    summary = tables.ingest(source, "--max-pixels", "100")
    assert (summary["images"], summary["quarantined"], summary["splits"]) == (0, 2, {})
    assert reason(tables) == {"large.png": "too_large", "b.jpg": "not_an_image"}


@pytest.mark.parametrize(
    ("names", "more", "error", "message"),
    [
        ([], [], SourceError, "--source file://.*/s: expected a folder or a file, found nothing there"),
        ([""], ["--layout", "folders"], SourceError, "/s: expected image files, found none"),
        ([""], [], SourceError, r"/s: --layout auto finds no folders normal or pneumonia, .* but nothing"),
        (["a.png", "x/b.png"], [], SourceError, r"--layout auto finds no .* but \['a.png', 'x'\]; --layout folders"),
        (["a.png"], ["--layout", "manifest"], SourceError, "--layout manifest expects a labels table in there"),
        (["a.png"], ["--layout", "nih"], SourceError, "--layout nih expects a labels table .* --labels"),
        (["a.png"], ["--labels", "/nowhere.csv"], SourceError, "--labels file:///nowhere.csv: expected a folder or a"),
        (["a.png"], ["--layout", "folder"], ConfigError, "got 'folder': did you mean 'folders'"),
        (["normal/a.png"], ["--shares", "0.5,0.2,0.2"], ConfigError, "three shares of 0 to 1 .* that sum to 1"),
    ],
    ids=["missing", "empty", "empty-auto", "ambiguous", "manifest", "nih", "labels", "layout", "shares"],
)
def test_a_bad_job_says_what_it_expected(tables: Tables, tmp_path: Path, names, more, error, message) -> None:
    for name in names:
        write(tmp_path / "s", {name: b"x"}) if name else (tmp_path / "s").mkdir()
    with pytest.raises(error, match=message):
        tables.ingest(tmp_path / "s", *more)
    assert not list(tables.folder.rglob("*.*"))


def test_a_patient_in_two_given_splits_is_a_leak(tables: Tables, tmp_path: Path) -> None:
    one, two = "train/NORMAL/synthetic0001-1.png", "test/NORMAL/synthetic0001-2.png"
    source = write(tmp_path / "s", {one: png(1), two: png(2)})
    with pytest.raises(
        LeakError, match="1 values of patient_id are in more than one split, 'synthetic0001' in test and"
    ):
        tables.ingest(source)


def test_a_given_test_part_stays_as_it_is_and_its_patients_are_not_learnt(tables: Tables, tmp_path: Path) -> None:
    """As in the data set of Kermany et al., whose numbers of persons come again in its test folder."""
    source = write(
        tmp_path / "s",
        {
            "train/PNEUMONIA/person1_bacteria_1.png": png(1),
            "train/PNEUMONIA/person1_bacteria_2.png": png(2),
            "val/PNEUMONIA/person1_bacteria_3.png": png(3),
            "train/PNEUMONIA/person2_bacteria_4.png": png(4),
            "test/PNEUMONIA/person1_virus_6.png": png(6),
        },
    )
    summary = tables.ingest(source, "--splits", "given-test", "--max-quarantined", "0")
    assert (summary["images"], summary["reasons"]) == (2, {"leak": 3})
    found = splits(tables)
    assert found.pop("person1_virus_6.png") == "test" and set(found) == {"person2_bacteria_4.png"}
    assert {row["detail"] for row in rows(tables.quarantine)} == {
        "it is given as no test image, and its patient, or one with equal bytes, is in test"
    }
    assert tables.ingest(source, "--splits", "given-test")["known"] == 5
    write(source, {"train/PNEUMONIA/person1_bacteria_9.png": png(9), "PNEUMONIA/person1_bacteria_10.png": png(10)})
    later = tables.ingest(source, "--splits", "given-test")
    assert (later["images"], later["reasons"]) == (1, {"leak": 1})
    assert splits(tables)["person1_bacteria_10.png"] == "test"  # nobody has said that it is none


def test_the_files_of_a_patient_without_a_split_join_those_with_one(tables: Tables, tmp_path: Path) -> None:
    patients = {f"p{number}": word for number, word in enumerate(("train", "validation", "test", "train_val") * 3)}
    told = [(patient, word) for patient in patients for word in (patients[patient], "")]
    lines = [f"{patient}-{word or 'none'}.png,normal,{patient},{word}" for patient, word in told]
    files = {line.partition(",")[0]: png(place) for place, line in enumerate(lines)}
    table = "\n".join(["path, Label, Patient_ID , Split", *lines])
    source = write(tmp_path / "s", {"manifest.csv": table.encode(), **files})
    assert tables.ingest(source)["images"] == len(files)
    found = splits(tables)
    for patient, word in patients.items():
        one, two = found[f"{patient}-{word}.png"], found[f"{patient}-none.png"]
        assert one == two and (one == word if word != "train_val" else one != "test")
    assert {row["label"] for row in rows(tables.images)} == {"normal"}


def test_blanks_in_a_manifest_are_nothing(tables: Tables, tmp_path: Path) -> None:
    lines = ["path, label, patient_id, split, subtype, findings", *(f"{n}.png, normal, , , viral, " for n in range(20))]
    files = {f"{number}.png": png(number) for number in range(20)} | {"20.png": png(20)}
    source = write(tmp_path / "s", {"manifest.csv": "\n".join([*lines, "20.png, , , "]).encode(), **files})
    summary = tables.ingest(source)
    assert (summary["images"], summary["files_without_label"]) == (21, 1)
    found = by_name(tables.images)
    assert found["3.png"]["patient_id"] is None and found["20.png"]["findings"] == []
    assert list(found["3.png"]["findings"]) == ["viral"]


def test_patients_with_equal_bytes_stay_together_where_some_files_are_given_as_no_test(
    tables: Tables, tmp_path: Path
) -> None:
    one, two = (next(name[:13] for name in of_split(split)) for split in ("train", "validation"))
    lines = [f"{name}{n}.png,normal,{name},{'train_val' * (n == 1)}" for name in (one, two) for n in (1, 2)]
    pictures = (png(0), png(1), png(0), png(2))
    files = {line.partition(",")[0]: picture for line, picture in zip(lines, pictures, strict=True)}
    manifest = "\n".join(["path,label,patient_id,split", *lines]).encode()
    assert tables.ingest(write(tmp_path / "s", {"manifest.csv": manifest, **files}))["images"] == 4
    assert len(set(splits(tables).values())) == 1


def test_no_share_for_files_that_are_given_as_no_test(tables: Tables, tmp_path: Path) -> None:
    source = write(tmp_path / "s", {"train/NORMAL/a.png": png(1), "test/NORMAL/b.png": png(2)})
    with pytest.raises(Exception, match="--shares: expected some of train or validation for files given as no test"):
        tables.ingest(source, "--splits", "given-test", "--shares", "0,0,1")


def test_a_time_that_no_table_can_hold_is_the_epoch(tables: Tables, tmp_path: Path) -> None:
    source = write(tmp_path / "s", {"NORMAL/a.png": png(1)})
    os.utime(source / "NORMAL" / "a.png", (10**10, 1.05e10))
    assert tables.ingest(source)["images"] == 1
    assert rows(tables.images)[0]["modified_at"].timestamp() == 0
    assert tables.ingest(source)["known"] == 1


def of_split(split: str, count: int = 2, suffix: str = ".png") -> list[str]:
    """Names of patients whose hash draws them into a split, in order."""
    names = (f"synthetic{number:04d}-1{suffix}" for number in range(200))
    return [name for name in names if split_of(name[:13], (0.7, 0.15, 0.15)) == split][:count]


def splits(tables: Tables) -> dict[str, str]:
    return {name: row["split"] for name, row in by_name(tables.images).items()}


def test_patients_with_equal_bytes_are_drawn_together(tables: Tables, tmp_path: Path) -> None:
    (train, more), (test, _) = of_split("train"), of_split("test")
    copies = {f"NORMAL/{train}": png(1), f"NORMAL/{test}": png(1), "PNEUMONIA/nobody.png": png(1)}
    second = {f"NORMAL/{name.replace('-1', '-2')}": png(place) for place, name in enumerate((train, test), 2)}
    source = write(tmp_path / "s", {**copies, **second, f"NORMAL/{more}": png(4)})
    summary = tables.ingest(source)
    assert (summary["images"], summary["quarantined"]) == (6, 0)
    found = splits(tables)
    # the copy of nobody known is a group of its own, named by its bytes, and the smallest of the three
    tied = {found[name] for name in (train, test, "nobody.png", *(path.split("/")[1] for path in second))}
    nobody = split_of(hashlib.sha256(png(1)).hexdigest(), (0.7, 0.15, 0.15))
    assert tied == {nobody} and found[more] == "train"

    later = write(source, {f"NORMAL/{test.replace('-1', '-3')}": png(5), f"NORMAL/{train.replace('-1', '-3')}": png(6)})
    assert tables.ingest(later, "--salt", "another")["images"] == 2  # whatever their hash is now, they stay
    assert {split for name, split in splits(tables).items() if name != more} == tied


def test_a_newcomer_that_ties_two_splits_is_refused_and_no_later_night_fails(tables: Tables, tmp_path: Path) -> None:
    (train, _), (test, _) = of_split("train"), of_split("test")
    source = write(tmp_path / "s", {f"NORMAL/{train}": png(1), f"NORMAL/{test}": png(2)})
    tables.ingest(source)
    write(source, {f"NORMAL/{test.replace('-1', '-2')}": png(1), "NORMAL/nobody.png": png(2)})
    summary = tables.ingest(source)
    assert (summary["images"], summary["reasons"]) == (1, {"leak": 1})
    assert splits(tables) == {train: "train", test: "test", "nobody.png": "test"}
    (row,) = rows(tables.quarantine)
    assert row["detail"] == "equal bytes are in train, the patient of this file is in test"
    assert tables.ingest(source)["known"] == 4
    assert tables.extract()["images"] == 2


def test_dicom_patients_with_equal_pictures_are_drawn_together(tables: Tables, tmp_path: Path, monkeypatch) -> None:
    """Who the patients are is in the headers only; an equal file of two patients cannot be, so a copy is one."""
    monkeypatch.setenv(KEY, "secret")
    ids = [f"RAW-{number}" for number in range(12)]
    files = {f"{raw}.dcm": images.dicom(GREY // 2 + place, PatientID=raw) for place, raw in enumerate(ids)}
    source = write(tmp_path / "s", {**files, "a/copy.dcm": files["RAW-3.dcm"]})
    tables.ingest(source)
    before = splits(tables)
    assert before["copy.dcm"] == before["RAW-3.dcm"] and len(set(before.values())) > 1
    more = {f"{raw}-2.dcm": images.dicom(GREY // 2 + 40 + place, PatientID=raw) for place, raw in enumerate(ids)}
    tables.ingest(write(source, more), "--salt", "another")
    assert {raw: splits(tables)[f"{raw}-2.dcm"] for raw in ids} == {raw: before[f"{raw}.dcm"] for raw in ids}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("given", ["train", "validation", "test", "development", None]),
        ("given-test", ["development", "development", "test", "development", None]),
        ("ignore", [None] * 5),
    ],
)
def test_given_splits_are_kept_as_asked(spark: SparkSession, setting: str, expected: list[str | None]) -> None:
    given = ["train", "validation", "test", "development", None]
    files = spark.createDataFrame(list(enumerate(given)), "n int, given_split string").coalesce(1)
    assert [row["given_split"] for row in labels.with_policy(files, setting).orderBy("n").collect()] == expected


MANIFEST = "path,label,patient_id,split,findings\n"


def test_a_manifest_tells_what_paths_do_not(tables: Tables, tmp_path: Path) -> None:
    table = MANIFEST + 'x/a.png,PNEUMONIA,p1,test,Edema|Mass\n"x/b, c.png",Normal,,,\nx/gone.png,NORMAL,p2,,\n'
    source = write(tmp_path / "m [1]*", {"manifest.csv": table.encode(), "x/a.png": png(1), "x/b, c.png": png(2)})
    summary = tables.ingest(write(source, {"x/unlisted.png": png(3)}))
    found = by_name(tables.images)
    keys = ("label", "patient_id", "split", "findings")
    assert tuple(found["a.png"][key] for key in keys) == ("pneumonia", "p1", "test", ["edema", "mass"])
    assert tuple(found["b, c.png"][key] for key in ("label", "patient_id")) == ("normal", None)
    assert found["unlisted.png"]["label"] is None
    counted = ("files", "images", "files_without_label", "labels_without_file")
    assert [summary[name] for name in counted] == [3, 3, 1, 1]


def test_a_manifest_with_two_rows_for_a_file_is_refused(tables: Tables, tmp_path: Path) -> None:
    table = MANIFEST + "a.png,NORMAL,p1,,\na.png,PNEUMONIA,p1,,\n"
    source = write(tmp_path / "s", {"manifest.csv": table.encode(), "a.png": png(1)})
    with pytest.raises(TableError, match=r"labels: expected one row per file, found 2 for 'a.png'"):
        tables.ingest(source)


def test_a_name_without_a_folder_that_two_files_have_is_refused(tables: Tables, tmp_path: Path) -> None:
    table = MANIFEST + "a.png,PNEUMONIA,p1,,\nb.png,NORMAL,p2,,\n"
    files = {"manifest.csv": table.encode(), "x/a.png": png(1), "y/b.png": png(2)}
    tables.ingest(source := write(tmp_path / "s", files))
    with pytest.raises(TableError, match=r"manifest: a.png: expected the name of one file, found .*x/a.png and .*z/a"):
        tables.ingest(write(source, {"z/a.png": png(3)}))


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        (("a.png", "holdout"), "path string, split string", "manifest: split: expected one of train, .* got 'holdout'"),
        (("a.png", "x", "y"), "path string, `Label` string, ` label` string", "manifest: expected one column 'label',"),
        (("a.png", "NORMAL"), "file string, label string", r"manifest: expected a column 'path', found \['file', 'la"),
    ],
    ids=["split", "twice", "column"],
)
def test_a_manifest_of_something_else_is_refused(spark: SparkSession, row, columns, message) -> None:
    with pytest.raises(TableError, match=message):
        labels.lookup("manifest", spark.createDataFrame([row], columns), None)


def test_nih_lists_tell_labels_and_the_test(tables: Tables, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = "Image Index,Finding Labels,Patient ID\n" + "".join(
        f"0000000{n}_000.png,{finding},{n}\n"
        for n, finding in enumerate(("No Finding", "Infiltration|Pneumonia", "Mass", "No Finding"))
    )
    lists = {"Data_Entry_2017.csv": table.encode(), "test_list.txt": b"00000001_000.png\n"}
    pictures = {f"images_00{n}/images/0000000{n}_000.png": png(n) for n in range(3)}
    summary = tables.ingest(write(tmp_path / "s", lists | pictures))
    found = [by_name(tables.images)[f"0000000{n}_000.png"] for n in range(3)]
    assert [row["label"] for row in found] == ["normal", "pneumonia", "other"]
    assert [row["patient_id"] for row in found] == ["nih-0", "nih-1", "nih-2"]
    assert [row["split"] == "test" for row in found] == [False, True, False]
    assert (summary["files"], summary["labels_without_file"], summary["quarantined"]) == (3, 1, 0)
    assert f"do their names agree? See file://{tables.quarantine}/_unmatched" in caplog.text


RSNA = "patientId,x,y,width,height,Target\na,1,2,3,4,1\na,5,6,7,8,1\nb,,,,,0\nc,,,,,0\ngone,,,,,0\n"
RSNA_CLASSES = "patientId,class\na,Lung Opacity\na,Lung Opacity\nb,Normal\nc,No Lung Opacity / Not Normal\n"


@pytest.mark.parametrize(("classes", "third"), [(None, "normal"), (RSNA_CLASSES, "other")], ids=["target", "classes"])
def test_rsna_lists_tell_labels_and_count_boxes(tables: Tables, tmp_path: Path, monkeypatch, classes, third) -> None:
    monkeypatch.setenv(KEY, "secret")
    lists = {"stage_2_train_labels.csv": RSNA} | ({"stage_2_detailed_class_info.csv": classes} if classes else {})
    files = {
        f"stage_2_train_images/{name}.dcm": images.dicom(GREY // 2 + n, PatientID=name) for n, name in enumerate("abcd")
    }
    summary = tables.ingest(write(tmp_path / "s", files | {name: text.encode() for name, text in lists.items()}))
    found = by_name(tables.images)
    assert {name: row["label"] for name, row in found.items()} == {
        "a.dcm": "pneumonia",
        "b.dcm": "normal",
        "c.dcm": third,
        "d.dcm": None,
    }
    assert dict(found["a.dcm"]["extra"]) == {"boxes": "2"} and found["d.dcm"]["extra"] is None
    assert (summary["images"], summary["labels_without_file"], summary["files_without_label"]) == (4, 1, 1)
    assert len(found["a.dcm"]["patient_id"]) == 64


def test_a_manifest_as_parquet_keeps_its_other_columns(tables: Tables, tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "path": ["a.png", "b.png"],
            "label": ["NORMAL", "PNEUMONIA"],
            "patient_id": [12345678.0, None],  # as pandas keeps whole numbers where one is missing
            "findings": [["Normal"], ["Edema", "Mass"]],
            "age in `years`.": [7, None],
            "view": ["PA", "AP"],
        }
    )
    source = write(tmp_path / "s", {"a.png": png(1), "b.png": png(2)})
    pyarrow.parquet.write_table(table, source / "manifest.parquet")
    assert tables.ingest(source)["images"] == 2
    found = by_name(tables.images)
    assert [dict(found[name]["extra"]) for name in ("a.png", "b.png")] == [
        {"age in `years`.": "7", "view": "PA"},
        {"view": "AP"},
    ]
    assert [found[name]["findings"] for name in ("a.png", "b.png")] == [[], ["edema", "mass"]]
    assert [found[name]["patient_id"] for name in ("a.png", "b.png")] == ["12345678", None]


def test_rows_without_a_file_and_files_without_a_row_are_listed(tables: Tables, tmp_path: Path) -> None:
    table = MANIFEST + "x/a.png,NORMAL,,,\nx/gone.png,NORMAL,,,\n"
    source = write(tmp_path / "s", {"manifest.csv": table.encode(), "x/a.png": png(1), "x/b.png": png(2)})
    tables.ingest(source)
    listed = {
        row["path"].removeprefix(f"file://{source}/"): row["found_in"] for row in rows(tables.quarantine / "_unmatched")
    }
    assert listed == {"x/gone.png": "labels", "x/b.png": "source"}
    assert rows(tables.quarantine) == []
    tables.ingest(source)  # nothing new, so no new list
    assert len(rows(tables.quarantine / "_unmatched")) == 2


ANY = ("--max-quarantined", "100")


def test_damaged_files_of_every_kind_end_as_rows_or_reasons(tables: Tables, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(KEY, "secret")
    files = dict(mutated(seed=1, count=len(KINDS) * len(originals()) * 2))
    summary = tables.ingest(write(tmp_path / "s", files), "--layout", "folders", "--max-pixels", "30000000", *ANY)
    taken = {row["path"].rpartition("/")[2] for row in rows(tables.images)}
    assert taken | reason(tables).keys() == files.keys() and not taken & reason(tables).keys()
    assert summary["images"] + summary["quarantined"] == summary["files"] == len(files)
    assert {name for name in files if "-swapped-" in name} <= taken  # the bytes tell the format, not the name
    assert len(set(summary["reasons"])) >= 5


def everything(tables: Tables) -> bytes:
    """All bytes of all files of all tables, and their names."""
    files = [file for file in tables.folder.rglob("*") if file.is_file()]
    return b"".join(str(file).encode() + file.read_bytes() for file in files)


def dicoms(folder: Path) -> Path:
    """Three images of two patients, as DICOM."""
    ids = {"1": "RAW-4711", "2": "RAW-4711", "3": "RAW-9999"}
    return write(
        folder, {f"{n}.dcm": images.dicom(GREY // 2 + int(n), PatientID=patient) for n, patient in ids.items()}
    )


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("auto", "ingest: ConfigError: --layout dicom: the files hold patient ids; set {} to a secret"),
        ("folders", "ingest: ConfigError: 3 files are named as DICOM files, and these hold patient ids: set {} to a"),
    ],
)
def test_dicom_without_a_key_is_an_error_that_names_it(
    tables: Tables, tmp_path: Path, monkeypatch, capsys, layout: str, message: str
) -> None:
    monkeypatch.delenv(KEY, raising=False)
    source = dicoms(tmp_path / "s")
    assert run("ingest", lambda: tables.ingest(source, "--layout", layout)) == 1
    said = capsys.readouterr().err
    assert message.format(KEY) in said
    assert "RAW-4711" not in said and rows(tables.images) == []


def test_dicom_patients_are_told_apart_and_their_ids_stay_out(tables: Tables, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(KEY, "secret-of-this-hospital")
    summary = tables.ingest(dicoms(tmp_path / "s"))
    patients = {name: row["patient_id"] for name, row in by_name(tables.images).items()}
    assert patients["1.dcm"] == patients["2.dcm"] != patients["3.dcm"] and len(patients["1.dcm"]) == 64
    assert (summary["images"], {row["format"] for row in rows(tables.images)}) == (3, {"DICOM"})
    for n in (1, 2, 3):
        kept, file = (by_name(tables.images)[f"{n}.dcm"]["content"], (tmp_path / f"s/{n}.dcm").read_bytes())
        assert pixels_of(kept, ImageSpec()).tobytes() == pixels_of(file, ImageSpec()).tobytes()
    stored = everything(tables)
    for secret in ("RAW-4711", "RAW-9999", images.NAME, images.BIRTH_DATE, images.ACCESSION, "secret-of-this-hospital"):
        assert secret.encode() not in stored


def test_the_dicom_file_and_the_png_of_a_patient_are_one_group(tables: Tables, tmp_path: Path, monkeypatch) -> None:
    """What comes to them as one patient's is in one split, whatever the format, and so is what comes later."""
    monkeypatch.setenv(KEY, "secret")
    names = [f"{suffix}-{n}.{suffix}" for n in range(12) for suffix in ("dcm", "png")]
    table = "path,patient_id\n" + "".join(f"{name},p{name.split('-')[1].split('.')[0]}\n" for name in names)
    files = {f"png-{n}.png": png(n) for n in range(12)}
    files |= {f"dcm-{n}.dcm": images.dicom(GREY // 2 + 100 + n, PatientID=f"p{n}") for n in range(12)}
    source = write(tmp_path / "s", {"manifest.csv": table.encode(), **files})
    tables.ingest(source, "--shares", "0.4,0.3,0.3")
    found = by_name(tables.images)
    pairs = [(found[f"dcm-{n}.dcm"], found[f"png-{n}.png"]) for n in range(12)]
    assert all((one["patient_id"], one["split"]) == (other["patient_id"], other["split"]) for one, other in pairs)
    assert len({one["split"] for one, _ in pairs}) > 1
    monkeypatch.delenv(KEY)
    later = write(tmp_path / "later", {"manifest.csv": b"path,patient_id\nc.png,p1\n", "c.png": png(99)})
    with pytest.raises(
        ConfigError, match=r"keeps patients hidden by a secret, these would be as they are: expected PN"
    ):
        tables.ingest(later)


@pytest.fixture
def real():
    def folder(name: str) -> Path:
        if not (images.DATA / name).exists():
            pytest.skip(f"no real data at {images.DATA / name} (PNEUMOSPARK_DATA names the folder)")
        return images.DATA / name

    return folder


def test_real_originals_in_class_folders(tables: Tables, real) -> None:
    source = real("originals")
    summary = tables.ingest(source)
    assert summary["files"] == len([path for path in source.rglob("*") if path.is_file()])
    assert summary["images"] == summary["files"] == sum(summary["splits"].values())
    assert {row["label"] for row in rows(tables.images)} == {"normal", "pneumonia"}
    assert all(row["patient_id"] for row in rows(tables.images))


def test_real_manifest_of_chest_xray(tables: Tables, real, tmp_path: Path) -> None:
    source = real("chest_xray")
    picked = sorted(source.glob("*/*/*.jpeg"))[::200]
    for path in picked:
        (tmp_path / "s" / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "s" / path.relative_to(source))
    shutil.copy(source / "manifest.csv", tmp_path / "s")
    summary = tables.ingest(tmp_path / "s", "--splits", "given-test")
    listed = len((source / "manifest.csv").read_text().splitlines()) - 1
    assert (summary["files"], summary["images"]) == (len(picked), len(picked)) and len(picked) > 20
    assert (summary["files_without_label"], summary["labels_without_file"]) == (0, listed - len(picked))
    for row in rows(tables.images):
        assert f"/{row['label'].upper()}/{row['patient_id']}" in row["path"]


def test_real_nih_lists(tables: Tables, real) -> None:
    source = real("nih")
    summary = tables.ingest(source)
    pictures = {path.name for path in (source / "images").iterdir()}
    with gzip.open(source / "Data_Entry_2017_v2020.csv.gz", "rt") as table:
        listed = sum(1 for _ in table) - 1
    assert (summary["files"], summary["images"]) == (len(pictures), len(pictures))
    assert (summary["files_without_label"], summary["labels_without_file"]) == (0, listed - len(pictures))
    test = set((source / "test_list.txt").read_text().split()) & pictures
    assert {name for name, row in by_name(tables.images).items() if row["split"] == "test"} == test


def test_real_dicom(tables: Tables, real, monkeypatch) -> None:
    monkeypatch.setenv(KEY, "secret")
    source = real("dicom")
    assert tables.ingest(source)["images"] == 3
    found = by_name(tables.images)
    j2k = found["pydicomdata_RG1_J2KI_chest_cr.dcm"]
    assert (j2k["photometric"], j2k["bits"], j2k["format"]) == ("MONOCHROME1", 15, "DICOM")
    stored = everything(tables)
    for path in source.iterdir():
        header = dcmread(path, stop_before_pixels=True)
        for secret in (header.get("PatientID"), str(header.get("PatientName", ""))):
            assert not secret or len(secret) < 4 or secret.encode() not in stored


def test_one_file_may_be_the_source(tables: Tables, tmp_path: Path) -> None:
    source = write(tmp_path / "s", {"NORMAL/a.png": png(1), "NORMAL/b.png": png(2)})
    assert tables.ingest(source / "NORMAL/a.png", "--layout", "folders")["files"] == 1
    assert list(by_name(tables.images)) == ["a.png"]


def test_the_same_folder_named_another_way_is_known(tables: Tables, tmp_path: Path, monkeypatch) -> None:
    source = write(tmp_path / "s", {"NORMAL/a.png": png(1)})
    monkeypatch.chdir(source)
    tables.ingest("../s/")
    assert tables.ingest(f"file://{source}")["known"] == 1
    assert [(row["label"], row["path"]) for row in rows(tables.images)] == [("normal", f"file://{source}/NORMAL/a.png")]


def test_runs_are_folders(ingested: Way) -> None:
    assert runs(ingested.tables.images) == [ingested.summaries["ingest"]["run_id"]]
