"""Imported first, it keeps what mmpretrain's datasets print of packages that they could not import: none is needed."""

from contextlib import redirect_stdout
from io import StringIO

with redirect_stdout(StringIO()):
    import mmpretrain.datasets  # noqa: F401
