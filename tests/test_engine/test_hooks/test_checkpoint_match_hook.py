"""Which checkpoints a test, a resume and a fine-tuning accept, beside torch's own strict loading."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.runner.base_loop import BaseLoop
from torch import nn

from hybridcls.engine import WeightMismatchError
from hybridcls.engine.hooks import CheckpointMatchHook, TransferHook


class Loop(BaseLoop):
    def run(self):
        """Never."""


def network(classes=3, seed=0):
    torch.manual_seed(seed)
    return nn.ModuleDict(dict(backbone=nn.Linear(4, 5), norm=nn.BatchNorm1d(5), head=nn.Linear(5, classes)))


def runner(kind):
    """What the hook looks at of a Runner that tests, resumes or starts from other weights."""
    loop = None if kind == 'test' else Loop(SimpleNamespace(), torch.utils.data.DataLoader([0]))
    return SimpleNamespace(
        model=network(),
        _resume=kind == 'resume',
        _load_from='a.pth',
        _train_loop=loop,
        logger=logging.getLogger('match'),
    )


def load(kind, state, hook=None):
    made = runner(kind)
    hook, checkpoint = hook or CheckpointMatchHook(), dict(state_dict=state)
    hook.after_load_checkpoint(made, checkpoint)
    made.model.load_state_dict(checkpoint['state_dict'], strict=False)
    return made


@pytest.mark.parametrize('kind', ['test', 'resume', 'start'])
def test_a_checkpoint_of_this_model_is_taken_whole_and_told(kind, caplog):
    state = network(seed=1).state_dict()
    with caplog.at_level(logging.INFO):
        made = load(kind, state)
    made.model.load_state_dict(state)
    assert caplog.messages == ['All 9 weights of the model come from a.pth.']
    assert not made.model._load_state_dict_post_hooks


@pytest.mark.parametrize('kind', ['test', 'resume'])
@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda state: state.pop('norm.weight'), r'1 of the model are not in it \(first: norm\.weight\)'),
        (lambda state: state.update(extra=torch.ones(1)), r'1 of it are not in the model \(first: extra\)'),
    ],
)
def test_every_weight_is_wanted(kind, change, message):
    state = network(seed=1).state_dict()
    change(state)
    with pytest.raises(RuntimeError, match=r'Missing|Unexpected'):
        network().load_state_dict(state)
    with pytest.raises(WeightMismatchError, match=rf'a\.pth does not fit this model: {message}'):
        load(kind, state)


def test_another_shape_is_named_with_both():
    with pytest.raises(WeightMismatchError, match=r'2 have another shape \(first: head\.weight, \(7, 5\).*\(3, 5\)'):
        load('test', network(7).state_dict())


def test_an_old_batchnorm_without_a_count_fits():
    state = network(seed=1).state_dict()
    del state['norm.num_batches_tracked']
    load('test', state)


def test_a_fine_tuning_may_have_another_head(caplog):
    state = {name: value for name, value in network(seed=1).state_dict().items() if 'head' not in name}
    with caplog.at_level(logging.INFO):
        made = load('start', state)
    assert torch.equal(made.model.backbone.weight, state['backbone.weight'])
    assert '7 weights loaded' in caplog.text
    assert '2 new' in caplog.text


def test_what_fits_nothing_is_an_error_for_a_fine_tuning_too():
    with pytest.raises(WeightMismatchError):
        load('start', {'other.weight': torch.ones(2)})


@pytest.mark.parametrize(('strict', 'kind'), [(True, 'start'), (False, 'test')])
def test_strict_overrules(strict, kind):
    state = network(seed=1).state_dict()
    del state['head.weight']
    if strict:
        with pytest.raises(WeightMismatchError, match='head'):
            load(kind, state, CheckpointMatchHook(strict=True))
    else:
        load(kind, state, CheckpointMatchHook(strict=False))


def test_a_loading_that_does_not_come_is_not_waited_for():
    made, hook = runner('start'), CheckpointMatchHook()
    hook.after_load_checkpoint(made, dict(state_dict=network().state_dict()))
    assert made.model._load_state_dict_post_hooks
    hook.before_train(made)
    assert not made.model._load_state_dict_post_hooks


@pytest.mark.parametrize('parts', [['backbone'], None])
def test_parts_that_another_hook_has_chosen_are_told_once_with_what_was_left_out(caplog, parts):
    made, hook = runner('start'), CheckpointMatchHook()
    made.hooks = [hook, TransferHook(parts)]
    checkpoint = dict(state_dict={**network(7, seed=1).state_dict(), 'extra': torch.ones(1)})
    with caplog.at_level(logging.INFO):
        for one in made.hooks:
            one.after_load_checkpoint(made, checkpoint)
        made.model.load_state_dict(checkpoint['state_dict'])
    (told,) = caplog.messages
    if parts:
        assert 'weights loaded (backbone 2)' in told
        assert 'new, with their initial values (norm 5, head 2)' in told
        assert 'of the checkpoint left out (norm 5, head 2, extra 1)' in told
    else:
        assert 'weights loaded (backbone 2, norm 5)' in told
        assert 'head.weight is (7, 5) in the checkpoint and (3, 5) in the model' in told
        assert 'of the checkpoint left out (extra 1)' in told
