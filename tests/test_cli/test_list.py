"""`hybridcls list`: recipes, models and parts, by name and pattern."""

import json
import subprocess
import sys

import pytest
import timm
from command_runs import run_command

from hybridcls import registry
from hybridcls.cli.find_config import shipped_configs


def items(capsys, *arguments):
    assert run_command('list', *arguments, '--json') == 0
    return json.loads(capsys.readouterr().out)['items']


def test_recipes_with_their_first_line(capsys):
    rows = {row['name']: row['about'] for row in items(capsys)}
    assert set(rows) == set(shipped_configs())
    assert [name.partition('/')[0] for name in rows][:: len(rows) - 1] == ['finetune', 'hybrid']  # the first, the last
    assert rows['digits/ce_hybrid'] == 'Baseline: cross entropy on the digits, from scratch.'
    assert all(rows.values())
    assert {row['name'] for row in items(capsys, 'recipes', 'digits/ce_*')} == {'digits/ce_hybrid', 'digits/ce_vit'}
    assert {row['name'] for row in items(capsys, 'recipes', 'CE_VIT')} == {'digits/ce_vit'}


def test_recipes_are_listed_without_slow_imports():
    code = (
        'import sys\nsys.argv = ["hybridcls", "list"]\nfrom hybridcls.cli.main import main\n'
        'try:\n    main()\nexcept SystemExit:\n    sys.exit(40 + ("torch" in sys.modules))\n'
    )
    assert subprocess.run([sys.executable, '-c', code], capture_output=True).returncode == 40


def test_models_are_those_of_timm(capsys):
    rows = {row['name']: row for row in items(capsys, 'models', '*lite0')}
    assert set(rows) == set(timm.list_models('*lite0'))
    assert rows['tf_efficientnet_lite0'] == dict(
        name='tf_efficientnet_lite0', weights='in1k', img_size=224, license='apache-2.0'
    )
    (row,) = items(capsys, 'models', 'efficientnet_lite4')[:1]
    assert row['weights'] is row['license'] is None
    tags = {row['name'] for row in items(capsys, 'models', 'resnet50.a?_in1k')}
    assert tags == set(timm.list_pretrained('resnet50.a?_in1k'))
    assert run_command('list', 'models', 'tf_efficientnet_lite0') == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ['tf_efficientnet_lite0', 'in1k', '224', 'apache-2.0']


def test_parts_by_kind_ours_first(capsys):
    rows = items(capsys, 'parts')
    kinds = {}
    for row in rows:
        kinds.setdefault(row['kind'], []).append(row['name'])
    ours = {row['name'] for row in rows if row['package'] == 'hybridcls'}
    for name in ('MODELS', 'HOOKS', 'TRANSFORMS', 'METRICS', 'DATASETS', 'OPTIM_STAGES', 'PARAM_SCHEDULERS'):
        parts = getattr(registry, name).module_dict  # with the toys of other tests
        assert {key for key, part in parts.items() if part.__module__.startswith('hybridcls.')} <= ours
    for kind, some in dict(
        heads=['AdaFaceHead', 'ArcFaceClsHead'], losses=['SupConLoss', 'FocalLoss'], necks=['DHAFusion'],
        hooks=['ConsoleHook', 'EMAHook'], transforms=['PackInputs'], metrics=['Accuracy'], backbones=['HybridBackbone'],
    ).items():  # fmt: skip
        assert set(some) <= set(kinds[kind])
    packages = [row['package'] == 'hybridcls' for row in rows if row['kind'] == 'heads']
    assert packages == sorted(packages, reverse=True)
    about = {row['name']: row['about'] for row in rows}
    assert about['AdaFaceHead'] == 'AdaFace: a margin that depends on the norm of the embedding.'


def test_a_kind_is_a_pattern_too(capsys):
    assert run_command('list', 'parts', 'heads') == 0
    text = capsys.readouterr().out
    assert text.startswith('heads\n  AdaFaceHead')
    assert 'of mmpretrain: ArcFaceClsHead' in text
    assert 'DHAFusion' not in text


@pytest.mark.parametrize(
    ('arguments', 'near'),
    [
        (['recipes', 'digits/ce_hybird'], "'digits/ce_hybrid'"),
        (['models', 'tf_efficientnet_lite9'], "'tf_efficientnet_lite0'"),
        (['parts', 'AdaFaceHaed'], "'AdaFaceHead'"),
        (['parts', 'haeds'], "'heads'"),
    ],
)
def test_nothing_matches(arguments, near, capsys):
    assert run_command('list', *arguments) == 1
    said = capsys.readouterr()
    assert near in said.err
    assert said.out == ''
