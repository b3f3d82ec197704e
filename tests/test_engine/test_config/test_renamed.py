"""Old spellings in configs: read as those of today, with the layer that wrote them."""

import re
from pathlib import Path

import pytest
from config_helpers import loaded, write
from mmengine.registry import DefaultScope

from hybridcls.engine import ConfigError, is_chain, load_config
from hybridcls.engine.config import layer_of, provenance_of
from hybridcls.engine.config.facts import config_facts
from hybridcls.engine.config.origins import OPTION
from hybridcls.engine.config.renamed import new_facts, with_new_spellings
from hybridcls.engine.config.tree import value_at
from hybridcls.literals import read_assignments
from hybridcls.registry import MODELS, OPTIM_WRAPPERS

ROOT = Path(__file__).resolve().parents[3] / 'configs'
pytestmark = pytest.mark.usefixtures('told_renames')
# How a text of today is written in 0.1, by hand: keys that only these classes have in the shipped configs.
BACK = {
    r'num_subcenters=': 'sub_centres=',
    r'hid_channels=': 'hidden=',
    r'projection=dict\(([^()]*)out_channels=': r'projection=dict(\1out=',
    r'num_layers=': 'layers=',
    r'norm_cfg=': 'norm=',
    r'crop_ratio_range=(?!None)': 'scale=',  # 0.1 took no None: that it is left to the data is new
    r'nonfinite_loss=': 'bad_loss=',
    r'max_skipped_updates=': 'most_bad_losses=',
    r"bad_loss='raise'": "bad_loss='stop'",
    r'least_confidence': 'max_softmax',
}
MODEL = "model = dict(type='HybridClassifier', head=dict(type='ArcFaceHead', num_classes=3{}))\n"


def backwards(text):
    for new, old in BACK.items():
        text = re.sub(new, old, text)
    return text


@pytest.fixture(scope='module')
def shipped_of_0_1(tmp_path_factory):
    """The shipped configs in the spellings of version 0.1."""
    folder = tmp_path_factory.mktemp('v01') / 'configs'
    for path in ROOT.rglob('*.py'):
        write(folder, str(path.relative_to(ROOT)), backwards(path.read_text()).replace("'hybridcls::", f"'{folder}/"))
    return folder


@pytest.mark.parametrize(
    'name', sorted(str(p.relative_to(ROOT)) for p in ROOT.rglob('*.py') if '_base_' not in p.parts)
)
def test_every_shipped_config_in_the_spellings_of_0_1_says_the_same(shipped_of_0_1, name):
    old, new = load_config(shipped_of_0_1 / name), load_config(ROOT / name)
    if not is_chain(new):
        assert config_facts(old) == config_facts(new)


def test_some_shipped_configs_differ_in_the_spellings(shipped_of_0_1):
    differing = {
        p.name for p in ROOT.rglob('*.py') if p.read_text() != (shipped_of_0_1 / p.relative_to(ROOT)).read_text()
    }
    assert {'supcon_hybrid.py', 'supcon_convnext_swin.py', 'imagefolder_two_views.py'} <= differing


EVERYTHING = """
views = [dict(type='RandomCropToSize', crop_ratio_range=(0.3, 1.0)), dict(type='PackInputs')]
train_dataloader = dict(dataset=dict(pipeline=views))
model = dict(head=dict(_delete_=True, type='MultiHead', heads=dict(
    face=dict(type='ArcFaceHead', num_classes=10, num_subcenters=3),
    pull=dict(type='SupConHead', projection=dict(
        hid_channels=6, out_channels=5, num_layers=3, norm_cfg=dict(type='BN1d'))))))
optim_wrapper = dict(type='SAMOptimWrapper', rho=0.1, nonfinite_loss='raise', max_skipped_updates=2)
val_evaluator = [
    dict(type='MetricOf', metric=dict(type='OODMetric', scores=('least_confidence', 'entropy')), head='face')]
default_hooks = dict(checkpoint=dict(save_best=['face/ood/auroc_least_confidence', 'x']))
custom_hooks = [dict(type='EarlyStoppingHook', monitor='face/ood/fpr95_least_confidence')]
param_scheduler = [dict(type='ReduceOnPlateauLR', monitor='face/ood/fpr95_least_confidence')]
"""


