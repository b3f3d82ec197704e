"""Two processes under DDP have the gradients of one process with the whole batch, through backbone, neck and head."""
import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from mmpretrain.structures import DataSample

from hybridcls.registry import MODELS

LABELS = [0, 1, 0, 2, 2, 1]
COUNTS = [2, 4]  # images of the two processes
HEADS = {
    # SupCon contrasts over both processes: exact for parts of any size, views included.
    'supcon': dict(type='SupConHead', projection=dict(out=8)),
    # A mean over images: DDP's mean over processes is that of the whole batch where the parts are equally large.
    'adaface': dict(type='AdaFaceHead', num_classes=3, scale=16.),
}


def make_model(head):
    torch.manual_seed(1)
    # No CBAM: its BatchNorm looks at the images of one process, and torch synchronises it on GPUs only.
    model = MODELS.build(dict(
        type='hybridcls.HybridClassifier',
        backbone=dict(type='HybridBackbone', cnn=dict(model_name='test_convnext'),
                      vit=dict(model_name='test_vit', drop_path_rate=0.), img_size=32, token_learner_tokens=4),
        neck=dict(type='DHAFusion', fusion_dim=16), head=HEADS[head]))
    return model.train()


def batch(start, stop, views):
    generator = torch.Generator().manual_seed(7)
    images = torch.rand(views, len(LABELS), 3, 32, 32, generator=generator)[:, start:stop]
    return images.flatten(0, 1), [DataSample().set_gt_label(label) for label in LABELS[start:stop]]


def gradients(head, model, start, stop):
    losses = model(*batch(start, stop, 2 if head == 'supcon' else 1), mode='loss')
    losses['loss'].backward()
    module = getattr(model, 'module', model)
    return losses['loss'].detach(), {name: param.grad for name, param in module.named_parameters()}


def work(head, rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    counts = COUNTS if head == 'supcon' else [3, 3]
    start = sum(counts[:rank])
    model = torch.nn.parallel.DistributedDataParallel(make_model(head))
    torch.save(gradients(head, model, start, start + counts[rank]), f'{folder}/{rank}.pt')
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.dist
@pytest.mark.parametrize('head', HEADS)
def test_two_processes_are_one_with_the_whole_batch(head, tmp_path):
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    processes = [subprocess.Popen([sys.executable, __file__, head, str(rank), str(tmp_path)], env=environment)
                 for rank in range(2)]
    assert [process.wait(timeout=200) for process in processes] == [0, 0]
    loss, expected = gradients(head, make_model(head), 0, len(LABELS))
    parts = [torch.load(tmp_path / f'{rank}.pt') for rank in range(2)]
    if head == 'supcon':
        torch.testing.assert_close(parts[0][0], loss)
    else:
        torch.testing.assert_close((parts[0][0] + parts[1][0]) / 2, loss)
    largest = max(grad.abs().max() for grad in expected.values())
    for _, found in parts:
        for name, grad in expected.items():
            torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-6 * float(largest.clamp(min=1)),
                                       msg=lambda text, name=name: f'{name}: {text}')


def test_synchronised_batchnorm_keeps_the_activations_of_timm():
    from timm.layers import BatchNormAct2d, SyncBatchNormAct
    cfg = dict(
        type='hybridcls.HybridClassifier',
        backbone=dict(type='HybridBackbone', cnn=dict(model_name='test_efficientnet'), img_size=32),
        head=dict(type='LinearHead', num_classes=2))
    plain, synchronised = MODELS.build(cfg), MODELS.build(dict(cfg, sync_bn=True))
    before = [type(m.act) for m in plain.modules() if isinstance(m, BatchNormAct2d)]
    after = [type(m.act) for m in synchronised.modules() if isinstance(m, SyncBatchNormAct)]
    assert before
    assert before == after
    assert list(plain.state_dict()) == list(synchronised.state_dict())


if __name__ == '__main__':
    work(sys.argv[1], int(sys.argv[2]), sys.argv[3])
