"""A training's history for people: a table, and its curves as a picture."""

from collections.abc import Mapping, Sequence
from io import BytesIO

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from pneumospark.io.plots import COLOURS, STYLE

History = Mapping[str, Sequence[float]]


def history_files(history: History) -> dict[str, bytes]:
    """`history.csv`, a row per epoch, counted from 1, and `history.png`; neither where nothing was trained."""
    if not history.get("loss"):
        return {}
    table = pd.DataFrame({name: pd.Series(values) for name, values in history.items()})
    table.index = pd.RangeIndex(1, len(table) + 1, name="epoch")
    return {"history.csv": table.to_csv().encode(), "history.png": _curves(table)}


def _curves(table: pd.DataFrame) -> bytes:
    """A picture, each figure of training beside its like on validation, the rate on an axis of powers of ten."""
    names = [name for name in table.columns if not name.startswith("val_")]
    with rc_context(STYLE), BytesIO() as file:
        figure = Figure(figsize=(4.2 * len(names), 3.4), layout="constrained")
        for name, axes in zip(names, figure.subplots(1, len(names), squeeze=False)[0], strict=True):
            kinds = {"training": name, "validation": f"val_{name}"}
            for (kind, column), colour in zip(kinds.items(), COLOURS, strict=False):
                if column in table.columns:
                    axes.plot(table.index, table[column], marker="o", markersize=3, color=colour, label=kind)
            axes.set(title=name.replace("_", " "), xlabel="epoch", yscale="log" if "rate" in name else "linear")
            axes.xaxis.get_major_locator().set_params(integer=True)
            if f"val_{name}" in table.columns:
                axes.legend()
        figure.savefig(file, format="png", dpi=120)
        return file.getvalue()
