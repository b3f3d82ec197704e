import math

import pytest
import torch

from hybridcls.functional import cosine_logits, margin_cross_entropy


def plain(embeddings, centres, labels, margin, scale, smoothing=0.):
    """The loss over explicit angles, one row at a time, in float64."""
    embeddings, centres = embeddings.double(), centres.double()
    losses = []
    for embedding, label in zip(embeddings, labels.tolist(), strict=True):
        logits = [scale * float(embedding @ c / embedding.norm() / c.norm()) for c in centres]
        logits[label] = scale * (logits[label] / scale - margin)
        log_sum = math.log(sum(math.exp(v) for v in logits))
        target = [smoothing / len(logits) + (1 - smoothing) * (i == label) for i in range(len(logits))]
        losses.append(sum(t * (log_sum - v) for t, v in zip(target, logits, strict=True)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize('smoothing', [0., 0.1])
def test_loss_and_prediction(smoothing):
    torch.manual_seed(0)
    embeddings, centres, labels = 5 * torch.randn(6, 4), torch.randn(3, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    loss, predicted = margin_cross_entropy(
        embeddings, centres, labels, lambda cosine, norm: cosine - 0.2, 16., smoothing)
    assert loss.item() == pytest.approx(plain(embeddings, centres, labels, 0.2, 16., smoothing), rel=1e-5)
    assert predicted.tolist() == cosine_logits(embeddings, centres).argmax(1).tolist()


def test_gradients():
    torch.manual_seed(0)
    embeddings = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    centres = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 4, 2, 2])
    assert torch.autograd.gradcheck(
        lambda e, c: margin_cross_entropy(e, c, labels, lambda cosine, norm: cosine - 0.2, 4.)[0],
        (embeddings, centres))


def test_margin_sees_the_cosines_and_the_norms():
    embeddings, seen = torch.tensor([[3., 4.], [0., 2.]]), []

    def margin(cosine, norms):
        seen.extend([cosine, norms])
        return cosine

    margin_cross_entropy(embeddings, torch.eye(2), torch.tensor([0, 1]), margin)
    torch.testing.assert_close(seen[0], torch.tensor([0.6, 1.]))
    torch.testing.assert_close(seen[1], torch.tensor([5., 2.]))


def test_cosine_clip_is_felt_by_all_classes():
    embeddings = torch.tensor([[1., 0.]], requires_grad=True)
    seen = []
    margin_cross_entropy(embeddings, torch.tensor([[1., 0.], [-1., 0.]]), torch.tensor([0]),
                         lambda cosine, norm: seen.append(cosine) or cosine, cosine_clip=1e-3)[0].backward()
    torch.testing.assert_close(seen[0], torch.tensor([0.999]))
    assert embeddings.grad.abs().sum() == 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_autocast_does_not_touch_the_cosines(dtype):
    torch.manual_seed(0)
    embeddings, centres, labels = torch.randn(4, 8), torch.randn(3, 8), torch.tensor([0, 1, 2, 0])
    expected = margin_cross_entropy(embeddings, centres, labels, lambda cosine, norm: cosine)[0]
    with torch.autocast('cpu', dtype):
        loss, _ = margin_cross_entropy(embeddings, centres, labels, lambda cosine, norm: cosine)
    torch.testing.assert_close(loss, expected, rtol=0, atol=0)


def test_one_class_costs_nothing():
    loss, predicted = margin_cross_entropy(
        torch.ones(2, 3), torch.ones(1, 3), torch.tensor([0, 0]), lambda cosine, norm: cosine - 0.5)
    assert loss.item() == 0
    assert predicted.tolist() == [0, 0]
