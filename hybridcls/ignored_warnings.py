"""Ignore warnings of dependencies that a user cannot act on, from the import of this file on.

For a process that is told nothing but what to import: the server that forks the processes of a benchmark.
"""

import warnings

__all__ = ['ignore_useless_warnings']

# How the text begins, and the module. The last one goes by its text alone: what else its module warns of (where an
# anomaly was, what is not deterministic) must be seen.
_OF_NO_USE = (
    ('', r'mmcv\.'),  # compiled operations that are not installed, which nothing here uses
    ('', r'mmengine\.utils\.dl_utils\.setup_env'),  # threads of a process, which it sets itself
    ('', r'torch\.utils\.data\.dataloader'),  # the console says how many workers suit the machine
    ('Grad strides do not match bucket view strides', ''),  # the layout that cuDNN and MKL-DNN choose
)


def ignore_useless_warnings() -> None:
    """Ignore these warnings."""
    for message, module in _OF_NO_USE:
        warnings.filterwarnings('ignore', message, UserWarning, module)


ignore_useless_warnings()
