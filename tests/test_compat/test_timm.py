"""What is known of timm: which function converts weights (timm's own loader is the oracle), which forms were read."""

import importlib
import inspect
import sys
from functools import partial

import pytest
import timm
import timm.models
import torch
from timm.models.swin_transformer_v2 import SwinTransformerV2

from hybridcls.compat.timm import (
    ACCEPTED_SOURCES,
    checkpoint_filter,
    fix_position_tables,
    source_hash,
)
from hybridcls.models.adapters import add_token_merging
from hybridcls.models.adapters.merging_blocks import MERGING_ATTENTIONS, MERGING_BLOCKS
from hybridcls.models.adapters.merging_transformers import MERGING_TRANSFORMERS


class Asked(Exception):
    """timm's builder was called: with which class, and which function."""


def of_timm(architecture):
    """What timm's entry point gives its builder: (class, function)."""
    try:
        timm.models.model_entrypoint(architecture)(pretrained=False)
    except Asked as asked:
        return asked.args
    return None


@pytest.fixture
def asking(monkeypatch):
    def ask(model_class, *_, pretrained_filter_fn=None, **__):
        raise Asked(model_class, pretrained_filter_fn)

    modules = {timm.models.model_entrypoint(name).__module__ for name in timm.list_models()}
    for module in {*modules, 'timm.models.vision_transformer'}:
        if hasattr(sys.modules[module], 'build_model_with_cfg'):
            monkeypatch.setattr(sys.modules[module], 'build_model_with_cfg', ask)


def plain(function):
    """The function below partials, and what is bound to it."""
    bound = {}
    while isinstance(function, partial):
        bound.update(function.keywords)
        function = function.args[0] if function.args and callable(function.args[0]) else function.func
    return function, bound


def test_every_architecture_has_the_function_that_timm_uses(asking):
    # crossvit's is defined within its entry point; hieradet's binds an empty prefix, which is its default; RADIO's is
    # bound to tables of another repository; these hybrids have no published weights, and get their family's.
    others, seen, wrong = {'crossvit', 'hieradet', 'sam2'}, 0, []
    hybrids = {
        'vit_base_resnet26d_224',
        'vit_base_resnet50d_224',
        'vit_small_resnet26d_224',
        'vit_small_resnet50d_s16_224',
    }
    for architecture in timm.list_models():
        found = of_timm(architecture)
        if (
            found is None
            or architecture.partition('_')[0] in others
            or 'radio' in architecture
            or architecture in hybrids
        ):
            continue
        model_class, function = found
        model_class = getattr(model_class, 'func', model_class)
        if not isinstance(model_class, type):
            continue
        model = model_class.__new__(model_class)
        vars(model)['pretrained_cfg'] = dict(architecture=architecture)
        (expected, options), (own, own_options) = plain(function), plain(checkpoint_filter(model))
        seen += 1
        if own is not expected or own_options != options:
            wrong.append((architecture, expected, options, own, own_options))
    assert seen > 1000
    assert not wrong, '\n'.join(map(str, wrong))


def test_a_model_that_is_not_of_timm_has_none():
    assert checkpoint_filter(object()) is None


# What token merging computes itself, by the class of timm that it stands for.
COPIED = {**MERGING_TRANSFORMERS, **MERGING_BLOCKS, **MERGING_ATTENTIONS}


def test_every_class_that_we_compute_has_a_form_that_we_read():
    """Fails with what to read again: the class, and the file that must follow."""
    assert set(ACCEPTED_SOURCES) == {f'{kind.__module__}.{kind.__qualname__}' for kind in COPIED}
    unread = [
        f'{name} of timm {timm.__version__} ({source_hash(kind)}): read it, and let {inspect.getfile(merging)} follow'
        for kind, merging in COPIED.items()
        if source_hash(kind) not in ACCEPTED_SOURCES[name := f'{kind.__module__}.{kind.__qualname__}']
    ]
    assert not unread, '\n'.join(unread)


def test_a_hash_is_of_what_is_computed_and_of_no_white_space(tmp_path, monkeypatch):
    def block(name, forward):
        (tmp_path / f'{name}.py').write_text(f'class Block:\n    def __init__(self):\n        pass\n\n{forward}\n')
        return importlib.import_module(name).Block

    monkeypatch.syspath_prepend(str(tmp_path))
    one = block('one_block', '    def forward(self, x):\n        return x + 1\n')
    spaced = block('spaced_block', '    def forward(self,  x):\n\n        return x + 1\n')
    other = block('other_block', '    def forward(self, x):\n        return x + 2\n')
    assert source_hash(one) == source_hash(spaced)
    assert source_hash(one) != source_hash(other)
    assert source_hash(int) == ''


@pytest.mark.parametrize('part', ['the transformer', 'a block', 'an attention'])
def test_token_merging_refuses_a_form_that_was_not_read(monkeypatch, part):
    model = timm.create_model('test_vit', img_size=64)
    kind = type({'the transformer': model, 'a block': model.blocks[0], 'an attention': model.blocks[0].attn}[part])
    monkeypatch.setitem(
        ACCEPTED_SOURCES, f'{kind.__module__}.{kind.__qualname__}', {'000000000000': '1.0.22 to 1.0.31'}
    )
    with pytest.raises(ValueError, match=rf'TokenMerging: expected {kind.__module__}.{kind.__name__} in a form that '):
        add_token_merging(model, 0.1)
    with pytest.raises(
        ValueError, match=rf"timm {timm.__version__}.*Type: pip install 'timm==1.0.31'; or switch token"
    ):
        add_token_merging(model, 0.1)
    assert not hasattr(model, 'token_merging')


def test_nan_in_a_table_of_positions_becomes_0_and_nothing_else_changes():
    """timm up to 1.0.30 leaves it for windows of one token."""
    model = SwinTransformerV2(img_size=8, window_size=2, embed_dim=12, depths=(1, 1), num_heads=(1, 2), num_classes=0)
    table = model.layers[0].blocks[0].attn.relative_coords_table
    before = table.clone()
    table[0, 0, 0] = float('nan')
    assert fix_position_tables(model) is model
    before[0, 0, 0] = 0
    torch.testing.assert_close(model.layers[0].blocks[0].attn.relative_coords_table, before, rtol=0, atol=0)


@pytest.mark.parametrize('name', ['swin_tiny_patch4_window7_224', 'swinv2_tiny_window8_256'])
def test_swin_weights_without_a_classifier_stay_where_they_are(name):
    """A downsampling of the original project's stage is moved by one stage, timm's own is not."""
    model = timm.create_model(
        name, img_size=32, window_size=2, embed_dim=12, depths=(1, 1), num_heads=(1, 2), num_classes=0
    )
    own = model.state_dict()
    assert checkpoint_filter(model)(dict(own), model).keys() == own.keys()
    original = {key.replace('layers.1.downsample', 'layers.0.downsample'): value for key, value in own.items()}
    assert checkpoint_filter(model)(original, model).keys() == own.keys()
