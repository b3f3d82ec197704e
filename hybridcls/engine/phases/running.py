"""Run several configs as one job: each phase starts from the weights of the one before it.

A chain is a config with the key ``phases``::

    phases = [
        dict(name='supcon', config='supcon_convnext_swin.py'),
        dict(name='adaface', config='adaface_convnext_swin.py', load='best', cfg_options=dict(img_size=192)),
    ]
"""

import time
import uuid
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Optional

from mmengine.config import Config
from mmengine.dist import barrier, is_main_process

from ..checkpoints.files import check_checkpoint, check_writable, latest_valid_checkpoint
from ..config import Change, apply, load_config
from ..config.facts import config_facts, differing_keys, fingerprint
from ..config.renamed import new_facts
from ..config.tree import ABSENT, is_a
from ..hooks import TransferHook
from ..runner.distributed import decided_by_first, start_group, start_processes
from ..runner.global_instances import isolated_globals
from ..runner.outcome import outcome_of
from ..runner.workers import end_workers
from ..training import TrainOptions, build_runner, choose_work_dir, prepare_testing, prepare_training, run_training
from .folds import fold_summary
from .plan import Phase, read_phases
from .record import PhaseRecord
from .report import phase_table

__all__ = ['run_chain']


def run_chain(
    chain: Config, options: Optional[TrainOptions] = None, work_dir: Optional[str] = None
) -> list[PhaseRecord]:
    """Run the phases of a chain, each in its own folder below the work dir, and print their results.

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
        raise ValueError(
            f'--resume {options.resume}: a chain always continues from the interrupted phase. To start a phase from a '
            "checkpoint, set phases.N.load='PATH'."
        )
    phases = read_phases(chain)
    cfgs = [load_config(phase.config, phase.options) for phase in phases]  # all mistakes come to light before hour one
    for phase in phases:
        if phase.load not in (None, 'best', 'last'):
            check_checkpoint(phase.load)
    folder = Path(choose_work_dir(chain, work_dir))
    check_writable(folder)
    launcher = options.launcher or chain.get('launcher') or 'none'
    options = replace(options, launcher=launcher)
    start_processes(launcher)
    start_group(cfgs[0], launcher)
    records: list[PhaseRecord] = []
    for phase, cfg in zip(phases, cfgs, strict=True):
        before = records[-1] if records else None
        later = [one.get('train_cfg', {}).get('max_epochs') or 0 for one in cfgs[phase.number :]]
        records.append(_run_phase(phase, cfg, folder, options, before, len(phases), sum(later)))
    if is_main_process():
        print('\n'.join(filter(None, [phase_table(folder, records), fold_summary(records)])), flush=True)
    return records


def _run_phase(
    phase: Phase,
    cfg: Config,
    work_dir: Path,
    options: TrainOptions,
    before: Optional[PhaseRecord],
    number_of_phases: int,
    epochs_after: int,
) -> PhaseRecord:
    folder = work_dir / phase.folder_name
    record, finished = decided_by_first(lambda: _look_up(phase, cfg, folder, options, before))
    head = f'Phase {phase.number} of {number_of_phases}, {phase.name}'
    if finished:
        _say(f'{head}: already finished, in {folder}.')
        return record
    start = _start_of(phase, work_dir, before)
    options = replace(options, resume='auto')
    position = f'{phase.number} of {number_of_phases}, {phase.name}'
    apply(cfg, _begin, phase, start, position, epochs_after)
    start = start or cfg.get('load_from')
    test_cfg = deepcopy(cfg)
    seconds_before, began = record.seconds, time.monotonic()
    finished = False
    try:
        with isolated_globals():
            prepare_training(cfg, options, str(folder), str(work_dir))
            test_cfg.model = deepcopy(cfg.model)  # with the number of classes, if that was counted
            whence = f'goes on from {cfg.load_from}' if cfg.get('resume') else f'starts from {start or "the beginning"}'
            _say(f'{head}: {whence}; config {phase.config}, folder {folder}.')
            runner = build_runner(cfg)
            run_training(runner)
            record.checkpoints, record.metrics, record.no_best = outcome_of(runner, folder)
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


def _begin(cfg: Config, phase: Phase, start: Optional[str], position: str, epochs_after: int) -> Iterator[Change]:
    """Plan the starting checkpoint and the name of a phase."""
    hooks = [dict(type='hybridcls.ConsoleHook', phase=position, epochs_after=epochs_after)]
    if start is not None:
        yield Change(('load_from',), cfg.get('load_from', ABSENT), start, f'start of phase {phase.name}', 'phase')
        hooks.append(dict(type='hybridcls.TransferHook', parts=phase.transfer))
    old = cfg.get('custom_hooks', ABSENT)
    yield Change(('custom_hooks',), old, [*(old or []), *hooks], 'hooks of a phase', 'phase', False)
    if cfg.get('resume'):
        yield Change(('resume',), cfg.resume, False, 'a chain decides which phase continues', 'phase')
    yield Change(('experiment_name',), cfg.get('experiment_name', ABSENT), phase.folder_name, 'phase', 'phase', False)


def _look_up(
    phase: Phase, cfg: Config, folder: Path, options: TrainOptions, before: Optional[PhaseRecord]
) -> tuple[PhaseRecord, bool]:
    """Return the phase's record and whether it is finished; reject a folder that belongs to another config."""
    facts = config_facts(cfg)
    facts.update(
        {
            'phase.transfer': repr(phase.transfer),
            'phase.load': repr(phase.load),
            'phase.amp': repr(options.amp),
            'phase.auto_scale_lr': repr(options.auto_scale_lr),
        }
    )
    new = PhaseRecord(
        phase.name, fingerprint(facts), facts, after=before.identity if before else None, identity=uuid.uuid4().hex[:12]
    )
    again = f'remove the folder {folder} to train it again, or choose another --work-dir'
    for finished in (True, False):
        old = PhaseRecord.read(folder, finished)
        if old is None:
            continue
        if not finished and latest_valid_checkpoint(folder) is None:
            # A mistake in the config often shows when the model is built.
            # Nothing was trained, so its record binds nothing.
            if old.fingerprint != new.fingerprint or old.after != new.after:
                _say(f'Phase {phase.name} had saved no checkpoint: it starts again, with the config of now.')
            break
        state = 'finished' if finished else 'begun'
        if old.after != new.after and phase.load in ('best', 'last'):
            raise ValueError(
                f'Phase {phase.name} was {state} after an earlier training of the previous phase, which has been run '
                f'again since: {again}.'
            )
        old_facts = facts if old.fingerprint == new.fingerprint else new_facts(old.facts)  # of version 0.1, perhaps
        if fingerprint(old_facts) != new.fingerprint:
            change = differing_keys(old_facts, facts)
            if finished or options.resume is None:
                also = '' if finished else ', or add --resume to continue it with the new config'
                raise ValueError(
                    f'Phase {phase.name} was {state} with another config. What differs: {change}. Use the old values, '
                    f'{again}{also}.'
                )
            _say(f'Phase {phase.name} continues with a changed config: {change}.')
        if finished:
            return old, True
        new.seconds, new.identity = old.seconds, old.identity
        new.write(folder, finished=False)
        return new, False
    _start_of(phase, folder.parent, before)  # a start that is not there shall not leave a record that it has begun
    if latest_valid_checkpoint(folder) is not None:
        raise ValueError(
            f'{folder} has checkpoints but no record of phase {phase.name}, so they belong to another training; '
            f'{again}.'
        )
    folder.mkdir(parents=True, exist_ok=True)
    new.write(folder, finished=False)
    return new, False


