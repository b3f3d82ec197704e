"""The console shows what concerns the user, and the log file has everything."""

import inspect
import logging
import re
import sys

import pytest
from mmengine.fileio.file_client import FileClient
from mmengine.logging import print_log
from mmengine.utils import is_str

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training, run_training
from hybridcls.engine.runner.console import Bars, ConsoleFilter, track
from hybridcls.engine.runner.global_instances import isolated_globals


def said_by(speak):
    """Whether the filter lets pass what a function logs."""
    passed = []
    logger = logging.Logger('test')
    handler = logging.Handler()
    handler.emit = passed.append
    handler.addFilter(ConsoleFilter())
    logger.addHandler(handler)
    speak(logger)
    return bool(passed)


def by_mmengine(level):
    """Log from a function of mmengine, as its Runner does."""
    source = f"def speak(logger):\n    logger.log({level}, 'text')\n"
    names = {}
    exec(compile(source, is_str.__code__.co_filename, 'exec'), names)
    return names['speak']


def test_what_mmengine_says_below_a_warning_is_for_the_file():
    assert not said_by(by_mmengine(logging.INFO))
    assert said_by(by_mmengine(logging.WARNING))
    assert said_by(lambda logger: logger.info('of a hook of the user'))
    assert said_by(lambda logger: print_log('through mmengine', logger=logger)), 'the caller is below print_log'


def test_remarks_on_the_inside_of_mmengine_are_for_the_file():
    source = "def speak(logger):\n    logger.warning('text')\n"
    names = {}
    exec(compile(source, inspect.getfile(FileClient), 'exec'), names)
    assert not said_by(names['speak'])


def train(toy_configs, folder, **options):
    with isolated_globals():
        cfg = load_config(toy_configs / 'toy.py', {'log_level': 'INFO', **options})
        run_training(build_runner(prepare_training(cfg, TrainOptions(), str(folder))))
    return next(folder.glob('*/*.log')).read_text()


def test_a_training_begins_within_forty_lines_and_the_file_has_the_rest(toy_configs, tmp_path, capsys):
    log = train(toy_configs, tmp_path / 'w')
    lines = capsys.readouterr().out.splitlines()
    first = next(number for number, line in enumerate(lines) if 'Epoch(train)' in line)
    assert first < 40
    head = '\n'.join(lines[:first])
    rows = ('model     ToyModel', 'trainable params: ', 'train     ToyPoints: ', '3 classes', 'optimizer SGD, lr 0.05')
    for row in (*rows, 'schedule  3 epochs of', f'work dir  {tmp_path / "w"}', 'device'):
        assert row in head, row
    assert not any('Hooks will be executed' in line or 'System environment' in line for line in lines)
    assert 'Hooks will be executed' in log
    assert 'System environment' in log
    assert sum(bool(re.search(r'Validation after epoch \d: toy/top1 \d', line)) for line in lines) == 3


def test_every_log_is_shown_on_request(toy_configs, tmp_path, capsys):
    train(toy_configs, tmp_path / 'w', log_level='DEBUG')
    assert 'Hooks will be executed' in capsys.readouterr().out


def test_without_a_terminal_there_are_no_bars(capsys):
    assert not Bars.are_shown_here()
    assert list(track([1, 2], 'two')) == [1, 2]
    assert capsys.readouterr().out == ''


@pytest.mark.filterwarnings('ignore')
def test_a_terminal_has_bars_and_the_log_goes_on_above_them(toy_configs, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(Bars, 'are_shown_here', staticmethod(lambda: True))
    start = Bars.start

    def watch(self):
        start(self)
        add = self.progress.add_task
        self.progress.add_task = lambda name, **more: (shown.append(name), add(name, **more))[1]

    monkeypatch.setattr(Bars, 'start', watch)
    before = sys.stdout
    train(toy_configs, tmp_path / 'w')
    assert 'validation' in shown
    assert sys.stdout is before
    assert Bars.shown is None
