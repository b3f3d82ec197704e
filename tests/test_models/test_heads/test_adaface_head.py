import math

import pytest
import torch
from fidelity_checks import assert_faithful
from mmpretrain.structures import DataSample
from processes import run_processes
from torch import nn

from hybridcls.apis.fidelity.fixed_inputs import adaface_batches
from hybridcls.apis.fidelity.stored_numbers import stored_numbers
from hybridcls.distributed import exclude_from_ddp, gather_whole, sharded_parameters
from hybridcls.registry import MODELS

LABELS = [0, 1, 2, 3, 0, 1]


def waves(*shape, phase):
    """Numbers without a pattern, the same on every machine."""
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return (torch.sin(1.7 * i + phase) + 0.5 * torch.cos(0.37 * i * i + phase)).reshape(shape)


def embeddings_of(step):
    return torch.from_numpy(adaface_batches()[step]).float().requires_grad_()


def samples(labels):
    return [DataSample().set_gt_label(label) for label in labels]


def build(**keys):
    head = MODELS.build(dict(type='AdaFaceHead', num_classes=4, in_channels=5, **keys))
    head.load_state_dict(dict(weight=waves(4, 5, phase=0.3)), strict=False)
    return head


@pytest.mark.parametrize('form', ['', ', streamed'])
@pytest.mark.parametrize('code', ['AdaFaceHead', 'AdaFaceHead, CVLFace'])
def test_official_numbers_over_several_steps(code, form):
    assert_faithful(code + form)


def test_without_the_code_s_clip_of_cosines_these_losses_are_the_same():
    head = build(t_alpha=0.2)
    losses = [head.loss((embeddings_of(step),), samples(LABELS))['loss'] for step in range(3)]
    expected = torch.from_numpy(stored_numbers('AdaFaceHead')['losses']).float()
    torch.testing.assert_close(torch.stack(losses).detach(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize('other', [dict(clip_angle=True), dict(gradient='analytic')])
def test_the_two_official_codes_differ(other):
    def trained(**keys):
        head, feats = build(t_alpha=0.2, **keys), embeddings_of(3)
        loss = head.loss((feats,), samples(LABELS))['loss']
        loss.backward()
        return torch.cat([loss.detach().reshape(1), feats.grad.norm(dim=1)])

    newer = dict(gradient='straight_through', clip_angle=False)
    assert (trained(**newer) - trained(**{**newer, **other})).abs().max() > 1e-3


def test_flat_keys_reach_the_margin():
    margin = build(margin=0.3, h=0.5, t_alpha=0.1, gradient='straight_through', clip_angle=False).margin_function
    assert (margin.margin, margin.h, margin.t_alpha, margin.gradient, margin.clip_angle) == (
        0.3,
        0.5,
        0.1,
        'straight_through',
        False,
    )


def test_statistics_are_in_the_checkpoint():
    assert set(build().state_dict()) == {'weight', 'margin_function.norm_mean', 'margin_function.norm_std'}


def test_predictions_do_not_know_the_norm():
    head = build().eval()
    feats = embeddings_of(0).detach()
    torch.testing.assert_close(head(feats), head(1000 * feats), rtol=1e-4, atol=1e-4)


FORMS = dict(streamed=dict(softmax='streamed'), sharded=dict(shard_classes=True))


class Net(nn.Module):
    def __init__(self, **keys):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Linear(7, 5)
        self.head = build(t_alpha=0.3, scale=8.0, **keys)
        exclude_from_ddp(self)

    def forward(self, images, labels):
        return self.head.loss((10 * self.embed(images),), samples(labels))['loss']


def train_two_steps(model, net, part):
    """Two steps on a part of each batch; the gradients of the first one, and the statistics after both."""
    gradients = []
    for phase in (0.0, 5.0):
        images = waves(6, 7, phase=phase).float()
        model.zero_grad()
        model(images[part], LABELS[part]).backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in net.named_parameters()})
    for entry in sharded_parameters(net):
        for found in gradients:
            found[entry.name] = gather_whole(found[entry.name], entry.shard)
    return dict(gradients=gradients, statistics=dict(net.head.margin_function.named_buffers()))


def work(rank, folder):
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    for form, keys in FORMS.items():
        net = Net(**keys)
        model = nn.parallel.DistributedDataParallel(net, broadcast_buffers=False)
        torch.save(train_two_steps(model, net, slice(3 * rank, 3 * rank + 3)), f'{folder}/{form}{rank}.pt')
    torch.distributed.destroy_process_group()


@pytest.mark.dist
def test_two_processes_equal_one(tmp_path):
    run_processes(work, tmp_path)
    net = Net(softmax='dense')
    whole = train_two_steps(net, net, slice(None))
    for form in FORMS:
        first, second = (torch.load(tmp_path / f'{form}{rank}.pt') for rank in range(2))
        torch.testing.assert_close(first['statistics'], second['statistics'], rtol=0, atol=0)
        torch.testing.assert_close(first['statistics'], whole['statistics'], rtol=1e-6, atol=0)
        torch.testing.assert_close(first['gradients'], whole['gradients'], rtol=1e-5, atol=3e-6)  # logits reach 64
