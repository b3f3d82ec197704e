"""The version of this package, and the oldest dependencies it was run with."""

__version__ = '0.2.0'
