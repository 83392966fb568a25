"""Chest X-rays in, trustworthy pneumonia predictions out, on a Spark cluster. Research software: not for diagnosis."""

__version__ = "0.2.0"
