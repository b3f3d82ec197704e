"""The levers of a backbone, read once: what is on, what is off, and what contradicts the streams."""

import pytest

from hybridcls.models.adapters import LoRASettings
from hybridcls.models.backbones.backbone_levers import BackboneLevers

BOTH = dict(cnn={}, vit={})


def test_everything_is_off_by_default():
    levers = BackboneLevers.read(BOTH)
    assert levers == (None, None, None, 0.0, {})
    assert not levers.summarizes_all


@pytest.mark.parametrize(
    ('given', 'expected'), [(False, None), ({}, None), (True, {}), (dict(reduction=8), dict(reduction=8))]
)
def test_cbam(given, expected):
    assert BackboneLevers.read(BOTH, use_cbam=given).cbam == expected


@pytest.mark.parametrize(
    ('given', 'expected', 'after_block', 'all_blocks'),
    [
        (4, dict(num_tokens=4), None, True),
        (dict(num_tokens=4, hidden=8), dict(num_tokens=4, hidden=8), None, True),
        (dict(num_tokens=4, after_block=2), dict(num_tokens=4), 2, False),
        (0, None, None, False),
        (dict(num_tokens=0, after_block=2), None, None, False),
    ],
)
def test_token_learner(given, expected, after_block, all_blocks):
    levers = BackboneLevers.read(BOTH, token_learner_tokens=given)
    assert (levers.token_learner, levers.after_block, levers.summarizes_all) == (expected, after_block, all_blocks)


def test_what_was_given_is_not_changed():
    given = dict(num_tokens=4, after_block=2)
    BackboneLevers.read(BOTH, token_learner_tokens=given)
    assert given == dict(num_tokens=4, after_block=2)


def test_lora_of_each_stream():
    rank = dict(rank=2, dropout=0.1, vit=dict(rank=4), cnn=None)
    assert BackboneLevers.read(BOTH, lora_rank=rank, lora_alpha=3.0).lora == {'vit': LoRASettings(4, 3.0, 0.1)}
    assert BackboneLevers.read(dict(cnn={}), lora_rank=2).lora == {'cnn': LoRASettings(2)}


@pytest.mark.parametrize(
    ('streams', 'keys', 'error', 'message'),
    [
        (dict(vit={}), dict(use_cbam=True), ValueError, 'use_cbam works on the map of the CNN stream, and cnn is not'),
        (dict(cnn={}), dict(token_learner_tokens=2), ValueError, 'token_learner_tokens works on the vit stream'),
        (dict(cnn={}), dict(token_merging_ratio=[0.1]), ValueError, 'token_merging_ratio works on the vit stream'),
        (dict(cnn=dict(output='tokens')), dict(use_cbam=True), ValueError, "cnn has output='tokens'"),
        (dict(vit=dict(output='vector')), dict(token_learner_tokens=2), ValueError, "vit has output='vector'"),
        (BOTH, dict(use_cbam=1), TypeError, 'got use_cbam=1'),
        (BOTH, dict(use_cbam=dict(kernel=3)), TypeError, "use_cbam: unknown key 'kernel'. Did you mean 'kernel_size'"),
        (BOTH, dict(token_learner_tokens=dict(hidden=3)), ValueError, "lacks the key 'num_tokens'"),
        (BOTH, dict(token_learner_tokens=dict(num_tokens=1, channels=3)), TypeError, "unknown key 'channels'"),
        (BOTH, dict(lora_rank=-1), ValueError, r'lora_rank in .*got -1'),
    ],
)
def test_what_cannot_be(streams, keys, error, message):
    with pytest.raises(error, match=message):
        BackboneLevers.read(streams, **keys)


def test_a_pooled_vit_may_have_a_token_learner_before_its_last_block():
    keys = dict(token_learner_tokens=dict(num_tokens=2, after_block=1))
    assert BackboneLevers.read(dict(vit=dict(output='vector')), **keys).after_block == 1
