"""Teachers from the ways in which a config may name one."""

import pytest
import timm
import torch
from torch import nn

from hybridcls.engine import WeightMismatchError
from hybridcls.engine.distillation.teacher_model import build_teacher, teacher_image_size

TIMM = dict(model_name='test_resnet', num_classes=4)
MODEL = dict(
    type='HybridClassifier',
    backbone=dict(type='HybridBackbone', cnn=dict(model_name='test_resnet')),
    neck=dict(type='ConcatFusion', fusion_dim=12),
    head=dict(type='LinearHead', num_classes=4),
)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'teacher.py'
    path.write_text(f"default_scope = 'hybridcls'\nimg_size = (32, 48)\nmodel = {MODEL!r}\n")
    return path


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(3)
    model, path = timm.create_model(**TIMM), str(tmp_path / 'timm.pth')
    torch.save(model.state_dict(), path)
    return model, path


@pytest.mark.parametrize('place', ['argument', 'own key'])
def test_a_timm_model_with_a_file_of_weights(weights, place):
    source, path = weights
    teacher = build_teacher(TIMM, path) if place == 'argument' else build_teacher(dict(TIMM, checkpoint_path=path))
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(teacher.eval()(x), source.eval()(x))


def test_one_file_is_enough(weights):
    with pytest.raises(ValueError, match='expected one file of weights'):
        build_teacher(dict(TIMM, checkpoint_path=weights[1]), weights[1])


def test_a_config_with_a_checkpoint_of_a_runner(config, tmp_path):
    torch.manual_seed(4)
    source = build_teacher(config, with_weights=False)
    state = {**source.state_dict(), 'distill_projection.weight': torch.ones(2)}  # of its own teacher
    torch.save(dict(state_dict=state, meta=dict(dataset_meta=dict(classes=list('abcd')))), tmp_path / 't.pth')
    teacher = build_teacher(config, str(tmp_path / 't.pth'))
    for name, value in source.state_dict().items():
        assert torch.equal(teacher.state_dict()[name], value), name
    assert list(teacher.class_names.names) == list('abcd')


def test_a_model_is_its_own_teacher():
    model = nn.Linear(2, 2)
    assert build_teacher(model) is model


def test_the_students_number_of_classes_is_taken_where_none_is_named():
    assert build_teacher(dict(model_name='test_resnet'), num_classes=6, with_weights=False).num_classes == 6
    open_head = dict(MODEL, head=dict(type='LinearHead'))
    assert build_teacher(open_head, num_classes=6, with_weights=False).head.num_classes == 6
    assert build_teacher(MODEL, num_classes=6, with_weights=False).head.num_classes == 4


@pytest.mark.parametrize(
    ('teacher', 'error', 'message'),
    [
        (MODEL, ValueError, 'the teacher has no weights'),
        (TIMM, ValueError, 'the teacher has no weights'),
        (3, TypeError, 'teacher=3 is neither the path of a config'),
        (dict(model_name='test_resnt'), ValueError, "timm has no model 'test_resnt'.*Did you mean"),
        ('test_resnet', ValueError, r"is a timm model\. Write teacher=dict\(model_name='test_resnet'\)"),
    ],
)
def test_what_cannot_teach(teacher, error, message):
    with pytest.raises(error, match=message):
        build_teacher(teacher)


def test_weights_of_another_model_are_refused(weights):
    with pytest.raises(WeightMismatchError, match='does not fit this teacher'):
        build_teacher(dict(model_name='test_convnext', num_classes=4), weights[1])


def test_the_image_size_is_that_of_the_teachers_config(config):
    assert teacher_image_size(config) == (32, 48)
    assert teacher_image_size(TIMM) is None


@pytest.mark.parametrize('as_folder', [False, True])
def test_a_checkpoint_is_enough(config, tmp_path, as_folder):
    """The config is in it; what its training started from need not be there any more."""
    torch.manual_seed(4)
    source = build_teacher(config, with_weights=False)
    model = {
        **MODEL,
        'backbone': dict(type='HybridBackbone', cnn=dict(model_name='test_resnet', checkpoint_path='/no')),
    }
    meta = dict(
        cfg=f'img_size = (32, 48)\nmodel = {model!r}\n', dataset_meta=dict(classes=list('abcd')), epoch=1, iter=1
    )
    (tmp_path / 'w').mkdir()
    file = tmp_path / 'w' / 'epoch_1.pth'
    torch.save(dict(state_dict=source.state_dict(), meta=meta), file)
    path = file.parent if as_folder else file
    teacher = build_teacher(str(path))
    for name, value in source.state_dict().items():
        assert torch.equal(teacher.state_dict()[name], value), name
    assert teacher_image_size(str(path)) == (32, 48)


def test_no_teacher_names_the_option():
    with pytest.raises(TypeError, match='--teacher CHECKPOINT'):
        build_teacher(None)
