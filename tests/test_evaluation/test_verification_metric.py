"""VerificationMetric: TAR at FAR and accuracy over folds, against the functional scores on explicit pairs."""

import pytest
import torch
from processes import run_processes
from scipy import stats

from hybridcls.evaluation import MissingFieldError, VerificationMetric
from hybridcls.functional import fold_accuracies, roc_on_grid, true_accept_rates
from hybridcls.registry import METRICS


def clouds(count=90, classes=6):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (count,), generator=generator)
    return torch.randn(classes, 5, generator=generator)[labels] + torch.randn(count, 5, generator=generator), labels


def evaluated(rows, labels, size=None, **keys):
    metric = METRICS.build(dict(type='VerificationMetric', **keys))
    metric.process(
        None,
        [
            dict(embedding=row, gt_label=label.view(1), img_path=f'/data/{number // 10}/{number}.png')
            for number, (row, label) in enumerate(zip(rows, labels, strict=True))
        ],
    )
    return metric.evaluate(len(labels) if size is None else size)


def cosines(rows, first, second):
    return torch.nn.functional.cosine_similarity(rows[first].double(), rows[second].double())


@pytest.fixture
def pairs(tmp_path):
    """Write a file of 240 pairs; return its path and content."""
    _, labels = clouds()
    first, second = torch.randint(0, 90, (2, 240), generator=torch.Generator().manual_seed(1))
    same = labels[first] == labels[second]
    path = tmp_path / 'pairs.txt'
    listed = zip(first.tolist(), second.tolist(), same.tolist(), strict=True)
    path.write_text(
        ''.join(f'{one // 10}/{one}.png {other // 10}/{other}.png {int(flag)}\n' for one, other, flag in listed)
    )
    return str(path), first, second, same


def test_all_pairs():
    rows, labels = clouds()
    first, second = torch.triu_indices(90, 90, 1)
    same = labels[first] == labels[second]
    similarity = cosines(rows, first, second)
    expected = 100 * true_accept_rates(similarity[same], similarity[~same], (1e-3, 0.1))
    assert evaluated(rows, labels, far=(1e-3, 0.1)) == dict(
        zip(('verification/tar@0.001', 'verification/tar@0.1'), expected.tolist(), strict=True)
    )
    assert 10 < expected[1] < 90


@pytest.mark.parametrize('thresholds', ['exact', 'grid'])
def test_a_file_of_pairs(pairs, thresholds):
    path, first, second, same = pairs
    rows, labels = clouds()
    similarity = cosines(rows, first, second)
    result = evaluated(rows, -labels, pairs=path, far=0.1, thresholds=thresholds)  # labels are not asked
    folds = fold_accuracies(similarity, same, 10, thresholds)
    assert result == pytest.approx(
        {
            'verification/tar@0.1': 100 * true_accept_rates(similarity[same], similarity[~same], [0.1]).item(),
            'verification/accuracy': 100 * folds.mean().item(),
            'verification/accuracy_std': 100 * folds.std(unbiased=False).item(),
        }
    )
    assert 60 < result['verification/accuracy'] < 99


def test_nearest_point_of_a_file_of_pairs(pairs):
    path, first, second, same = pairs
    rows, labels = clouds()
    similarity = cosines(rows, first, second)
    result = evaluated(rows, labels, pairs=path, far=0.0374, point='nearest')['verification/tar@0.0374']
    nearest = true_accept_rates(similarity[same], similarity[~same], [0.0374], 'nearest')
    assert result == pytest.approx(100 * nearest.item())
    assert result != evaluated(rows, labels, pairs=path, far=0.0374)['verification/tar@0.0374']
    with pytest.raises(ValueError, match="expected pairs='FILE' with point='nearest'"):
        VerificationMetric(point='nearest')


def test_padded_samples_are_dropped(pairs):
    rows, labels = clouds()
    more = torch.cat([rows, rows[:5]]), torch.cat([labels, labels[:5]])
    for keys in (dict(far=0.1), dict(far=0.1, pairs=pairs[0])):
        assert evaluated(*more, size=90, **keys) == evaluated(rows, labels, **keys)


def test_unresolvable_rate_is_left_out_with_a_warning(monkeypatch):
    logged = []
    monkeypatch.setattr('hybridcls.evaluation.result_names.print_log', lambda text, logger, level: logged.append(text))
    rows, labels = clouds()
    metric = VerificationMetric(far=(1e-4, 0.1))
    for _ in range(2):
        metric.process(None, [dict(embedding=row, gt_label=label) for row, label in zip(rows, labels, strict=True)])
        assert list(metric.evaluate(90)) == ['verification/tar@0.1']
    first, second = torch.triu_indices(90, 90, 1)
    genuine = int((labels[first] == labels[second]).sum())
    assert logged == [
        'VerificationMetric: no tar@0.0001. Insufficient data. Expected at least 1 genuine pair and 10000 impostor '
        f'pairs, got {genuine} and {4005 - genuine}.'
    ]
    assert evaluated(torch.eye(2), torch.tensor([1, 2])) == {}
    assert VerificationMetric().evaluate(size=0) == {}


