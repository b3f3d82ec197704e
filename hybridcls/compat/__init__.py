"""Private names of the libraries below, one file a library, with the range of versions that each was run with."""
