"""The table of what is called differently since 0.2, and how old spellings are taken by classes and functions."""

import inspect
import re
from pathlib import Path

import pytest
import torch

from hybridcls import registry
from hybridcls.datasets.transforms import RandomCropToSize
from hybridcls.engine.hooks import CheckpointHook, EarlyStoppingHook
from hybridcls.engine.optim import ComposedOptimWrapper, SAMOptimWrapper
from hybridcls.engine.runner.reduce_on_plateau import ReduceOnPlateauLR
from hybridcls.evaluation import OODMetric, SelectiveMetric
from hybridcls.functional import cosine_logits, l2_normalize, margin_cross_entropy, softmax_stats
from hybridcls.models.heads import ArcFaceHead, MarginHead
from hybridcls.models.modules import ProjectionMLP
from hybridcls.renames import COMMANDS, KEYS, METRICS, MODULES, NAMES, VALUES, new_metric_name, warn_renamed

CHANGELOG = Path(__file__).resolve().parents[1] / 'CHANGELOG.md'


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


def test_the_changelog_lists_the_table():
    section = CHANGELOG.read_text(encoding='utf8').split('\n## 0.2.0')[1].split('\n## ')[0]
    rows = [re.findall('`([^`]+)`', line) for line in section.splitlines() if line.startswith('| ')]
    written = [tuple(row) for row in rows if row and row not in ([], ['save_best', 'monitor'])]
    results = [row[2:] for row in written if row[:2] == ('save_best', 'monitor')]
    assert results == list(METRICS.items())
    assert [row for row in written if row[:2] != ('save_best', 'monitor')] == [
        *((row.owner, row.old, row.new) for row in KEYS),
        *((row.owner, f'{row.key}={row.old!r}', f'{row.key}={row.new!r}') for row in VALUES),
        *COMMANDS.items(),
        *NAMES.items(),
        *MODULES.items(),
    ]


