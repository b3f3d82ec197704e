"""What mmengine's Runner needs around it: processes, workers, signals, the console, batches that know their number."""
