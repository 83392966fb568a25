"""Drift: whether a run's images, and what the model says of them, are like those that it was validated on."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, kstwo

from pneumospark.pixels.facts import PIXEL_FACTS, pixel_facts

BINS = 20
"""Bins of a figure, of equal count in the reference; the PSI is taken over pairs of such, as is usual."""

FEWEST = 20
"""Images below which nothing is said."""

PROBABILITY = "probability"
STEP = 0.001
"""Probabilities are compared in these steps: finer ones differ between engines, and mean nothing."""

Counts = NDArray[np.int64]


def reference(figures: Mapping[str, NDArray[np.floating[Any]]], patients: int) -> dict[str, Any]:
    """What a bundle keeps of its validation images: by figure (n,) the inner edges of its bins, and the count of each.

    Raises ValueError for fewer than FEWEST images.
    """
    images = len(figures[PROBABILITY])
    if images < FEWEST:
        raise ValueError(f"expected {FEWEST} validation images at least, got {images}")
    kept = {}
    for name, values in figures.items():
        edges = _edges(rounded(name, values))
        kept[name] = {"edges": edges.tolist(), "counts": binned(name, values, edges.tolist()).tolist()}
    return {"images": images, "patients": patients, "figures": kept}


def statistics(rows: Iterable[Mapping[str, Any]], shape: tuple[int, ...]) -> dict[str, NDArray[np.float64]]:
    """PIXEL_FACTS of images, each (n,); `rows` have pixels, bytes of `shape`."""
    found = [pixel_facts(np.frombuffer(row["pixels"], np.uint8).reshape(shape)) for row in rows]
    return {name: np.array([facts[name] for facts in found]) for name in PIXEL_FACTS}


def binned(name: str, values: NDArray[np.floating[Any]], edges: list[float]) -> Counts:
    """How many of a figure's values (n,) are in each bin, (edges + 1,); an edge belongs to the bin below it."""
    places = np.searchsorted(np.asarray(edges, np.float32), rounded(name, values), side="left")
    return np.bincount(places, minlength=len(edges) + 1)


def rounded(name: str, values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Values as they are compared: float32, which is what tables keep of the statistics."""
    return np.asarray(np.round(values / STEP) * STEP if name == PROBABILITY else values, np.float32)


def compare(
    reference: Mapping[str, Any], counts: Mapping[str, Counts], psi_limit: float, ks_limit: float, chance: float
) -> dict[str, Any]:
    """What is said of a run, given its `counts` in the reference's bins, by figure.

    `drifted`: the figures that differ by more than a limit, and by more than chance explains. `chance` is that of a
    false alarm in a run, so the less for each of its figures (Bonferroni). The images of a patient are alike: so
    patients count, and a run is taken to have as many images of each as the reference has.
    """
    images = int(sum(counts[PROBABILITY]))
    if images < FEWEST:
        return {"images": images, "figures": {}, "drifted": [], "said": f"nothing of fewer than {FEWEST} images"}
    per_patient = reference["images"] / reference["patients"]
    each = chance / len(counts)
    sizes = (images / per_patient, reference["patients"])
    figures = {
        name: _compared(np.asarray(reference["figures"][name]["counts"]), np.asarray(found), sizes, each)
        for name, found in counts.items()
    }
    drifted = [
        name
        for name, found in figures.items()
        if found["psi"] > max(psi_limit, found["psi_by_chance"]) or (found["ks"] > ks_limit and found["ks_p"] < each)
    ]
    return {"images": images, "figures": figures, "drifted": drifted}


def population_stability(expected: Counts, found: Counts) -> float:
    """The population stability index of two counts over the same bins: sum of (q - p) ln(q / p).

    Half an image is added to each bin, so that an empty one is no infinity. Siddiqi, "Credit Risk Scorecards" (2006):
    below 0.1 nothing, up to 0.25 a little, above it much has changed.
    """
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (expected, found))
    return float(np.sum((q - p) * np.log(q / p)))


def _compared(expected: Counts, found: Counts, sizes: tuple[float, float], chance: float) -> dict[str, float]:
    """`psi_by_chance` is reached with probability `chance` where nothing has changed: the PSI of two samples is about
    (1/n + 1/m) chi-squared of (bins - 1) (Yurdakul and Naranjo, "Statistical properties of the population stability
    index", Journal of Risk Model Validation, 2020). `ks` is the largest difference of the distributions at the edges,
    and `ks_p` its p as `scipy.stats.ks_2samp` has it for samples; at edges alone it errs to the quiet side.
    """
    n, m = sizes
    starts = _paired(expected)
    coarse = [np.add.reduceat(counts, starts) for counts in (expected, found)]
    distance = float(np.max(np.abs(np.cumsum(expected) / expected.sum() - np.cumsum(found) / found.sum())))
    by_chance = chi2.isf(chance, max(1, len(coarse[0]) - 1)) * (1 / n + 1 / m)
    return {
        "psi": round(population_stability(*coarse), 4),
        "psi_by_chance": round(float(by_chance), 4),
        "ks": round(distance, 4),
        "ks_p": float(kstwo.sf(distance, max(1, round(n * m / (n + m))))),
    }


def _edges(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Up to BINS - 1 edges, values of the sample that cut it into bins of equal count.

    A value that several of them fall on, and the largest one, begin a bin of their own: where many images have one
    value, to leave it is all they can do. So a bin beside may be empty.
    """
    edges, times = np.unique(np.quantile(values, np.arange(1, BINS) / BINS, method="nearest"), return_counts=True)
    tied, largest = times > 1, edges == values.max()
    before = np.nextafter(edges[tied | largest], np.float32(-np.inf))
    return np.asarray(np.unique(np.concatenate([before, edges[tied | ~largest]])), np.float32)


def _paired(expected: Counts) -> NDArray[np.int64]:
    """Where the bins of the PSI begin: two neighbours are one, unless they hold more than three usual bins do."""
    starts, at = [], 0
    while at < len(expected):
        starts.append(at)
        at += 2 if expected[at : at + 2].sum() * BINS <= 3 * expected.sum() else 1
    return np.array(starts)