def _start_of(phase: Phase, work_dir: Path, before: Optional[PhaseRecord]) -> Optional[str]:
    """Return the checkpoint from which a phase starts."""
    if before is None or phase.load not in ('best', 'last'):  # the plan gives the first phase no such `load`
        return phase.load
    folder = work_dir / f'{phase.number - 1}_{before.name}'
    if phase.load not in before.checkpoints:
        advice = 'Its CheckpointHook saves none: set default_hooks.checkpoint.interval.'
        if phase.load == 'best':
            set_it = 'Set default_hooks.checkpoint.save_best in its config'
            advice = f"{before.no_best or set_it + ','} {'Set' if before.no_best else 'or'} load='last' here."
        raise ValueError(
            f'Phase {phase.name}: load={phase.load!r}, but phase {before.name} kept no such checkpoint. {advice}'
        )
    path = str(folder / before.checkpoints[phase.load])
    check_checkpoint(path)
    return path


def _test(phase: Phase, cfg: Config, folder: Path, options: TrainOptions, record: PhaseRecord) -> dict[str, float]:
    """Test the phase's best checkpoint, else its last, in a separate Runner.

    The one that trained may hold other weights than it saved: with an EMAHook it would test those that are not
    averaged.
    """
    checkpoint = record.checkpoints.get('best') or record.checkpoints.get('last')
    if checkpoint is None:
        return {}
    cfg.experiment_name = f'{phase.folder_name}_test'
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks') or [] if not is_a('HOOKS', hook, TransferHook)]
    with isolated_globals():
        prepare_testing(cfg, str(folder / checkpoint), options, str(folder / 'test'))
        runner = build_runner(cfg)
        metrics = runner.test()
        end_workers(runner)
    return {f'test/{name}': float(value) for name, value in metrics.items() if isinstance(value, (int, float))}


def _say(text: str) -> None:
    if is_main_process():
        print(text, flush=True)
