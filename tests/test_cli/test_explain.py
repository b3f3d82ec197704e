"""`hybridcls explain`: where each value comes from, and what reads it."""

import json
import re
from pathlib import Path

import pytest
from config_helpers import write

import hybridcls
from hybridcls.cli import explain
from hybridcls.cli.main import parse_args
from hybridcls.engine import TrainOptions, load_config, prepare_training
from hybridcls.engine.config.tree import leaves_in, value_at

ROOT = Path(__file__).resolve().parents[2] / 'configs'
SHIPPED = sorted(ROOT.rglob('*.py'))
DIGITS = ROOT / 'digits' / 'ce_hybrid.py'
# Dicts that a class takes whole; of which keys in them it reads, no signature tells.
WHOLE = {'RandAugment (mmpretrain.RandAugment), in hparams', 'HybridOptimWrapperConstructor, in paramwise_cfg'}


def run(capsys, *arguments):
    """Run the subcommand; return the exit code and its output."""
    code = explain.run(parse_args(['explain', *map(str, arguments)]))
    return code, capsys.readouterr().out


def rows(capsys, *arguments):
    """Return the exit code and the keys of the (first) report, by name."""
    code, out = run(capsys, *arguments, '--json')
    return code, {row['key']: row for row in json.loads(out)['reports'][0]['keys']}


def place(row):
    return Path(row['file']).name, row['line']


@pytest.fixture
def family(tmp_path):
    """A child of a base, on the digits."""
    write(
        tmp_path,
        'base.py',
        f"""_base_ = {str(DIGITS)!r}
lr = 0.5
val_pipeline = [dict(type='ResizeToSize'), dict(type='PackInputs')]
val_dataloader = dict(
    dataset=dict(pipeline=val_pipeline))
model = dict(
    head=dict(type='LinearHead',
              label_smoothing=0.1),
    neck={{'fusion_dim': 8}})
""",
    )
    return write(
        tmp_path,
        'child.py',
        """_base_ = 'base.py'
model = dict(head=dict(label_smoothing=0.2))
val_pipeline = [
    dict(type='ResizeToSize'),
    dict(type='PackInputs', meta_keys=('label',))]
""",
    )


def writes(line, key):
    return re.search(rf"\b{re.escape(str(key))}(\s*=|':)", line)


def refers(line, one, report):
    """Whether the line repeats a variable of the bases around the key, and the variable has the same value there."""
    values = {other.path: other.value for other in report.keys}
    return any(
        values.get((*variable.split('.'), *one.path[one.path.index(key) + 1 :])) == one.value
        for key, variable in re.findall(r'\b(\w+)=\{\{_base_\.([\w.]+)\}\}', line)
        if key in one.path[:-1]
    )


