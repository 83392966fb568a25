"""What jobs say while they run, on standard error: as text for people, or as one line of JSON each for programs."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from pneumospark.config import LOG_FORMATS

VARIABLE = "PNEUMOSPARK_LOG_FORMAT"
"""In the environment, it says the same to Java, which has begun to log before a job reads its flags."""

log = logging.getLogger("pneumospark")


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, job, message; of errors also `error` and `exit_code`."""

    def __init__(self, job: str) -> None:
        super().__init__()
        self._job = job

    def format(self, record: logging.LogRecord) -> str:
        """The line, without the line feed."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "job": self._job,
            "message": record.getMessage(),
        }
        said |= {name: getattr(record, name) for name in ("error", "exit_code") if hasattr(record, name)}
        return json.dumps(said | ({"traceback": self.formatException(record.exc_info)} if record.exc_info else {}))


def start(job: str, argv: Sequence[str]) -> None:
    """Send logs to standard error, in the form that `--log-format` asks for; the job itself checks its arguments."""
    handler = logging.StreamHandler(sys.stderr)
    if _asked(argv) == "json":
        handler.setFormatter(JsonLines(job))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    root = logging.getLogger()
    for ours in [other for other in root.handlers if isinstance(other.formatter, JsonLines)]:
        root.removeHandler(ours)  # of an earlier job in this process
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    if isinstance(handler.formatter, JsonLines) and handler not in root.handlers:
        root.addHandler(handler)
    log.setLevel(logging.INFO)


def complain(job: str, error: str, message: str, exit_code: int) -> None:
    """Say why a run ends: `job: error: message`, or the same as JSON."""
    if any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers):
        log.error(message, extra={"error": error, "exit_code": exit_code})
    else:
        print(f"{job}: {error}: {message}", file=sys.stderr)


def _asked(argv: Sequence[str]) -> str:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--log-format", default=os.environ.get(VARIABLE, LOG_FORMATS[0]))
    try:
        return str(parser.parse_known_args(argv)[0].log_format)
    except argparse.ArgumentError:  # a flag without its value: the job's own parser says so
        return LOG_FORMATS[0]