def test_non_finite_image_is_wrong_in_each_pair(pairs):
    path, first, second, same = pairs
    rows, labels = clouds()
    result = evaluated(rows * torch.nan, labels, pairs=path, far=0.1)
    assert result['verification/tar@0.1'] == 0
    rows[7] = torch.nan
    bad = (first == 7) | (second == 7)
    assert bad.any()
    similarity = torch.where(bad, torch.where(same, -2.0, 2.0), cosines(rows, first, second))
    assert evaluated(rows, labels, pairs=path, far=0.1)['verification/accuracy'] == pytest.approx(
        100 * fold_accuracies(similarity, same).mean().item()
    )


def test_images_without_a_path_are_matched_by_index(tmp_path):
    (tmp_path / 'pairs.txt').write_text('0 1 1\n2 0 0\n')
    metric = VerificationMetric(pairs=str(tmp_path / 'pairs.txt'), folds=2, far=0.5)
    metric.process(None, [dict(embedding=torch.eye(2)[number // 2], sample_idx=number) for number in range(3)])
    assert metric.evaluate(3)['verification/accuracy_std'] == 0


def test_invalid_input_is_an_error(pairs):
    with pytest.raises(ValueError, match=r'VerificationMetric: expected far in .* got 1'):
        VerificationMetric(far=(0.1, 1))
    with pytest.raises(ValueError, match=r"expected thresholds to be one of .*, got 'gird'"):
        VerificationMetric(thresholds='gird')
    with pytest.raises(ValueError, match=r'at least folds=241 pairs in .*, got 240\. Set folds to at most 240'):
        VerificationMetric(pairs=pairs[0], folds=241)
    for sample, field in ((dict(embedding=torch.ones(2)), 'gt_label'), (dict(gt_label=torch.tensor([1])), 'embedding')):
        with pytest.raises(MissingFieldError, match=f'^VerificationMetric: expected an? {field}'):
            VerificationMetric().process(None, [sample])
    with pytest.raises(MissingFieldError, match='expected an img_path or a sample_idx'):
        VerificationMetric(pairs=pairs[0]).process(None, [dict(embedding=torch.ones(2), gt_label=torch.tensor([1]))])
    with pytest.raises(ValueError, match='is not among the 3 evaluated images'):
        evaluated(torch.eye(3), torch.arange(3), pairs=pairs[0])


def work(rank, folder, path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    numbers = [number % 90 for number in range(rank, 92, 2)]  # the sampler repeats two images
    rows, labels = clouds()
    results = []
    for pairs in (None, path):
        metric = VerificationMetric(far=(0.01, 0.1), pairs=pairs)
        metric.process(
            None,
            [
                dict(embedding=rows[number], gt_label=labels[number], img_path=f'/data/{number // 10}/{number}.png')
                for number in numbers
            ],
        )
        results.append(metric.evaluate(90))
    torch.save(results, f'{folder}/{rank}.pt')
    torch.distributed.destroy_process_group()


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_count_each_pair_once(pairs, tmp_path):
    run_processes(work, tmp_path, pairs[0])
    expected = [evaluated(*clouds(), far=(0.01, 0.1), pairs=path) for path in (None, pairs[0])]
    for rank in range(2):
        assert torch.load(tmp_path / f'{rank}.pt') == [pytest.approx(result) for result in expected]


def test_images_marked_as_unknown_are_left_out():
    rows, labels = clouds()
    marked = labels.masked_fill(labels == 2, -1)
    keep = marked != -1
    assert evaluated(rows, marked, far=0.1) == evaluated(rows[keep], labels[keep], far=0.1)
    assert evaluated(rows, labels.fill_(-1), far=0.1) == {}


def test_no_rate_of_one_in_a_million_from_ten_thousand_pairs():
    rows, labels = torch.randn(150, 4, generator=torch.Generator().manual_seed(0)), torch.arange(150) // 10
    assert 10_000 < 150 * 149 // 2 - 15 * 45
    assert set(evaluated(rows, labels, far=(1e-6, 1e-3))) == {'verification/tar@0.001'}


def test_roc_over_the_grid_and_intervals_of_a_file_of_pairs(pairs):
    path, first, second, same = pairs
    rows, labels = clouds()
    result = evaluated(rows, labels, pairs=path, far=[0.1, 1e-6], roc=True, confidence=0.9)
    similarity = cosines(rows, first, second)
    true_rates, false_rates = roc_on_grid(similarity, same)
    row = result['verification/roc'][150]
    assert row['squared_distance'] == 1.5
    assert row['true_accepts_percent'] == pytest.approx(100 * true_rates[150].item())
    assert row['false_accepts_percent'] == pytest.approx(100 * false_rates[150].item())
    assert len(result['verification/roc']) == 400

    def of_pairs(cosine, is_same):
        is_same = is_same.astype(bool)
        return 100 * true_accept_rates(torch.tensor(cosine[is_same]), torch.tensor(cosine[~is_same]), [0.1]).item()

    expected = stats.bootstrap(
        (similarity.numpy(), same.numpy()), of_pairs, paired=True, vectorized=False, confidence_level=0.9,
        method='percentile', n_resamples=1000, rng=0,
    ).confidence_interval  # fmt: skip
    assert result['verification/tar@0.1_low'] == pytest.approx(expected.low, abs=3)
    assert result['verification/tar@0.1_high'] == pytest.approx(expected.high, abs=3)
    assert 'verification/tar@1e-06' not in result
    with pytest.raises(ValueError, match=r"^VerificationMetric: expected pairs='FILE' with roc and confidence"):
        VerificationMetric(roc=True)
