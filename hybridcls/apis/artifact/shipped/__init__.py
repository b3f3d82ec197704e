"""Files that are copied into an artifact and run there without hybridcls and torch; they import neither."""
