"""RetrievalMetric: against plain loops and cases solved by hand."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import average_precision_score, pairwise_distances

from hybridcls.evaluation import MissingFieldError, RetrievalMetric, retrieval_metric


def clouds(count=90, classes=6):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (count,), generator=generator)
    labels[0] = classes  # occurs once
    class_weights = torch.randn(classes + 1, 5, generator=generator)
    return class_weights[labels] + torch.randn(count, 5, generator=generator), labels


def evaluated(rows, labels, size=None, **keys):
    metric = RetrievalMetric(**keys)
    metric.process(None, [dict(embedding=row, gt_label=label.view(1)) for row, label in zip(rows, labels, strict=True)])
    return metric.evaluate(len(labels) if size is None else size)


def by_loops(rows, labels, topk):
    distances = pairwise_distances(rows.double().numpy(), metric='cosine')
    np.fill_diagonal(distances, np.inf)
    scores = {f'retrieval/recall@{k}': [] for k in topk}
    scores.update({'retrieval/precision@r': [], 'retrieval/map@r': []})
    for query, label in enumerate(labels.tolist()):
        count = (labels == label).sum().item() - 1
        if count == 0:
            continue
        own = [labels[index].item() == label for index in np.argsort(distances[query])[:-1]]
        for k in topk:
            scores[f'retrieval/recall@{k}'].append(any(own[:k]))
        scores['retrieval/precision@r'].append(sum(own[:count]) / count)
        scores['retrieval/map@r'].append(
            sum(sum(own[:rank]) / rank for rank in range(1, count + 1) if own[rank - 1]) / count
        )
    return {name: 100 * np.mean(values) for name, values in scores.items()}


@pytest.mark.parametrize('topk', [(1, 4), (1, 50)])
def test_scores_equal_plain_loops(topk):
    rows, labels = clouds()
    result = evaluated(rows, labels, topk=topk)
    assert result == pytest.approx(by_loops(rows, labels, topk))
    assert 10 < result['retrieval/map@r'] < 90


def test_padded_samples_are_dropped():
    rows, labels = clouds()
    more = torch.cat([rows, rows[:5]]), torch.cat([labels, labels[:5]])
    assert evaluated(*more, size=90) == evaluated(rows, labels)


def test_diverged_model_scores_zero():
    rows, labels = clouds(20)
    assert set(evaluated(rows * torch.nan, labels).values()) == {0.0}
    rows[3] = torch.inf
    assert evaluated(rows, labels)['retrieval/recall@8'] > 0


def test_k_above_the_number_of_images():
    assert evaluated(torch.eye(2), torch.tensor([1, 1]), topk=8)['retrieval/recall@8'] == 100
    assert evaluated(torch.eye(2), torch.tensor([1, 2])) == {}
    assert RetrievalMetric().evaluate(size=0) == {}


def test_invalid_input_is_an_error():
    with pytest.raises(ValueError, match=r'RetrievalMetric: expected topk in .* got 0'):
        RetrievalMetric(topk=(1, 0))
    for sample, field in ((dict(embedding=torch.ones(2)), 'gt_label'), (dict(gt_label=torch.tensor([1])), 'embedding')):
        with pytest.raises(MissingFieldError, match=f'^RetrievalMetric: expected an? {field}'):
            RetrievalMetric().process(None, [sample])


def test_unknown_images_are_not_a_class():
    rows, labels = clouds()
    marked = labels.clone()
    marked[labels == 2] = -1
    alone = torch.where(marked == -1, 100 + torch.arange(len(labels)), marked)
    assert evaluated(rows, marked) == evaluated(rows, alone)
    assert evaluated(rows, marked) != evaluated(rows, labels)


@pytest.mark.parametrize('block', [1024, 7])
def test_whole_lists_are_ranked_by_blocks(block, monkeypatch):
    monkeypatch.setattr(retrieval_metric, '_BLOCK_QUERIES', block)
    rows, labels = clouds()
    similarity = -pairwise_distances(rows.double().numpy(), metric='cosine')
    precisions, ranks = [], []
    for query in range(1, len(labels)):  # the class of the first occurs once
        others = [index for index in range(len(labels)) if index != query]
        same = (labels[others] == labels[query]).numpy()
        precisions.append(average_precision_score(same, similarity[query, others]))
        ranks.append(1 / (1 + same[np.argsort(-similarity[query, others])].argmax()))
    result = evaluated(rows, labels, topk=1, whole_list=True)
    assert result['retrieval/map'] == pytest.approx(100 * np.mean(precisions))
    assert result['retrieval/mrr'] == pytest.approx(100 * np.mean(ranks))
    assert RetrievalMetric(whole_list=True).directions['mrr'] == 'greater'


def test_whole_lists_without_finite_embeddings():
    rows, labels = clouds(20)
    assert set(evaluated(rows * torch.nan, labels, whole_list=True).values()) == {0.0}


def test_images_without_a_match_can_count():
    """One of 90 has nothing to find: its zeros are a share of 1 in 90. Marked images still do not ask."""
    rows, labels = clouds()
    without = evaluated(rows, labels, whole_list=True)
    counted = evaluated(rows, labels, whole_list=True, count_unmatched=True)
    assert counted == pytest.approx({name: value * 89 / 90 for name, value in without.items()})
    labels[0] = -1
    assert evaluated(rows, labels, whole_list=True, count_unmatched=True) == pytest.approx(without)
    alone = evaluated(torch.eye(2), torch.tensor([1, 2]), topk=1, count_unmatched=True)
    assert alone == {'retrieval/recall@1': 0.0, 'retrieval/precision@r': 0.0, 'retrieval/map@r': 0.0}


def in_gallery(queries, labels, gallery, their_labels, size=None, groups=None, **keys):
    metric = RetrievalMetric(**keys)
    metric.set_gallery(gallery, their_labels)
    for place, (row, label) in enumerate(zip(queries, labels, strict=True)):
        group = {} if groups is None else dict(patient=groups[place])
        metric.process(None, [dict(embedding=row, gt_label=label.view(1), **group)])
    return metric.evaluate(len(labels) if size is None else size), metric


def test_a_gallery_is_searched_as_plain_loops_do():
    """With a class without a match, distractors of classes without a query, and unknown images on both sides."""
    queries, labels = clouds(60)  # class 6 has one query
    gallery, their_labels = clouds(80)
    gallery = gallery + 0.3 * torch.randn(80, 5, generator=torch.Generator().manual_seed(3))
    their_labels = their_labels.where(their_labels != 6, -1)
    their_labels[labels.new_tensor([3, 4])] = 17
    labels[5] = -1
    result, metric = in_gallery(queries, labels, gallery, their_labels, topk=(1, 5), whole_list=True)
    similarity = 1 - pairwise_distances(queries.double().numpy(), gallery.double().numpy(), metric='cosine')
    scores = {name: [] for name in ('recall@1', 'recall@5', 'precision@r', 'map@r', 'map', 'mrr')}
    unmatched = 0
    for row, label in zip(similarity, labels.tolist(), strict=True):
        own = (their_labels.numpy() == label)[np.argsort(-row)]
        if label == -1:
            continue
        if not own.any():
            unmatched += 1
            continue
        r = own.sum()
        scores['recall@1'].append(own[0])
        scores['recall@5'].append(own[:5].any())
        scores['precision@r'].append(own[:r].mean())
        scores['map@r'].append((own[:r] * own[:r].cumsum() / np.arange(1, r + 1)).sum() / r)
        scores['map'].append(average_precision_score(their_labels.numpy() == label, row))
        scores['mrr'].append(1 / (1 + own.argmax()))
    assert unmatched == 1
    for name, values in scores.items():
        assert result[f'retrieval/{name}'] == pytest.approx(100 * np.mean(values)), name
        assert result[f'retrieval/{name}_all'] == pytest.approx(100 * np.mean([*values, 0])), name
    assert (result['retrieval/queries'], result['retrieval/matched_queries'], result['retrieval/gallery']) == (
        59,
        58,
        80,
    )
    assert set(result) == {f'retrieval/{name}' for name in metric.directions}
    assert 5 < result['retrieval/map@r'] < 95


def test_a_gallery_is_dropped_after_use_and_its_width_checked():
    queries, labels = clouds(20)
    _, metric = in_gallery(queries, labels, queries, labels)
    metric.process(
        None, [dict(embedding=row, gt_label=label.view(1)) for row, label in zip(queries, labels, strict=True)]
    )
    assert metric.evaluate(20) == evaluated(queries, labels)
    with pytest.raises(ValueError, match=r'^RetrievalMetric: expected a gallery of 5-dimensional .* got 4'):
        in_gallery(queries, labels, queries[:, :4], labels)
    with pytest.raises(ValueError, match=r'^RetrievalMetric.set_gallery: expected embeddings \(M, D\)'):
        in_gallery(queries, labels, queries, labels[:3])


def test_a_gallery_without_a_match_or_smaller_than_k():
    queries, labels = clouds(20)
    result, metric = in_gallery(queries, labels, queries, labels + 100)
    assert result == {}
    assert metric.no_result == 'None of the 20 images has an image of its class in the gallery of 20.'
    one, _ = in_gallery(queries[:1], labels[:1], queries[:1], labels[:1], topk=8, whole_list=True)
    assert one['retrieval/recall@8'] == one['retrieval/map'] == one['retrieval/mrr_all'] == 100
    broken, _ = in_gallery(queries, labels, queries * torch.nan, labels, whole_list=True)
    assert broken['retrieval/map@r'] == broken['retrieval/map'] == 0
    broken, _ = in_gallery(queries * torch.nan, labels, queries, labels, whole_list=True)
    assert broken['retrieval/map@r'] == broken['retrieval/recall@8'] == 0


def test_padded_queries_are_dropped_and_intervals_given():
    queries, labels = clouds(40)
    gallery, their_labels = clouds(90)
    gallery = gallery.flip(1)
    more = torch.cat([queries, queries[:9]]), torch.cat([labels, labels[:9]])
    result, _ = in_gallery(queries, labels, gallery, their_labels, confidence=0.95)
    assert in_gallery(*more, gallery, their_labels, size=40, confidence=0.95)[0] == result
    hits = round(result['retrieval/recall@1'] * 40 / 100)
    assert result['retrieval/recall@1_low'] == pytest.approx(100 * stats.binomtest(hits, 40).proportion_ci().low)
    assert result['retrieval/map@r_low'] < result['retrieval/map@r'] < result['retrieval/map@r_high']
    groups = [place % 8 for place in range(40)]
    grouped, _ = in_gallery(queries, labels, gallery, their_labels, groups=groups, confidence=0.95, group='patient')
    assert grouped['retrieval/recall@1'] == result['retrieval/recall@1']
    assert grouped['retrieval/recall@1_low'] != result['retrieval/recall@1_low']
