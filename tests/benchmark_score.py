"""Scoring against what others would use, with the same decoder, network and engine, in turn; prints a table.

python tests/benchmark_score.py --bundle FOLDER --source FOLDER [--files 3000] [--rounds 3] \\
    [--ways score,images,loop,...] [--python OTHER_ENVIRONMENT/bin/python] [--s3]

`score` is our job from files, `images` from the table that ingest made of them, `prepared` from the pixels of extract.
The bundle must have a form for OpenVINO, which all but the notebook use. Ray Data and Daft run in an environment of
their own (see tests/contenders.py); without --python they are left out. With --s3 the files lie on an S3 server of
their own, on this machine, and only the ways that read files take part. Seconds count from where each is ready for
work: our session and the notebook's are up, the loop's processes are there, Ray is started. Loading the network counts.
Our session's Java has the option of conf/pneumospark-score.service.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "jobs"), str(ROOT / "tests")]

import servers  # noqa: E402
from benchmark_ingest import CORES, repeat  # noqa: E402

APART = ("ray", "daft")
BUCKET = "xray"
ON_S3 = ("score", "loop", *APART)
OURS = ("score", "images", "prepared")
WAYS = (*OURS, "loop", *APART, "notebook")


def ours(way: str, source: str, folder: Path, bundle: Path, out: Path) -> float:
    import score as job

    places = {"source": source, "images": f"{folder}/images", "prepared": f"{folder}/prepared"}
    names = {"score": ("source",), "images": ("images",), "prepared": ("images", "prepared")}[way]
    given = [part for name in names for part in (f"--{name}", places[name])]
    given += ["--predictions", f"{out}/predictions", "--quarantine", f"{out}/quarantine"]
    started = time.perf_counter()
    counts = job.main([*given, "--bundle", str(bundle), "--engine", "openvino", "--drift", "report"])
    taken = time.perf_counter() - started
    print(f"    {json.dumps(counts)}", file=sys.stderr)
    return taken


def make_tables(folder: Path, bundle: Path) -> None:
    """`images` and `prepared` of the files, the pixels as the bundle wants them."""
    import extract
    import ingest

    spec = json.loads((bundle / "bundle.json").read_text())["spec"]
    ingest.main(["--source", f"{folder}/files", "--images", f"{folder}/images", "--quarantine", f"{folder}/quarantine"])
    size = [f"--set=image.{side}={spec[side]}" for side in ("height", "width")]
    extract.main(["--images", f"{folder}/images", "--prepared", f"{folder}/prepared", *size])


def uploaded(files: Path, server: servers.S3) -> str:
    """The files on an S3 server: the folder there."""
    store, folder = server.store(), f"s3a://{BUCKET}/files"
    with ThreadPoolExecutor(8) as threads:
        paths = [path for path in files.rglob("*") if path.is_file()]
        list(threads.map(lambda path: store.put(f"{folder}/{path.relative_to(files)}", path.read_bytes()), paths))
    return folder


def other(way: str, python: str, paths: Path, bundle: Path, out: Path) -> float:
    command = [python, ROOT / "tests" / "contenders.py", way, paths, bundle, out]
    env = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    env.pop("PYSPARK_SUBMIT_ARGS", None)
    done = subprocess.run([str(p) for p in command], env=env, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", type=lambda text: text.split(","), default=list(WAYS))
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--python", help="of an environment with Ray and Daft")
    data = Path(os.environ.get("PNEUMOSPARK_DATA") or ROOT.parent / "shared" / "data")
    parser.add_argument("--source", type=Path, default=data / "originals")
    parser.add_argument("--s3", action="store_true", help="the files lie on an S3 server")
    given = parser.parse_args()
    ways = [way for way in given.ways if (given.python or way not in APART) and (way in ON_S3 or not given.s3)]
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ["PYSPARK_SUBMIT_ARGS"] = (
        f"--master local[{CORES}] --driver-memory 4g --driver-java-options -XX:TieredStopAtLevel=1 "
        "--conf spark.ui.enabled=false --conf spark.ui.showConsoleProgress=false pyspark-shell"
    )
    from pneumospark.io.session import session

    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        files, paths = repeat(given.source, folder / "files", given.files), folder / "paths.txt"
        source = str(files)
        if given.s3:
            server = running.enter_context(servers.s3_server(folder, BUCKET))
            os.environ |= server.environment()
            source = uploaded(files, server)
        names = sorted(str(path.relative_to(files)) for path in files.rglob("*.*"))
        paths.write_text("\n".join(f"{source}/{name}" for name in names))
        started = time.perf_counter()
        session("benchmark")
        print(f"{given.files} files, load {os.getloadavg()}, our session in {time.perf_counter() - started:.1f} s")
        if {"images", "prepared"}.intersection(ways):
            make_tables(folder, given.bundle)
        for number in range(given.rounds):
            for way in ways:
                out = folder / f"{way}{number}"
                if way in OURS:
                    seconds[way].append(ours(way, source, folder, given.bundle, out))
                else:
                    python = str(given.python) if way in APART else sys.executable
                    seconds[way].append(other(way, python, paths, given.bundle, out))
                print(
                    f"round {number + 1}  {way:9} {seconds[way][-1]:7.1f} s  "
                    f"{given.files / seconds[way][-1]:7.1f} images/s  load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
                shutil.rmtree(out)
    rates = {way: round(given.files / statistics.median(taken), 1) for way, taken in seconds.items()}
    ratios = {way: round(rates["score"] / rate, 3) for way, rate in rates.items() if "score" in rates}
    print(json.dumps({"images_per_second": rates, "score_to": ratios}))


if __name__ == "__main__":
    main()
