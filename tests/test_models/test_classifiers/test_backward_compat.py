"""The terms of an old model on a classifier's batch, for each kind of old and of new head."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample

from hybridcls.models.classifiers import BackwardCompat, Teacher
from hybridcls.models.classifiers.backward_compat import class_means
from hybridcls.models.losses import BackwardCompatLoss
from hybridcls.registry import MODELS

HEADS = {
    'linear': dict(type='LinearHead', num_classes=3),
    'arcface': dict(type='ArcFaceHead', num_classes=3, scale=16.0),
    'adaface': dict(type='AdaFaceHead', num_classes=3, scale=16.0),
    'evidential': dict(type='EvidentialHead', num_classes=3),
    'supcon': dict(type='SupConHead', projection=dict(out_channels=4)),
}


def build(head, width, name='test_resnet'):
    with DefaultScope.overwrite_default_scope('hybridcls'):
        backbone = dict(type='HybridBackbone', cnn=dict(model_name=name), img_size=32)
        neck = dict(type='ConcatFusion', fusion_dim=width)
        return MODELS.build(dict(type='HybridClassifier', backbone=backbone, neck=neck, head=HEADS[head])).eval()


def batch():
    torch.manual_seed(3)
    return torch.rand(4, 3, 32, 32), [DataSample().set_gt_label(label) for label in (1, 0, 2, 1)]


@pytest.mark.parametrize('new', HEADS)
@pytest.mark.parametrize('old', ['linear', 'arcface', 'evidential'])
def test_the_old_head_judges_the_new_embeddings(new, old):
    images, samples = batch()
    before, model = build(old, 8), build(new, 12)
    alone = model(images, samples, mode='loss')
    old_classes = torch.tensor([0, 2, -1])
    model.backward_compat = BackwardCompat(Teacher(before), BackwardCompatLoss(1.0, 0.5), 8, old_classes=old_classes)
    losses = model(images, samples, mode='loss')
    for name, value in alone.items():
        torch.testing.assert_close(losses[name], value, msg=name)
    own = model.extract_feat(images)[-1][:, :8]
    moved = torch.tensor([2, 0, -100, 2])
    expected = F.cross_entropy(before.head((own,)), moved, reduction='sum') / 4
    torch.testing.assert_close(losses['loss_influence'], expected)
    cosines = F.cosine_similarity(own, before.extract_feat(images)[-1])
    torch.testing.assert_close(losses['loss_alignment'], 0.5 * (1 - cosines).mean())
    losses['loss_influence'].backward()
    assert all(param.grad is None for param in before.parameters())
    assert next(model.backbone.parameters()).grad.any()
    assert not [name for name in model.state_dict() if 'compat' in name]


def test_prototypes_are_the_classifier_of_an_old_model_without_one():
    images, samples = batch()
    before, model = build('supcon', 8), build('arcface', 8)
    embeddings = before.extract_feat(torch.cat([images, images.flip(0)]))[-1].detach()
    prototypes, rows = class_means(embeddings, torch.tensor([0, 0, 2, 2, 5, 2, 0, -1]), 4)
    assert rows.tolist() == [0, -1, 1, -1]  # 1 and 3 have no images; 5 and -1 are no classes
    units = F.normalize(embeddings)
    torch.testing.assert_close(prototypes[0], F.normalize(units[[0, 1, 6]].mean(0), dim=0))
    loss = BackwardCompatLoss(scale=10.0)
    model.backward_compat = BackwardCompat(Teacher(before, needs_logits=False), loss, 8, rows, prototypes)
    own = F.normalize(model.extract_feat(images)[-1])
    expected = F.cross_entropy(10 * own @ prototypes.T, torch.tensor([-100, 0, 1, -100]), reduction='sum') / 4
    torch.testing.assert_close(model(images, samples, mode='loss')['loss_influence'], expected)


def test_every_view_has_the_label_of_its_image():
    images, samples = batch()
    before, model = build('linear', 8), build('supcon', 8)
    model.backward_compat = BackwardCompat(Teacher(before), BackwardCompatLoss(), 8, old_classes=torch.arange(3))
    views = torch.cat([images, images.flip(3)])
    expected = F.cross_entropy(before.head((model.extract_feat(views)[-1],)), torch.tensor([1, 0, 2, 1] * 2))
    torch.testing.assert_close(model(views, samples, mode='loss')['loss_influence'], expected)
