import warnings

import pytest
import torch
from mmpretrain.structures import DataSample
from torch import nn

from hybridcls.functional.contrastive import supervised_contrast
from hybridcls.registry import MODELS


def build(**keys):
    torch.manual_seed(0)
    return MODELS.build(dict(type='SupConHead', in_channels=5, projection=dict(hid_channels=6, out_channels=4), **keys))


def samples(*labels):
    return [DataSample().set_gt_label(label) for label in labels]


@pytest.mark.parametrize('mode', ['all', 'one'])
def test_views_come_view_by_view(mode):
    head = build(loss=dict(type='SupConLoss', temperature=0.2, contrast_mode=mode))
    feats, labels = torch.randn(8, 5), [0, 1, 1, 7]
    views = torch.stack([head(feats[:4]), head(feats[4:])], dim=1)  # (B, V, out)
    expected = supervised_contrast(views, torch.tensor(labels), 0.2, contrast_mode=mode)
    torch.testing.assert_close(head.loss((feats,), samples(*labels))['loss'], expected)


def test_predictions_carry_the_embedding_before_the_projection():
    head, feats = build(), torch.randn(2, 5)
    out = head.predict((feats,), samples(0, 1))
    torch.testing.assert_close(torch.stack([sample.embedding for sample in out]), feats)
    assert 'pred_score' not in out[0]
    assert not hasattr(head, 'num_classes')
    assert head(feats).shape == (2, 4)


def test_without_labels_it_is_simclr():
    head, feats = build(use_labels=False), torch.randn(6, 5)
    views = head(feats).unflatten(0, (2, 3)).transpose(0, 1)
    losses = head.loss((feats,), [DataSample() for _ in range(3)])
    torch.testing.assert_close(losses['loss'], supervised_contrast(views))


def test_one_view_without_labels_is_worth_a_warning_once():
    head = build(use_labels=False)
    with pytest.warns(UserWarning, match='MultiView'):
        assert head.loss((torch.randn(3, 5),), samples(0, 1, 2))['loss'].item() == 0
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        head.loss((torch.randn(3, 5),), samples(0, 1, 2))
        build(use_labels=False).eval().loss((torch.randn(3, 5),), samples(0, 1, 2))


def test_missing_labels_are_named():
    with pytest.raises(ValueError, match='SupConHead: expected a gt_label for sample 0 of the batch, got none'):
        build().loss((torch.randn(2, 5),), [DataSample(), DataSample()])


def test_default_projection_and_another_one():
    assert MODELS.build(dict(type='SupConHead', in_channels=5))(torch.randn(2, 5)).shape == (2, 128)

    class Doubled(nn.Linear):
        def __init__(self, in_channels):
            super().__init__(in_channels, 2 * in_channels)

    head = MODELS.build(dict(type='SupConHead', in_channels=5, projection=dict(type=Doubled)))
    assert head(torch.randn(2, 5)).shape == (2, 10)


def test_a_wrong_key_of_the_projection_is_named():
    with pytest.raises(TypeError, match='hiden'):
        MODELS.build(dict(type='SupConHead', in_channels=5, projection=dict(hiden=3)))


def test_a_learned_temperature_is_logged():
    head = build(loss=dict(type='SupConLoss', learn_temperature=True, temperature=0.2))
    losses = head.loss((torch.randn(4, 5),), samples(0, 1, 0, 1))
    assert set(losses) == {'loss', 'temperature'}
    torch.testing.assert_close(losses['temperature'].item(), 0.2)
    assert not losses['temperature'].requires_grad


def test_the_width_of_the_queue_is_filled_in():
    config = dict(type='SupConLoss', queue=dict(size=6))
    head = build(loss=config)
    assert head.loss_module.queue.embeddings.shape == (6, 4)
    assert config == dict(type='SupConLoss', queue=dict(size=6))
    head.loss((torch.randn(4, 5),), samples(0, 1))
    assert head.loss_module.queue.contents()[1].tolist() == [0, 0, 1, 1]
