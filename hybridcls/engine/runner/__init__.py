"""Helpers around mmengine's Runner: processes, workers, signals, the console, numbered batches."""
