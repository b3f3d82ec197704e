"""The only files that know private names of a dependency; each says with which versions it was run."""
