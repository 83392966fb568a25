"""Ingest against a plain loop of as many processes, on the same files in the same run, in turn; prints a table.

python tests/benchmark_ingest.py [--files 3000] [--rounds 3] --source FOLDER    (class folders)

The files are repeated under other names and with other bytes. The loop does what any script would: read, sha256, decode
with Pillow, write the columns of `images` with pyarrow. It counts nothing, quarantines nothing, locks nothing. Spark
runs in one session, warmed by one small ingest.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import sys
import time
from datetime import UTC, datetime
from io import BytesIO
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "jobs")]

ROOT = Path(__file__).parents[1]
CORES = 2
ROW_GROUP = 24 * 2**20


def repeat(source: Path, folder: Path, count: int) -> Path:
    """`count` files of other names and other bytes: JPEG decoders pass over what follows the picture."""
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg", ".png"))
    if not found:
        sys.exit(f"--source {source}: expected JPEG or PNG files, found none")
    for number, path in enumerate(islice(cycle(found), count)):
        target = folder / path.parent.name / f"person{number}_bacteria_{number}{path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        # another length, too: ingest reads files of one length and several patients twice, to find equal ones
        target.write_bytes(path.read_bytes() + number.to_bytes(8, "big") + bytes(number // len(found)))
    return folder


def row(path: Path, run_id: str) -> dict[str, object]:
    content, stat = path.read_bytes(), path.stat()
    image = Image.open(BytesIO(content))
    image.load()
    label = path.parent.name.lower()
    return {
        "image_id": hashlib.sha256(content).hexdigest(),
        "path": f"file://{path}",
        "source": str(path.parent.parent),
        "format": image.format,
        "width": image.width,
        "height": image.height,
        "bits": 8,
        "photometric": image.mode,
        "patient_id": path.name.partition("_")[0],
        "label": label,
        "findings": [],
        "split": "train",
        "content": content,
        "length": stat.st_size,
        "modified_at": datetime.fromtimestamp(stat.st_mtime, UTC),
        "ingest_id": run_id,
        "replaces": None,
    }


SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("image_id", "path", "source", "format")]
    + [(name, pa.int32()) for name in ("width", "height", "bits")]
    + [(name, pa.string()) for name in ("photometric", "patient_id", "label")]
    + [("findings", pa.list_(pa.string())), ("split", pa.string()), ("content", pa.binary()), ("length", pa.int64())]
    + [("modified_at", pa.timestamp("us", "UTC")), ("ingest_id", pa.string()), ("replaces", pa.string())]
)


def plain_process(job: tuple[list[Path], Path]) -> int:
    paths, target = job
    with pq.ParquetWriter(target, SCHEMA, compression="none", use_dictionary=False) as writer:
        pending: list[dict[str, object]] = []
        size = 0
        for path in paths:
            pending.append(row(path, "loop"))
            size += pending[-1]["length"]
            if size >= ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(pending, SCHEMA))
                pending, size = [], 0
        if pending:
            writer.write_table(pa.Table.from_pylist(pending, SCHEMA))
    return len(paths)


def plain_loop(folder: Path, out: Path) -> float:
    """Seconds of the loop; spawned processes, since this one has Spark's threads, and started before the clock."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    out.mkdir()
    with get_context("spawn").Pool(CORES) as pool:
        pool.map(abs, range(4 * CORES))
        started = time.monotonic()
        done = sum(
            pool.map(plain_process, [(paths[n::CORES], out / f"{n}.parquet") for n in range(CORES)], chunksize=1)
        )
        seconds = time.monotonic() - started
    assert done == len(paths)
    return seconds


def ingest(folder: Path, out: Path) -> tuple[float, dict[str, object]]:
    import ingest as job

    started = time.monotonic()
    counts = job.main(["--source", str(folder), "--images", f"{out}/images", "--quarantine", f"{out}/quarantine"])
    return time.monotonic() - started, counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    data = Path(os.environ.get("PNEUMOSPARK_DATA") or ROOT.parent / "shared" / "data")
    parser.add_argument("--source", type=Path, default=data / "originals")
    given = parser.parse_args()
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ["PYSPARK_SUBMIT_ARGS"] = (
        f"--master local[{CORES}] --driver-memory 4g --conf spark.ui.enabled=false "
        "--conf spark.ui.showConsoleProgress=false pyspark-shell"
    )
    from pneumospark.io.session import session

    rates: dict[str, list[float]] = {"loop": [], "ingest": []}
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = repeat(given.source, folder / "files", given.files)
        size = sum(path.stat().st_size for path in files.rglob("*.*"))
        print(f"{given.files} files of {size / given.files / 1000:.0f} kB on average; load {os.getloadavg()}")
        session("benchmark")
        ingest(repeat(given.source, folder / "warm", 8), folder / "warm-tables")
        for number in range(given.rounds):
            for way in ("loop", "ingest"):
                out = folder / f"{way}{number}"
                seconds = plain_loop(files, out) if way == "loop" else ingest(files, out)[0]
                rates[way].append(given.files / seconds)
                load = os.getloadavg()[0]
                print(f"round {number + 1}  {way:7} {seconds:7.1f} s  {rates[way][-1]:7.1f} images/s  load {load:.1f}")
                shutil.rmtree(out)
    loop, ours = (statistics.median(rates[way]) for way in ("loop", "ingest"))
    print(json.dumps({"loop": round(loop, 1), "ingest": round(ours, 1), "ratio": round(ours / loop, 3)}))


if __name__ == "__main__":
    main()
