"""What every neck of ours does."""

import pytest
import torch

from hybridcls.models.necks import ConcatFusion, DHAFusion, SumFusion

NECKS = [ConcatFusion, DHAFusion, SumFusion]


@pytest.mark.parametrize('neck', NECKS)
def test_channels_are_missing_or_wrong(neck):
    with pytest.raises(ValueError, match=f'{neck.__name__}: in_channels is not given. HybridClassifier fills it in'):
        neck()
    with pytest.raises(ValueError, match=rf'{neck.__name__}: expected in_channels in .* got 0'):
        neck(in_channels=(8, 0))


@pytest.mark.parametrize('neck', NECKS)
def test_other_features_than_it_was_built_for(neck):
    built = neck(in_channels=(8, 4))
    for features in [(torch.ones(2, 8), torch.ones(2, 5)), torch.ones(2, 8), (torch.ones(2, 8),) * 3]:
        with pytest.raises(ValueError, match=rf'{neck.__name__}: expected features of \(8, 4\) channels, got'):
            built(features)


@pytest.mark.parametrize('neck', NECKS)
def test_default_width_and_a_batch_of_one(neck):
    built = neck(in_channels=(8, 4))
    (embedding,) = built((torch.randn(1, 8, 1, 1), torch.randn(1, 4)))
    assert embedding.shape == (1, 1024)
    assert built.out_channels == 1024
    embedding.sum().backward()
    assert all(p.grad.isfinite().all() for p in built.parameters())


@pytest.mark.parametrize('neck', NECKS)
def test_exports(neck):
    built = neck(in_channels=(8, 4), fusion_dim=3).eval()
    features = (torch.randn(2, 8, 2, 2), torch.randn(2, 4))
    program = torch.export.export(built, (features,))
    torch.testing.assert_close(program.module()(features), built(features))
