"""A stream is skipped where it changes nothing, and not where it decides; thresholds hold for what is then answered."""

import pytest
import torch
from scipy.stats import binom
from trained_checkpoints import LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.calibration_fit import LabelledScores, fit_calibration
from hybridcls.apis.skip_fit import fit_skipping
from hybridcls.apis.stream_cost import StreamCost
from hybridcls.apis.stream_vectors import StreamVectors, scores_without

PAIR = dict(type='HybridBackbone', cnn=dict(model_name='test_resnet'), vit=dict(model_name='test_vit'), img_size=64)
NAMES = ('a', 'b', 'c', 'd')


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Logits are the sum of the first four channels of either stream."""
    cfg = config_of(PAIR, LINEAR)
    cfg['model']['neck'] = dict(type='SumFusion', fusion_dim=4)
    model = hybridcls.load(write_checkpoint(tmp_path_factory.mktemp('pair') / 'epoch_1.pth', cfg)[0], 'cpu')
    network = model.model
    with torch.no_grad():
        for project in network.neck.project:
            project.weight.zero_()[:, :4] = torch.eye(4)
            project.bias.zero_()
        network.head.fc.weight.copy_(torch.eye(4))
        network.head.fc.bias.zero_()
    return model


@pytest.fixture(autouse=True)
def _measured_once(monkeypatch):
    costs = dict(cnn=StreamCost(1.0, 1.0), vit=StreamCost(2.0, 2.0), rest=StreamCost(0.01, 0.01))
    monkeypatch.setattr('hybridcls.apis.skip_fit.stream_costs', lambda *args: costs)


def drawn(model, count, vit, seed=0):
    """Features whose sum are the true logits, the vit's share ``vit`` of the spread; what both say; and labels."""
    generator = torch.Generator().manual_seed(seed)
    cnn, other = (torch.zeros(count, width) for width in (96, 64))
    cnn[:, :4] = 4 * torch.randn(count, 4, generator=generator)
    other[:, :4] = 4 * vit * torch.randn(count, 4, generator=generator) + torch.tensor([3.0, 0.0, -3.0, 0.0])
    scores = (cnn[:, :4] + other[:, :4]).softmax(1)
    labels = torch.multinomial(scores, 1, generator=generator).squeeze(1)
    return StreamVectors(dict(cnn=[cnn], vit=[other])), LabelledScores(scores, labels, img_size=[64, 64])


def fitted(model, count, vit, rate, seed=0, stream=None, **asked):
    vectors, given = drawn(model, count, vit, seed)
    report = fit_calibration(given, NAMES, seed=seed, measure=False, split=True, **asked)
    is_test = torch.ones(count, dtype=torch.bool)
    is_test[torch.randperm(count, generator=torch.Generator().manual_seed(seed))[: round(count / 4)]] = False
    return fit_skipping(model, vectors, given, report.calibration, is_test, rate, 0.95, stream)


def test_the_stream_that_changes_little_is_skipped(model):
    found = fitted(model, 800, 0.2, 0.02)
    assert found.skip['stream'] == 'vit'
    assert found.skip['filling'][0][:4] == pytest.approx([3, 0, -3, 0], abs=0.2)  # its mean, of the images that fit
    assert found.skip['images'] == 600
    assert 0.5 < found.skip['skipped'] / 600 < 1
    full, less = found.skip['measured']['gflops']
    assert less < full
    assert 'leaves the vit out where the cnn is sure' in found.notes[0]


def test_a_stream_that_decides_is_not_skipped(model):
    found = fitted(model, 300, 6.0, 0.02, stream='vit')
    assert found.skip is None
    assert 'does not pay: the cnn alone is sure enough of' in found.missing[0]
    found = fitted(model, 60, 0.2, 0.02)
    assert 'more are missing' in found.missing[0]
    with pytest.raises(ValueError, match='expected --skip-stream cnn or vit, got'):
        fitted(model, 60, 0.2, 0.02, stream='third')


def test_what_is_promised_holds_over_resamplings(model):
    """Of all images at most the rate changes; the risk and the sets hold for what is answered with a stream skipped."""
    everything, truth = drawn(model, 20_000, 0.4, 1)
    changed, risks, held = [], [], []
    for seed in range(30):
        found = fitted(model, 900, 0.4, 0.03, seed + 10, 'vit', risk=0.2, sets=0.1)
        if found.skip is None:
            continue
        alone = scores_without(model, everything, 'vit', found.skip['filling'])
        skips = alone.max(1).values >= found.skip['threshold']
        scores = torch.where(skips[:, None], alone, truth.scores)  # both temperatures are near 1: the scores are true
        changed.append(float((scores.argmax(1) != truth.scores.argmax(1)).double().mean()))
        answered = scores.max(1).values >= found.skip['risk']['threshold']
        risks.append(float((scores.argmax(1) != truth.labels)[answered].double().mean()))
        held.append(float((scores.gather(1, truth.labels[:, None]) >= found.skip['sets']['threshold']).double().mean()))
    assert len(changed) > 20
    assert sum(share > 0.03 for share in changed) <= binom.ppf(0.99, 30, 0.05)
    assert sum(share > 0.2 for share in risks) <= binom.ppf(0.99, 30, 0.05)
    assert torch.tensor(held).mean() > 0.89
