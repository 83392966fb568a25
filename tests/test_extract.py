"""Extract: each distinct image once as pixels and as features, new ones only, and never a patient in two splits."""

import hashlib
from pathlib import Path

import images
import numpy as np
import pyarrow.parquet
import pytest
from conftest import SIDE, Tables, Way, content, rows, runs, write

from pneumospark.errors import BundleError, ConfigError, LeakError, TableError
from pneumospark.pixels.prepare import pixels_of
from pneumospark.spec import ImageSpec
from pneumospark.tables.prepared import _pixels

pytestmark = pytest.mark.spark

GREY = images.ramp(48, 48)
TRAIN = ("--shares", "1,0,0")


def png(number: int) -> bytes:
    return images.png(GREY // 2 + number)


def test_the_pixels_are_those_of_the_file(ingested: Way) -> None:
    spec = ImageSpec(height=SIDE, width=SIDE)
    files = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in ingested.corpus.rglob("*.*")}
    prepared = rows(ingested.tables.prepared)
    assert len(prepared) == len({row["image_id"] for row in prepared}) == 32
    for row in prepared:
        pixels = pixels_of(files[row["image_id"]].read_bytes(), spec)
        assert row["pixels"] == pixels.tobytes() and row["spec"] == spec.fingerprint()


def test_label_patient_and_split_are_those_of_the_image(ingested: Way) -> None:
    keys = ("image_id", "patient_id", "label", "split")
    known = {tuple(row[key] for key in keys) for row in rows(ingested.tables.images)}
    assert {tuple(row[key] for key in keys) for row in rows(ingested.tables.prepared)} == known


def test_equal_bytes_count_once_and_two_labels_not_at_all(tables: Tables, tmp_path: Path) -> None:
    twice = {"NORMAL/b.png": png(1), "NORMAL/a.png": png(1), "loose.png": png(1)}
    torn = {"NORMAL/c.png": png(2), "PNEUMONIA/c.png": png(2)}
    source = write(tmp_path / "s", {**twice, **torn, "PNEUMONIA/d.png": png(3)})
    tables.ingest(source, *TRAIN)
    summary = tables.extract()
    counted = {name: summary[name] for name in ("rows", "wanted", "duplicate", "conflict", "images")}
    assert counted == {"rows": 6, "wanted": 2, "duplicate": 2, "conflict": 2, "images": 2}
    assert {(row["image_id"], row["label"]) for row in rows(tables.prepared)} == {
        (hashlib.sha256(png(1)).hexdigest(), "normal"),
        (hashlib.sha256(png(3)).hexdigest(), "pneumonia"),
    }


def test_what_a_larger_limit_let_into_images_is_prepared() -> None:
    flat = images.png(np.full((10_100, 10_000), 200, np.uint8), compress_level=1)
    assert set(_pixels("a.png", flat, ImageSpec(8, 8))) == {200}


def spoil(table: Path, run_id: str, column: str) -> None:
    """Overwrite a column's bytes in a run's files: whoever reads it fails, or sees something else."""
    for file in (table / f"run_id={run_id}").rglob("part-*.parquet"):
        file.with_name(f".{file.name}.crc").unlink()  # Hadoop's checksum would fail for the neighbours too
        metadata, data = pyarrow.parquet.ParquetFile(file).metadata, bytearray(file.read_bytes())
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == column)
            end = chunk.data_page_offset + chunk.total_compressed_size
            data[chunk.data_page_offset : end] = b"\xff" * chunk.total_compressed_size
        file.write_bytes(data)


def test_only_new_images_are_prepared_and_only_their_runs_are_read(tables: Tables, tmp_path: Path) -> None:
    source = write(tmp_path / "s", {f"NORMAL/{n}.png": png(n) for n in range(3)})
    first = tables.ingest(source, *TRAIN)["run_id"]
    tables.extract()
    before = content(tables.prepared)
    spoil(tables.images, first, "content")

    again = tables.extract()
    assert (again["known"], again["wanted"], again["images"]) == (3, 0, 0)
    assert content(tables.prepared) == before and len(runs(tables.prepared)) == 1

    tables.ingest(write(source, {"NORMAL/new.png": png(7), "NORMAL/old.png": png(1)}), *TRAIN)
    more = tables.extract()
    assert (more["known"], more["duplicate"], more["images"]) == (3, 1, 1)
    (added,) = (content(tables.prepared) - before).elements()
    assert added and not before - content(tables.prepared)

    with pytest.raises(Exception, match=r"content|Parquet|PARQUET|page|DecodeError"):
        tables.extract("--set", "image.fit=pad")  # the spoiled run is really unreadable


def test_another_spec_is_more_rows_in_the_same_table(tables: Tables, tmp_path: Path) -> None:
    tables.ingest(write(tmp_path / "s", {"NORMAL/a.png": png(1)}), *TRAIN)
    one, two = tables.extract()["spec"], tables.extract("--set", "image.channels=3")["spec"]
    assert {row["spec"]: len(row["pixels"]) for row in rows(tables.prepared)} == {one: SIDE**2, two: 3 * SIDE**2}


