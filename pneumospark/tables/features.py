"""The `features` table: what a CNN without its head says of each prepared image."""

from collections.abc import Callable
from typing import Any

import numpy as np
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType

from pneumospark.tables.history import FACTS, with_state

MakePredict = Callable[[], Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]]


def choose_features(prepared: DataFrame, live: DataFrame, done: DataFrame) -> DataFrame:
    """image_id and state of the rows of `prepared`, of which `live` are those that count.

    "known": `done`, the features there are, has it with the same facts; "wanted": not yet; "replaced": it is void.
    """
    void = prepared.join(live.select("image_id"), "image_id", "left_anti")
    states = with_state(live.select("image_id", *FACTS), done).select("image_id", "state")
    return states.unionAll(void.select("image_id", F.lit("replaced").alias("state")))


def features(prepared: DataFrame, backbone: str, make_extract: MakePredict, batch_size: int) -> DataFrame:
    """FEATURES rows (without run_id) of prepared images.

    `make_extract` is called once per Python worker and returns (n,) bytes of pixels -> (n, k) float32.
    """
    # binary columns reach the function as an array of bytes objects, as long as no tensor shape is declared
    extract = predict_batch_udf(make_extract, return_type=ArrayType(FloatType()), batch_size=batch_size)
    return prepared.select("image_id", *FACTS, extract("pixels").alias("features"), F.lit(backbone).alias("backbone"))
