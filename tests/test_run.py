"""How runs end: exit codes that a scheduler can tell apart, and what is said, as text or as JSON."""

import json
import logging
from typing import Any

import pytest
from pyspark.errors import PythonException

from pneumospark import errors
from pneumospark.errors import ConfigError, DriftError, LockError, PneumosparkError, QuarantineError
from pneumospark.io import logs
from pneumospark.io.run import BUG, check_drift, raised_on_executor, run

COUNTS: dict[str, Any] = {"images": 40, "model_id": "m", "exit_code": 4}
TRACE = "Traceback\n  File x\npneumospark.errors.TableError: prepared: image 7: expected 4 bytes, got 3\n"


def ended(*found: Exception) -> int:
    """The exit code of a run that ends so, the last of several, without pytest's own handlers of logs."""
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers.clear()
    try:
        codes = [run("score", raising(error)) for error in found]
        logs.log.info("read %d files", 3)
        return codes[-1]
    finally:
        root.handlers[:] = before


def raising(error: Exception) -> Any:
    def main() -> Any:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("c"), 1),
        (QuarantineError("q", COUNTS), 3),
        (DriftError("d", COUNTS), 4),
        (LockError("l"), 5),
        (PythonException(TRACE), 1),
        (PythonException("Traceback\nKeyError: 'x'"), BUG),
        (ZeroDivisionError("z"), BUG),
    ],
    ids=lambda value: value if isinstance(value, int) else type(value).__name__,
)
def test_each_way_to_end_has_its_code(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(error) == code
    said = capsys.readouterr()
    if isinstance(error, errors.FoundError):  # done, and so its counts are due
        assert json.loads(said.out)["images"] == 40
    else:
        assert said.out == ""
    if code == BUG:
        assert "Traceback" in said.err
    elif isinstance(error, PythonException):
        assert said.err.splitlines()[0] == "score: TableError: prepared: image 7: expected 4 bytes, got 3"
    else:
        assert said.err.splitlines()[0] == f"score: {type(error).__name__}: {error}"
    assert said.err.endswith(" read 3 files\n")


def test_each_kind_of_end_has_its_code_and_lost_rows_that_of_trying_again() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PneumosparkError)]
    special = {kind.__name__: kind.exit_code for kind in kinds if kind.exit_code != 1}
    assert special == {"QuarantineError": 3, "DriftError": 4, "LockError": 5, "LostRowsError": BUG}


def test_json_is_one_object_a_line_whatever_is_said(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setenv(logs.VARIABLE, "json")
    ended(ConfigError('two\nlines, "quoted"'), ZeroDivisionError("z"))
    *lines, info = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["job"]) for line in lines] == [("error", "score")] * 2
    assert (lines[0]["message"], lines[0]["error"], lines[0]["exit_code"]) == ('two\nlines, "quoted"', "ConfigError", 1)
    assert "ZeroDivisionError: z" in lines[1]["traceback"]
    assert info["message"] == "read 3 files" and info["time"].endswith("+00:00")


def test_drift_names_the_figures_and_how_to_let_it_pass() -> None:
    figures = {"mean": {"psi": 0.5}, "std": {"psi": 2.5}}
    quiet = COUNTS | {"drift": {"drifted": [], "figures": figures}}
    assert check_drift(quiet) is quiet
    with pytest.raises(DriftError, match=r"mean, std \(most of all std: PSI 2.50\); all rows are written"):
        check_drift(COUNTS | {"drift": {"images": 40, "drifted": ["mean", "std"], "figures": figures}})


def test_an_executors_own_error_is_told_from_others() -> None:
    assert raised_on_executor(TRACE) == ("TableError", "prepared: image 7: expected 4 bytes, got 3")
    assert raised_on_executor("KeyError: 'x'") is None
