"""Read and complete a config: layers record the origin of each value, steps plan changes, one function applies them."""

from .change import Change, apply, layer_of, provenance_of, table_of
from .layers import ConfigError
from .loading import is_chain, load_config
from .shared_keys import SHARED_KEYS, classifying_head

__all__ = [
    'SHARED_KEYS', 'Change', 'ConfigError', 'apply', 'classifying_head', 'is_chain', 'layer_of', 'load_config',
    'provenance_of', 'table_of',
]  # fmt: skip
