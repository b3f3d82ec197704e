"""The parts of an update, below the optimizer wrapper and its stages."""
