"""What joins storage, Spark and TensorFlow for a job, where a job would grow too long with it."""
