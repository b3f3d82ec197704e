"""Samplers: which images meet in a batch."""
__all__: list[str] = []
