"""Tokens that a model merges are read from the model as it answers, and it stays as it was."""

import pytest
import torch
from trained_checkpoints import CNN, LINEAR, VIT, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.image_inputs import read_inputs
from hybridcls.apis.report.merged_tokens import read_merging
from hybridcls.apis.report.tokens_section import tokens_section


@pytest.fixture(scope='module')
def items(digit_folder):
    return list(read_inputs(str(digit_folder / 'val')).items)[:3]


def load(path, backbone, **more):
    return hybridcls.load(write_checkpoint(path / 'epoch_1.pth', config_of(backbone, LINEAR, **more))[0], 'cpu')


def test_tokens_after_each_block(tmp_path, items):
    model = load(tmp_path, dict(VIT, token_merging_ratio=dict(r=2)))
    before = model.predict(items[0].source).scores
    found = read_merging(model, items)
    prefix = model.model.backbone.vit.model.num_prefix_tokens
    assert found.tokens == [prefix + count for count in (16, 14, 12, 10, 8, 6, 4)]
    assert found.drawn == [3, 6]
    assert not found.in_training
    assert 0 < found.gflops < found.gflops_whole
    assert len(found.images) == 3
    seen = torch.from_numpy(found.images[0].seen)
    assert seen.shape == (192, 192, 3)
    assert (torch.from_numpy(found.images[0].drawings[1]) == 0).any()  # lines between groups
    section = tokens_section(found)
    assert f'in 6 blocks, {prefix + 16} tokens become {prefix + 4}.' in section.says[0]
    assert len(section.groups[0]['pictures']) == 9
    assert (model.predict(items[0].source).scores == before).all()


def test_what_merged_in_the_training_alone(tmp_path, items):
    hook = dict(type='TokenMergingHook', token_merging_ratio=dict(r=3), when='train')
    model = load(tmp_path, VIT, custom_hooks=[hook])
    found = read_merging(model, items)
    assert found.in_training
    assert 'merged only in the training' in tokens_section(found).says[0]
    assert not hasattr(model.model.backbone.vit.model, 'token_merging')


def test_others_have_none(tmp_path, items):
    assert read_merging(load(tmp_path / 'a', VIT), items) is None
    assert read_merging(load(tmp_path / 'b', CNN), items) is None
