"""The only files that know private names of a dependency, one a dependency."""
