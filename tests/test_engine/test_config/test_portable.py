"""Names that other tools find."""

from mmengine.config import Config

from hybridcls.engine.config.portable import portable_types


def planned(**cfg):
    return {change.path: change.new for change in portable_types(Config(cfg))}


def test_ours_get_the_scope_and_others_keep_their_names():
    found = planned(
        default_scope='hybridcls',
        model=dict(
            type='HybridClassifier',
            head=dict(type='mmpretrain.LinearClsHead'),
            neck=dict(type='GlobalAveragePooling'),
        ),
        train_dataloader=dict(dataset=dict(type='Digits', pipeline=[dict(type='ResizeToSize')])),
        my_variable=dict(type='ResizeToSize'),
    )
    assert found == {
        ('model', 'type'): 'hybridcls.HybridClassifier',
        ('train_dataloader', 'dataset', 'type'): 'hybridcls.Digits',
        ('train_dataloader', 'dataset', 'pipeline', 0, 'type'): 'hybridcls.ResizeToSize',
    }


def test_the_config_of_another_scope_is_left_alone():
    assert planned(default_scope='mmpretrain', model=dict(type='HybridClassifier')) == {}
