"""Parts of a config that cannot be built are refused before anything is built."""

import pytest
from mmengine.config import Config

from hybridcls.engine.config import ConfigError
from hybridcls.engine.config.parts import check_parts

HEAD = dict(type='LinearHead', num_classes=3)
HOOKS = dict(chekpoint=dict(interval=2), logger=dict(type='LoggerHook'))


def check(is_test=False, **cfg):
    check_parts(Config(cfg), is_test)


@pytest.mark.parametrize(
    ('cfg', 'sentence'),
    [
        (
            dict(model=dict(type='HybridClassifier', head=dict(HEAD, in_channles=3))),
            r"^model\.head\.in_channles: LinearHead: unknown key 'in_channles'\. Did you mean 'in_channels'\?",
        ),
        (
            dict(train_dataloader=dict(batchsize=2)),
            r"^train_dataloader\.batchsize: DataLoader takes no such key\. Did you mean 'batch_size'",
        ),
        (
            dict(train_dataloader=dict(samples_per_gpu=2)),
            r'^train_dataloader\.samples_per_gpu: nothing reads this key .* Write batch_size\.$',
        ),
        (dict(val_dataloader=dict(workers_per_gpu=2)), r'Write num_workers\.$'),
        (dict(default_hooks=dict(timmer=None)), 'no default hook .timmer.'),
    ],
)
def test_a_key_that_nothing_takes(cfg, sentence):
    with pytest.raises((ConfigError, TypeError), match=sentence):
        check(**cfg)


@pytest.mark.parametrize(
    ('cfg', 'sentence'),
    [
        (
            dict(default_hooks=HOOKS),
            r"^default_hooks\.chekpoint = {'interval': 2} has no 'type', .* Did you mean 'checkpoint'\?$",
        ),
        (dict(custom_hooks=[dict(interval=1)]), r'^custom_hooks\.0 = '),
        (dict(param_scheduler=[dict(T_max=1)]), r'^param_scheduler\.0 = '),
        (dict(model=dict(tpye='HybridClassifier')), '^model = '),
        (dict(optim_wrapper=dict(optimizer=dict(lr=1))), r'^optim_wrapper\.optimizer = '),
        (dict(train_dataloader=dict(dataset=dict(data_root='x'))), r'^train_dataloader\.dataset = '),
        (
            dict(val_dataloader=dict(dataset=dict(type='ImageFolder', pipeline=[dict(scale=1)]))),
            r'^val_dataloader\.dataset\.pipeline\.0 = ',
        ),
        (dict(val_evaluator=[dict(topk=1)]), r'^val_evaluator\.0 = '),
        (dict(val_evaluator=dict(metrics=[dict(topk=1)])), r'^val_evaluator\.metrics\.0 = '),
        (dict(val_evaluator=dict(topk=1)), '^val_evaluator = '),
    ],
)
def test_a_dict_without_type(cfg, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check(**cfg)


def test_what_this_run_does_not_build_is_left_alone():
    wrong = dict(type='ImageFolder', nothing=1)
    check(test_dataloader=dict(dataset=wrong), model_wrapper_cfg=dict(type='MMDistributedDataParallel', nothing=1))
    check(is_test=True, train_dataloader=dict(dataset=wrong), optim_wrapper=dict(optimizer=dict(lr=1)))
    with pytest.raises(TypeError, match=r'^test_dataloader\.dataset\.nothing: ImageFolder: '):
        check(is_test=True, test_dataloader=dict(dataset=wrong))
    with pytest.raises(TypeError, match=r'^model_wrapper_cfg\.nothing: '):
        check(launcher='pytorch', model_wrapper_cfg=dict(type='MMDistributedDataParallel', nothing=1))


class Popping:
    """A model of another package, which reads a key of a part before it builds the part."""

    def __init__(self, encoder, **kwargs):
        encoder.pop('pretrained')


def test_what_another_package_may_take_out_of_a_dict_passes():
    check(model=dict(type=Popping, encoder=dict(type='ResNet', depth=18, pretrained='x')))


def test_a_key_that_a_transform_takes_out_of_its_policies_passes():
    policy = dict(type='Rotate', magnitude_key='angle', magnitude_range=(0, 30))
    augment = dict(type='RandAugment', policies=[policy], num_policies=1, magnitude_level=1)
    check(train_dataloader=dict(dataset=dict(type='ImageFolder', pipeline=[augment])))
