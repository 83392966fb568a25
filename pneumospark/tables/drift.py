"""What a run has scored as counts in the bins of a reference: counted by the executors, a few numbers each."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pneumospark.schemas import PIXEL_STATISTICS

Binned = Callable[[str, NDArray[np.float64], list[float]], NDArray[np.int64]]


def counts_in_bins(
    predictions: DataFrame, edges: Mapping[str, list[float]], binned: Binned
) -> dict[str, NDArray[np.int64]]:
    """By figure (names of PIXEL_STATISTICS, `probability`) the rows in each bin; `binned` counts a batch of values.

    The rows of a run are read again for this, without their paths: the statistics were taken while the images were
    scored, and a task that Spark had to repeat is counted once.
    """

    def counted(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for name, inner in edges.items():
                found = binned(name, batch[name].to_numpy(zero_copy_only=False), inner)
                places = np.flatnonzero(found)
                yield pa.RecordBatch.from_pydict(
                    {"figure": [name] * len(places), "place": places, "images": found[places]}
                )

    columns = [F.col(f"statistics.{name}").alias(name) for name in PIXEL_STATISTICS.names if name in edges]
    rows = predictions.where(F.col("statistics").isNotNull()).select("probability", *columns)
    parts = rows.mapInArrow(counted, "figure string, place long, images long")
    total = {name: np.zeros(len(inner) + 1, np.int64) for name, inner in edges.items()}
    for name, place, images in parts.groupBy("figure", "place").agg(F.sum("images")).collect():
        total[name][place] = images
    return total
