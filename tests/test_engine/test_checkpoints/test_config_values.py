"""The config in a checkpoint is read, and not run."""

import pytest
import torch

from hybridcls.engine.checkpoints.config_values import config_values


@pytest.mark.parametrize(
    ('meta', 'expected'),
    [
        (
            dict(cfg='a = 1\nmodel = dict(sizes=(1, 2))\nimport os\nb = os.getcwd()\n'),
            dict(a=1, model=dict(sizes=(1, 2))),
        ),
        (dict(cfg='no python at all'), None),
        (dict(cfg=''), None),
        (dict(), None),
        (None, None),
    ],
)
def test_what_is_no_literal_is_left_out(tmp_path, meta, expected):
    torch.save(dict(state_dict=dict(weight=torch.zeros(1)), meta=meta), tmp_path / 'c.pth')
    assert config_values(str(tmp_path / 'c.pth')) == expected
