"""What every job does alike: one line of JSON at its end, exit codes, and errors as one line for a person."""

import json
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
from pneumospark.errors import DriftError, FoundError, PneumosparkError, QuarantineError
from pneumospark.io import logs

log = logs.log
Counts = dict[str, Any]
FEW = 10
BUG = 70
"""EX_SOFTWARE of sysexits.h: to try again may help, to change the command will not."""


def run(job: str, main: Callable[[], Counts]) -> int:
    """Run a job and print its summary; the exit code: 0, that of a PneumosparkError, or BUG for anything else."""
    logs.start(job, sys.argv[1:])
    os.environ.setdefault(
        "TF_CPP_MIN_LOG_LEVEL", "3"
    )  # TensorFlow comes later, and has much to say of GPUs that are not there
    # Petastorm 0.12.1 uses parts of pyarrow that are gone from 15 on: that is why 14 is pinned, and no news to a user.
    warnings.filterwarnings("ignore", category=FutureWarning, module="petastorm")
    try:
        print_summary(job, main)
    except PneumosparkError as error:
        logs.complain(job, type(error).__name__, str(error), error.exit_code)
        return error.exit_code
    except Exception as error:  # so that a scheduler can tell it from what its user can mend
        if isinstance(error, PythonException) and (found := raised_on_executor(str(error))):
            logs.complain(job, *found, PneumosparkError.exit_code)
            return PneumosparkError.exit_code
        log.exception("%s: this is a bug, or Spark gave up", job)
        return BUG
    return 0


def print_summary(job: str, main: Callable[[], Counts]) -> Counts:
    """Run `main` and print one line of JSON: job, counts, seconds and, where `images` is known, its rate."""
    started = time.monotonic()
    try:
        counts, error = main(), None
    except FoundError as found:  # the run is done and all is written: its counts are due
        counts, error = dict(found.counts), found
    seconds = time.monotonic() - started
    rate = {"images_per_second": round(counts["images"] / seconds, 1)} if counts.get("images") else {}
    summary = {"job": job, **counts, "seconds": round(seconds, 1), **rate}
    print(json.dumps(summary), flush=True)
    if error:
        raise error
    return summary


def check_quarantined(counts: Counts, percent: float) -> Counts:
    """The counts; raises QuarantineError where more than `percent` of the files that a run looked at were refused.

    Fewer than FEW refusals never do: one bad file of three says nothing of the corpus. A leak is no bad file, and one
    that was refused `again` is no news. What a run before looked at that could not say so, `unsaid`, counts here.
    """
    unsaid, again = counts.get("unsaid", {"images": 0, "quarantined": 0}), counts.get("again", 0)
    looked_at = counts["files"] - counts["known"] - counts.get("older", 0) - counts.get("later", 0)
    looked_at += unsaid["images"] + unsaid["quarantined"] - again
    refused = counts["quarantined"] + unsaid["quarantined"] - counts["reasons"].get("leak", 0) - again
    if refused >= FEW and refused > looked_at * percent / 100:
        raise QuarantineError(
            f"{refused} of {looked_at} new files are in quarantine, more than {percent:g} %: {counts['reasons']}; all "
            "rows are written. Is it the right source? --max-quarantined 100 lets it pass",
            counts,
        )
    return counts


def check_drift(counts: Counts) -> Counts:
    """The counts; raises DriftError where a figure of a run's images or probabilities has drifted."""
    if names := counts["drift"]["drifted"]:
        figures = counts["drift"]["figures"]
        most = max(names, key=lambda name: figures[name]["psi"])
        raise DriftError(
            f"{counts['drift']['images']} images are unlike those that model {counts['model_id']} was validated on: "
            f"{', '.join(names)} (most of all {most}: PSI {figures[most]['psi']:.2f}); all rows are written. Another "
            "machine, protocol or group of patients? --drift report lets it pass",
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


def raised_on_executor(text: str) -> tuple[str, str] | None:
    """Name and message of an error of ours in an executor's traceback, without the frames around it."""
    lines = [line for line in text.splitlines() if line.startswith("pneumospark.errors.")]
    if not lines:
        return None
    name, _, message = lines[-1].removeprefix("pneumospark.errors.").partition(": ")
    return name, message
