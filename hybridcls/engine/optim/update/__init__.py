"""What one update is made of, below the optimizer wrapper and its stages."""
