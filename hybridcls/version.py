"""The version of this package, and the oldest dependencies it was run with."""

__version__ = '0.1.0'
