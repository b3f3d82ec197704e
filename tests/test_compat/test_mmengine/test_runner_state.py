"""What a hook asks a Runner for."""

from types import SimpleNamespace

import pytest
from mmengine.runner.base_loop import BaseLoop
from torch import nn

from hybridcls.compat.mmengine import bare_model, built_loop, loaded_from, resume_from, resumes
from hybridcls.models.classifiers import MixtureTTA


def test_the_model_inside_all_wrappers():
    model = nn.Linear(1, 1)
    model.test_step = None  # mmengine asks for it
    wrapped = nn.DataParallel(MixtureTTA(module=model))
    assert bare_model(wrapped) is bare_model(model) is model


class Loop(BaseLoop):
    def run(self):
        return None


@pytest.mark.parametrize('kind', ['train', 'val', 'test'])
def test_a_loop_that_is_not_built_stays_so(kind):
    loop = Loop(None, nn.Identity())
    assert built_loop(SimpleNamespace(**{f'_{kind}_loop': dict(type='Loop')}), kind) is None
    assert built_loop(SimpleNamespace(**{f'_{kind}_loop': loop}), kind) is loop


def test_what_a_run_begins_with_can_be_chosen():
    runner = SimpleNamespace(_resume=True, _load_from=None)
    assert (resumes(runner), loaded_from(runner)) == (True, None)
    resume_from(runner, 'x.pth')
    assert (resumes(runner), loaded_from(runner)) == (True, 'x.pth')
    resume_from(runner, None)
    assert (resumes(runner), loaded_from(runner)) == (False, None)
