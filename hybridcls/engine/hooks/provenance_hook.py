"""Record in each checkpoint how it was trained."""

import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

import hybridcls
from hybridcls.checks import counted
from hybridcls.compat.mmengine import resumes
from hybridcls.registry import HOOKS

from ..config.change import provenance_of
from ..config.origins import FILLED
from ..config.tree import ABSENT, dotted, value_at
from ..runner.git_state import git_state

_PACKAGES = ('torch', 'torchvision', 'timm', 'mmengine', 'mmcv', 'mmpretrain', 'numpy', 'PIL', 'peft')
_COMMANDS = ('hybridcls', 'train.py')
_MOST, _LONGEST = 200, 200


@HOOKS.register_module()
class ProvenanceHook(Hook):
    """Record in ``meta['training']`` of checkpoints how they were trained; every run has this hook.

    - ``command``: what was typed, if it was a command of ours.
    - ``git``: ``folder``, ``commit`` and ``dirty`` of the repository in which the command ran, and of that of
      hybridcls, if it runs from one.
    - ``versions``: of Python and of the packages; ``system``; ``device``, that of the first process;
      ``processes``.
    - ``seconds``: wall-clock time until the checkpoint, with that of the attempts it was resumed from; ``attempts``.
    - ``config``: the file; ``written``: ``[key, value, who]`` of what options set, and of what the file itself sets
      where it has bases.

    Names of users and hosts are not looked up, but folders and options are as they were typed, so they may hold some,
    and a password in an option is recorded with it. Nothing of it goes with ``hybridcls push``.
    """

    priority = 'VERY_HIGH'  # before hooks that validate, and save, at the start of a training

    def __init__(self) -> None:
        self._record: dict[str, Any] = {}
        self._began = 0.0
        self._before: dict[str, Any] = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take over the training time of earlier attempts."""
        if resumes(runner):
            self._before = (checkpoint.get('meta') or {}).get('training') or {}

    def before_train(self, runner: Runner) -> None:
        """Collect everything except the time before the first step, as files may change later."""
        self._began = time.monotonic()
        if not is_main_process():
            return
        called = Path(sys.argv[0])
        # Of ``python -m hybridcls`` the first argument is a file of the package.
        typed = 'hybridcls' if called.parent == Path(hybridcls.__file__).parent else called.name
        repositories = [git_state(Path.cwd()), git_state(Path(hybridcls.__file__))]
        self._record = dict(
            command=shlex.join([typed, *sys.argv[1:]]) if typed in _COMMANDS else None,
            git=[one for number, one in enumerate(repositories) if one and one not in repositories[:number]],
            versions=dict(python=platform.python_version(), hybridcls=hybridcls.__version__, **_versions()),
            system=f'{platform.system()} {platform.machine()}',
            device=_device(runner),
            processes=get_world_size(),
            config=runner.cfg.filename,
            written=_written(runner.cfg),
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the record."""
        if self._record:
            seconds = self._before.get('seconds', 0.0) + time.monotonic() - self._began
            attempts = self._before.get('attempts', 0) + 1
            checkpoint['meta']['training'] = dict(self._record, seconds=round(seconds, 3), attempts=attempts)


def _versions() -> dict[str, str]:
    """Return the versions of the packages that are loaded."""
    return {name: str(sys.modules[name].__version__) for name in _PACKAGES if name in sys.modules}


def _device(runner: Runner) -> str:
    """Return the name of the first process's device."""
    device = next(runner.model.parameters()).device
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'{device.type} ({counted(torch.get_num_threads(), "thread")})' if device.type == 'cpu' else device.type


def _written(cfg: Any) -> list[list[str]]:
    """Return the keys that options set and, for a user's config with bases, the keys that it sets itself."""
    known = provenance_of(cfg)
    has_bases = any(FILLED.rank < layer.rank < 0 for layer in known.origins.values())
    is_shipped = Path(cfg.filename or '').resolve().is_relative_to(Path(hybridcls.config_path('')).resolve())
    lowest = 0 if has_bases and not is_shipped else 1
    filled = {change.path for change in known.changes}
    rows = []
    for leaf, layer in known.origins.items():
        value = value_at(cfg, leaf)
        if layer.rank >= lowest and value is not ABSENT and not any(leaf[: len(path)] == path for path in filled):
            text = repr(value)
            rows.append([dotted(leaf), text if len(text) <= _LONGEST else f'{text[:_LONGEST]}...', layer.name])
    return rows[:_MOST]
