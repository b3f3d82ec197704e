"""The version of this package, and the oldest supported dependencies."""

__version__ = '0.2.0'
