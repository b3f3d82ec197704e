"""Grad-CAM of a pooled linear classifier is the class activation map, up to the number of places."""

import torch

from hybridcls.functional.class_activation import grad_cam


def test_it_is_the_weighted_sum_of_a_linear_classifier():
    """Zhou et al., 2016: of mean pooling and one linear layer, the map is its weights times the features."""
    torch.manual_seed(0)
    features = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(7, 5, dtype=torch.float64)
    (gradients,) = torch.autograd.grad((features.mean((2, 3)) @ weights.T)[:, 4].sum(), features)
    expected = torch.einsum('c,bchw->bhw', weights[4], features).clamp_min(0) / 12
    torch.testing.assert_close(grad_cam(features, gradients), expected)
    assert (expected > 0).any()
    assert (expected == 0).any()
