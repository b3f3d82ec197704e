"""Private names of dependencies are known here alone: one file a dependency, each with the range it was run with."""
