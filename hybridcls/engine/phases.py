"""Several configs run as one job: each phase starts from what the one before it learned.

A chain is a config with the key ``phases``::

    phases = [
        dict(name='supcon', config='supcon_convnext_swin.py'),
        dict(name='adaface', config='adaface_convnext_swin.py', load='best', cfg_options=dict(img_size=192)),
    ]
"""
import os
import re
import time
import uuid
from copy import deepcopy
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config
from mmengine.dist import barrier, broadcast_object_list, is_main_process

from hybridcls.checks import check_choice, check_known_keys

from .checkpoint_files import check_writable, newest_whole_checkpoint
from .config import ConfigError, load_config
from .dataloader_defaults import end_workers
from .distributed import prepare_distributed
from .phase_record import PhaseRecord, config_facts, differing_keys, fingerprint
from .phase_report import phase_table
from .runner_instances import own_instances
from .said_once import SAID_ONCE
from .training import TrainOptions, build_runner, check_checkpoint, choose_work_dir, prepare_testing, prepare_training
from .transfer import PARTS

__all__ = ['Phase', 'read_phases', 'run_chain']

_PHASE_KEYS = ('name', 'config', 'cfg_options', 'load', 'transfer', 'test')
_CHAIN_KEYS = ('phases', 'cfg_options', 'work_dir', 'default_scope', *SAID_ONCE)


class Phase:
    """One entry of ``phases``, checked.

    Args:
        name (str): Names its folder, ``<work_dir>/<number>_<name>``.
        config (str): Its config, relative to the file of the chain.
        cfg_options (dict): What differs in it here: dotted keys, or nested dicts. Defaults to nothing.
        load (str, optional): What it starts from: the ``'last'`` or the ``'best'`` checkpoint of the phase before, or
            the path of a checkpoint from elsewhere. Defaults to ``'last'`` (the first phase: to nothing).
        transfer (list[str], optional): The parts of the model that are taken from there; None takes all that fits.
            Defaults to backbone and neck.
        test (bool, optional): Test it when it is trained, if its config says how. Defaults to True for the last phase.
    """

    def __init__(self, number: int, entry: dict, chain: Config, is_last: bool) -> None:
        who = f'phases.{number - 1}'
        if not isinstance(entry, dict):
            raise ConfigError(f'{who} is {entry!r}; an entry of phases is a dict with name and config.')
        check_known_keys(who, entry, _PHASE_KEYS)
        for key in ('name', 'config'):
            if not isinstance(entry.get(key), str) or not entry[key]:
                raise ConfigError(f'{who}: the key {key!r} is missing; write dict(name=..., config=...).')
        self.number, self.name = number, entry['name']
        if not re.fullmatch(r'[\w.-]+', self.name):
            raise ConfigError(f'{who}: name={self.name!r} names a folder; use letters, digits, "_", "-" and ".".')
        config = entry['config']
        if '::' not in config and not os.path.isabs(config):
            config = os.path.join(os.path.dirname(chain.filename or ''), config)
        self.config = config
        self.load = entry.get('load', 'last' if number > 1 else None)
        if self.load is not None and not self.load.endswith('.pth') and '://' not in self.load:
            check_choice(who, 'load', self.load, ['best', 'last'])
            if number == 1:
                raise ConfigError(f'{who}: load={self.load!r} asks for a checkpoint of the phase before, but this is '
                                  'the first phase. Name the path of a checkpoint, or leave load out.')
        self.transfer = entry.get('transfer', list(PARTS))
        self.test = entry.get('test', is_last)
        said = {key: chain[key] for key in SAID_ONCE if chain.get(key) is not None}
        self.options = {**said, **_dotted(chain.get('cfg_options')), **_dotted(entry.get('cfg_options'))}

    @property
    def folder_name(self) -> str:
        """``1_supcon``, so that folders sort in the order in which they ran."""
        return f'{self.number}_{self.name}'


def read_phases(chain: Config) -> list[Phase]:
    """Check the key ``phases`` of a chain and return its phases.

    Raises:
        ConfigError, TypeError: If a key is unknown or missing, a name occurs twice, or there is no phase at all.
    """
    for key in chain:
        if key not in _CHAIN_KEYS:
            raise ConfigError(f'{chain.filename}: the key {key!r} has no meaning in a chain of phases. For one phase '
                              f'say phases.0.cfg_options.{key}=..., for all of them cfg_options.{key}=.... '
                              f'A chain knows: {", ".join(_CHAIN_KEYS)}.')
    if not isinstance(chain.phases, (list, tuple)) or not chain.phases:
        raise ConfigError(f'{chain.filename}: phases is {chain.phases!r}; it should list dicts with name and config.')
    number = len(chain.phases)
    phases = [Phase(index, entry, chain, index == number) for index, entry in enumerate(chain.phases, 1)]
    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        raise ConfigError(f'{chain.filename}: two phases have the same name ({", ".join(names)}).')
    return phases


