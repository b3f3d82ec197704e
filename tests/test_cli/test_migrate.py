"""`hybridcls migrate`: the diff, the exit codes, and files that are rewritten."""

import json
import os
from pathlib import Path

import pytest
from config_helpers import write

from hybridcls.cli import migrate
from hybridcls.cli.main import parse_args
from hybridcls.command_line import run_tool
from hybridcls.engine import ConfigError, load_config
from hybridcls.engine.config.facts import config_facts

DIGITS = Path(__file__).resolve().parents[2] / 'configs' / 'digits'
OLD = """# Mine: sub_centres are three.
_base_ = ['./base.py']
views = [dict(type='RandomCropToSize', scale=(0.3, 1.0))]   # no sizes
train_dataloader = dict(dataset=dict(pipeline=[*views, dict(type='PackInputs')]))
model = dict(
    head=dict(sub_centres=3),
)
optim_wrapper = {'bad_loss': "stop"}
default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))
"""
NEW = (
    OLD.replace('scale=(', 'crop_ratio_range=(')
    .replace('sub_centres=3', 'num_subcenters=3')
    .replace('\'bad_loss\': "stop"', '\'nonfinite_loss\': "raise"')
)
BASE = f"""_base_ = {str(DIGITS / 'adaface_hybrid.py')!r}
optim_wrapper = dict(most_bad_losses=3, bad_loss='skip')  # base
"""


@pytest.fixture(autouse=True)
def _memory(told_renames):
    """Old spellings leave no trace in other tests."""


@pytest.fixture
def old(tmp_path):
    write(tmp_path, 'base.py', BASE)
    return write(tmp_path, 'old.py', OLD)


def run(capsys, *arguments):
    """Run the subcommand; return the exit code, and what it printed."""
    code = migrate.run(parse_args(['migrate', *map(str, arguments)]))
    return code, capsys.readouterr()


def test_the_diff_has_each_line_that_changes_and_nothing_is_written(old, capsys):
    code, said = run(capsys, old)
    assert code == 1
    changed = [line for line in said.out.splitlines() if line[0] in '+-' and line[:3] not in ('+++', '---')]
    pairs = [(a, b) for a, b in zip(OLD.splitlines(), NEW.splitlines(), strict=True) if a != b]
    assert sorted(changed) == sorted([f'-{a}' for a, _ in pairs] + [f'+{b}' for _, b in pairs])
    assert '1 file to rewrite. Add --write to do it.' in said.err
    assert old.read_text() == OLD
    assert sorted(path.name for path in old.parent.iterdir()) == ['base.py', 'old.py']


def test_written_it_says_the_same_and_nothing_is_left_to_do(old, capsys, told_renames):
    facts = config_facts(load_config(old))
    old.chmod(0o640)
    link = old.with_name('link.py')
    link.symlink_to(old)
    code, said = run(capsys, link, '--write', '--bases')
    assert (code, said.out.count('rewritten.')) == (0, 2)
    assert link.is_symlink()
    assert old.read_text() == NEW
    assert old.with_name('base.py').read_text() == BASE.replace('most_bad_losses', 'max_skipped_updates').replace(
        'bad_loss', 'nonfinite_loss'
    )
    assert old.stat().st_mode & 0o777 == 0o640
    told_renames.clear()
    new = config_facts(load_config(old))
    variable = {key for key in facts if key.startswith('views.')}  # nothing reads it but the file
    assert {key: value for key, value in facts.items() if key not in variable}.items() <= new.items()
    assert not told_renames
    code, said = run(capsys, link, '--bases')
    assert (code, said.out) == (0, 'Nothing to do: there are no old spellings.\n')


def test_without_bases_they_are_left_alone(old, capsys):
    assert run(capsys, old, '--write')[0] == 0
    assert old.with_name('base.py').read_text() == BASE


def test_a_chain_and_the_options_of_its_phases(tmp_path, capsys):
    text = f"""cfg_options = {{'optim_wrapper.bad_loss': 'stop'}}
phases = [
    dict(name='a', config={str(DIGITS / 'supcon_hybrid.py')!r}, cfg_options={{'model.head.projection.out': 32}}),
    dict(name='b', config={str(DIGITS / 'adaface_hybrid.py')!r},
         cfg_options=dict(model=dict(head=dict(sub_centres=2)))),
]
"""
    chain = write(tmp_path, 'chain.py', text)
    assert run(capsys, chain, '--write')[0] == 0
    new = text.replace("bad_loss': 'stop'", "nonfinite_loss': 'raise'").replace(
        'projection.out', 'projection.out_channels'
    )
    assert chain.read_text() == new.replace('sub_centres', 'num_subcenters')
    assert run(capsys, chain)[0] == 0


def test_a_config_of_the_lazy_style(tmp_path, capsys):
    write(
        tmp_path, 'lazy_base.py', "model = dict(type='HybridClassifier', head=dict(type='LinearHead', num_classes=3))\n"
    )
    text = (
        'from mmengine.config import read_base\nfrom hybridcls.models.heads import ArcFaceHead\n'
        'from hybridcls.models.modules import AdaFaceMargin  # a margin\n\n'
        'with read_base():\n    from .lazy_base import *\n'
        '\nmodel.update(head=dict(type=ArcFaceHead, num_classes=3, sub_centres=2))\n'
    )
    lazy = write(tmp_path, 'lazy.py', text)
    assert run(capsys, lazy, '--write')[0] == 0
    assert lazy.read_text() == text.replace('models.modules', 'models.margins').replace('sub_centres', 'num_subcenters')


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('code.py', "model = dict(type='ArcFaceHead', num_classes=2, **{'sub_' + 'centres': 3})\n"),
        ('old.json', '{"model": {"type": "ArcFaceHead", "num_classes": 2, "sub_centres": 3}}\n'),
        ('old.yml', 'model:\n  type: ArcFaceHead\n  num_classes: 2\n  sub_centres: 3\n'),
    ],
)
@pytest.mark.parametrize('write_it', [[], ['--write']])
def test_what_the_text_does_not_write_out_is_listed(tmp_path, capsys, name, text, write_it):
    file = write(tmp_path, name, text)
    code, said = run(capsys, file, *write_it)
    assert code == 1
    assert 'model.sub_centres=3 is computed, not written in the file. Write num_subcenters=3' in said.err
    assert file.read_text() == text


def test_a_text_that_would_say_something_else_is_not_written(tmp_path, capsys):
    text = "model = dict(type='ArcFaceHead', num_classes=2)\nmodel = {**model, 'scale': len('ood/auroc_max_softmax')}\n"
    file = write(tmp_path, 'odd.py', text)
    with pytest.raises(ConfigError, match=r'odd\.py would mean something else .*model\.scale \(21, now 26\)'):
        run(capsys, file, '--write')
    assert file.read_text() == text
    assert os.listdir(tmp_path) == ['odd.py']


def test_json_is_one_object(old, capsys):
    code, said = run(capsys, old, '--json', '--bases')
    rows = json.loads(said.out)['files']
    assert (code, [Path(row['file']).name for row in rows]) == (1, ['old.py', 'base.py'])
    assert all(row['diff'].startswith('---') and row['left'] == [] for row in rows)


def test_a_file_that_is_not_there_is_a_mistake_of_the_user(capsys):
    with pytest.raises(SystemExit) as ended:
        run_tool(lambda: migrate.run(parse_args(['migrate', 'none.py'])))
    assert ended.value.code == 2
    assert "config='none.py' does not exist" in capsys.readouterr().err
