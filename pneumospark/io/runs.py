"""Summaries of the runs of a table, one JSON file each in its `_runs/`: readers of the table pass over that name."""

import json
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

from pneumospark.io.drivers import FAILURES
from pneumospark.io.files import Store

FOLDER = "_runs"
BEGUN = ".begun"
"""Of a run that has written no summary yet: it is at work, or was killed."""

LAST = 60
"""Runs that a look back takes in: the page over them, and the question which run was judged last."""

Summary = dict[str, Any]


def begin(run_id: str, table_uri: str, store: Store) -> list[str]:
    """Say that a run begins; the ids of earlier ones that never came to `record`."""
    begun, told = ({PurePosixPath(path).stem for path in _paths(table_uri, store, kind)} for kind in (BEGUN, ".json"))
    store.put(f"{table_uri}/{FOLDER}/{run_id}{BEGUN}", run_id.encode())
    return sorted(begun - told - {run_id})


def record(summary: Summary, table_uri: str, store: Store) -> None:
    """Write a run's summary beside its rows; it has said what those before it could not."""
    store.put(f"{table_uri}/{FOLDER}/{summary['run_id']}.json", as_json(summary))
    with suppress(*FAILURES):  # then they are said once more
        for path in _paths(table_uri, store, BEGUN):
            store.remove(path)


def as_json(summary: Summary) -> bytes:
    """A summary as the file that keeps it."""
    return json.dumps(summary, indent=2).encode()


def last(table_uri: str, store: Store, most: int = LAST) -> list[Summary]:
    """The summaries of the last runs, `most` of them, the oldest first; one that was cut off by a kill is left out."""
    found = [_parsed(path, store) for path in _paths(table_uri, store)[-most:]]
    return [summary for summary in found if summary]


def judged_last(table_uri: str, store: Store, model_id: str) -> str:
    """The id of the last run of a model that left its summary.

    Where none of the LAST ones was that, the run before these, so that after a long while of another model rows of
    years ago are not judged as those of today; "" where there is none before them.
    """
    paths = _paths(table_uri, store)
    before = PurePosixPath(paths[-LAST - 1]).stem if len(paths) > LAST else ""
    of_model = (run["run_id"] for run in last(table_uri, store, LAST) if run.get("model_id") == model_id)
    return max(of_model, default=before)


def _paths(table_uri: str, store: Store, suffix: str = ".json") -> list[str]:
    if not store.exists(folder := f"{table_uri}/{FOLDER}"):
        return []
    return sorted(entry.path for entry in store.list_folder(folder) if entry.path.endswith(suffix))


def _parsed(path: str, store: Store) -> Summary | None:
    try:
        summary: Summary = json.loads(store.fetch(path))
    except (*FAILURES, ValueError):
        return None
    return summary
