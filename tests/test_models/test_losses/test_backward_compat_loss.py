"""The two terms against torch's own losses."""

import pytest
import torch
import torch.nn.functional as F

from hybridcls.models.losses import BackwardCompatLoss


def test_the_first_numbers_of_wider_embeddings_take_part_in_both_terms():
    torch.manual_seed(0)
    new, old, weight = torch.randn(4, 7), torch.randn(4, 5), torch.randn(3, 5)
    targets = torch.tensor([0, 2, 1, 1])
    loss = BackwardCompatLoss(influence_weight=2.0, alignment_weight=0.5)
    losses = loss(new, targets, lambda embeddings: embeddings @ weight.T, torch.tensor([2, 0, 1]), 5, old)
    moved = torch.tensor([2, 1, 0, 0])
    torch.testing.assert_close(losses['loss_influence'], 2 * F.cross_entropy(new[:, :5] @ weight.T, moved))
    torch.testing.assert_close(losses['loss_alignment'], 0.5 * (1 - F.cosine_similarity(new[:, :5], old)).mean())
    assert not list(loss.parameters())
    assert not loss.state_dict()


@pytest.mark.parametrize(
    ('settings', 'said'),
    [
        (dict(influence_weight=-1), 'influence_weight'),
        (dict(scale=0), 'scale'),
        (dict(influence_weight=0), 'are both 0, so nothing is compared'),
    ],
)
def test_wrong_settings(settings, said):
    with pytest.raises(ValueError, match=said):
        BackwardCompatLoss(**settings)
