"""The page over the last runs of score: counts, refusals, drift; one HTML file that opens offline."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from pneumospark.io import plots
from pneumospark.io.files import Store
from pneumospark.io.pages import encoded, render

LEAST = 0.01
"""Where the axis of a logarithm ends: an index below it says nothing."""

ENDED = {0: "done", 3: "many refused", 4: "drift"}
Run = Mapping[str, Any]


def write_runs_page(uri: str, runs: Sequence[Run], store: Store) -> None:
    """Write the page of runs, the oldest first, the last of which is there; each is a summary of `io.runs`."""
    newest = runs[-1]
    page = render(
        "runs.html.j2",
        title="pneumospark: runs of score",
        runs=[{**run, "time": _time(run), "ended": ENDED.get(run["exit_code"], "")} for run in reversed(runs)],
        newest=newest,
        picture=drift_plot(runs),
        facts={"model": newest["model_id"], **{name: str(value) for name, value in newest["versions"].items()}},
    )
    store.put(uri, encoded(page))


@plots.picture
def drift_plot(axes: Axes, runs: Sequence[Run]) -> None:
    """The population stability index of each figure over the runs, and what chance explains in each run."""
    told = [run["drift"] for run in runs if run["drift"].get("figures")]
    names = sorted({name for found in told for name in found["figures"]})
    for name in names:
        values = np.maximum(LEAST, [found["figures"].get(name, {}).get("psi", np.nan) for found in told])  # NaN: a gap
        is_probability = name == "probability"
        colour = plots.ORANGE if is_probability else plots.BLUE
        label = {True: "probability", False: "of the pixels"}[is_probability]
        is_first = is_probability or name == next(other for other in names if other != "probability")
        axes.plot(values, color=colour, linewidth=1.5, alpha=1 if is_probability else 0.45, marker="o", markersize=3)
        if is_first:
            axes.plot([], [], color=colour, label=label)
    chance = [max((figure["psi_by_chance"] for figure in found["figures"].values()), default=np.nan) for found in told]
    axes.plot(chance, color=plots.GREY, linestyle="--", linewidth=1, label="by chance")
    axes.set_yscale("log")
    axes.set_ylim(bottom=LEAST)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_xlabel("runs, the newest at the right")
    axes.set_ylabel("population stability index")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=9)


def _time(run: Run) -> str:
    """When a run began, UTC, as its id says."""
    stamp = run["run_id"][1:14]
    return f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]} {stamp[9:11]}:{stamp[11:13]}"
