"""draw_token_groups: mean colours and borders of groups, against values by hand."""

import pytest
import torch

from hybridcls.visualization import draw_token_groups


def test_groups_have_mean_colours_and_borders():
    image = torch.rand(3, 6, 9, generator=torch.Generator().manual_seed(0))
    groups = torch.tensor([[0, 4, 4], [4, 4, 2]])
    painted, plain = draw_token_groups(image, groups), draw_token_groups(image, groups, border=False)
    first, last = torch.zeros(6, 9, dtype=torch.bool), torch.zeros(6, 9, dtype=torch.bool)
    first[:3, :3], last[3:, 6:] = True, True
    for mask in (first, last, ~(first | last)):
        torch.testing.assert_close(plain[:, mask], image[:, mask].mean(1, keepdim=True).expand(3, int(mask.sum())))
    lines = torch.zeros(6, 9, dtype=torch.bool)
    lines[:3, 3], lines[3, :3], lines[3:, 6], lines[3, 6:] = True, True, True, True
    assert torch.equal(painted, plain.masked_fill(lines, 0.0))


def test_image_that_is_not_a_multiple_is_an_error():
    with pytest.raises(ValueError, match='a multiple of 2 x 2 patches, got 5 x 4'):
        draw_token_groups(torch.zeros(3, 5, 4), torch.zeros(2, 2, dtype=torch.int64))
