"""The report on a table of images: `quality.json` for programs, one HTML page and a picture for people."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from io import BytesIO
from typing import IO, Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from pneumospark.io import plots
from pneumospark.io.pages import encoded, render

COLOURS = {"pixels": plots.BLUE, "file": plots.GREEN, "all": plots.ORANGE}


def readable(table: pd.DataFrame) -> str:
    """The table of counts as text for a console, with a line of sums."""
    sums = pd.DataFrame([{"source": "sum", **table[["files", "images"]].sum()}])
    cells = pd.concat([table.astype(object), sums.astype(object)]).map(lambda cell: "" if pd.isna(cell) else str(cell))
    return str(cells.to_string(index=False, justify="left"))


def write_quality(
    folder: str,
    table: pd.DataFrame,
    found: Mapping[str, Any],
    facts: Mapping[str, str],
    warn: float,
    open_for_write: Callable[[str], AbstractContextManager[IO[bytes]]],
) -> None:
    """Write `index.html`, `shortcuts.png` (where there is an audit) and `quality.json` into `folder`.

    `table` is `tables.quality.composition`; `found` has `leaks` (key -> count and first), `near_duplicates` (distance,
    count and first) and `shortcuts` (what `learn.shortcuts.audit` says); the latter two may be None. `quality.json`
    comes last, so its presence means all.
    """
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    audit = found["shortcuts"]
    drawn = {kind: shortcut_plot(audit, warn, kind) for kind in ("svg", "png")} if audit else {}
    page = render(
        "quality.html.j2", title="pneumospark: quality", rows=rows, warn=warn, drawn=drawn, facts=facts, **found
    )
    text = json.dumps({"table": rows, **found, "warn": warn, "facts": facts}, indent=2, allow_nan=False)
    files = {"index.html": encoded(page), "shortcuts.png": drawn.get("png"), "quality.json": text.encode()}
    for name, content in files.items():
        if content is not None:
            with open_for_write(f"{folder.rstrip('/')}/{name}") as file:
                file.write(content)


def shortcut_plot(audit: Mapping[str, Any], warn: float, kind: str) -> bytes:
    """The area under the ROC curve of each set of facts and of each fact, with intervals, as "svg" or "png"."""
    rows = [{"name": f"together: {name}", "of": name, **row} for name, row in audit["together"].items()]
    rows += [{"name": row["fact"], **row} for row in audit["single"]]
    with rc_context(plots.STYLE), BytesIO() as file:
        figure = Figure(figsize=(6.4, 0.9 + 0.22 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        _paint(axes, rows, warn)
        options: dict[str, Any] = {"svg": {"transparent": True, "metadata": {"Date": None}}, "png": {"dpi": 150}}
        figure.savefig(file, format=kind, **options[kind])
        return file.getvalue()


def _paint(axes: Any, rows: Sequence[Mapping[str, Any]], warn: float) -> None:
    for place, row in enumerate(rows):
        low, high = row["interval"] or (row["auc"], row["auc"])
        axes.plot([low, high], [place, place], color=COLOURS[row["of"]], linewidth=2)
        axes.plot(row["auc"], place, "o", color=COLOURS[row["of"]], markersize=6)
    axes.axvline(warn, color=plots.GREY, linestyle="--", linewidth=1)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.invert_yaxis()
    for name, colour in COLOURS.items():
        axes.plot([], [], "o", color=colour, label="file and pixels" if name == "all" else f"of the {name}")
    axes.legend(loc="lower right")
    axes.set_xlim(0.49, 1.01)
    axes.grid(axis="x", color=plots.GREY, alpha=0.25)
    axes.set_xlabel("area under the ROC curve, normal against pneumonia (0.5 is chance)")
