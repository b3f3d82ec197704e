"""What timm's source says of its models is what timm says."""

import pytest
import timm

from hybridcls.compat.timm_source import repositories_of

NAMES = ['resnet18', 'tf_efficientnet_lite0', 'vit_base_patch16_224', 'swinv2_tiny_window8_256', 'convnextv2_base']


@pytest.mark.parametrize('name', NAMES)
def test_the_repository_that_timm_names_is_among_them(name):
    repositories = repositories_of(name)
    assert timm.get_pretrained_cfg(name).hf_hub_id in repositories
    assert len(repositories) == len({cfg for cfg in timm.list_models(f'{name}.*', pretrained=True)})


def test_a_tag_names_one():
    assert repositories_of('resnet18.tv_in1k') == ['timm/resnet18.tv_in1k']
    assert repositories_of('resnet18.no_tag') == []


@pytest.mark.parametrize('name', ['no_model', 'legacy_senet154', '', 'resnet.*'])
def test_what_the_source_does_not_tell_is_empty(name):
    assert repositories_of(name) == []
