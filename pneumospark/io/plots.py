"""The report's plots: each function returns one picture as SVG, the same bytes for the same data."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from io import BytesIO
from itertools import cycle
from typing import Any, Concatenate, ParamSpec

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

Floats = npt.NDArray[np.float64]
P = ParamSpec("P")

# Okabe and Ito, "Color Universal Design" (2008): told apart with every common colour blindness
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
COLOURS = (BLUE, ORANGE, GREEN, PINK)
INK, GREY = "#1F2933", "#7B8794"
CLASSES = (("normal", 0, BLUE), ("pneumonia", 1, ORANGE))
STYLE: dict[Any, Any] = {  # matplotlib types each key as a literal
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # a label may hold a dollar sign
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.hashsalt": "pneumospark",  # else the ids are random
}


def picture(paint: Callable[Concatenate[Axes, P], None]) -> Callable[P, bytes]:
    """Make a function that paints axes one that returns the picture, as SVG."""

    @wraps(paint)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> bytes:
        with rc_context(STYLE), BytesIO() as file:
            figure = Figure(figsize=(4.6, 3.9), layout="constrained")
            paint(figure.add_subplot(), *args, **kwargs)
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
            return file.getvalue()

    return drawn


@picture
def balance(axes: Axes, counts: Mapping[str, Mapping[str, int]]) -> None:
    """Bars of images per label, grouped by split; `counts` is split -> label -> images."""
    labels = sorted({label for of_split in counts.values() for label in of_split})
    width = 0.8 / max(len(labels), 1)
    for index, label in enumerate(labels):
        places = np.arange(len(counts)) + (index - (len(labels) - 1) / 2) * width
        heights = [of_split.get(label, 0) for of_split in counts.values()]
        colour = COLOURS[index % len(COLOURS)]
        bars = axes.bar(places, heights, width * 0.92, label=label, color=colour)
        axes.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=9)
    axes.set_xticks(range(len(counts)), list(counts))
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("images")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    if labels:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(len(labels), 3))


@picture
def roc(axes: Axes, curve: tuple[Floats, ...] | None, metrics: Mapping[str, Any]) -> None:
    """The ROC curve, `curve` being false positive rate and recall, and the point of the threshold in use."""
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    _unit_square(axes, "false positive rate (1 - specificity)", "recall (sensitivity)")
    if curve is None:
        return _undefined(axes, "needs images of both classes")
    axes.plot(*curve, color=BLUE, linewidth=2)
    _operating_point(axes, 1 - metrics["specificity"], metrics["recall"], metrics["threshold"])
    bounds = metrics["intervals"]["roc_auc"]
    interval = f"\n95 % interval {bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else ""
    axes.text(0.98, 0.04, f"area {metrics['roc_auc']:.3f}{interval}", ha="right", va="bottom")
    return None


@picture
def precision_recall(axes: Axes, curve: tuple[Floats, ...] | None, metrics: Mapping[str, Any]) -> None:
    """Precision over recall, `curve` being recall and precision; the dotted line is the share of positives."""
    axes.axhline(metrics["positives"] / metrics["n"], color=GREY, linewidth=1, linestyle=":")
    _unit_square(axes, "recall (sensitivity)", "precision")
    if curve is None:
        return _undefined(axes, "needs images with pneumonia")
    axes.plot(*curve, color=BLUE, linewidth=2)
    if metrics["precision"] is not None:
        _operating_point(axes, metrics["recall"], metrics["precision"], metrics["threshold"])
    return None


@picture
def reliability(axes: Axes, curve: tuple[Floats, ...]) -> None:
    """Observed share over predicted probability; `curve` is mean probability, share, and the share's low and high."""
    mean, share, low, high = curve
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    # Wilson's interval always holds the share; the clip is for the last bit of a float
    spread = np.clip([share - low, high - share], 0, None)
    axes.errorbar(mean, share, yerr=spread, color=BLUE, ecolor=GREY, elinewidth=1, capsize=2, marker="o", markersize=5)
    _unit_square(axes, "predicted probability of pneumonia", "observed share of pneumonia")


