"""Audit of the data by the training."""
