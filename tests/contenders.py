"""What others would score the same files with: a plain loop, Ray Data, Daft, and the usual notebook; one a process.

python tests/contenders.py WAY FILES BUNDLE_FOLDER OUT    (FILES: a text file, a path a line; prints seconds as JSON)

Each reads, hashes, decodes and prepares a file as score does, asks the same network by OpenVINO, and writes path,
image_id and probability as Parquet. The notebook does what notebooks do: Keras in a pandas UDF, over `binaryFile`.
Ray and Daft want a pyarrow that Spark 4.0 and petastorm do not, so an environment of their own; the README's figures:

pip install 'ray[data]==2.60.0' daft==0.7.26 pyarrow==25.0.1 openvino==2026.4.1 numpy==2.4.6 pillow==13.0.0 \
    pydicom==3.0.2 pylibjpeg==2.1.0 imagecodecs==2026.3.6 fsspec==2026.9.0 s3fs==2026.9.0
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from pneumospark.io.engines import openvino_forward
from pneumospark.io.s3 import S3
from pneumospark.pixels.prepare import pixels_of
from pneumospark.spec import ImageSpec
from pneumospark.tables.ahead import READERS

CORES, BATCH = 2, 32


def contents(paths: list[str]) -> list[bytes]:
    """The bytes of files of this machine, or of S3: four at once by pyarrow's client, as our own job reads them."""
    if not paths[0].startswith("s3a://"):
        return [Path(path).read_bytes() for path in paths]
    with ThreadPoolExecutor(READERS) as readers:
        return list(readers.map(S3(use_listings_cache=False).cat_file, (path.removeprefix("s3a://") for path in paths)))


class Network:
    """Loaded once a process: paths (n,) -> image_ids (n,) and probabilities (n,)."""

    def __init__(self, folder: str) -> None:
        self.spec = ImageSpec.from_dict(json.loads((Path(folder) / "bundle.json").read_text())["spec"])
        self.forward = openvino_forward(Path(folder), 1)

    def __call__(self, contents: list[bytes]) -> tuple[list[str], list[float]]:
        pixels = np.stack([pixels_of(content, self.spec) for content in contents])
        ids = [hashlib.sha256(content).hexdigest() for content in contents]
        return ids, self.forward(pixels)[:, 0].astype(float).tolist()


def loop_process(job: tuple[list[str], str, str]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths, folder, out = job
    network, ids, probabilities = Network(folder), [], []
    for start in range(0, len(paths), BATCH):
        found, scores = network(contents(paths[start : start + BATCH]))
        ids += found
        probabilities += scores
    pq.write_table(pa.table({"path": paths, "image_id": ids, "probability": probabilities}), out)
    return len(ids)


def loop(paths: list[str], folder: str, out: Path) -> float:
    out.mkdir()
    with get_context("spawn").Pool(CORES) as pool:
        pool.map(abs, range(4 * CORES))  # the processes are there before the clock runs
        started = time.perf_counter()
        jobs = [(paths[part::CORES], folder, str(out / f"{part}.parquet")) for part in range(CORES)]
        assert sum(pool.map(loop_process, jobs, chunksize=1)) == len(paths)
        return time.perf_counter() - started


class Scored(Network):
    """The network as Ray Data and Daft call it: a batch of columns."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        ids, probabilities = super().__call__(contents(list(batch["path"])))
        return {"path": batch["path"], "image_id": ids, "probability": probabilities}


def ray(paths: list[str], folder: str, out: Path) -> float:
    # One actor a core, paths through Ray and bytes read in the actor: faster here than read_binary_files.
    import ray as r

    r.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False, logging_level="error")
    r.data.DataContext.get_current().enable_progress_bars = False
    started = time.perf_counter()
    rows = r.data.from_items([{"path": path} for path in paths], override_num_blocks=4 * CORES)
    actors = r.data.ActorPoolStrategy(size=CORES)
    scored = rows.map_batches(Scored, fn_constructor_args=(folder,), batch_size=BATCH, compute=actors, num_cpus=1)
    scored.write_parquet(str(out))
    return time.perf_counter() - started


def daft(paths: list[str], folder: str, out: Path) -> float:
    import daft as d

    @d.cls(max_concurrency=CORES, use_process=True)
    class Model:
        def __init__(self) -> None:
            self.network = Network(folder)

        @d.method.batch(
            return_dtype=d.DataType.struct({"image_id": d.DataType.string(), "probability": d.DataType.float64()}),
            batch_size=BATCH,
        )
        def score(self, files: d.Series) -> list[dict[str, Any]]:
            ids, probabilities = self.network(contents(files.to_pylist()))
            return [{"image_id": i, "probability": p} for i, p in zip(ids, probabilities, strict=True)]

    model = Model()
    started = time.perf_counter()
    rows = d.from_pydict({"path": paths})
    scored = rows.with_column("scored", model.score(d.col("path")))
    columns = [d.col("path"), d.col("scored")["image_id"], d.col("scored")["probability"]]
    scored.select(*columns).write_parquet(str(out))
    return time.perf_counter() - started


def notebook(paths: list[str], folder: str, out: Path) -> float:
    # The pattern of Databricks' and TensorFlow's own tutorials: binaryFile, a pandas UDF of series, model.predict.
    import pandas as pd
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import col, pandas_udf

    spark = SparkSession.builder.master(f"local[{CORES}]").config("spark.driver.memory", "4g").getOrCreate()
    spec = ImageSpec.from_dict(json.loads((Path(folder) / "bundle.json").read_text())["spec"])

    @pandas_udf("double")  # type: ignore[call-overload]
    def score(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        import keras

        model = keras.models.load_model(f"{folder}/model.keras", compile=False)
        for contents in batches:
            pixels = np.stack([pixels_of(content, spec) for content in contents])
            yield pd.Series(model.predict(pixels, verbose=0)[:, 0].astype(float))

    started = time.perf_counter()
    root = os.path.commonpath(paths)
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(root)
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", BATCH)
    files.select("path", score(col("content")).alias("probability")).write.parquet(str(out))
    return time.perf_counter() - started


WAYS = {"loop": loop, "ray": ray, "daft": daft, "notebook": notebook}

if __name__ == "__main__":
    _, way, files, bundle, target = sys.argv
    listed = Path(files).read_text().splitlines()
    print(json.dumps({"seconds": WAYS[way](listed, bundle, Path(target))}))
