"""Two processes under DDP have the gradients of one process with the whole batch, through backbone, neck and head."""

import copy

import pytest
import torch
import torch.distributed as dist
from mmpretrain.structures import DataSample
from processes import run_processes

from hybridcls.distributed import gather_whole, sharded_parameters
from hybridcls.registry import MODELS

LABELS = [0, 1, 0, 2, 2, 1]
SUPCON = dict(type='SupConHead', projection=dict(out_channels=8))
ADAFACE = dict(type='AdaFaceHead', num_classes=3, scale=16.0)
EVIDENTIAL = dict(type='EvidentialHead', num_classes=3, loss=dict(annealing=0))
# The head, and how many images each of the two processes has. A mean over images: DDP's mean over processes is that of
# the whole batch where the parts are equally large. SupCon contrasts over both processes, and a sharded head sees the
# images of both: exact for parts of any size, views included.
CASES = {
    'supcon': (SUPCON, [2, 4]),
    'adaface': (ADAFACE, [3, 3]),
    'evidential': (EVIDENTIAL, [3, 3]),
    'multi': (
        dict(type='MultiHead', heads=dict(face=ADAFACE, evidence=EVIDENTIAL), weights=dict(evidence=0.5)),
        [3, 3],
    ),
    'multi_sharded': (
        dict(
            type='MultiHead',
            weights=dict(face=2.0, evidence=0.5),
            heads=dict(contrast=SUPCON, face=dict(ADAFACE, shard_classes=True), evidence=EVIDENTIAL),
        ),
        [2, 4],
    ),
}


def make_model(case):
    torch.manual_seed(1)
    # No CBAM: its BatchNorm looks at the images of one process, and torch synchronises it on GPUs only.
    model = MODELS.build(
        dict(
            type='hybridcls.HybridClassifier',
            backbone=dict(
                type='HybridBackbone',
                cnn=dict(model_name='test_convnext'),
                vit=dict(model_name='test_vit', drop_path_rate=0.0),
                img_size=32,
                token_learner_tokens=4,
            ),
            neck=dict(type='DHAFusion', fusion_dim=16),
            head=copy.deepcopy(CASES[case][0]),
        )
    )
    return model.train()


def batch(case, start, stop):
    generator = torch.Generator().manual_seed(7)
    views = 2 if case in ('supcon', 'multi_sharded') else 1
    images = torch.rand(views, len(LABELS), 3, 32, 32, generator=generator)[:, start:stop]
    return images.flatten(0, 1), [DataSample().set_gt_label(label) for label in LABELS[start:stop]]


def backward(losses, module):
    """The value of each loss, and the gradient of their sum."""
    losses = {name: value for name, value in losses.items() if 'loss' in name}
    sum(losses.values()).backward()
    grads = {name: param.grad for name, param in module.named_parameters()}
    for entry in sharded_parameters(module):
        grads[entry.name] = gather_whole(grads[entry.name], entry.shard)
    return {name: value.detach() for name, value in losses.items()}, grads


def whole_batch(case):
    """One process: all images at once."""
    model = make_model(case)
    if case != 'multi_sharded':
        return backward(model(*batch(case, 0, len(LABELS)), mode='loss'), model)
    # Of parts that differ in size, the evidential loss is the mean of the parts' means; the other two are the whole's.
    model.head.heads['face'].shard_classes = False
    images, samples = batch(case, 0, len(LABELS))
    features = model.extract_feat(images)
    by_view = features[-1].unflatten(0, (2, len(LABELS)))
    losses = model.head.loss(features, samples)
    losses['evidence.loss'] = 0.5 * sum(
        0.5 * model.head.heads['evidence'].loss(by_view[:, part].flatten(0, 1), samples[part])['loss']
        for part in (slice(0, 2), slice(2, 6))
    )
    return backward(losses, model)


def work(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    for case, (_, counts) in CASES.items():
        start = sum(counts[:rank])
        module = make_model(case)
        model = torch.nn.parallel.DistributedDataParallel(module)
        losses = model(*batch(case, start, start + counts[rank]), mode='loss')
        torch.save(backward(losses, module), f'{folder}/{case}{rank}.pt')
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def two_processes(tmp_path_factory):
    """The folder in which two processes have left their losses and gradients of all cases."""
    folder = tmp_path_factory.mktemp('two')
    run_processes(work, folder)
    return folder


@pytest.mark.slow
@pytest.mark.dist
@pytest.mark.parametrize('case', CASES)
def test_two_processes_are_one_with_the_whole_batch(case, two_processes):
    losses, expected = whole_batch(case)
    parts = [torch.load(two_processes / f'{case}{rank}.pt') for rank in range(2)]
    for name, loss in losses.items():
        first, second = (found[name] for found, _ in parts)
        torch.testing.assert_close((first + second) / 2, loss, msg=lambda text, name=name: f'{name}: {text}')
        if name == 'contrast.loss' or case == 'supcon':
            torch.testing.assert_close(first, second)
    largest = max(grad.abs().max() for grad in expected.values())
    for rank, (_, found) in enumerate(parts):
        for name, grad in expected.items():
            if len(found[name]) == 0 and rank == 1:
                continue  # the first process has the whole of what is sharded
            torch.testing.assert_close(
                found[name],
                grad,
                rtol=1e-4,
                atol=1e-6 * float(largest.clamp(min=1)),
                msg=lambda text, name=name: f'{name}: {text}',
            )


def test_synchronised_batchnorm_keeps_the_activations_of_timm():
    from timm.layers import BatchNormAct2d, SyncBatchNormAct

    cfg = dict(
        type='hybridcls.HybridClassifier',
        backbone=dict(type='HybridBackbone', cnn=dict(model_name='test_efficientnet'), img_size=32),
        head=dict(type='LinearHead', num_classes=2),
    )
    plain, synchronised = MODELS.build(cfg), MODELS.build(dict(cfg, sync_bn=True))
    before = [type(m.act) for m in plain.modules() if isinstance(m, BatchNormAct2d)]
    after = [type(m.act) for m in synchronised.modules() if isinstance(m, SyncBatchNormAct)]
    assert before
    assert before == after
    assert list(plain.state_dict()) == list(synchronised.state_dict())
