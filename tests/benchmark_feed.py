"""The feed against plain pyarrow, on the same files in turn: images/s, memory by epoch, and what a training step waits.

python tests/benchmark_feed.py --prepared /t/prepared [--rounds 3] [--epochs 10] [--network residual] [--steps 40]

Each figure comes from a process of its own, started anew for each round. Plain pyarrow reads the row groups of the
split one after the other, the feed's own columns, and touches each image once; it checks nothing, shuffles nothing and
makes no tensors.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1])]

COLUMNS = ["image_id", "label", "spec", "pixels"]
BATCH = 32


def memory(name: str = "VmRSS") -> float:
    """MB of this process now, or at its peak (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) / 1000


def plain(given: argparse.Namespace) -> Iterator[int]:
    """Images of each pass of a loop over the files' row groups."""
    import pyarrow.parquet as pq

    files = sorted(Path(given.prepared).glob("run_id=*/split=train/*.parquet"))
    while True:
        images = 0
        for file in map(pq.ParquetFile, files):
            for group in range(file.num_row_groups):
                pixels = file.read_row_group(group, columns=COLUMNS)["pixels"]
                images += sum(1 for chunk in pixels.chunks for image in chunk if image.as_buffer()[0] >= 0)
        yield images


def feed_of(given: argparse.Namespace) -> tuple[Any, Any]:
    """The feed and its batches, as jobs/train.py sets them up."""
    from pneumospark.io import backbones
    from pneumospark.io.dataset import Feed
    from pneumospark.io.files import Store, canonical
    from pneumospark.io.stock import take_stock

    store, uri = Store(), canonical(given.prepared)
    stock = take_stock(uri, "pixels", store)
    feed = Feed(stock, "train", backbones.read_spec(uri, stock.version, store).shape, store, 0)
    return feed, feed.batches(BATCH, shuffle_rows=2048)


def fed(given: argparse.Namespace) -> Iterator[int]:
    """Images of each pass of the feed, as the tensors that a training takes."""
    feed, batches = feed_of(given)
    while True:
        yield sum(int(y.shape[0]) for _, y in batches)
        feed.audit()


def passes(ways: Callable[[argparse.Namespace], Iterator[int]], given: argparse.Namespace) -> dict[str, Any]:
    """images/s of all passes but the first, which fills the page cache; memory after each, and at most."""
    found = ways(given)
    next(found)
    resident, started, images = [memory()], time.monotonic(), 0
    for _ in range(given.epochs - 1):
        images += next(found)
        resident.append(memory())
    rate = images / (time.monotonic() - started)
    return {"rate": rate, "resident": [round(value) for value in resident], "peak": round(memory("VmHWM"))}


def waiting(given: argparse.Namespace) -> dict[str, Any]:
    """The share of a training's time that it waits for its next batch, after a first step that compiles it."""
    import keras

    from pneumospark.learn.cnn import NETWORKS

    feed, batches = feed_of(given)
    model = NETWORKS[given.network](feed.shape)
    model.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy")
    source, waited, worked = chain.from_iterable(repeat(batches)), 0.0, 0.0
    for number in range(given.steps + 3):
        started = time.monotonic()
        x, y = next(source)
        ready = time.monotonic()
        model.train_on_batch(x, y)
        if number >= 3:
            waited, worked = waited + ready - started, worked + time.monotonic() - ready
    return {"waiting": waited / (waited + worked), "step": worked / given.steps}


WAYS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "pyarrow": lambda given: passes(plain, given),
    "feed": lambda given: passes(fed, given),
    "step": waiting,
}


def apart(way: str) -> dict[str, Any]:
    """What a way says in a process of its own."""
    command = [sys.executable, "-W", "ignore::FutureWarning", __file__, *sys.argv[1:], "--only", way]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prepared", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--network", default="residual")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if given.only:
        print(json.dumps(WAYS[given.only](given)))
        return
    rounds: dict[str, list[dict[str, Any]]] = {"pyarrow": [], "feed": []}
    for number in range(given.rounds):
        for way, said in rounds.items():
            said.append(apart(way))
            print(f"round {number + 1}  {way:8} {said[-1]['rate']:8.0f} images/s  MB by epoch {said[-1]['resident']}")
    rate = {way: statistics.median(each["rate"] for each in said) for way, said in rounds.items()}
    ratios = [ours["rate"] / theirs["rate"] for ours, theirs in zip(rounds["feed"], rounds["pyarrow"], strict=True)]
    step = apart("step")
    summary = {
        **{way: round(value) for way, value in rate.items()},
        "ratio": round(statistics.median(ratios), 3),
        "peak": {way: max(each["peak"] for each in said) for way, said in rounds.items()},
        "grown": max(each["resident"][-1] - each["resident"][1] for each in rounds["feed"]),
        "waiting": round(step["waiting"], 4),
        "step": round(step["step"], 3),
        "network": given.network,
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
