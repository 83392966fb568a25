"""Nothing that names a patient gets out: every byte of every table and log is searched for what was put in."""

import logging
import re
from pathlib import Path

import images
import pyarrow.parquet
import pytest
from conftest import Tables, Way, rows, write
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from pneumospark.errors import ConfigError
from pneumospark.io.run import run

pytestmark = pytest.mark.spark

KEY = "PNEUMOSPARK_PATIENT_KEY"
SECRET = "secret of this hospital, and long"
IDENTITY = {
    "PatientName": "Zebedee^Quentin",
    "PatientBirthDate": "19490817",
    "AccessionNumber": "ACC-90210-77",
    "PatientID": "RAW-ID-31337",
    "OtherPatientIDs": "OTHER-ID-5150",
    "PatientAddress": "12 Elderflower Lane",
    "InstitutionName": "Saint Ermintrude",
    "ReferringPhysicianName": "Dougal^Florence",
    "StudyDescription": "THORAX OF ZEBEDEE",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.99.4711",
}
FOLDER, FILE = "Zebedee^Quentin 1949-08-17", "19490817_001.dcm"
"""A path as a PACS exports it; its name looks like one of NIH's, which tells a patient."""
WORDS = (
    *IDENTITY.values(),
    *("Zebedee", "Quentin", "1949-08-17", "19490817", "PRIVATE-8472", "THUMB-8472", "Ermintrude", SECRET),
)


