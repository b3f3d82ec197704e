"""A timm model is a CNN stream if its last feature is a map, whatever is inside."""

import pytest
import timm
import torch

from hybridcls.models.backbones.stream_kind import stream_kind

HAS_MAXVIT = 'test_maxvit' in timm.list_models('test_*')  # timm 1.0.22 has none


@pytest.mark.parametrize(
    ('name', 'kind'),
    [
        ('test_resnet', 'cnn'),
        ('test_convnext', 'cnn'),
        *[('test_maxvit', 'cnn')] * HAS_MAXVIT,  # its attention works on maps
        ('test_vit', 'vit'),
        ('test_mambaout', 'vit'),  # channels last
        ('mixer_s32_224', 'vit'),
    ],
)
def test_the_kind_of_a_model(name, kind):
    assert stream_kind(name) == kind


def test_a_folder_that_timm_wrote(tmp_path):
    timm.models.save_for_hf(timm.create_model('test_vit'), tmp_path)
    assert stream_kind(f'local-dir:{tmp_path}') == 'vit'


def test_nothing_is_drawn_and_a_near_name_is_told():
    before = torch.get_rng_state()
    stream_kind('test_resnet')
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(ValueError, match=r"model_name: timm has no model 'resnt18'\. Did you mean 'resnet18'"):
        stream_kind('resnt18')
