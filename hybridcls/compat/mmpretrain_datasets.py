"""Silence prints of mmpretrain's datasets about missing optional packages; import this module first."""

from contextlib import redirect_stdout
from io import StringIO

with redirect_stdout(StringIO()):
    import mmpretrain.datasets  # noqa: F401