@picture
def rocs(axes: Axes, curves: Sequence[tuple[str, tuple[Floats, ...] | None]]) -> None:
    """The ROC curves of several sets; `curves` are names, each with false positive rate and recall."""
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    _unit_square(axes, "false positive rate (1 - specificity)", "recall (sensitivity)")
    for name, (_, curve), colour in zip(_legend(curves), curves, cycle(COLOURS), strict=False):
        axes.plot(*(curve or ([], [])), color=colour, linewidth=2, label=name)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)


@picture
def reliabilities(axes: Axes, curves: Sequence[tuple[str, tuple[Floats, ...]]]) -> None:
    """The reliability curves of several sets; `curves` are names, each with what `reliability` takes."""
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    for name, (_, (mean, share, *_)), colour in zip(_legend(curves), curves, cycle(COLOURS), strict=False):
        axes.plot(mean, share, color=colour, marker="o", markersize=5, label=name)
    _unit_square(axes, "predicted probability of pneumonia", "observed share of pneumonia")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=9)


@picture
def histogram(axes: Axes, truth: npt.NDArray[Any], probability: Floats, threshold: float) -> None:
    """Probabilities of the normal and of the pneumonia images, each as shares of their class, and the threshold."""
    edges = np.linspace(0, 1, 21)
    for name, value, colour in CLASSES:
        counts, _ = np.histogram(probability[truth == value], edges)
        shares = counts / max(counts.sum(), 1)
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.45, label=f"{name} ({counts.sum():,})")
        axes.stairs(shares, edges, color=colour, linewidth=1.5)
    axes.axvline(threshold, color=INK, linewidth=1.2, linestyle="--", label=f"threshold {threshold:.3g}")
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="predicted probability of pneumonia", ylabel="share of the class")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=9, columnspacing=1, handlelength=1.4)


@picture
def confusion(axes: Axes, counts: Mapping[str, int]) -> None:
    """Counts of truth against prediction, each with its share of the truth's row; `counts` has tn, fp, fn, tp."""
    table = np.array([[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]])
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")  # 1.25: the darkest blue would be too heavy
    for (row, column), count in np.ndenumerate(table):
        colour = "white" if shares[row, column] > 0.6 else INK
        axes.text(column, row - 0.06, f"{count:,}", ha="center", va="center", color=colour, fontsize=20)
        note = f"{shares[row, column]:.1%} of {CLASSES[row][0]}" if table[row].any() else f"no {CLASSES[row][0]} image"
        axes.text(column, row + 0.16, note, ha="center", va="center", color=colour, fontsize=9)
    names = [name for name, _, _ in CLASSES]
    axes.set_xticks([0, 1], names)
    axes.set_yticks([0, 1], names, rotation=90, va="center")
    axes.set(xlabel="prediction", ylabel="truth")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _legend(curves: Sequence[tuple[str, Any]]) -> list[str]:
    """The end of each long name: of a path it tells most. Where two are alike all are numbered, in the page's order."""
    ends = [name if len(name) <= 32 else f"…{name[-31:]}" for name, _ in curves]
    return ends if len(set(ends)) == len(ends) else [f"{number}: {end}" for number, end in enumerate(ends, 1)]


def _unit_square(axes: Axes, across: str, up: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=across, ylabel=up)
    axes.grid(color=GREY, alpha=0.2)


def _operating_point(axes: Axes, x: float, y: float, threshold: float) -> None:
    axes.plot(x, y, marker="o", markersize=8, color=ORANGE, markeredgecolor=INK, linestyle="none")
    text = f"threshold {threshold:.3g}"
    # towards the middle, so that the text stays within the axes
    shift, side = ((10, -14), "left") if x < 0.5 else ((-10, -14), "right")
    axes.annotate(text, (x, y), shift, textcoords="offset points", ha=side, va="top" if y > 0.2 else "bottom")


def _undefined(axes: Axes, why: str) -> None:
    axes.text(0.5, 0.5, f"undefined: {why}", ha="center", va="center", color=INK)
