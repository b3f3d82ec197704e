"""Prepare a real training up to its first step, hand the runner to the doctor, and stop."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger

from hybridcls.compat.mmengine import instances_of
from hybridcls.engine.config.tree import is_a, walk
from hybridcls.engine.training import build_runner, run_training

from .finding import WARNING, Finding

__all__ = ['HeardWarnings', 'quiet', 'with_runner']


class _Over(BaseException):
    """Signal that the doctor is done, which ends the training."""


class _TakeRunner(Hook):
    """Call a function before the first epoch, when everything is built and loaded, then end the training."""

    priority = 'LOWEST'

    def __init__(self, work: Callable[[Any], None]) -> None:
        self.work = work

    def before_train_epoch(self, runner: Any) -> None:
        self.work(runner)
        raise _Over


def with_runner(cfg: Config, work: Callable[[Any], None], heard: 'HeardWarnings') -> None:
    """Prepare a training and hand its Runner to a function; only its work dir is written to.

    Trackers and remote folders of the config are left out, datasets do not read their files at the start, and a
    HeadFirstHook does not fit the head.

    Args:
        cfg (Config): Prepared (:func:`~hybridcls.engine.training.prepare_training`); not changed.
        work (Callable): Called with the Runner.
        heard (HeardWarnings): Listens to its log.

    Raises:
        Exception: Whatever building and loading raise, or the function.
    """
    runner = build_runner(_for_trial(cfg))
    runner.register_hook(_TakeRunner(work), 'LOWEST')
    runner.logger.addHandler(heard)
    try:
        run_training(runner)
    except _Over:
        pass
    finally:
        runner.logger.removeHandler(heard)


def _for_trial(cfg: Config) -> Config:
    from hybridcls.datasets import ImageFolder
    from hybridcls.engine.hooks import HeadFirstHook

    cfg = deepcopy(cfg)
    cfg.visualizer = dict(type='UniversalVisualizer', vis_backends=[])
    cfg.compile = False
    cfg.setdefault('env_cfg', {})['compile_streams'] = False  # a few steps would not be worth it
    cfg.log_level = 'WARNING'
    for _, node in walk(cfg):
        if not isinstance(node, dict):
            continue
        if is_a('DATASETS', node, ImageFolder):
            # What cannot be read is told by the look at all images.
            node.update(verify=False, cache=None, on_unreadable='skip')
        elif is_a('HOOKS', node, HeadFirstHook):
            node['fit'] = False
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint')
    if isinstance(checkpoint, dict):
        checkpoint.pop('out_dir', None)
    return cfg


class HeardWarnings(logging.Handler):
    """Collect the warnings that hybridcls logs in a block, as findings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep messages of hybridcls; those of other packages are rarely about the config."""
        text = record.getMessage()
        caller = text.partition(':')[0]
        if record.levelno < logging.ERROR and text not in self.texts and caller in _HEARD:
            self.texts.append(text)

    def findings(self) -> Iterator[Finding]:
        """Yield one finding per warning."""
        for text in self.texts:
            head, _, rest = text.partition(': ')
            yield Finding(WARNING, head, rest)


# Whose warnings are told: the hooks that compare data and checkpoints with the model.
_HEARD = ('load_from',)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence a Runner's log on the console."""
    # A logger that is older than the block holds the console itself, which redirecting does not take from it.
    streams = [one for logger in instances_of(MMLogger).values() for one in logger.handlers]
    consoles = [one for one in streams if type(one) is logging.StreamHandler and _nothing not in one.filters]
    for one in consoles:
        one.addFilter(_nothing)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for one in consoles:
            one.removeFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    """Let no record through."""
    return False
