import pytest
import torch

from hybridcls.functional.l2_normalize import inverse_norms, l2_normalize
from hybridcls.functional.margins.class_blocks import ClassBlocks


def blocks_of(memory=10**6, num_subcenters=1, chosen=None, precision='float32', **keys):
    torch.manual_seed(0)
    units, class_weights = l2_normalize(torch.randn(5, 4))[0], torch.randn(7 * num_subcenters, 4)
    factors = 3 * inverse_norms(class_weights if chosen is None else class_weights[chosen])
    labels = torch.tensor([0, 6, -1, 2, 40])
    return ClassBlocks(units, class_weights, labels, num_subcenters, memory, chosen, factors, precision, **keys)


@pytest.mark.parametrize(('memory', 'multiple', 'sizes'), [(1, 1, [1] * 7), (1, 4, [4, 3]), (10**6, 1, [7])])
def test_blocks_cover_all_classes_once(memory, multiple, sizes):
    assert [rows.stop - rows.start for _, rows in blocks_of(memory, multiple=multiple)] == sizes
    assert [rows.stop - rows.start for _, rows in blocks_of(memory, 2, multiple=multiple)] == [2 * s for s in sizes]


def test_rounded_blocks_stay_in_memory():
    assert blocks_of(200, precision='bfloat16').size < blocks_of(200).size


def test_logits():
    blocks = blocks_of()
    (_, rows), *_ = blocks
    cosines = torch.nn.functional.cosine_similarity(blocks.class_weights.unsqueeze(1), blocks.units, dim=2)
    torch.testing.assert_close(blocks.logits(blocks.weights_of(rows), rows), 3 * cosines)


@pytest.mark.parametrize('num_subcenters', [1, 2])
@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_target_cosines_are_not_rounded(num_subcenters, precision):
    chosen = torch.tensor([4, 2, 0]) if num_subcenters == 1 else None
    blocks = blocks_of(num_subcenters=num_subcenters, chosen=chosen, precision=precision)
    weights = blocks.class_weights if chosen is None else blocks.class_weights[chosen]
    cosines = torch.nn.functional.cosine_similarity(blocks.units.unsqueeze(1), weights, dim=2)
    cosines = cosines.unflatten(1, (-1, num_subcenters)).amax(2)
    expected = [row[label] if 0 <= label < len(row) else 0.0 for row, label in zip(cosines, blocks.labels, strict=True)]
    torch.testing.assert_close(blocks.target_cosines(), torch.tensor(expected))


def test_no_class():
    blocks = blocks_of(chosen=torch.zeros(0, dtype=torch.int64))
    assert list(blocks) == []
    assert blocks.target_cosines().tolist() == [0.0] * 5
