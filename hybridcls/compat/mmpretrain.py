"""What hybridcls knows of the inside of mmpretrain. Run with onedl-mmpretrain 1.3.6.

Imported first, it keeps what mmpretrain prints of packages that it could not import, which nothing here needs.
"""

from contextlib import redirect_stdout
from io import StringIO

with redirect_stdout(StringIO()):
    import mmpretrain.datasets  # noqa: F401