def test_a_config_with_every_old_spelling_builds_what_the_new_ones_build(tmp_path, told_renames):
    base = ROOT / 'digits' / 'ce_hybrid.py'
    texts = dict(new=EVERYTHING, old=backwards(EVERYTHING))
    cfgs = {
        name: load_config(write(tmp_path, f'{name}.py', f'_base_ = {str(base)!r}\n{t}')) for name, t in texts.items()
    }
    assert config_facts(cfgs['old']) == config_facts(cfgs['new'])
    assert len(told_renames) == 8 + 4, 'keys and values, each once'
    with DefaultScope.overwrite_default_scope('hybridcls'):
        old, new = (MODELS.build(cfg.model).state_dict() for cfg in cfgs.values())
    assert {name: value.shape for name, value in old.items()} == {name: value.shape for name, value in new.items()}
    assert {'head.heads.face.weight', 'head.heads.pull.projection.mlp.6.weight'} <= old.keys()


def test_the_layer_that_wrote_an_old_spelling_keeps_the_value(tmp_path):
    cfg = loaded(
        tmp_path, 'model = dict(head=dict(sub_centres=4))\n', MODEL.format(', margin=0.3'), {'model.head.scale': 8}
    )
    assert cfg.model.head == dict(type='ArcFaceHead', num_classes=3, margin=0.3, num_subcenters=4, scale=8)
    assert Path(layer_of(cfg, ('model', 'head', 'num_subcenters')).name).name == 'child.py'
    assert Path(layer_of(cfg, ('model', 'head', 'margin')).name).name == 'base.py'
    assert not provenance_of(cfg).changes or all('num_subcenters' not in one.path for one in provenance_of(cfg).changes)


@pytest.mark.parametrize(
    ('child', 'base', 'options', 'expected'),
    [
        ('sub_centres=4', 'num_subcenters=2', {}, 4),
        ('num_subcenters=4', 'sub_centres=2', {}, 4),
        ('', 'num_subcenters=2', {'model.head.sub_centres': 4}, 4),
        ('sub_centres=3', 'num_subcenters=2', {'model.head.num_subcenters': 4}, 4),
    ],
)
def test_of_an_old_and_a_new_spelling_the_nearer_counts(tmp_path, child, base, options, expected):
    cfg = loaded(tmp_path, f'model = dict(head=dict({child}))\n', MODEL.format(f', {base}'), options)
    assert cfg.model.head.num_subcenters == expected
    assert 'sub_centres' not in cfg.model.head
    assert (layer_of(cfg, ('model', 'head', 'num_subcenters')) == OPTION) == bool(options)


def test_both_in_one_file_are_an_error_that_names_both(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r'model\.head\.sub_centres=2 and model\.head\.num_subcenters=3 are one key.*both in child\.py',
    ):
        loaded(tmp_path, 'model = dict(head=dict(sub_centres=2, num_subcenters=3))\n', MODEL.format(''))


def test_a_key_of_that_name_of_another_class_stays(tmp_path, told_renames):
    write(tmp_path, 'plugin_renamed.py', PLUGIN)
    text = (
        "model = dict(type='HybridClassifier', head=dict(type='OwnSubCentres', num_classes=3, sub_centres=2), "
        "neck=dict(out=3, hidden=4))\ntrain_pipeline = [dict(type='Resize', scale=(1, 1))]\n"
        'train_dataloader = dict(dataset=dict(pipeline=train_pipeline))\n'
    )
    exec(PLUGIN, {'__name__': 'plugin_renamed'})
    cfg = loaded(tmp_path, text)
    assert cfg.model.head.sub_centres == 2
    assert cfg.model.neck == dict(out=3, hidden=4)
    assert cfg.train_pipeline[0].scale == (1, 1)
    assert not told_renames


