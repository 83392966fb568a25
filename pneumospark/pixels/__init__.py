"""Bytes to pixels, in numpy alone: the one way that training and scoring share."""
