"""Class names decide, from the folder to the score: a model that knows brightness is right or wrong by its labels.

The classes ant, bee, cat, dog are images of the brightness 0, 60, 120, 180; the model answers with the number of the
brightness, which is the number of the class in a training on all of them.
"""

import logging
import shutil

import cv2
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_testing, prepare_training
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.registry import HOOKS, MODELS

VALUES = dict(ant=0, bee=60, cat=120, dog=180)

CONFIG = """
default_scope = 'hybridcls'
data_root = None
pipeline = [dict(type='LoadImage'), dict(type='PackInputs')]
model = dict(type='ByBrightness', head=dict(type='BrightnessHead'))
train_dataloader = dict(batch_size=8, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                        dataset=dict(type='ImageFolder', data_prefix='train', pipeline=pipeline))
val_dataloader = dict(batch_size=8, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                      dataset=dict(type='ImageFolder', data_prefix='val', test_mode=True,
                                   pipeline=pipeline))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = [dict(type='Accuracy')]
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(type='ComposedOptimWrapper', optimizer=dict(type='SGD', lr=0.1))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
randomness = dict(seed=0)
env_cfg = dict(dist_cfg=dict(backend='gloo'))
"""
TRAINED = []  # labels that the training saw


@MODELS.register_module(force=True)
class BrightnessHead(nn.Module):
    def __init__(self, num_classes=None):
        super().__init__()
        self.num_classes = num_classes


