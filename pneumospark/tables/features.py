"""The `features` table: what a CNN without its head says of each prepared image."""

from collections.abc import Callable
from typing import Any

import numpy as np
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, FloatType

MakePredict = Callable[[], Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]]


def features(prepared: DataFrame, backbone: str, make_extract: MakePredict, batch_size: int) -> DataFrame:
    """FEATURES rows (without run_id) of prepared images.

    `make_extract` is called once per Python worker and returns (n,) bytes of pixels -> (n, k) float32.
    """
    # binary columns reach the function as an array of bytes objects, as long as no tensor shape is declared
    extract = predict_batch_udf(make_extract, return_type=ArrayType(FloatType()), batch_size=batch_size)
    columns = ["image_id", "patient_id", "label", "split"]
    return prepared.select(*columns, extract("pixels").alias("features"), F.lit(backbone).alias("backbone"))
