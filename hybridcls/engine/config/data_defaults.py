"""Choose settings that are None in a config from the number of training images, and log the choices."""

import math
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple

from mmengine.config import Config

from hybridcls.checks import counted

from .change import Change, provenance_of
from .layers import ConfigError
from .origins import RUNNER_KEYS
from .schedules import leaves_length_open
from .timm_streams import backbones_in, timm_streams_in
from .tree import ABSENT, Path, dataloaders_in, is_a, transforms_in, value_at, walk

__all__ = ['DataDefaults', 'data_defaults']

_BATCH = (4, 32)  # images of all processes together
_BATCHES = 8  # that an epoch has at least, if images are few
_UPDATES = 300  # of a training
_EPOCHS = (10, 30)
_AVERAGED = 0.1  # share of the updates that the moving average of the weights looks back on
_PATIENCE = 0.5  # share of the epochs
_MOST_MOMENTUM = 0.5  # of that average: above it, it would be little more than the newest weights
_LEAST_PATIENCE = 3  # epochs: fewer would end a training at its first noisy validations
_RATES = (1e-3, 1e-4)  # of AdamW with small batches: a network of convolutions, a transformer
_FEW = 10000  # images: up to so many the statistics of BatchNorm stay


class DataDefaults(NamedTuple):
    """Settings that follow from the size of the training set.

    Args:
        images (int): Of the training set.
        processes (int): That train together.
        batch_size (int): Of one process.
        drop_last (bool): Whether an epoch leaves out the images of an incomplete batch.
        max_epochs (int): Length of the training.
    """

    images: int
    processes: int
    batch_size: int
    drop_last: bool
    max_epochs: int

    @classmethod
    def of(cls, images: int, processes: int = 1, batch_size: Any = None, max_epochs: Any = None) -> 'DataDefaults':
        """Choose the settings that are None.

        Example:
            >>> DataDefaults.of(40).batch_size, DataDefaults.of(563).batch_size, DataDefaults.of(563).max_epochs
            (4, 32, 18)
        """
        if batch_size is None:
            power = 2 ** int(math.log2(max(1, images / _BATCHES)))
            batch_size = max(1, min(max(power, _BATCH[0]), _BATCH[1]) // processes)
        batches = max(1, images // (batch_size * processes))
        if max_epochs is None:
            max_epochs = min(max(round(_UPDATES / batches), _EPOCHS[0]), _EPOCHS[1])
        return cls(images, processes, batch_size, images >= batch_size * processes, max_epochs)

    @property
    def updates(self) -> int:
        """Number of updates of the whole training, without gradient accumulation."""
        per_update = self.batch_size * self.processes
        return self.max_epochs * max(1, self.images // per_update if self.drop_last else -(-self.images // per_update))


def data_defaults(cfg: Config, processes: int = 1, is_test: bool = False) -> Iterator[Change]:
    """Fill config values that are None and depend on the number of training images.

    - ``batch_size`` of the training: an eighth of the images, a power of two from 4 to 32 over all processes; of the
      other dataloaders 32.
    - ``drop_last`` of the training: unless all images together are less than a batch.
    - ``train_cfg.max_epochs``: about 300 updates, from 10 to 30 epochs.
    - ``momentum`` of an EMAHook: it looks back on a tenth of the updates.
    - ``patience`` of an EarlyStoppingHook: half of the epochs.
    - ``crop_ratio_range`` of a RandomCropToSize: from a fifth of the image on.
    - ``lr`` of the optimizer: 1e-3, with a transformer 1e-4.
    - ``norm_eval`` of a HybridBackbone: for few images and pretrained weights.

    Nothing is drawn: the same folder gives the same numbers. The images are counted only if one of these is open.

    Args:
        cfg (Config): Read.
        processes (int): That train together. Defaults to 1.
        is_test (bool): Nothing is trained: the images to train on need not be there, and are not counted.
    """
    places = list(_open_places(cfg))
    if not places:
        return
    loader, loop = ({} if is_test else cfg[key] for key in ('train_dataloader', 'train_cfg'))
    images = _FEW if is_test else _count_images(cfg)
    chosen = DataDefaults.of(images, processes, loader.get('batch_size'), loop.get('max_epochs'))
    updates = loop.get('max_iters') or chosen.updates
    values: dict[str, tuple[Any, str]] = dict(
        batch_size=(chosen.batch_size, f'{counted(images, "image")} to train on'),
        drop_last=(chosen.drop_last, f'{counted(images, "image")}, batches of {chosen.batch_size}'),
        max_epochs=(chosen.max_epochs, f'{counted(images, "image")}, {counted(chosen.updates, "update")}'),
        momentum=_momentum(updates),
        patience=_patience(chosen.max_epochs),
        crop_ratio_range=((0.2, 1.0), 'small crops too, because few images are seen often'),
        lr=_learning_rate(cfg),
        norm_eval=_norm_eval(cfg, images),
    )
    for path in places:
        new, why = values[str(path[-1])]
        if path[-1] == 'batch_size' and path[0] != 'train_dataloader':
            new, why = _BATCH[1], 'default of evaluations'
        yield Change(path, value_at(cfg, path), new, why, told=not is_test)


def _open_places(cfg: Config) -> Iterator[Path]:
    """Yield the paths that this step fills: values that are None, or that a shared key of None leaves open."""
    from mmengine.hooks import EarlyStoppingHook, EMAHook

    from hybridcls.datasets.transforms import RandomCropToSize

    read = {key: value for key, value in cfg.items() if key in RUNNER_KEYS}  # variables of the files are no places
    for path, loader in dataloaders_in(read):
        if 'batch_size' in cfg and loader.get('batch_size') is None and loader.get('batch_sampler') is None:
            yield (*path, 'batch_size')
        if loader.get('drop_last', ABSENT) is None and loader.get('batch_sampler') is None:  # which drops none
            yield (*path, 'drop_last')
    if cfg.get('train_cfg') and leaves_length_open(cfg):
        yield ('train_cfg', 'max_epochs')
    for path, node in walk({key: cfg.get(key) for key in ('default_hooks', 'custom_hooks')}):
        for kind, key in ((EMAHook, 'momentum'), (EarlyStoppingHook, 'patience')):
            if isinstance(node, dict) and node.get(key, ABSENT) is None and is_a('HOOKS', node, kind):
                yield (*path, key)
    optimizer = value_at(cfg, ('optim_wrapper', 'optimizer'))
    if 'lr' in cfg and isinstance(optimizer, dict) and optimizer.get('lr') is None:
        yield ('optim_wrapper', 'optimizer', 'lr')
    for path in backbones_in(cfg):
        if value_at(cfg, (*path, 'norm_eval')) is None:
            yield (*path, 'norm_eval')
    for path, node in transforms_in(read):
        if node.get('crop_ratio_range', ABSENT) is None and is_a('TRANSFORMS', node, RandomCropToSize):
            yield (*path, 'crop_ratio_range')


def _momentum(updates: int) -> tuple[float, str]:
    share = 1 / max(1, _AVERAGED * updates)
    if share > _MOST_MOMENTUM:
        return _MOST_MOMENTUM, f'at most, as there are only {counted(updates, "update")}'
    return float(f'{share:.2g}'), f'a tenth of {updates} updates'


def _patience(epochs: int) -> tuple[int, str]:
    half = round(_PATIENCE * epochs)
    if half < _LEAST_PATIENCE:
        return _LEAST_PATIENCE, f'at least, as there are only {counted(epochs, "epoch")}'
    return half, f'half of {counted(epochs, "epoch")}'


def _learning_rate(cfg: Config) -> tuple[float, str]:
    if any(path[-1] == 'vit' for path in timm_streams_in(cfg)):
        return _RATES[1], 'AdamW on a transformer'
    return _RATES[0], 'AdamW on a network of convolutions'


def _norm_eval(cfg: Config, images: int) -> tuple[bool, str]:
    streams = [value_at(cfg, path) for path in timm_streams_in(cfg)]
    known = _first_weights(cfg) or any(one.get('pretrained') or one.get('checkpoint_path') for one in streams)
    if not known:
        return False, 'weights start at random'
    return images <= _FEW, f'{counted(images, "image")} to train on, and pretrained statistics of BatchNorm'


def _first_weights(cfg: Config) -> Any:
    """Return what ``load_from`` named when the training began: a resume puts its own checkpoint there."""
    before = [one.old for one in provenance_of(cfg).changes if one.path == ('load_from',) and one.by == '--resume']
    if before:
        return None if before[0] is ABSENT else before[0]
    return None if cfg.get('resume') else cfg.get('load_from')


def _count_images(cfg: Config) -> int:
    """Build the training data without pipelines (also those of inner datasets), and count the images."""
    from hybridcls.registry import DATASETS

    dataset = cfg.train_dataloader.dataset
    if isinstance(dataset, dict):
        dataset = deepcopy(dataset)
        for _, node in walk(dataset):
            if isinstance(node, dict):
                node.pop('pipeline', None)
        with DATASETS.switch_scope_and_registry('hybridcls') as registry:
            dataset = registry.build(dataset)
    if not hasattr(dataset, '__len__'):
        raise ConfigError(
            f'{type(dataset).__name__} does not tell how many training images there are. Set batch_size, max_epochs '
            'and all other keys that are None in the config.'
        )
    return len(dataset)