@pytest.mark.parametrize('path', SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_key_of_every_shipped_config(path):
    args = parse_args(['explain', str(path)])
    for report in explain.reports_of(args):
        for one in report.keys:
            name = f'{report.title}: {one.path} = {one.value}'
            if one.status == 'inside':
                assert one.taker in WHOLE, name
            else:
                assert one.status in ('read', 'variable', 'passed over'), f'{name}: {one.taker}'
            assert one.taker, name
            if one.source in ('file', 'option'):  # the line holds the key; an option is one of a chain's
                line = Path(one.file).read_text().splitlines()[one.line - 1]
                repeated = one.why.startswith('repeats ') and writes(line, one.why.removeprefix('repeats '))
                assert repeated or writes(line, one.path[-1]) or refers(line, one, report), (
                    f'{name}: {one.file}:{one.line}: {line}'
                )
            else:
                assert one.source in ('filled', 'adapted'), name
                assert one.why, name


def test_explanation_covers_every_leaf():
    (report,) = explain.reports_of(parse_args(['explain', str(DIGITS)]))
    cfg, _ = explain.final_config(parse_args(['explain', str(DIGITS)]))
    explained = [one.path for one in report.keys]
    assert len(explained) == len(set(explained))
    for leaf, _ in leaves_in(cfg):
        assert any(leaf[: len(path)] == path for path in explained), leaf


@pytest.mark.parametrize('option', [None, '--amp', '--auto-scale-lr', '--no-validate'])
def test_the_final_config_is_the_one_that_is_trained(tmp_path, option):
    """Steps that look at data, weights or the work dir apart."""
    options = TrainOptions(
        amp=option == '--amp', auto_scale_lr=option == '--auto-scale-lr', validate=option != '--no-validate'
    )
    trained = prepare_training(load_config(DIGITS), options, str(tmp_path))
    explained, _ = explain.final_config(parse_args(['explain', str(DIGITS), *([option] if option else [])]))
    for key in ('work_dir', 'filled'):
        trained.pop(key)
    assert set(trained) == set(explained)
    for leaf, value in leaves_in(trained):
        if leaf[-1] == 'type':
            value = value.removeprefix('hybridcls.')
            assert value_at(explained, leaf).removeprefix('hybridcls.') == value
        else:
            assert value_at(explained, leaf) == value, leaf


def test_option_over_child_over_base(capsys, family):
    _, keys = rows(capsys, family)
    assert keys['model.head.label_smoothing']['value'] == 0.2
    assert place(keys['model.head.label_smoothing']) == ('child.py', 2)
    assert place(keys['model.head.type']) == ('base.py', 7)
    assert place(keys['model.neck.fusion_dim']) == ('base.py', 9)
    assert place(keys['model.neck.type']) == ('hybrid_digits.py', 18)
    _, keys = rows(capsys, family, '--cfg-options', 'model.head.label_smoothing=0.3')
    row = keys['model.head.label_smoothing']
    assert (row['value'], row['source'], row['file']) == (0.3, 'option', '--cfg-options')


def test_shared_options_and_bare_names(capsys):
    _, keys = rows(capsys, 'digits/ce_hybrid', '--lr', '0.25')
    row = keys['optim_wrapper.optimizer.lr']
    assert (row['value'], row['source'], row['file']) == (0.25, 'filled', '--cfg-options')


def test_filled_value_names_its_source(capsys, family):
    _, keys = rows(capsys, family)
    row = keys['optim_wrapper.optimizer.lr']
    assert (row['value'], row['source'], row['why'], place(row)) == (0.5, 'filled', 'top-level lr', ('base.py', 2))
    assert keys['lr']['taker'] == 'fills optim_wrapper.optimizer.lr'
    _, keys = rows(capsys, family, '--cfg-options', 'lr=0.25')
    row = keys['optim_wrapper.optimizer.lr']
    assert (row['value'], row['source'], row['file']) == (0.25, 'filled', '--cfg-options')


def test_adapted_value_shows_the_old_one(capsys, family):
    _, keys = rows(capsys, family, '--cfg-options', 'max_epochs=1')
    row = keys['param_scheduler.0.end']
    assert (row['value'], row['old'], row['source']) == (0.2, 2, 'adapted')
    assert 'the training ends after 1 epochs' in row['why']
    child = write(family.parent, 'short.py', "_base_ = 'child.py'\nmax_epochs = 1\n")
    _, keys = rows(capsys, child)
    assert place(keys['param_scheduler.0.end']) == place(keys['max_epochs']) == ('short.py', 2)
    _, out = run(capsys, family, 'param_scheduler.0.end', '--cfg-options', 'max_epochs=1')
    assert 'param_scheduler.0.end = 0.2' in out
    assert 'was 2: the training ends' in out


def test_repeated_variable_is_shown(capsys, family):
    _, keys = rows(capsys, family)
    row = keys['val_dataloader.dataset.pipeline.1.meta_keys']
    assert (row['why'], place(row)) == ('repeats val_pipeline', ('child.py', 5))
    assert keys['val_pipeline.1.meta_keys']['taker'].startswith('variable of val_dataloader.dataset.pipeline')


def test_an_old_spelling_is_shown_in_the_new_one_with_its_own_line(capsys, tmp_path):
    base = str(DIGITS.with_name('adaface_hybrid.py'))
    old = 'sub_centres=2'  # old spelling
    code, keys = rows(
        capsys, write(tmp_path, 'old.py', f'_base_ = {base!r}\nmodel = dict(\n    head=dict(\n        {old}))\n')
    )
    row = keys['model.head.num_subcenters']
    assert (code, row['value'], place(row), row['why']) == (0, 2, ('old.py', 4), f'written as {old}')
    assert f'model.head.{old.split("=")[0]}' not in keys


def test_hooks_of_the_config_keep_their_index(capsys):
    _, keys = rows(capsys, ROOT / 'digits' / 'supcon_hybrid.py', 'custom_hooks')
    assert place(keys['custom_hooks.0.type']) == ('digits_two_views.py', 33)
    assert keys['custom_hooks.1.type']['why'] == 'hooks of every run'


@pytest.mark.parametrize('key', ['model.head', 'model.head.type'])
def test_selected_key_and_the_keys_below_it(capsys, key):
    code, keys = rows(capsys, DIGITS, key)
    assert code == 0
    assert 'model.head.type' in keys
    assert all(name.startswith(key) for name in keys)
    assert 'model.header' not in keys


def test_unknown_key_is_a_user_error(capsys):
    with pytest.raises(ValueError, match=r"got 'model.haed'\. Did you mean 'model.head'"):
        run(capsys, DIGITS, 'model.haed')


def test_explain_from_another_folder(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    is_installed = Path(hybridcls.__file__).with_name('.mim').exists()
    for name in [DIGITS, *(['hybridcls::digits/ce_hybrid.py'] if is_installed else [])]:
        code, out = run(capsys, name)
        assert code == 0
        assert 'hybrid_digits.py:3' in out
    assert not list(tmp_path.iterdir())


def test_the_table_is_readable(capsys):
    _, out = run(capsys, ROOT / 'hybrid' / 'ce_convnext_swin_1gpu.py')
    lines = out.splitlines()
    assert sum(len(line) > 120 for line in lines if not line.startswith('  configs')) < 10
    assert any(
        re.fullmatch(r'  backbone.with_cp = True +# ce_convnext_swin_1gpu.py:7 -> HybridBackbone', x) for x in lines
    )
    assert re.fullmatch(r'\d+ keys: .*', lines[-1])


def test_base_config_of_an_installed_package(capsys, tmp_path):
    """mmengine's `_scope_` in each dict of it is not a key of the user."""
    if not Path(hybridcls.__file__).with_name('.mim').exists():
        pytest.skip('not installed, so hybridcls:: finds nothing')
    child = write(tmp_path, 'child.py', "_base_ = ['hybridcls::digits/ce_hybrid.py']\nlr = 0.5\n")
    code, keys = rows(capsys, child)
    assert code == 0
    assert place(keys['optim_wrapper.optimizer.lr']) == ('child.py', 2)
    assert 'set by code' not in run(capsys, child)[1]


def test_incomplete_base_is_explained_without_completion(capsys):
    code, out = run(capsys, ROOT / '_base_' / 'models' / 'hybrid_digits.py')
    assert code == 0
    assert 'This config has no train_dataloader, train_cfg, optim_wrapper: it is shown as written' in out


def test_the_phases_of_a_chain(capsys):
    chain = ROOT / 'digits' / 'two_phase.py'
    code, out = run(capsys, chain, '--json')
    reports = json.loads(out)['reports']
    assert code == 0
    assert [report['phase'] for report in reports] == [None, 'supcon', 'adaface']
    assert reports[0]['keys'][0]['taker'] == 'run_chain'
    lr = {row['key']: row for row in reports[2]['keys']}['optim_wrapper.optimizer.lr']
    assert (lr['value'], lr['why'], place(lr)) == (1e-3, 'top-level lr', ('two_phase.py', 8))
    assert "This phase starts from load='last' instead of load_from." in reports[2]['notes']
    _, out = run(capsys, chain, 'adaface.model.head', '--json')
    (report,) = json.loads(out)['reports']
    assert {row['key'] for row in report['keys']} == {'model.head.type', 'model.head.scale', 'model.head.num_classes'}
    assert len(json.loads(run(capsys, chain, 'model.head.type', '--json')[1])['reports']) == 2
    assert [x['phase'] for x in json.loads(run(capsys, chain, 'supcon', '--json')[1])['reports']] == ['supcon']


def test_options_of_a_chain(capsys):
    options = ['--cfg-options', 'cfg_options.lr=0.125', 'phases.0.cfg_options.model.neck.fusion_dim=8']
    _, out = run(capsys, ROOT / 'digits' / 'two_phase.py', 'supcon', *options, '--json')
    keys = {row['key']: row for row in json.loads(out)['reports'][0]['keys']}
    assert [keys[name]['value'] for name in ('lr', 'model.neck.fusion_dim')] == [0.125, 8]
    assert {keys[name]['file'] for name in ('lr', 'model.neck.fusion_dim')} == {'--cfg-options'}


@pytest.mark.parametrize(
    ('line', 'key', 'taker'),
    [
        ('model = dict(head=dict(label_smoothng=0.1))', 'model.head.label_smoothng', "Did you mean 'label_smoothing'?"),
        ('train_dataloader = dict(shufle=True)', 'train_dataloader.shufle', "Did you mean 'shuffle'?"),
        ('optim_wrapper = dict(optimizer=dict(momentum=0.9))', 'optim_wrapper.optimizer.momentum', 'AdamW takes no'),
        ('my_variable = 3', 'my_variable', 'nothing reads it'),
        ('default_hooks = dict(mine=None)', 'default_hooks.mine', 'no default hook'),
        ('val_cfg = dict(fp32=True)', 'val_cfg.fp32', 'ValLoop takes no such key'),
    ],
)
def test_unread_key_is_flagged(capsys, tmp_path, line, key, taker):
    child = write(tmp_path, 'child.py', f'_base_ = {str(DIGITS)!r}\n{line}\n')
    code, out = run(capsys, child)
    assert code == 1
    assert f'! {key.split(".", 1)[-1]} = ' in out
    assert 'READ BY NOTHING' in out
    code, keys = rows(capsys, child, key)
    assert (code, keys[key]['status']) == (1, 'unread')
    assert taker in keys[key]['taker']
    assert json.loads(run(capsys, child, '--json')[1])['unread'] == [key]


def test_unused_variable_of_a_base_is_passed_over(capsys, tmp_path):
    write(tmp_path, 'base.py', f'_base_ = {str(DIGITS)!r}\nmy_variable = 3\n')
    code, keys = rows(capsys, write(tmp_path, 'child.py', "_base_ = 'base.py'\n"), 'my_variable')
    assert (code, keys['my_variable']['status']) == (0, 'passed over')


def test_a_variable_of_an_expression(capsys, tmp_path):
    child = write(tmp_path, 'child.py', f'_base_ = {str(DIGITS)!r}\nepochs_ = 3\nmax_epochs = 2 * epochs_\n')
    code, keys = rows(capsys, child)
    assert (code, keys['epochs_']['taker']) == (0, 'variable of an expression')


PLUGIN = """
from torch import nn
from hybridcls.registry import MODELS

KEY = 'width'

class Inner(nn.Module):
    def __init__(self, width, slope=0.5):
        super().__init__()

@MODELS.register_module(force=True)
class Swallowing(nn.Module):
    def __init__(self, in_channels, **kwargs):
        super().__init__()
        self.tag = kwargs.pop('tag')
        self.inner = Inner(**{key: value for key, value in kwargs.items() if key == KEY})
        self.settings = {key: value for key, value in kwargs.items() if key.startswith('lat')}
        self.out_channels = in_channels
"""


@pytest.fixture
def swallowing(monkeypatch, tmp_path):
    write(tmp_path, 'swallowing_plugin.py', PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    neck = "dict(_delete_=True, type='Swallowing', in_channels=8, width=3, tag='a', later=5, gone=7, slope=0.5)"
    text = (
        f"_base_ = {str(DIGITS)!r}\ncustom_imports = dict(imports=['swallowing_plugin'])\nmodel = dict(neck={neck})\n"
    )
    return write(tmp_path, 'child.py', text)


def test_key_in_kwargs_is_unknown(capsys, swallowing):
    code, keys = rows(capsys, swallowing, 'model.neck')
    status = {name.split('.')[-1]: row['status'] for name, row in keys.items()}
    swallowed = dict.fromkeys(('width', 'tag', 'later', 'gone', 'slope'), 'unknown')
    assert status == dict(type='read', in_channels='read', **swallowed)
    assert code == 0
    assert '? model.neck.gone = 7' in run(capsys, swallowing, 'model.neck')[1]


def test_build_finds_the_reader(capsys, swallowing):
    """`slope` equals a default, but is not passed to it."""
    code, keys = rows(capsys, swallowing, 'model', '--build')
    found = {name.split('.')[-1]: (row['status'], row['taker']) for name, row in keys.items() if 'neck' in name}
    assert found['width'] == ('read', 'Inner (seen while building)')
    assert found['tag'] == ('read', 'Swallowing (seen while building)')
    assert found['later'] == ('unknown', 'Swallowing.settings stores it for later')
    assert found['gone'] == found['slope'] == ('unread', 'Swallowing was built without reading it')
    assert code == 1


def test_part_that_cannot_be_built_stays_unknown(capsys, tmp_path):
    line = 'model = dict(backbone=dict(vit=dict(mlp_ratio=2.0, no_argument=3)))'
    child = write(tmp_path, 'child.py', f'_base_ = {str(DIGITS)!r}\n{line}\n')
    code, out = run(capsys, child, '--build', '--json')
    (report,) = json.loads(out)['reports']
    keys = {row['key']: row for row in report['keys']}
    assert (code, keys['model.backbone.vit.no_argument']['status']) == (0, 'unknown')
    assert keys['model.backbone.vit.mlp_ratio']['taker'] == 'SwinTransformerV2'
    assert any(note.startswith('model was not built: TypeError: TimmStream') for note in report['notes'])


def test_a_build_of_a_shipped_config_needs_no_data(capsys):
    small = ['model.backbone.cnn.model_name=test_convnext', 'model.backbone.vit.model_name=test_vit', 'img_size=64']
    config = ROOT / 'hybrid' / 'ce_convnext_swin_1gpu.py'
    code, out = run(capsys, config, '--build', '--json', '--cfg-options', *small)
    (report,) = json.loads(out)['reports']
    assert code == 0
    assert not [note for note in report['notes'] if 'was not built' in note]
