"""Files that are copied into exported artifacts and run there; they import neither hybridcls nor torch."""
