"""What every job does alike: one line of JSON at its end, exit codes, and errors as one line for a person."""

import json
import logging
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from pyspark.errors import PythonException

from pneumospark import __version__
from pneumospark.errors import PneumosparkError, QuarantineError

log = logging.getLogger("pneumospark")
Counts = dict[str, Any]
FEW = 10


def run(job: str, main: Callable[[], Counts]) -> int:
    """Run a job and print its summary; 0, or 1 after the message of a PneumosparkError. Anything else is a bug."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    log.setLevel(logging.INFO)
    os.environ.setdefault(
        "TF_CPP_MIN_LOG_LEVEL", "3"
    )  # TensorFlow comes later, and has much to say of GPUs that are not there
    # Petastorm 0.12.1 uses parts of pyarrow that are gone from 15 on: that is why 14 is pinned, and no news to a user.
    warnings.filterwarnings("ignore", category=FutureWarning, module="petastorm")
    try:
        print_summary(job, main)
    except PneumosparkError as error:
        print(f"{job}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except PythonException as error:
        if (message := raised_on_executor(str(error))) is None:
            raise
        print(f"{job}: {message}", file=sys.stderr)
        return 1
    return 0


def print_summary(job: str, main: Callable[[], Counts]) -> Counts:
    """Run `main` and print one line of JSON: job, counts, seconds and, where `images` is known, its rate."""
    started = time.monotonic()
    try:
        counts, error = main(), None
    except QuarantineError as refused:  # the run is done and all is written: its counts are due
        counts, error = dict(refused.counts), refused
    seconds = time.monotonic() - started
    rate = {"images_per_second": round(counts["images"] / seconds, 1)} if counts.get("images") else {}
    summary = {"job": job, **counts, "seconds": round(seconds, 1), **rate}
    print(json.dumps(summary), flush=True)
    if error:
        raise error
    return summary


def check_quarantined(counts: Counts, percent: float) -> Counts:
    """The counts; raises QuarantineError where more than `percent` of the files that a run looked at were refused.

    Fewer than FEW refusals never do: one bad file of three says nothing of the corpus.
    """
    looked_at, refused = counts["files"] - counts["known"], counts["quarantined"]
    if refused >= FEW and refused > looked_at * percent / 100:
        raise QuarantineError(
            f"{refused} of {looked_at} new files are in quarantine, more than {percent:g} %: {counts['reasons']}; all "
            "rows are written. Is it the right source? --max-quarantined 100 lets it pass",
            counts,
        )
    return counts


def versions(*packages: str) -> dict[str, str]:
    """Versions of this package, of Python, and of the packages that a result depends on."""
    return {
        "pneumospark": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def raised_on_executor(text: str) -> str | None:
    """The last line of an executor's traceback where it is an error of ours, without the frames around it."""
    lines = [line for line in text.splitlines() if line.startswith("pneumospark.errors.")]
    return lines[-1].removeprefix("pneumospark.errors.") if lines else None