def patient(number: int, syntax: str = "1.2.840.10008.1.2.1", frame: bytes = b"", **more: object) -> bytes:
    """A file with an identity in its tags, in a private tag, and in a sequence of its own within the picture's tags."""
    lut = Dataset()
    lut.LUTDescriptor, lut.LUTData = [256, 0, 8], bytes(range(256))
    lut["LUTData"].VR = "OW"
    lut.LUTExplanation = IDENTITY["PatientName"]
    block = Dataset().private_block(0x0099, "PRIVATE-8472 CREATOR", create=True)
    block.add_new(1, "LO", f"PRIVATE-8472 {IDENTITY['PatientName']}")
    pixels = images.ramp() // 2 + number
    tags = {**IDENTITY, "VOILUTSequence": [lut], "IconImageSequence": [Dataset()], **more}
    tags["IconImageSequence"][0].ImageComments = "THUMB-8472"
    return images.dicom(pixels, syntax, frame, private=block.dataset, **tags)


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """Good files in several compressions, files that are refused for each kind of reason, and one that is no DICOM."""
    grey = images.ramp() // 2 + 3
    j2k = images.saved(images.Image.fromarray(grey), "JPEG2000", no_jp2=True)
    name = IDENTITY["PatientName"]
    good = patient(1)
    files = {
        FILE: good,
        "plain.dcm": patient(2, PatientID=""),
        "j2k.dcm": patient(3, JPEG2000Lossless, j2k),
        "rle.dcm": patient(4, RLELossless, images.rle(images.ramp() // 2 + 4)),
        "jpeg.dcm": patient(11, JPEGBaseline8Bit, images.jpeg(grey, comment=name)),
        "behind.dcm": patient(12, PixelData=grey.tobytes() + name.encode() + b" "),
        "cut.dcm": good[:-400],
        "cut-header.dcm": good[:700],
        "ct.dcm": patient(5, Modality="CT"),
        "strange.dcm": patient(6, Modality="ZEBEDEE"),
        "burned.dcm": patient(7, BurnedInAnnotation="YES"),
        "frames.dcm": patient(8, NumberOfFrames=1949),
        "photometric.dcm": patient(9, PhotometricInterpretation="ZEBEDEE"),
        "19490817_002.png": images.png(images.ramp()),
        "note.txt": name.encode(),
    }
    return write(tmp_path / "export", {f"{FOLDER}/{file}": data for file, data in files.items()})


def found(tables: Tables, logs: str) -> dict[str, list[str]]:
    """Where each word of the identity turns up: in names and raw bytes of files, in what columns hold, in the logs."""
    hits: dict[str, list[str]] = {}
    for file in (path for path in tables.folder.rglob("*") if path.is_file()):
        raw = str(file.relative_to(tables.folder)).encode() + file.read_bytes()
        if file.suffix == ".parquet":  # what a codec would hide from a look at the raw bytes
            raw += repr(pyarrow.parquet.read_table(file).to_pylist()).encode()
        for word in WORDS:
            if re.search(re.escape(word.encode()), raw, re.IGNORECASE):
                hits.setdefault(word, []).append(file.name)
    return hits | {word: ["the log"] for word in WORDS if word.lower() in logs.lower()}


def test_no_word_of_an_identity_gets_out(tables: Tables, hospital: Path, monkeypatch, capfd, caplog) -> None:
    monkeypatch.setenv(KEY, SECRET)
    caplog.set_level(logging.INFO)
    summary = tables.ingest(hospital, "--layout", "dicom", "--paths", "hashed")
    assert (summary["files"], summary["images"], summary["quarantined"]) == (15, 7, 8)
    assert summary["reasons"]["not_a_chest_radiograph"] == 2 and summary["reasons"]["burned_in_annotation"] == 1
    assert run("ingest", lambda: tables.ingest(hospital, "--layout", "dicom", "--paths", "hashed")) == 0
    tables.extract()
    said = "".join(capfd.readouterr()) + caplog.text
    assert '"images"' in said  # else nothing was captured
    assert found(tables, said) == {}


def test_plain_paths_are_found_by_the_same_search(tables: Tables, hospital: Path, monkeypatch) -> None:
    """That the search sees what is there: with plain paths the folder's name is in both tables, and nothing else."""
    monkeypatch.setenv(KEY, SECRET)
    tables.ingest(hospital, "--layout", "dicom")
    assert set(found(tables, "")) == {"Zebedee^Quentin", "Zebedee", "Quentin", "1949-08-17", "19490817"} & set(WORDS)
    assert all(row["label"] is None for row in rows(tables.images))  # a folder may be named after a patient


def test_files_of_hidden_paths_are_known_the_second_time(tables: Tables, hospital: Path, monkeypatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    more = ("--layout", "dicom", "--paths", "hashed")
    first = tables.ingest(hospital, *more)
    write(hospital, {f"{FOLDER}/new.dcm": patient(10)})
    again = tables.ingest(hospital, *more)
    assert (again["known"], again["images"], again["quarantined"]) == (first["files"], 1, 0)
    paths = [row["path"] for table in (tables.images, tables.quarantine) for row in rows(table)]
    assert len(set(paths)) == len(paths) == first["files"] + 1
    assert all(re.fullmatch(r"hashed:[0-9a-f]{64}", path) for path in paths)


def test_a_table_keeps_paths_in_one_way(tables: Tables, hospital: Path, way: Way, monkeypatch) -> None:
    """Else a file would be two in it: the row of a changed file would never be void."""
    monkeypatch.setenv(KEY, SECRET)
    tables.ingest(hospital, "--layout", "dicom")
    with pytest.raises(ConfigError, match="images keeps paths plain, these would be hashed: see --paths"):
        tables.ingest(hospital, "--layout", "dicom", "--paths", "hashed")
    tables.score(way.corpus, way.tables.bundle, "--paths", "hashed")
    for more in (("--source", way.corpus), ("--images", way.tables.images)):
        with pytest.raises(ConfigError, match="predictions keeps paths hashed, these would be plain: see --paths"):
            tables.score_from(*more, "--bundle", way.tables.bundle)


def test_hidden_paths_go_the_whole_way(way: Way, tables: Tables, monkeypatch) -> None:
    monkeypatch.setenv(KEY, SECRET)
    bundle = way.tables.bundle
    tables.ingest(way.corpus, "--paths", "hashed")
    scored = tables.score(way.corpus, bundle, "--paths", "hashed")
    assert scored["images"] == len(rows(tables.images)) and scored["quarantined"] == 2
    again = tables.score(way.corpus, bundle, "--paths", "hashed")
    assert (again["known"], again["images"]) == (scored["files"], 0)
    assert tables.evaluate("--split", "all")["images"] == len(rows(tables.images))
    assert not any(str(way.corpus) in str(row["path"]) for row in rows(tables.predictions))


def test_the_key_may_come_from_a_file_and_must_hold_something(tables: Tables, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    source = write(tmp_path / "s", {"NORMAL/a.dcm": patient(1)})
    write(tmp_path, {"key": f"{SECRET}\n".encode(), "empty": b"\n"})
    with pytest.raises(ConfigError, match=r"--patient-key-file .*/empty: expected a secret, found an empty file"):
        tables.ingest(source, "--patient-key-file", tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"--patient-key-file .*: expected a file that this user may read"):
        tables.ingest(source, "--patient-key-file", source)
    with pytest.raises(ConfigError, match="paths = hashed: expected a secret"):
        tables.ingest(source, "--paths", "hashed")
    with pytest.raises(ConfigError, match="1 files are named as DICOM files"):
        tables.ingest(source)
    tables.ingest(source, "--patient-key-file", tmp_path / "key")
    by_file = [row["patient_id"] for row in rows(tables.images)]
    monkeypatch.setenv(KEY, SECRET)
    other = Tables(tmp_path / "other")
    other.ingest(source)
    assert [row["patient_id"] for row in rows(other.images)] == by_file and len(by_file[0]) == 64


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ((), {"cr", "plain", "chest", "knee"}),
        (("--dicom-check", "chest"), {"cr", "plain", "chest"}),
        (("--dicom-check", "none"), {"cr", "plain", "chest", "knee", "ct", "raw"}),
        (("--burned-in", "keep"), {"cr", "plain", "chest", "knee", "text"}),
    ],
    ids=["default", "chest", "none", "text"],
)
def test_what_the_header_says_of_the_subject(tables: Tables, tmp_path: Path, monkeypatch, more, kept) -> None:
    monkeypatch.setenv(KEY, SECRET)
    headers = {
        "cr": {"Modality": "CR", "BodyPartExamined": "Thorax PA"},
        "plain": {"Modality": None},
        "chest": {"Modality": "DX", "BodyPartExamined": "CHEST"},
        "knee": {"Modality": "DX", "BodyPartExamined": "KNEE"},
        "ct": {"Modality": "CT", "BodyPartExamined": "CHEST"},
        "text": {"BurnedInAnnotation": "Yes"},
        "raw": {"PresentationIntentType": "FOR PROCESSING"},
    }
    files = {
        f"{name}.dcm": images.dicom(images.ramp() // 2 + n, **tags) for n, (name, tags) in enumerate(headers.items())
    }
    tables.ingest(write(tmp_path / "s", files), *more)
    assert {Path(row["path"]).stem for row in rows(tables.images)} == kept
    reasons = {Path(row["path"]).stem: row["reason"] for row in rows(tables.quarantine)}
    known = {"text": "burned_in_annotation", "raw": "unsupported"}
    assert reasons == {name: known.get(name, "not_a_chest_radiograph") for name in headers.keys() - kept}
