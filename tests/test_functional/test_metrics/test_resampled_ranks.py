"""Scores of resamples from one sort, against the functions that sort the images of each resample."""

import pytest
import torch

from hybridcls.functional.metrics import (
    ResampledRanks,
    area_under_risk_coverage,
    aupr,
    auroc,
    coverage_at_risk,
    fpr_at_tpr,
    least_area_under_risk_coverage,
    risk_coverage,
)


def drawn(ties, images=40, resamples=60):
    """Values, marks, and weights of draws; some resamples have no marked image, some no other one."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(images, generator=generator, dtype=torch.float64)
    if ties:
        values = (values * 6).round()
        values[:3], values[3:5] = torch.inf, -torch.inf
    marked = torch.rand(images, generator=generator) < 0.3
    places = torch.randint(images, (resamples, images), generator=generator)
    weights = torch.stack([torch.bincount(row, minlength=images) for row in places]).double()
    weights[0, marked], weights[1, ~marked] = 0, 0
    weights[2] *= 3  # groups of images are drawn together: the numbers of images differ
    return values, marked, weights


def each(values, marked, weights, score):
    lists = [torch.arange(len(values)).repeat_interleave(row.long()) for row in weights]
    return torch.stack([score(values[places], marked[places]) for places in lists])


@pytest.mark.parametrize('ties', [False, True])
def test_scores_of_the_unknown_are_those_of_each_resample(ties):
    values, marked, weights = drawn(ties)
    ranks = ResampledRanks(values, marked, weights)

    def same(found, score):
        expected = each(values, marked, weights, lambda all_of, unknown: score(all_of[~unknown], all_of[unknown]))
        torch.testing.assert_close(found, expected, equal_nan=True, rtol=1e-12, atol=1e-12)
        assert found[2:].isfinite().all()
        assert found[:2].isnan().all()

    same(ranks.auroc(), auroc)
    for side in ('known', 'unknown'):
        same(ranks.aupr(side), lambda known, unknown, side=side: aupr(known, unknown, side))
    for at in (0.05, 0.5, 0.95, 1.0):
        same(ranks.fpr_at_tpr(at), lambda known, unknown, at=at: fpr_at_tpr(known, unknown, at))
        same(ranks.fpr_at_tpr(at, 'unknown'), lambda known, unknown, at=at: fpr_at_tpr(-unknown, -known, at))


@pytest.mark.parametrize('ties', [False, True])
def test_risks_are_those_of_each_resample(ties):
    values, marked, weights = drawn(ties)
    ranks = ResampledRanks(values, marked, weights)

    def same(found, score):
        torch.testing.assert_close(found, each(values, marked, weights, score), rtol=1e-11, atol=1e-12)

    same(ranks.risk_area(), area_under_risk_coverage)
    same(ranks.least_risk_area(), lambda _, wrong: least_area_under_risk_coverage(wrong))
    same(ranks.error(), lambda _, wrong: wrong.double().mean())
    for share in (0.0, 0.1, 0.25, 0.3, 1.0):
        same(ranks.coverage_at_risk(share), lambda unsure, wrong, risk=share: coverage_at_risk(unsure, wrong, risk))
    for share in (0.01, 0.07, 0.5, 0.8, 1.0):
        same(
            ranks.risk_at(share),
            lambda unsure, wrong, share=share: risk_coverage(unsure, wrong)[
                max(1, int(-(-(share * len(wrong) - 1e-9) // 1))) - 1
            ],
        )