PLUGIN = """
from hybridcls.models.heads import MarginHead
from hybridcls.registry import MODELS

@MODELS.register_module(force=True)
class OwnSubCentres(MarginHead):
    def __init__(self, *args, sub_centres=1, **kwargs):
        super().__init__(*args, **kwargs)
"""


def test_a_variable_and_the_places_that_repeat_it_are_renamed_together(tmp_path):
    base = (
        "crop = dict(type='RandomCropToSize', scale=(0.1, 1.0))\ntrain_pipeline = [crop]\nkind = 'stop'\n"
        'train_dataloader = dict(dataset=dict(pipeline=train_pipeline))\n'
        "optim_wrapper = dict(type='ComposedOptimWrapper', bad_loss=kind)\n"
    )
    cfg = loaded(tmp_path, '', base, {'crop.scale': (0.4, 1.0)})
    new = dict(type='RandomCropToSize', crop_ratio_range=(0.4, 1.0))
    assert (cfg.train_dataloader.dataset.pipeline, cfg.train_pipeline, cfg.crop) == ([new], [new], new)
    assert (cfg.optim_wrapper.nonfinite_loss, cfg.kind) == ('raise', 'raise')
    references = provenance_of(cfg).references
    assert references[('optim_wrapper', 'nonfinite_loss')] == ('kind',)
    assert all(value_at(cfg, path) == value_at(cfg, variable) for path, variable in references.items())


def test_a_place_that_differs_from_the_variable_that_it_repeats_keeps_its_own_value(tmp_path):
    base = (
        "train_pipeline = [dict(type='RandomCropToSize', scale=(0.1, 1.0))]\n"
        'train_dataloader = dict(dataset=dict(pipeline=train_pipeline))\n'
        'val_dataloader = dict(dataset=dict(pipeline=train_pipeline))\n'
    )
    cfg = loaded(tmp_path, '', base, {'train_dataloader.dataset.pipeline.0.scale': (0.4, 1.0)})
    pipelines = cfg.train_dataloader.dataset.pipeline, cfg.val_dataloader.dataset.pipeline, cfg.train_pipeline
    assert [pipeline[0].crop_ratio_range for pipeline in pipelines] == [(0.4, 1.0), (0.1, 1.0), (0.1, 1.0)]
    assert not any('scale' in pipeline[0] for pipeline in pipelines)


def test_dotted_names_of_moved_classes_and_modules_are_those_of_today(tmp_path):
    cfg = loaded(
        tmp_path,
        "custom_imports = dict(imports=['hybridcls.engine.optim.bad_loss'], allow_failed_imports=False)\n"
        "model = dict(type='HybridClassifier', head=dict(type='MarginHead', num_classes=2, "
        "margin=dict(type='hybridcls.models.modules.adaface_margin.AdaFaceMargin')))\n",
    )
    assert cfg.custom_imports.imports == ['hybridcls.engine.optim.update.nonfinite_loss']
    assert cfg.model.head.margin.type == 'hybridcls.models.margins.adaface_margin.AdaFaceMargin'


def test_the_config_and_the_record_of_a_run_of_0_1_have_not_changed():
    text = MODEL.format(', sub_centres=2') + "optim_wrapper = dict(type='ComposedOptimWrapper', bad_loss='stop')\n"
    today = (
        MODEL.format(', num_subcenters=2')
        + "optim_wrapper = dict(type='ComposedOptimWrapper', nonfinite_loss='raise')\n"
    )
    assert with_new_spellings(read_assignments(text)) == read_assignments(today)
    odd = {'phase.transfer': "['backbone']", 'train_cfg.custom_keys.a.b.lr': '0.1', 'hook.kind': '<class torch.SGD>'}
    old, new = (config_facts(read_assignments(one)) | odd for one in (text, today))
    assert new_facts(old) == new
    assert new_facts(new) == new


def test_an_old_wrapper_is_built_from_an_old_config_that_no_reader_of_ours_has_seen(told_renames):
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    built = OPTIM_WRAPPERS.build(dict(type='LookaheadOptimWrapper', optimizer=optimizer, k=2, bad_loss='stop'))
    assert not built.nonfinite_losses.skips
    assert len(told_renames) == 2
