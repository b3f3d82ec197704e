"""The teacher is built from whatever a config says about it."""

import pytest
import timm
import torch
from mmengine.config import Config
from torch import nn

from hybridcls.engine.checkpoints.weight_transfer import WeightMismatchError
from hybridcls.engine.config import apply
from hybridcls.engine.distillation.teacher_model import build_teacher, distillation_width, teacher_image_size

VIT = dict(model_name='test_vit', num_classes=3, img_size=32)


def test_a_model_is_taken_as_it_is():
    model = nn.Linear(1, 1)
    assert build_teacher(model) is model


def test_a_timm_model_gets_the_weights_of_a_file_and_the_students_classes(tmp_path):
    source = timm.create_model('test_vit', num_classes=5, img_size=32)
    torch.save(source.state_dict(), tmp_path / 'teacher.pth')
    settings = dict(model_name='test_vit', img_size=32)
    for form in (
        (dict(settings, checkpoint_path=str(tmp_path / 'teacher.pth')), None),
        (settings, str(tmp_path / 'teacher.pth')),
    ):
        model = build_teacher(*form, num_classes=5)
        torch.testing.assert_close(dict(model.state_dict()), dict(source.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ('teacher', 'checkpoint', 'kind', 'sentence'),
    [
        (VIT, None, ValueError, 'the teacher has no weights'),
        (dict(VIT, checkpoint_path='a.pth'), 'b.pth', ValueError, 'expected one file of weights'),
        (dict(VIT, model_name='test_vti'), None, ValueError, "timm has no model 'test_vti'. Did you mean 'test_vit'"),
        ('test_vit', None, ValueError, r'expected the path of a config, .* teacher=dict\(model_name='),
        (3, None, TypeError, 'neither the path of a config'),
        (VIT, 'none.pth', FileNotFoundError, 'does not exist'),
    ],
)
def test_what_cannot_teach_is_an_error(teacher, checkpoint, kind, sentence):
    with pytest.raises(kind, match=sentence):
        build_teacher(teacher, checkpoint)


def test_a_checkpoint_of_another_model_is_an_error(tmp_path):
    weights = timm.create_model('test_vit', num_classes=3, img_size=32).state_dict()
    weights.pop('norm.bias')
    torch.save(weights, tmp_path / 'part.pth')
    with pytest.raises(WeightMismatchError, match=r"part.pth' is not of this teacher"):
        build_teacher(VIT, str(tmp_path / 'part.pth'))
    torch.save(dict(other=torch.zeros(1)), tmp_path / 'other.pth')
    with pytest.raises(WeightMismatchError, match=r"other.pth' is not of this teacher"):
        build_teacher(VIT, str(tmp_path / 'other.pth'))


def test_the_image_size_is_that_of_its_config(tmp_path):
    for text, size in (('img_size = 48', 48), ('img_size = (48, 64)', (48, 64)), ('', None)):
        (tmp_path / 'teacher.py').write_text(f"model = dict(type='HybridClassifier')\n{text}\n")
        assert teacher_image_size(tmp_path / 'teacher.py') == size
    assert teacher_image_size(VIT) is None


def test_the_projection_has_the_width_of_the_teachers_embedding():
    student = dict(type='HybridClassifier', head=dict(type='LinearHead', num_classes=3))
    hook = dict(type='DistillationHook', teacher=VIT, feature_weight=1.0)
    cfg = Config(dict(model=student, custom_hooks=[hook], img_size=32))
    apply(cfg, distillation_width)
    assert cfg.model.distill_projection == timm.create_model('test_vit').num_features
    for keys in (dict(model=dict(student, distill_projection=7)), dict(custom_hooks=[dict(hook, feature_weight=0.0)])):
        assert not list(distillation_width(Config(dict(dict(model=student, custom_hooks=[hook]), **keys))))