def run_chain(chain: Config,
              options: Optional[TrainOptions] = None,
              work_dir: Optional[str] = None) -> list[PhaseRecord]:
    """Run the phases of a chain, each in its own folder below the work dir, and print what came out.

    A phase that is finished is not run again, one that was interrupted goes on from its last checkpoint. All phases
    run in this process (under a launcher: in these processes), with Runners of their own.

    Args:
        chain (Config): From :func:`~hybridcls.engine.config.load_config`.
        options (TrainOptions, optional): Apply to each phase. ``resume='auto'`` allows an interrupted phase to go on
            with another config than it began with.
        work_dir (str, optional): Wins over ``chain.work_dir``.

    Returns:
        list[PhaseRecord]: What each phase left behind, in order.

    Raises:
        ValueError: If a phase was finished, or begun, with another config than it has now; names the keys. Nothing is
            overwritten then.
    """
    options = options or TrainOptions()
    if options.resume not in (None, 'auto'):
        raise ValueError(f'--resume {options.resume}: a chain goes on by itself from the phase that was interrupted. '
                         "To start a phase from a checkpoint, set phases.N.load='PATH'.")
    phases = read_phases(chain)
    cfgs = [load_config(phase.config, phase.options) for phase in phases]  # all mistakes come to light before hour one
    for phase in phases:
        if phase.load not in (None, 'best', 'last'):
            check_checkpoint(phase.load)
    folder = Path(choose_work_dir(chain, work_dir))
    check_writable(folder)
    prepare_distributed(chain, options.launcher)
    _start_group(cfgs[0], options.launcher)
    records: list[PhaseRecord] = []
    for phase, cfg in zip(phases, cfgs, strict=True):
        before = records[-1] if records else None
        records.append(_run_phase(phase, cfg, folder, options, before, len(phases)))
    if is_main_process():
        print(phase_table(folder, records), flush=True)
    return records


def _run_phase(phase: Phase, cfg: Config, work_dir: Path, options: TrainOptions, before: Optional[PhaseRecord],
               number_of_phases: int) -> PhaseRecord:
    folder = work_dir / phase.folder_name
    record, finished = _shared(lambda: _look_up(phase, cfg, folder, options, before))
    head = f'Phase {phase.number} of {number_of_phases}, {phase.name}'
    if finished:
        _say(f'{head}: finished before, in {folder}. Kept as it is.')
        return record
    start = _start_of(phase, work_dir, before)
    options = deepcopy(options)
    options.resume = 'auto'
    cfg.load_from, cfg.resume = start or cfg.get('load_from'), False
    cfg.experiment_name = phase.folder_name
    if start is not None:
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), dict(type='hybridcls.TransferHook', parts=phase.transfer)]
    test_cfg = deepcopy(cfg)
    seconds_before, began = record.seconds, time.monotonic()
    finished = False
    try:
        with own_instances():
            prepare_training(cfg, options, str(folder))
            test_cfg.model = deepcopy(cfg.model)  # with the number of classes, if that was counted
            whence = f'goes on from {cfg.load_from}' if cfg.resume else f'starts from {start or "the beginning"}'
            _say(f'{head}: {whence}; config {phase.config}, folder {folder}.')
            runner = build_runner(cfg)
            try:
                runner.train()
            finally:
                end_workers(runner)
            record.checkpoints, record.metrics = _outcome(runner, folder)
            del runner
        if phase.test and test_cfg.get('test_dataloader') is not None:
            record.metrics.update(_test(phase, test_cfg, folder, options, record))
        finished = True
    finally:  # an interrupted attempt counts in the time too
        record.seconds = seconds_before + time.monotonic() - began
        if is_main_process():
            record.write(folder, finished)
    barrier()
    return record


