"""Shipped configs: each loads, builds its model, reads images and plans its chain."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from at_night import at_night
from mmengine.registry import DefaultScope

from hybridcls.engine import TrainOptions, is_chain, load_config, prepare_training
from hybridcls.engine.phases.plan import read_phases
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.registry import DATASETS, HOOKS, METRICS, MODELS, OPTIM_WRAPPERS

ROOT = Path(__file__).resolve().parents[1] / 'configs'
ALL = sorted(path for path in ROOT.rglob('*.py') if '_base_' not in path.parts)
# Small models replace the reference pair in tests that compute.
SMALL = {
    'img_size': 64,
    'model.backbone.cnn.model_name': 'test_convnext',
    'model.backbone.vit.model_name': 'test_vit',
    'model.neck.fusion_dim': 16,
}


RECIPE_PAIR = {'model.backbone.cnn.model_name': 'test_convnext', 'model.backbone.vit.model_name': 'test_vit'}


def name_of(path):
    return str(path.relative_to(ROOT))


def options_for(path, folder):
    """What a user types."""
    if 'finetune/' in name_of(path):
        recipe = dict(pretrained=False, img_size=64)
        recipe.update(dict(model_name='test_vit') if path.stem != 'hybrid' else RECIPE_PAIR)
        recipe.update(
            dict(data_root=str(multi_label_table(folder))) if path.stem == 'multilabel' else dict(data_root=str(folder))
        )
        return {**recipe, **(dict(teacher='w') if path.stem == 'distill' else {})}
    return dict(data_root=str(folder)) if 'hybrid/' in name_of(path) else {}


def multi_label_table(folder):
    """The digits of the folder: one of three is also `low`, and zeros have no label."""
    table = folder / 'labels.csv'
    rows = ['path,label,split']
    for file in sorted(folder.glob('*/*/*.png')):
        label = {'zero': '', 'one': 'one|low', 'two': 'two', 'three': 'three'}[file.parent.name]
        rows.append(f'{file.relative_to(folder)},{label},{file.parts[-3]}')
    table.write_text('\n'.join(rows))
    return table


SINGLE = [path for path in ALL if not is_chain(load_config(path))]
CHAINS = [path for path in ALL if path not in SINGLE]


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('hybridcls'):
        yield


@pytest.fixture(scope='module')
def prepare(digit_folder, tmp_path_factory):
    """Load and complete a config; those for image folders get a small folder."""
    done = {}  # completing one takes a second, and several tests look at each

    def prepare(path, **options):
        key = (path, repr(options))
        if key not in done:
            cfg = load_config(path, {**options_for(path, digit_folder), **options})
            done[key] = prepare_training(cfg, TrainOptions(), str(tmp_path_factory.mktemp('work')))
        return deepcopy(done[key])

    return prepare


def test_expected_configs_exist():
    names = {name_of(path) for path in ALL}
    assert {
        'hybrid/supcon_convnext_swin.py',
        'hybrid/adaface_convnext_swin.py',
        'hybrid/ce_convnext_swin.py',
        'digits/two_phase.py',
    } <= names


# The reference pair takes two seconds to build. Its other configs differ by their batches, and that of CE by its head.
LARGE = [path for path in SINGLE if name_of(path).startswith('hybrid/')]
BUILT = ('hybrid/adaface_convnext_swin.py', 'hybrid/supcon_convnext_swin_pk.py')


@pytest.mark.parametrize('path', at_night(SINGLE, *(path for path in LARGE if name_of(path) not in BUILT)), ids=name_of)
def test_model_builds_with_shared_keys(path, prepare):
    cfg = prepare(path)
    assert cfg.default_scope == 'hybridcls'
    with torch.device('meta'):  # shapes without memory: the reference pair has 176 million parameters
        model = MODELS.build(cfg.model)
    size = (cfg.img_size, cfg.img_size)
    assert model.backbone.img_size == cfg.img_size
    assert model.backbone.vit.img_size == size or 'finetune/' in name_of(path)  # test_vit takes any
    if cfg.model.get('neck'):
        assert model.neck.out_channels == cfg.model.neck.fusion_dim
    if hasattr(model.head, 'num_classes'):
        assert model.head.num_classes == (10 if 'digits/' in name_of(path) else 4)
    for hook in [*cfg.default_hooks.values(), *cfg.custom_hooks]:
        HOOKS.build(hook) if hook.type != 'VisualizationHook' else HOOKS.get(hook.type)
    assert cfg.optim_wrapper.type in OPTIM_WRAPPERS
    for evaluator in [cfg.val_evaluator, cfg.test_evaluator]:
        for metric in evaluator if isinstance(evaluator, list) else [evaluator]:
            METRICS.build(metric)


@pytest.mark.parametrize('path', SINGLE, ids=name_of)
def test_images_through_the_pipelines(path, prepare):
    cfg = prepare(path)
    side = cfg.img_size
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        inputs = DATASETS.build(loader.dataset)[0]['inputs']
        views = inputs if isinstance(inputs, list) else [inputs]
        assert {tuple(view.shape) for view in views} == {(3, side, side)}
    views = DATASETS.build(cfg.train_dataloader.dataset)[0]['inputs']
    assert (len(views) == 2 and isinstance(views, list)) == ('supcon' in name_of(path))


@pytest.mark.parametrize(
    'path', [path for path in SINGLE if 'hybrid/' in name_of(path) and '1gpu' not in path.name], ids=name_of
)
def test_one_step_trains_every_parameter(path, prepare):
    """What a config switches on is really in the computation: no parameter is left without a gradient."""
    cfg = prepare(path, **SMALL)
    model = MODELS.build(cfg.model).train()
    samples = [DATASETS.build(cfg.train_dataloader.dataset)[index] for index in (0, 1, 12, 24)]
    views = samples[0]['inputs']
    inputs = (
        [torch.stack([s['inputs'][v] for s in samples]) for v in range(len(views))]
        if isinstance(views, list)
        else torch.stack([s['inputs'] for s in samples])
    )
    data = model.data_preprocessor(dict(inputs=inputs, data_samples=[s['data_samples'] for s in samples]), True)
    losses = model(**data, mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert loss.isfinite()
    assert [name for name, param in model.named_parameters() if param.requires_grad and param.grad is None] == []


@pytest.mark.parametrize('path', CHAINS, ids=name_of)
def test_configs_of_a_chain_exist(path):
    phases = read_phases(load_config(path))
    assert len(phases) >= 2
    for phase in phases:
        load_config(phase.config, phase.options)


def test_pretrained_is_a_shared_key():
    cfg = load_config(ROOT / 'hybrid' / 'supcon_convnext_swin.py', dict(pretrained=True))
    assert cfg.model.backbone.cnn.pretrained is True
    assert cfg.model.backbone.vit.pretrained is True
    cfg = load_config(
        ROOT / 'hybrid' / 'supcon_convnext_swin.py', {'pretrained': True, 'model.backbone.vit.pretrained': False}
    )
    assert cfg.model.backbone.vit.pretrained is False


def test_backbone_is_changed_by_one_key(prepare):
    cfg = prepare(ROOT / 'hybrid' / 'adaface_convnext_swin.py', **{'model.backbone.cnn.model_name': 'convnextv2_tiny'})
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert model.backbone.out_channels == (768, 1024)


def test_missing_folder_is_reported_before_the_model_is_built(tmp_path, monkeypatch):
    cfg = load_config(ROOT / 'hybrid' / 'supcon_convnext_swin.py', dict(data_root=str(tmp_path / 'nowhere')))
    with (
        pytest.raises(FileNotFoundError, match=r'nowhere/train does not exist .* --cfg-options data_root='),
        isolated_globals(),
    ):
        prepare_training(cfg, TrainOptions(), str(tmp_path / 'w'))
