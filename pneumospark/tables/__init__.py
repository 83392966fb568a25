"""The tables, as Spark DataFrames in and out: no storage, no TensorFlow."""