def _look_up(phase: Phase, cfg: Config, folder: Path, options: TrainOptions,
             before: Optional[PhaseRecord]) -> tuple[PhaseRecord, bool]:
    """Return the phase's record and whether it is finished; refuse a folder that belongs to another config."""
    facts = config_facts(cfg)
    facts.update({'phase.transfer': repr(phase.transfer), 'phase.load': repr(phase.load),
                  'phase.amp': repr(options.amp), 'phase.auto_scale_lr': repr(options.auto_scale_lr)})
    new = PhaseRecord(phase.name, fingerprint(facts), facts, after=before.identity if before else None,
                      identity=uuid.uuid4().hex[:12])
    anew = f'remove the folder {folder} to train it anew, or choose another --work-dir'
    for finished in (True, False):
        old = PhaseRecord.read(folder, finished)
        if old is None:
            continue
        state = 'finished' if finished else 'begun'
        if old.after != new.after:
            raise ValueError(f'Phase {phase.name} was {state} after another training of the phase before it, which has '
                             f'been run again since: {anew}.')
        if old.fingerprint != new.fingerprint:
            change = differing_keys(old.facts, facts)
            if finished or options.resume is None:
                also = '' if finished else ', or add --resume to let it go on with the new config'
                raise ValueError(f'Phase {phase.name} was {state} with another config. What differs: {change}. '
                                 f'Take the old values back, {anew}{also}.')
            _say(f'Phase {phase.name} goes on with a changed config: {change}.')
        if finished:
            return old, True
        new.seconds, new.identity = old.seconds, old.identity
        new.write(folder, finished=False)
        return new, False
    if newest_whole_checkpoint(folder) is not None:
        raise ValueError(f'{folder} holds checkpoints, but no record of phase {phase.name}: they are of another '
                         f'training; {anew}.')
    folder.mkdir(parents=True, exist_ok=True)
    new.write(folder, finished=False)
    return new, False


def _start_of(phase: Phase, work_dir: Path, before: Optional[PhaseRecord]) -> Optional[str]:
    """Return the checkpoint that a phase starts from."""
    if phase.load is None or phase.load not in ('best', 'last'):
        return phase.load
    assert before is not None  # the first phase has no such `load`
    folder = work_dir / f'{phase.number - 1}_{before.name}'
    if phase.load not in before.checkpoints:
        advice = ('Set default_hooks.checkpoint.save_best in its config, or load=\'last\' here.'
                  if phase.load == 'best' else 'Its CheckpointHook saves none: set default_hooks.checkpoint.interval.')
        raise ValueError(f'Phase {phase.name}: load={phase.load!r}, but phase {before.name} kept no such checkpoint. '
                         f'{advice}')
    path = str(folder / before.checkpoints[phase.load])
    check_checkpoint(path)
    return path


def _outcome(runner: Any, folder: Path) -> tuple[dict[str, str], dict[str, float]]:
    """Read the checkpoints and the last validation of a Runner that has trained."""
    info = runner.message_hub.runtime_info
    checkpoints = {}
    for kind in ('last', 'best'):
        path = info.get(f'{kind}_ckpt')
        if path:
            checkpoints[kind] = os.path.relpath(path, folder)
    metrics = {name: float(buffer.current()) for name, buffer in runner.message_hub.log_scalars.items()
               if name.startswith('val/') and 'time' not in name}
    if 'best_score' in info:
        metrics['best/score'] = float(info['best_score'])
    return checkpoints, metrics


def _test(phase: Phase, cfg: Config, folder: Path, options: TrainOptions, record: PhaseRecord) -> dict[str, float]:
    """Test the phase's last checkpoint, in a Runner of its own.

    The one that trained may hold other weights than it saved: with an EMAHook it would test those that are not
    averaged.
    """
    if 'last' not in record.checkpoints:
        return {}
    cfg.experiment_name = f'{phase.folder_name}_test'
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks') or [] if 'TransferHook' not in str(hook.get('type'))]
    with own_instances():
        prepare_testing(cfg, str(folder / record.checkpoints['last']), options, str(folder / 'test'))
        runner = build_runner(cfg)
        metrics = runner.test()
        end_workers(runner)
    return {f'test/{name}': float(value) for name, value in metrics.items() if isinstance(value, (int, float))}


def _start_group(cfg: Config, launcher: str) -> None:
    """Start the group of processes now, where mmengine's first Runner would: decisions are shared before that."""
    from mmengine.dist import init_dist, is_distributed
    from mmengine.utils.dl_utils import set_multi_processing
    if launcher == 'none' or is_distributed():
        return
    env = cfg.get('env_cfg') or {}
    set_multi_processing(**(env.get('mp_cfg') or {}), distributed=True)
    init_dist(launcher, **(env.get('dist_cfg') or {}))


def _shared(decide: Any) -> Any:
    """Let the first process decide for all; a mistake it finds is raised in all of them."""
    answer: list[Any] = [None, None]
    if is_main_process():
        try:
            answer = [decide(), None]
        except ValueError as error:
            answer = [None, str(error)]
    broadcast_object_list(answer)
    if answer[1] is not None:
        raise ValueError(answer[1])
    return answer[0]


def _dotted(options: Optional[dict]) -> dict[str, Any]:
    """Flatten nested dicts to dotted keys, so that later ones win key by key."""
    flat: dict[str, Any] = {}
    for key, value in (options or {}).items():
        if isinstance(value, dict) and value and '_delete_' not in value and 'type' not in value:
            flat.update({f'{key}.{inner}': entry for inner, entry in _dotted(value).items()})
        else:
            flat[key] = value
    return flat


def _say(text: str) -> None:
    if is_main_process():
        print(text, flush=True)