def test_a_warning_names_the_new_spelling_once_and_on_the_first_process_alone(told_renames, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    warn_renamed('bad', 'good', 'Here')
    assert not told_renames
    monkeypatch.setenv('RANK', '0')
    for where in ('Here', 'There'):
        warn_renamed('bad', 'good', where)
    ((text, logger, level),) = told_renames
    assert (logger, level) == ('current', 30)
    assert re.match(r'Here: bad is called good since version 0.2, and version 0.3 will not take bad any more\.', text)


@pytest.mark.parametrize(
    ('build', 'old', 'new'),
    [
        (lambda **keys: ArcFaceHead(3, 4, **keys).weight.shape, dict(sub_centres=2), dict(num_subcenters=2)),
        (
            lambda **keys: ProjectionMLP(4, **keys).state_dict().keys(),
            dict(hidden=3, out=2, layers=3, norm=dict(type='BN1d')),
            dict(hid_channels=3, out_channels=2, num_layers=3, norm_cfg=dict(type='BN1d')),
        ),
        (
            lambda **keys: vars(SAMOptimWrapper(optimizer(), rho=0.1, **keys).nonfinite_losses),
            dict(bad_loss='stop', most_bad_losses=3),
            dict(nonfinite_loss='raise', max_skipped_updates=3),
        ),
        (
            lambda **keys: vars(ComposedOptimWrapper(optimizer(), **keys).nonfinite_losses),
            dict(bad_loss='skip'),
            dict(nonfinite_loss='skip'),
        ),
        (
            lambda **keys: repr(RandomCropToSize(8, **keys)),
            dict(scale=(0.2, 1)),
            dict(crop_ratio_range=(0.2, 1)),
        ),
        (lambda **keys: OODMetric(**keys).directions, dict(scores='max_softmax'), dict(scores='least_confidence')),
        (
            lambda **keys: SelectiveMetric(**keys).scores,
            dict(scores=('entropy', 'max_softmax')),
            dict(scores=('entropy', 'least_confidence')),
        ),
        (
            lambda **keys: CheckpointHook(**keys).key_indicators,
            dict(save_best=['ood/fpr95_max_softmax', 'accuracy/top1']),
            dict(save_best=['ood/fpr95_least_confidence', 'accuracy/top1']),
        ),
        (
            lambda **keys: EarlyStoppingHook(**keys).monitor,
            dict(monitor='doubt/ood/auroc_max_softmax'),
            dict(monitor='doubt/ood/auroc_least_confidence'),
        ),
        (
            lambda **keys: ReduceOnPlateauLR(optimizer(), **keys).monitor,
            dict(monitor='selective/risk50_max_softmax'),
            dict(monitor='selective/risk50_least_confidence'),
        ),
    ],
)
def test_an_old_spelling_builds_what_the_new_one_does(told_renames, build, old, new):
    expected = build(**new)
    assert not told_renames
    for _ in range(2):
        assert str(build(**old)) == str(expected)
    assert 0 < len(told_renames) <= len(old) + 1, 'once for each'


def test_the_first_argument_may_be_given_without_its_name(told_renames):
    assert OODMetric(['max_softmax']).scores == ('least_confidence',)
    assert EarlyStoppingHook('ood/auroc_max_softmax').monitor == 'ood/auroc_least_confidence'
    assert len(told_renames) == 2


def test_functions_take_old_names_of_arguments(told_renames):
    embeddings, weights, labels = torch.randn(3, 4), torch.randn(6, 4), torch.tensor([0, 2, 1])
    new = cosine_logits(embeddings, class_weights=weights, num_subcenters=2)
    assert torch.equal(cosine_logits(embeddings, centres=weights, sub_centres=2), new)
    new = margin_cross_entropy(embeddings, weights, labels, lambda cosine, norm: cosine, num_subcenters=2)
    old = margin_cross_entropy(
        embeddings, centres=weights, labels=labels, margin=lambda cosine, norm: cosine, sub_centres=2
    )
    assert torch.equal(old[0], new[0])
    units = l2_normalize(embeddings)[0]
    assert softmax_stats(units, centres=weights, labels=labels, scale=1.0).best_class.shape == (3,)
    assert len(told_renames) == 2


@pytest.mark.parametrize('kind', [MarginHead, ProjectionMLP, ComposedOptimWrapper, RandomCropToSize, cosine_logits])
def test_signatures_name_the_new_spellings_alone(kind):
    assert {row.old for row in KEYS if row.owner == kind.__name__}.isdisjoint(inspect.signature(kind).parameters)
    assert {row.new for row in KEYS if row.owner == kind.__name__} <= inspect.signature(kind).parameters.keys()


def test_both_spellings_together_are_an_error():
    with pytest.raises(TypeError, match=r'^ArcFaceHead: expected num_subcenters alone, got sub_centres=2'):
        ArcFaceHead(3, 4, sub_centres=2, num_subcenters=2)


@pytest.mark.parametrize('scale', [224, (224, 224), (0.5, 1.5), (0.5,), (True, True), '10'])
def test_a_scale_that_is_no_pair_of_shares_is_refused(scale):
    with pytest.raises(TypeError, match=r'crop_ratio_range now, .*img_size, got scale='):
        RandomCropToSize(32, scale=scale)


@pytest.mark.parametrize(
    ('name', 'new'),
    [
        ('ood/auroc_max_softmax', 'ood/auroc_least_confidence'),
        ('face/ood/fpr99.5_max_softmax', 'face/ood/fpr99.5_least_confidence'),
        ('best_score_selective/eaurc_max_softmax', 'best_score_selective/eaurc_least_confidence'),
        ('mine/accuracy_max_softmax', 'mine/accuracy_max_softmax'),  # a metric of somebody else
        ('max_softmax', 'max_softmax'),
        ('ood/auroc_max_softmax_2', 'ood/auroc_max_softmax_2'),
    ],
)
def test_results_of_our_metrics_have_new_names(name, new):
    assert new_metric_name(name) == new


@pytest.mark.parametrize('name', ['DHAFusion', 'DynamicHeadAttention'])
def test_the_fusion_has_the_name_of_the_original_system_too(name):
    assert registry.MODELS.build(dict(type=name, in_channels=(4, 4), fusion_dim=8)).out_channels == 8


@pytest.mark.parametrize(
    'cfg', [dict(type='AdaFace'), dict(type='EvidentialLoss'), dict(type='SupConLoss')], ids=lambda cfg: cfg['type']
)
def test_names_of_the_original_system_build(cfg):
    assert type(registry.MODELS.build(cfg)).__module__.startswith('hybridcls.models.')
