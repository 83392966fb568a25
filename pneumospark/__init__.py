"""Chest X-rays in, trustworthy pneumonia predictions out, on a Spark cluster. Research software: not for diagnosis."""

__version__ = "0.1.0"