def test_an_image_that_is_in_two_given_splits_is_a_leak(tables: Tables, tmp_path: Path) -> None:
    source = write(tmp_path / "s", {"train/NORMAL/a.png": png(1), "test/NORMAL/b.png": png(1)})
    with pytest.raises(LeakError, match=r"1 values of image_id are in more than one split, .* in test and train"):
        tables.ingest(source)
        tables.extract()


def test_a_patient_in_two_splits_is_a_leak(tables: Tables, tmp_path: Path) -> None:
    """Two corpora of the same patients, given as train and as test: each is clean, the table of both is not."""
    names = [f"NORMAL/synthetic{n:04d}-{{}}.png" for n in range(3)]
    tables.ingest(write(tmp_path / "one", {f"train/{name.format(1)}": png(n) for n, name in enumerate(names)}))
    with pytest.raises(LeakError, match=r"images: 3 values of patient_id are in more than one split"):
        tables.ingest(write(tmp_path / "two", {f"test/{name.format(2)}": png(n + 20) for n, name in enumerate(names)}))
    with pytest.raises(LeakError, match=r"prepared: 3 values of patient_id are in more than one split, 'synthetic"):
        tables.extract()


def test_a_bad_job_says_what_it_expected(tables: Tables, ingested: Way) -> None:
    with pytest.raises(ConfigError, match="--features and --backbone belong together"):
        tables.extract("--backbone", "x")
    with pytest.raises(TableError, match="/images: expected a Parquet table, found none"):
        tables.extract()
    with pytest.raises(TableError, match=r"prepared: expected a column 'path' \(string\), found \['image_id'"):
        tables.extract("--images", ingested.tables.prepared)


def features(table: Path) -> dict[str, np.ndarray]:
    return {row["image_id"]: np.array(row["features"], np.float32) for row in rows(table)}


@pytest.mark.tensorflow
def test_features_are_what_the_bundle_says_before_its_last_layer(way: Way) -> None:
    import keras

    model = keras.models.load_model(way.tables.bundle / "model.keras", compile=False)
    inner = keras.Model(model.input, model.layers[-1].input)
    found, prepared = features(way.tables.features), rows(way.tables.prepared)
    pixels = np.stack([np.frombuffer(row["pixels"], np.uint8).reshape(SIDE, SIDE, 1) for row in prepared])
    expected = dict(zip([row["image_id"] for row in prepared], np.asarray(inner(pixels)), strict=True))
    assert found.keys() == expected.keys() and way.summaries["features"]["features"] == len(found) == 32
    for image_id, values in found.items():
        np.testing.assert_allclose(values, expected[image_id], rtol=1e-4, atol=1e-4)


@pytest.mark.tensorflow
def test_features_that_are_there_are_not_made_again(way: Way) -> None:
    again = way.tables.extract("--features", way.tables.features, "--backbone", way.tables.bundle)
    assert again["features"] == 0 and again["backbone"] == way.summaries["features"]["backbone"]
    assert runs(way.tables.features) == [way.summaries["features"]["run_id"]]


@pytest.mark.tensorflow
def test_a_backbone_of_another_size_is_refused(tables: Tables, way: Way) -> None:
    more = ("--images", way.tables.images, "--features", tables.features, "--backbone", way.tables.bundle)
    with pytest.raises(ConfigError, match=r"expects images of \(48, 48, 1\), the prepared ones are \(40, 48, 1\)"):
        tables.extract(*more, "--set", "image.height=40")


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ("/nowhere/x.keras", "expected a .keras file or a bundle"),
        ("Nonsense", "or a Keras application: ConvNeXt"),
    ],
)
def test_an_unknown_backbone_is_refused(ingested: Way, tables: Tables, backbone: str, message: str) -> None:
    with pytest.raises(BundleError, match=f"--backbone {backbone}: expected a .keras file.*{message[-12:]}"):
        ingested.tables.extract("--features", tables.features, "--backbone", backbone)


@pytest.mark.tensorflow
@pytest.mark.parametrize("weights", ["squeezenet11_imagenet_notop", "efficientnet_lite0_imagenet_notop"])
def test_features_of_a_real_backbone(tables: Tables, tmp_path: Path, weights: str) -> None:
    import keras

    backbone = images.DATA / "weights" / f"{weights}.keras"
    if not backbone.exists():
        pytest.skip(f"no weights at {backbone} (PNEUMOSPARK_DATA names the folder of data)")
    pictures = {f"NORMAL/{n}.png": images.png(images.ramp(224, 224) // (n + 1)) for n in range(2)}
    tables.ingest(write(tmp_path / "s", pictures), *TRAIN)
    size = ("--set", "image.height=224", "--set", "image.width=224")
    summary = tables.extract(*size, "--features", tables.features, "--backbone", backbone)
    assert summary["features"] == 2
    model, spec = keras.models.load_model(backbone, compile=False), ImageSpec(224, 224, 3)
    for image_id, values in features(tables.features).items():
        data = next(data for data in pictures.values() if hashlib.sha256(data).hexdigest() == image_id)
        maps = np.asarray(model(pixels_of(data, spec)[None].astype(np.float32)))
        np.testing.assert_allclose(values, maps.mean(axis=(1, 2))[0], rtol=1e-3, atol=1e-3)
