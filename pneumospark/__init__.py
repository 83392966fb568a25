"""Chest X-rays in, trustworthy pneumonia predictions out, at the scale of a cluster. Research software: not for diagnosis."""

__version__ = "0.1.0"
