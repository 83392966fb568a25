"""The whole way in one process, on a synthetic corpus or on a folder of one's own: what `make demo` runs.

spark-submit jobs/demo.py --out demo [--source /data/xrays]
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import evaluate
import extract
import ingest
import score
import train

from pneumospark.config import NOT_FOR_DIAGNOSIS
from pneumospark.io.run import Counts, log, print_summary, run
from pneumospark.io.session import session
from pneumospark.synthetic import write_corpus

PATIENTS = 160
SYNTHETIC = {"side": 96, "epochs": 16, "batch": 16}
OWN = {"side": 128, "epochs": 6, "batch": 32}
"""Enough for drawings in a minute; for real images a first look, not a good model."""


def main(argv: list[str] | None = None) -> Counts:
    """Run the jobs one after the other; each finds out by itself what is done already."""
    parser = argparse.ArgumentParser(
        prog="spark-submit jobs/demo.py", description=f"{__doc__.splitlines()[0]} {NOT_FOR_DIAGNOSIS}"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo"), metavar="FOLDER", help="where all results go (default: demo)"
    )
    parser.add_argument(
        "--source", type=Path, metavar="FOLDER", help="X-rays in class folders (default: a synthetic corpus)"
    )
    given = parser.parse_args(argv)
    out = given.out / f"of-{given.source.resolve().name}" if given.source else given.out
    source = given.source or out / "corpus"
    if not given.source:
        log.info("demo: synthetic corpus in %s: %s", source, write_corpus(source, PATIENTS))
    session("demo")
    size = OWN if given.source else SYNTHETIC
    spec = [f"--set=image.{name}={size['side']}" for name in ("height", "width")]
    prepared = ["--images", out / "images", "--prepared", out / "prepared", *spec]
    scored = ["--predictions", out / "predictions", "--quarantine", out / "quarantine"]
    scored += ["--drift", "report", "--drift-page", out / "runs.html"]  # a first look stops at nothing
    taken = [
        "--source",
        source,
        "--images",
        out / "images",
        "--quarantine",
        out / "quarantine",
        "--splits",
        "given-test",
        "--shares",
        "0.6,0.2,0.2",
    ]
    learnt = ["--epochs", size["epochs"], "--patience", size["epochs"], "--batch-size", size["batch"]]
    learnt += ["--learning-rate", 1e-3]  # ten times the usual: it must learn in a minute
    judged = ["--predictions", out / "predictions", "--images", out / "images"]
    steps = (
        (ingest, taken),
        (extract, prepared),
        (train, ["--prepared", out / "prepared", "--bundle", out / "bundle", *learnt]),
        (extract, [*prepared, "--features", out / "features", "--backbone", out / "bundle"]),
        (score, ["--source", source, "--bundle", out / "bundle", *scored]),
        (evaluate, [*judged, "--report", out / "report", "--bundle", out / "bundle"]),
    )
    summaries = [print_summary(job.__name__, partial(job.main, [str(arg) for arg in args])) for job, args in steps]
    log.info("%s", _found(summaries, out))
    return {"out": str(out), "files": summaries[0]["files"], "roc_auc": summaries[-1]["roc_auc"]}


def _found(summaries: list[Counts], out: Path) -> str:
    taken, _, trained, featured, scored, judged = summaries
    lines = (
        f"{out}/images, quarantine   {taken['files']} files: {sum(taken['splits'].values())} images",
        f"{out}/prepared, features   {featured['rows'] - featured['duplicate'] - featured['conflict']} distinct images",
        f"{out}/bundle               model {trained['model_id']}, {trained['rows']['train']} images to train on",
        f"{out}/predictions          {scored['files']} files: {scored['images']} scored now, {scored['known']} known",
        f"{out}/runs.html            the runs of score, and drift: {', '.join(scored['drift']['drifted']) or 'none'}",
        f"{out}/report/index.html    AUC {judged['roc_auc']:.3f}, accuracy {judged['accuracy']:.3f} "
        f"on {judged['images']} {judged['split']} images",
    )
    return "\n  ".join(["demo: done. Where to look, and what is there:", *lines, NOT_FOR_DIAGNOSIS])


if __name__ == "__main__":
    sys.exit(run("demo", main))
