"""What docs/update.md tells people to type works."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from hybridcls.engine.optim import ComposedOptimWrapper

TEXT = (Path(__file__).parents[3] / 'docs' / 'update.md').read_text(encoding='utf8')
BLOCKS = re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL)


def block_with(text):
    (found,) = [block for block in BLOCKS if text in block]
    return found


def test_the_stage_of_your_own_trains_and_is_saved():
    code = block_with('class Grokfast')
    assert sum(bool(line.strip()) for line in code.split('\n')) <= 20
    exec(compile(code.replace('register_module()', 'register_module(force=True)'), 'docs/update.md', 'exec'), {})
    config = block_with("dict(type='Grokfast'").split('\n', 1)[1]  # without the import of a file that is not there
    stages = Config.fromstring(config, '.py').optim_wrapper.stages
    model = nn.Linear(2, 1, bias=False)
    start = model.weight.detach().clone()
    wrapper = ComposedOptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0), stages=stages)
    grads = torch.tensor([[[1.0, 2.0]], [[3.0, -2.0]]])
    for grad in grads:
        model.weight.grad = grad.clone()
        wrapper.step()
    slow = 0.9 * grads[0] + 0.1 * grads[1]
    torch.testing.assert_close(model.weight.detach(), start - 3 * grads[0] - grads[1] - 2 * slow)
    again = ComposedOptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0), stages=stages)
    again.load_state_dict(wrapper.state_dict())
    torch.testing.assert_close(again.stages['grokfast'].slow, {0: slow})


@pytest.mark.parametrize('key', ['sam', 'gc', 'lookahead'])
def test_the_stages_of_the_first_config_are_built(key):
    stages = Config.fromstring(BLOCKS[0], '.py').optim_wrapper.stages
    wrapper = ComposedOptimWrapper(torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1), stages=stages)
    assert type(wrapper.stages[key]).__name__ == stages[key].type
