"""The terms of a teacher over several processes, and over a batch that is embedded piece by piece."""

import pytest
import torch
import torch.distributed as dist
from mmpretrain.structures import DataSample
from processes import run_processes

from hybridcls.models.classifiers import Distillation, Teacher
from hybridcls.registry import MODELS

LABELS = [0, 1, 0, 2, 2, 1]


def build(seed, name, **more):
    torch.manual_seed(seed)
    return MODELS.build(dict(
        type='hybridcls.HybridClassifier', backbone=dict(type='HybridBackbone', cnn=dict(model_name=name), img_size=32),
        neck=dict(type='ConcatFusion', fusion_dim=8), head=dict(type='LinearHead', num_classes=3), **more))


def make_student(**more):
    student = build(1, 'test_convnext', distill_projection=8, **more).train()
    student.distillation = Distillation(Teacher(build(2, 'test_resnet')), 0.4, 3., feature_weight=0.5,
                                        relation_weight=2.)
    return student


def gradients(model, start, stop):
    images = torch.rand(len(LABELS), 3, 32, 32, generator=torch.Generator().manual_seed(7))[start:stop]
    losses = model(images, [DataSample().set_gt_label(label) for label in LABELS[start:stop]], mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    return {name: param.grad for name, param in getattr(model, 'module', model).named_parameters()}


def work(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    student = make_student()
    own = sum(param.numel() for param in student.parameters())
    model = torch.nn.parallel.DistributedDataParallel(student)
    found = gradients(model, 3 * rank, 3 * rank + 3)
    torch.save((found, own, sum(param.numel() for param in model.parameters())), f'{folder}/{rank}.pt')
    dist.destroy_process_group()


def assert_equal_gradients(found, expected):
    largest = float(max(grad.abs().max() for grad in expected.values()))
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-6 * max(largest, 1.), msg=name)


@pytest.mark.slow
@pytest.mark.dist
def test_two_processes_are_one_with_the_whole_batch(tmp_path):
    """All four terms, the distances within a batch too; the teacher is in no bucket."""
    run_processes(work, tmp_path)
    expected = gradients(make_student(), 0, len(LABELS))
    for rank in range(2):
        found, own, in_buckets = torch.load(tmp_path / f'{rank}.pt')
        assert own == in_buckets == sum(grad.numel() for grad in expected.values())
        assert_equal_gradients(found, expected)


def test_a_batch_that_is_embedded_piece_by_piece_has_the_same_gradients():
    pieces = gradients(make_student(grad_cache=dict(micro_batch=4)), 0, len(LABELS))
    assert_equal_gradients(pieces, gradients(make_student(), 0, len(LABELS)))
