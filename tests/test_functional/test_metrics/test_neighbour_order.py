"""Keys of neighbours: the order of float32, then of positions."""

import pytest
import torch

from hybridcls.functional.metrics.neighbour_order import NOT_THERE, keys_of, l2_normalize64, read_keys


def test_keys_are_in_the_order_of_python_and_can_be_read():
    values = [1.0, -1.0, 0.0, -0.0, 2**-40, -(2**-40), 0.5, 0.5, float('inf'), float('-inf'), -0.25, 2**-44]
    positions = list(range(len(values)))[::-1]
    keys = keys_of(torch.tensor(values), torch.tensor(positions))
    expected = sorted(range(len(values)), key=lambda row: (-values[row], positions[row]))
    assert keys.argsort(descending=True).tolist() == expected
    similarity, index = read_keys(keys)
    assert similarity.tolist() == values
    assert index.tolist() == positions
    assert (keys > NOT_THERE).all()


def test_nan_is_the_least_similar_and_still_a_neighbour():
    keys = keys_of(torch.tensor([float('nan'), -1.0]), torch.tensor([0, 1]))
    assert NOT_THERE < keys[0] < keys[1]


def test_differences_below_float32_are_ties():
    keys = keys_of(torch.tensor([0.7 + 1e-12, 0.7], dtype=torch.float64), torch.tensor([1, 0]))
    assert keys[1] > keys[0]
    keys = keys_of(torch.tensor([3e-17, -3e-17, 0.0], dtype=torch.float64), torch.tensor([2, 0, 1]))
    assert keys.argsort(descending=True).tolist() == [1, 2, 0]  # right angles, whatever their sums were rounded to
    assert read_keys(keys)[0].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.float64])
def test_rows_without_direction_stay_and_others_get_length_1(dtype):
    units = l2_normalize64(torch.tensor([[3.0, 4.0], [0.0, 0.0], [float('inf'), 1.0]]).to(dtype))
    assert units.dtype == torch.float64
    torch.testing.assert_close(units[:2], torch.tensor([[0.6, 0.8], [0, 0]], dtype=torch.float64))
    assert units[2].isnan().any()
