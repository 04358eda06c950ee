"""Calibration: which way of reading cached passages fits an index and a model."""
