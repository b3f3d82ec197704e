"""The terms of a teacher over several processes, and over a batch that is embedded piece by piece."""

import pytest
import torch
import torch.distributed as dist
from mmpretrain.structures import DataSample
from processes import run_processes

from hybridcls.engine.distillation.teacher_model import build_teacher
from hybridcls.models.classifiers import Distillation, Teacher
from hybridcls.registry import MODELS

LABELS = [0, 1, 0, 2, 2, 1]
MARGIN = dict(type='ArcFaceHead', scale=8.0)


def build(seed, name, head=None, **more):
    torch.manual_seed(seed)
    return MODELS.build(
        dict(
            type='hybridcls.HybridClassifier',
            backbone=dict(type='HybridBackbone', cnn=dict(model_name=name), img_size=32),
            neck=dict(type='ConcatFusion', fusion_dim=8),
            head=dict(head or dict(type='LinearHead'), num_classes=3),
            **more,
        )
    )


def make_student(head=None, teacher_head=None, teacher_checkpoint=None, **more):
    student = build(1, 'test_convnext', head, distill_projection=8, **more).train()
    teacher = build(2, 'test_resnet', teacher_head)
    if teacher_checkpoint is not None:
        teacher.load_state_dict({name: torch.zeros_like(value) for name, value in teacher.state_dict().items()})
        build_teacher(teacher, teacher_checkpoint)
    student.distillation = Distillation(Teacher(teacher), 0.4, 3.0, feature_weight=0.5, relation_weight=2.0)
    return student


def gradients(model, start, stop):
    images = torch.rand(len(LABELS), 3, 32, 32, generator=torch.Generator().manual_seed(7))[start:stop]
    losses = model(images, [DataSample().set_gt_label(label) for label in LABELS[start:stop]], mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    return {name: param.grad for name, param in getattr(model, 'module', model).named_parameters()}


def work(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    sharded = dict(MARGIN, shard_classes=True)
    for name, student in (
        ('plain', make_student()),
        ('sharded', make_student(dict(sharded, num_subcenters=2), sharded, f'{folder}/teacher.pth')),
    ):
        if rank == 0:  # shapes are found alone: a collective would never end
            assert student.distillation.teacher.embedding_width(32, 32) == 8
        own = sum(param.numel() for param in student.parameters())
        model = torch.nn.parallel.DistributedDataParallel(student)
        found = gradients(model, 3 * rank, 3 * rank + 3)
        torch.save((found, own, sum(param.numel() for param in model.parameters())), f'{folder}/{name}{rank}.pt')
    dist.destroy_process_group()


def assert_equal_gradients(found, expected):
    largest = float(max(grad.abs().max() for grad in expected.values()))
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-6 * max(largest, 1.0), msg=name)


@pytest.mark.slow
@pytest.mark.dist
def test_two_processes_are_one_with_the_whole_batch(tmp_path):
    """All four terms, the distances within a batch too; the teacher is in no bucket.

    Also where each process holds some of the class weights, of the student and of the teacher: the divergence is that
    over all classes, and each process has the gradient of the whole batch for its class weights.
    """
    torch.save(dict(state_dict=build(2, 'test_resnet', MARGIN).state_dict()), tmp_path / 'teacher.pth')
    run_processes(work, tmp_path)
    plain = gradients(make_student(), 0, len(LABELS))
    whole = gradients(make_student(dict(MARGIN, num_subcenters=2), MARGIN), 0, len(LABELS))
    for rank in range(2):
        sharded = {**whole, 'head.weight': whole['head.weight'][2 * rank : 2 * rank + 2]}
        for name, expected in (('plain', plain), ('sharded', sharded)):
            found, own, in_buckets = torch.load(tmp_path / f'{name}{rank}.pt')
            assert own == in_buckets == sum(grad.numel() for grad in expected.values())
            assert_equal_gradients(found, expected)


def test_a_batch_that_is_embedded_piece_by_piece_has_the_same_gradients():
    pieces = gradients(make_student(grad_cache=dict(micro_batch=4)), 0, len(LABELS))
    assert_equal_gradients(pieces, gradients(make_student(), 0, len(LABELS)))
