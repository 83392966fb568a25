"""Networks, training and metrics, in TensorFlow and numpy: no Spark, no storage."""
