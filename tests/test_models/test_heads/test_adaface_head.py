import math

import pytest
import torch
from mmpretrain.structures import DataSample
from processes import run_processes
from torch import nn

from hybridcls.distributed import exclude_from_ddp, gather_whole, sharded_parameters
from hybridcls.registry import MODELS

# mk-minchul/AdaFace, head.py at c60eaa78, AdaFace(m=0.4, h=0.333, s=64, t_alpha=0.2) and cross entropy, run once in
# float32 over three batches: loss, running mean and std, length of the gradient of each embedding. The norms of the
# first and last embeddings are beyond the clip.
OFFICIAL = [
    (47.627731, 21.952909, 87.484467, [21122.521484, 0.0, 0.010306, 0.211661, 0.165401, 0.059479]),
    (91.258087, 24.923553, 78.068848, [83657.890625, 3.21014, 0.613259, 0.411611, 0.208141, 0.044533]),
    (98.821144, 27.326529, 70.457542, [25412.800781, 2.296789, 0.315793, 0.259822, 0.261124, 0.080804]),
]
# mk-minchul/CVLface, classifiers/fc/fc.py with losses/adaface.py at d3d09c93, AdaFaceLoss(s=64, m=0.4, h=0.333,
# t_alpha=0.2), run once in float64 over the same batches and one that lies beside its class weights.
CVLFACE = [
    (47.627733, 21.952909, 87.484470, [20701.266473, 0.0, 0.010226, 0.211686, 0.160118, 0.056025]),
    (91.258087, 24.923551, 78.068850, [83867.235751, 3.185601, 0.622779, 0.410356, 0.204623, 0.041595]),
    (98.821151, 27.326527, 70.457542, [25445.979382, 2.334405, 0.305109, 0.259926, 0.263331, 0.082359]),
    (68.893584, 28.468307, 63.507518, [9.747382, 4.510194, 0.0, 0.313067, 0.077982, 0.089868]),
]
LABELS = [0, 1, 2, 3, 0, 1]


def waves(*shape, phase):
    """Numbers without a pattern, the same on every machine."""
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return (torch.sin(1.7 * i + phase) + 0.5 * torch.cos(0.37 * i * i + phase)).reshape(shape)


def embeddings_of(step):
    norms = torch.tensor([0.0001, 3.0, 9.0, 20.0, 40.0, 100.0], dtype=torch.float64)
    return (waves(6, 5, phase=1.0 + step) * norms[:, None]).float().requires_grad_()


def beside_class_weights():
    """Embeddings nearly at their target class weights, or opposite of them: angles that turn past 0 and pi."""
    own = nn.functional.normalize(waves(4, 5, phase=0.3))[LABELS]
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    norms = torch.tensor([0.5, 2.0, 15.0, 30.0, 60.0, 90.0], dtype=torch.float64)
    return ((signs[:, None] * own + 0.02 * waves(6, 5, phase=9.0)) * norms[:, None]).float().requires_grad_()


def samples(labels):
    return [DataSample().set_gt_label(label) for label in labels]


def build(**keys):
    head = MODELS.build(dict(type='AdaFaceHead', num_classes=4, in_channels=5, **keys))
    head.load_state_dict(dict(weight=waves(4, 5, phase=0.3)), strict=False)
    return head


def check_numbers(head, batches, official, loss_rtol, gradient_rtol):
    for feats, (loss, mean, std, gradients) in zip(batches, official, strict=True):
        losses = head.loss((feats,), samples(LABELS))
        losses['loss'].backward()
        torch.testing.assert_close(losses['loss'].item(), loss, rtol=loss_rtol, atol=0)
        torch.testing.assert_close(losses['norm_mean'].item(), mean, rtol=1e-6, atol=0)
        torch.testing.assert_close(losses['norm_std'].item(), std, rtol=1e-6, atol=0)
        torch.testing.assert_close(feats.grad.norm(dim=1), torch.tensor(gradients), rtol=gradient_rtol, atol=2e-6)


@pytest.mark.parametrize('form', [dict(softmax='dense'), dict(softmax='streamed', softmax_memory=1)])
def test_official_numbers_over_several_steps(form):
    head = build(t_alpha=0.2, cosine_clip=1e-3, **form)
    check_numbers(head, map(embeddings_of, range(len(OFFICIAL))), OFFICIAL, loss_rtol=1e-5, gradient_rtol=2e-4)


def test_without_the_code_s_clip_of_cosines_these_numbers_are_the_same():
    head = build(t_alpha=0.2)
    for step, (loss, *_) in enumerate(OFFICIAL):
        torch.testing.assert_close(
            head.loss((embeddings_of(step),), samples(LABELS))['loss'].item(), loss, rtol=1e-5, atol=0
        )


@pytest.mark.parametrize('form', [dict(softmax='dense'), dict(softmax='streamed', softmax_memory=1)])
def test_numbers_of_the_newer_official_code(form):
    head = build(t_alpha=0.2, gradient='straight_through', clip_angle=False, **form)
    batches = [*(embeddings_of(step) for step in range(3)), beside_class_weights()]
    check_numbers(head, batches, CVLFACE, loss_rtol=1e-6, gradient_rtol=1e-4)


@pytest.mark.parametrize('other', [dict(clip_angle=True), dict(gradient='analytic')])
def test_the_two_official_codes_differ(other):
    def trained(**keys):
        head, feats = build(t_alpha=0.2, **keys), beside_class_weights()
        loss = head.loss((feats,), samples(LABELS))['loss']
        loss.backward()
        return torch.cat([loss.detach().reshape(1), feats.grad.norm(dim=1)])

    newer = dict(gradient='straight_through', clip_angle=False)
    # Ten times what the numbers above are compared to.
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