@MODELS.register_module(force=True)
class ByBrightness(BaseModel):
    def __init__(self, head):
        super().__init__(data_preprocessor=dict(type='HybridDataPreprocessor', num_classes=head['num_classes']))
        self.head = MODELS.build(head)
        self.weight = nn.Parameter(torch.ones(()))

    def init_weights(self):
        """Plain."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        level = inputs.flatten(1).mean(1) * 255 / 60
        if mode == 'loss':
            TRAINED.extend(zip(level.round().int().tolist(), (s.gt_label.item() for s in data_samples), strict=True))
            return dict(loss=(level.mean() * self.weight).square())
        for sample, value in zip(data_samples, level, strict=True):
            scores = (-(value - torch.arange(self.head.num_classes)).abs() * 9).softmax(0)
            sample.set_pred_score(scores).set_pred_label(int(scores.argmax()))
            sample.set_field(torch.stack([(value / 2).cos(), (value / 2).sin()]), 'embedding')
        return data_samples


@HOOKS.register_module(force=True)
class Listener(Hook):
    """Keeps what the log says."""

    def before_run(self, runner):
        runner.logger.addHandler(Keeping())

    def after_test_epoch(self, runner, metrics=None):
        for holder in (runner.test_evaluator, runner.visualizer, runner.test_evaluator.metrics[0]):
            assert holder.dataset_meta == runner.test_dataloader.dataset.metainfo


class Keeping(logging.Handler):
    said = []

    def emit(self, record):
        self.said.append(record.getMessage())


@pytest.fixture
def images(tmp_path):
    Keeping.said.clear()
    TRAINED.clear()

    def write(split, *names, count=2):
        for name in names:
            folder = tmp_path / 'images' / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                cv2.imwrite(str(folder / f'{number}.png'), np.full((4, 4, 3), VALUES.get(name, 240), np.uint8))
        return tmp_path / 'images' / split

    write('train', 'ant', 'bee', 'cat')
    return write


@pytest.fixture
def run(tmp_path):
    (tmp_path / 'config.py').write_text(CONFIG)

    def run(checkpoint=None, resume=None, validate=True, **options):
        options = {'data_root': str(tmp_path / 'images'), 'custom_hooks': [dict(type='Listener')], **options}
        cfg = load_config(tmp_path / 'config.py', options)
        Keeping.said.clear()
        with isolated_globals():
            if checkpoint is not None:
                return build_runner(prepare_testing(cfg, str(checkpoint), TrainOptions(), str(tmp_path / 't'))).test()
            runner = build_runner(
                prepare_training(cfg, TrainOptions(resume=resume, validate=validate), str(tmp_path / 'w'))
            )
            runner.train()
            return {
                name.removeprefix('val/'): buffer.current()
                for name, buffer in runner.message_hub.log_scalars.items()
                if name.startswith('val/')
            }

    return run


def said(what):
    return [text for text in Keeping.said if text.startswith(f'{what}: ')]


@pytest.fixture
def checkpoint(run, images, tmp_path):
    """A training without validation."""
    (tmp_path / 'images' / 'val').mkdir()  # it is looked for, though not read
    run(validate=False)
    return shutil.copy(tmp_path / 'w' / 'epoch_1.pth', tmp_path / 'first.pth')


def test_a_validation_folder_that_lacks_a_class(run, images):
    images('val', 'bee', 'cat')
    assert run()['accuracy/top1'] == 100
    assert said('val') == ["val: 2 of the model's 3 classes; without ant."]


def test_a_validation_folder_with_another_class_is_counted(run, images):
    images('val', 'ant', 'bee', 'dog')
    assert run()['accuracy/top1'] == pytest.approx(200 / 3)
    assert said('val') == [
        "val: 1 of 3 class names is not among the model's 3: dog (2 images); they count as unknown, except in "
        'retrieval and verification.'
    ]


def test_a_head_with_fewer_classes_than_the_images(run, images):
    images('val', 'ant', 'bee', 'cat')
    with pytest.raises(
        ValueError, match=r'^train: expected a model of 3 classes, .*\(ant, bee, cat\), got num_classes=2'
    ):
        run(**{'num_classes': 2})
    assert not TRAINED


def test_classes_that_are_named_and_have_no_image_need_no_output(run, images):
    images('val', 'ant', 'bee', 'cat')
    classes = {
        f'{part}_dataloader.dataset.{key}': value
        for part in ('train', 'val')
        for key, value in (('classes', ['ant', 'bee', 'cat', 'dog']), ('empty_classes', 'warn'))
    }
    assert run(**{'num_classes': 3, **classes})['accuracy/top1'] == 100


def test_no_training_images_are_needed_to_test(run, images, checkpoint, tmp_path):
    images('val', 'cat', 'bee')
    (tmp_path / 'images' / 'train').rename(tmp_path / 'elsewhere')
    assert run(checkpoint)['accuracy/top1'] == 100
    assert said('test') == ["test: 2 of the model's 3 classes; without ant."]  # and see Listener


@pytest.mark.parametrize('lines', ['bee/0.png,bee\ncat/0.png,cat\n', 'bee/0.png,1\ncat/0.png,2\n'])
def test_a_list_without_a_class(run, images, checkpoint, lines):
    (images('val', 'bee', 'cat') / 'val.csv').write_text(lines)
    assert run(checkpoint, **{'test_dataloader.dataset.ann_file': 'val/val.csv'})['accuracy/top1'] == 100


def test_a_list_that_counts_from_one(run, images, checkpoint):
    (images('val', 'bee', 'cat') / 'val.txt').write_text('bee/0.png 2\ncat/0.png 3\n')
    with pytest.raises(ValueError, match=r'test: expected labels from 0 to 2, .* got 3\. Count from 0'):
        run(checkpoint, **{'test_dataloader.dataset.ann_file': 'val/val.txt'})


def test_titles_of_the_training_match_folders_of_the_test(run, images, tmp_path):
    images('val', 'cat', 'bee')
    options = {'train_dataloader.dataset.classes': ['Ameise', 'Biene', 'Katze']}
    assert run(**options)['accuracy/top1'] == 100
    assert run(tmp_path / 'w' / 'epoch_1.pth', custom_hooks=[])['accuracy/top1'] == 100


def test_images_of_no_known_class(run, images, checkpoint):
    """docs/uncertainty.md: known and unknown folders, joined."""
    images('val', 'cat', 'bee')
    images('others', 'dog', 'elk')
    parts = [
        dict(type='ImageFolder', data_prefix='val', pipeline=[dict(type='LoadImage'), dict(type='PackInputs')]),
        dict(
            type='ImageFolder',
            data_prefix='others',
            pipeline=[dict(type='LoadImage'), dict(type='MarkUnknown'), dict(type='PackInputs')],
        ),
    ]
    metrics = ['Accuracy', 'OODMetric', 'CalibrationMetric', 'SelectiveMetric']
    for part in (parts[1], {**parts[1], 'pipeline': parts[0]['pipeline']}):  # marked, or by their names alone
        scores = run(
            checkpoint,
            **{
                'test_dataloader.dataset': dict(_delete_=True, type='ConcatDataset', datasets=[parts[0], part]),
                'test_evaluator': [dict(type='HeadMetric', known_only=True, metric=dict(type='Accuracy'))]
                + [dict(type=name) for name in metrics[1:]],
            },
        )
        assert scores['accuracy/top1'] == 100
        assert 'ood/auroc_least_confidence' in scores
        assert scores['selective/aurc_least_confidence'] == 0
        assert "test: 2 of 4 class names are not among the model's 3: dog, elk (4 images)" in said('test')[0]


def test_a_gallery_of_classes_that_the_model_never_saw(run, images, checkpoint):
    images('val', 'dog', 'elk', count=3)
    metrics = [dict(type=name) for name in ('Accuracy', 'RetrievalMetric')]
    metrics += [dict(type='KNNAccuracy', k=1), dict(type='VerificationMetric', far=0.2)]
    scores = run(checkpoint, test_evaluator=metrics)
    assert scores['accuracy/top1'] == 0
    for name in ('retrieval/recall@1', 'retrieval/map@r', 'knn/top1', 'verification/tar@0.2'):
        assert scores[name] == pytest.approx(100)


def test_no_class_in_common_is_an_error_where_only_answers_are_counted(run, images, checkpoint):
    images('val', 'dog', 'elk', 'fox')
    metrics = [dict(type='Accuracy'), dict(type='ValLoss'), dict(type='OODMetric')]
    with pytest.raises(ValueError, match='test: expected images') as error:
        run(checkpoint, test_evaluator=metrics)
    assert str(error.value).startswith(
        'test: expected images of the classes of the model, ant, bee, cat, got only images of others, dog, elk, fox: '
        'Accuracy would say nothing. Rename the folders'
    )
    option = "test_dataloader.dataset.classes=['ant', 'bee', 'cat']"
    assert f'--cfg-options "{option}"' in str(error.value)
    titles = {'test_dataloader.dataset.classes': ['ant', 'bee', 'cat']}
    assert 'accuracy/top1' in run(checkpoint, test_evaluator=metrics[:1], **titles)
    images('val', 'cat')  # one image that could be right
    assert run(checkpoint, test_evaluator=metrics[:1])['accuracy/top1'] == pytest.approx(25)


def test_a_validation_without_a_class_of_the_training_ends_before_the_first_step(run, images):
    images('val', 'dog', 'elk')
    with pytest.raises(ValueError, match='val: expected images of the classes of'):
        run()
    assert TRAINED == []


def test_metrics_that_stumble_over_other_classes_are_named(run, images, checkpoint):
    images('val', 'ant', 'dog')
    for name in ('SingleLabelMetric', 'ConfusionMatrix'):
        with pytest.raises(ValueError, match=rf"{name}: .*dict\(type='HeadMetric', known_only=True, metric=.*{name}"):
            run(checkpoint, test_evaluator=[dict(type=name)])
    metric = dict(type='HeadMetric', known_only=True, metric=dict(type='SingleLabelMetric', average='micro'))
    assert run(checkpoint, test_evaluator=[metric])['single-label/precision_micro'] == 100


def test_a_bank_with_one_more_class_at_its_top(run, images, checkpoint, tmp_path):
    images('val', 'bee', 'cat')
    lines = ['others/aardvark/0.png,aardvark', *(f'train/{name}/0.png,{name}' for name in ('ant', 'bee', 'cat'))]
    images('others', 'aardvark')
    (tmp_path / 'images' / 'bank.csv').write_text('\n'.join(lines))
    bank = dict(type='ImageFolder', ann_file='bank.csv', pipeline=[dict(type='LoadImage'), dict(type='PackInputs')])
    dataloader = dict(batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=bank)
    scores = run(
        checkpoint,
        custom_hooks=[dict(type='Listener'), dict(type='EmbeddingBankHook', dataloader=dataloader)],
        test_evaluator=[dict(type='KNNAccuracy', k=1)],
    )
    assert scores['knn/top1'] == 100
    assert said('bank') == [
        "bank: 1 of 4 class names is not among the model's 3: aardvark (1 image); it counts as unknown, except in "
        'retrieval and verification.'
    ]


class TestTrainingOfJoinedFolders:
    OPTIONS = {
        'train_dataloader.dataset': dict(
            _delete_=True,
            type='ConcatDataset',
            datasets=[
                dict(type='ImageFolder', data_prefix=prefix, pipeline=[dict(type='LoadImage'), dict(type='PackInputs')])
                for prefix in ('train', 'more')
            ],
        ),
        'train_dataloader.sampler.shuffle': False,
    }

    @pytest.mark.parametrize('ignored', [None, ['classes']])
    def test_the_classes_of_both_are_trained(self, run, images, tmp_path, ignored):
        images('more', 'cat', 'dog')
        images('val', 'dog', 'bee')
        options = {**self.OPTIONS}
        options['train_dataloader.dataset'] = {**options['train_dataloader.dataset'], 'ignore_keys': ignored}
        assert run(**options)['accuracy/top1'] == 100
        assert {*TRAINED} == {(0, 0), (1, 1), (2, 2), (3, 3)}
        meta = torch.load(tmp_path / 'w' / 'epoch_1.pth', weights_only=False)['meta']['dataset_meta']
        assert meta == dict(classes=('ant', 'bee', 'cat', 'dog'))

    def test_mmengines_own_does_not_mix_them_up(self, run, images):
        images('more', 'cat', 'dog')
        images('val', 'dog', 'bee')
        options = {**self.OPTIONS}
        options['train_dataloader.dataset'] = {
            **options['train_dataloader.dataset'],
            'type': 'mmengine.ConcatDataset',
            'ignore_keys': ['classes'],
        }
        with pytest.raises(
            ValueError, match=r'expected datasets with the same class numbers.*hybridcls\.ConcatDataset'
        ):
            run(**options)
        assert TRAINED == []


def test_mmpretrains_check_of_the_number_of_classes(run, images, monkeypatch):
    hooks = [dict(type='ClassNumCheckHook')]
    images('val', 'ant', 'bee', 'cat')
    run(custom_hooks=hooks)
    monkeypatch.setattr(ByBrightness, 'num_classes', 0, raising=False)  # as a model of timm without its classifier
    with pytest.raises(ValueError, match=r'ClassNumCheckHook: expected num_classes=3 .* got 0 in .* Take it out'):
        run(custom_hooks=hooks)


class TestAnotherOrder:
    ORDER = {'train_dataloader.dataset.classes': ['cat', 'bee', 'ant']}

    def test_a_resume_with_other_numbers_is_an_error(self, run, images, checkpoint):
        images('val', 'cat')
        with pytest.raises(ValueError, match=r'resume: expected .* ant, bee, cat, .* got cat, bee, ant\. Set classes'):
            run(resume=str(checkpoint), **{'train_cfg.max_epochs': 2, **self.ORDER})
        run(resume=str(checkpoint), **{'train_cfg.max_epochs': 2})

    def test_a_start_from_weights_with_other_numbers_is_told(self, run, images, checkpoint):
        images('val', 'cat')
        run(load_from=str(checkpoint), **self.ORDER)
        assert 'ant, bee, cat, have other numbers than in the training data, cat, bee, ant' in said('load_from')[0]
        run(load_from=str(checkpoint))
        assert said('load_from') == []


def test_weights_without_names_take_those_of_the_training_folder(run, images, checkpoint, tmp_path):
    images('val', 'cat', 'bee')
    state = torch.load(checkpoint, weights_only=False)
    torch.save(dict(state_dict=state['state_dict']), tmp_path / 'bare.pth')
    assert run(tmp_path / 'bare.pth')['accuracy/top1'] == 100
    (tmp_path / 'images' / 'train').rename(tmp_path / 'elsewhere')
    run(tmp_path / 'bare.pth', **{'model.head.num_classes': 3})
    assert 'The checkpoint does not name its classes, and the training images are missing.' in Keeping.said
    assert "the model's classes have no names" not in said('test')[0]
    assert '2 of 2 class names are not among' in said('test')[0]
