import pytest
import torch

from hybridcls.functional import margins_from_counts
from hybridcls.registry import MODELS

MARGINS = [0.1, 0.3, 0.5]
BASES = ['ArcFace', 'CosFace', 'AdaFace', 'CombinedMargin']


def build(**keys):
    return MODELS.build(dict(type='ClassWise', num_classes=3, **keys))


@pytest.mark.parametrize('base', BASES)
def test_each_row_has_the_margin_of_its_class(base):
    cosine, norms, labels = torch.tensor([0.9, -0.95, 0.2, 0.3]), torch.tensor([5.0, 9.0, 20.0, 30.0]), [2, 1, 0, 2]
    out = build(base=dict(type=base), margins=MARGINS).eval()(cosine, norms, torch.tensor(labels))
    for row, label in enumerate(labels):
        single = MODELS.build(dict(type=base)).eval()
        single.margin = MARGINS[label]
        expected = single(cosine[row : row + 1], norms[row : row + 1], torch.tensor([label]))
        torch.testing.assert_close(out[row : row + 1], expected)


def test_margins_from_counts_and_in_the_checkpoint():
    margin = build(counts=[100, 1, 10], low=0.1, high=0.4)
    expected = margins_from_counts(torch.tensor([100, 1, 10]), 0.1, 0.4)
    torch.testing.assert_close(margin.class_margins, expected)
    other = build(low=0.1, high=0.4)
    assert other.class_margins.tolist() == pytest.approx([0.4] * 3)
    other.load_state_dict(margin.state_dict())
    torch.testing.assert_close(other.class_margins, expected)


def test_a_warm_up_scales_all_margins_and_can_be_undone():
    margin, cosine, labels = build(base=dict(type='CosFace'), margins=MARGINS), torch.zeros(3), torch.arange(3)
    assert margin.margin == 0.5
    margin.margin = 0.0
    assert margin(cosine, cosine, labels).tolist() == [0, 0, 0]
    margin.margin = 0.25
    torch.testing.assert_close(margin(cosine, cosine, labels), -torch.tensor(MARGINS) / 2)
    margin.margin = 0.5
    torch.testing.assert_close(margin(cosine, cosine, labels), -torch.tensor(MARGINS))


def test_adaface_keeps_its_statistics_and_its_log():
    margin = build(base=dict(type='AdaFace', t_alpha=1.0), margins=MARGINS)
    margin(torch.zeros(2), torch.tensor([1.0, 3.0]), torch.tensor([0, 1]))
    assert margin.log_scalars()['norm_mean'].item() == 2
    assert build().log_scalars() == {}


@pytest.mark.parametrize(
    ('keys', 'message'),
    [
        (dict(margins=[0.1]), 'margins to have num_classes=3 numbers, got 1'),
        (dict(counts=[1, 2]), 'counts to have num_classes=3 numbers, got 2'),
        (dict(margins=MARGINS, counts=[1, 2, 3]), 'Drop one'),
        (dict(margins=[0.1, 0.2, 4.0]), 'expected margin in .*, got 4.0'),
        (dict(rule='ldam'), 'expected rule '),
    ],
)
def test_wrong_settings_fail_when_built(keys, message):
    with pytest.raises(ValueError, match=message):
        build(**keys)


def test_a_base_that_takes_no_margins():
    with pytest.raises(TypeError, match='base is Linear, which has no method with_margin'):
        build(base=dict(type=torch.nn.Linear, in_features=1, out_features=1))
