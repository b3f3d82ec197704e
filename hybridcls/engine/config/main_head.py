"""Fill ``main`` of a MultiHead with the head that it would choose itself."""

from collections.abc import Iterator, Mapping

from mmengine.config import Config

from .change import Change
from .tree import ABSENT, is_a, takes, walk

__all__ = ['main_head']


def main_head(cfg: Config) -> Iterator[Change]:
    """Choose the first head that has classes, else the first head.

    mmengine sorts the keys of a config that it writes, into checkpoints too, so that without a name the model of a
    checkpoint would choose by the alphabet.
    """
    from hybridcls.models.heads import MultiHead

    for path, node in list(walk(cfg.get('model'), ('model',))):
        if not isinstance(node, Mapping) or node.get('main') is not None or not is_a('MODELS', node, MultiHead):
            continue
        heads = {name: head for name, head in (node.get('heads') or {}).items() if head is not None}
        if heads:
            chosen = next((name for name in heads if takes('MODELS', heads[name], 'num_classes')), next(iter(heads)))
            yield Change((*path, 'main'), node.get('main', ABSENT), chosen, 'the first head with classes', None, False)
