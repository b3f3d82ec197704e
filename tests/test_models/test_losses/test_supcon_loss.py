import math

import pytest
import torch
from processes import run_processes
from torch import nn

from hybridcls.functional.contrastive import supervised_contrast
from hybridcls.registry import MODELS

# Eight images; the processes get five and three of them. Classes 3 to 5 occur once, all on the second process, and
# class 0 is on both: with one view, the processes have different numbers of anchors with positives.
LABELS = [0, 1, 0, 1, 2, 3, 0, 4]
COUNTS = [5, 3]
CASES = [
    dict(views=views, labelled=labelled, contrast_mode=mode, form=form, anchor_mean=anchor_mean)
    for views in (1, 2)
    for labelled in (True, False)
    for mode in ('all', 'one')
    for form, anchor_mean in (('out', 'with_positives'), ('in', 'all'))
]
# Streamed, a temperature that is learned, and a queue: two steps, so that the second has something to look back to.
CASES += [
    dict(views=2, labelled=True, streamed=True),
    dict(views=1, labelled=False, contrast_mode='one', streamed=True),
    dict(views=2, labelled=True, learn_temperature=True, base_temperature=0.07),
    dict(views=2, labelled=True, learn_temperature=True, streamed=True, steps=2, queue=dict(size=11, dim=4)),
    dict(views=1, labelled=False, form='in', steps=2, queue=dict(size=100, dim=4)),
]


def waves(*shape):
    """Numbers without a pattern, the same on every machine."""
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return (torch.sin(1.7 * i) + 0.5 * torch.cos(0.37 * i * i)).reshape(shape).float()


class Net(nn.Module):
    def __init__(self, views, labelled, steps=1, **loss):
        super().__init__()
        torch.manual_seed(0)
        self.views, self.labelled = views, labelled
        self.project = nn.Linear(6, 4)
        self.loss = MODELS.build(dict(type='SupConLoss', temperature=0.3, **loss))

    def forward(self, images, labels):
        views = torch.stack([images, 0.5 - images.flip(1)], 1)[:, : self.views]
        embeddings = self.project(views)
        return self.loss(embeddings, labels if self.labelled else None)


def losses_and_gradients(start, stop, wrap=lambda net: net):
    results = []
    for case in CASES:
        net = Net(**case)
        model = wrap(net)  # DDP must outlive the backward pass
        for _ in range(case.get('steps', 1)):
            loss = model(waves(8, 6)[start:stop], torch.tensor(LABELS)[start:stop])
            loss.backward()
        results.append((loss.detach(), *(param.grad for param in net.parameters()), *net.buffers()))
    return results


def work(rank, folder):
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2)
    start = sum(COUNTS[:rank])
    results = losses_and_gradients(start, start + COUNTS[rank], nn.parallel.DistributedDataParallel)

    own = slice(start, start + COUNTS[rank])
    local = Net(views=1, labelled=True, contrast_mode='all')
    local.loss.gather = False
    alone = [local(waves(8, 6)[own], torch.tensor(LABELS)[own]).item()]
    local.loss.gather = True
    local.eval()
    alone.append(local(waves(8, 6)[own], torch.tensor(LABELS)[own]).item())
    message = ''
    local.loss = MODELS.build(dict(type='SupConLoss', queue=dict(size=3, dim=4), gather=False))
    try:
        local(waves(8, 6)[own], torch.tensor(LABELS)[own])
    except ValueError as error:
        message = str(error)
    torch.save(dict(results=results, alone=alone, message=message), f'{folder}/{rank}.pt')
    torch.distributed.destroy_process_group()


@pytest.mark.dist
def test_two_processes_equal_one(tmp_path):
    run_processes(work, tmp_path)
    expected = losses_and_gradients(0, 8)
    local = Net(views=1, labelled=True, contrast_mode='all')
    halves = [
        local(images, labels).item()
        for images, labels in zip(waves(8, 6).split(COUNTS), torch.tensor(LABELS).split(COUNTS), strict=True)
    ]
    for rank in range(2):
        saved = torch.load(tmp_path / f'{rank}.pt')
        for case, result, whole in zip(CASES, saved['results'], expected, strict=True):
            torch.testing.assert_close(
                result, whole, rtol=1e-6, atol=1e-6, msg=lambda text, case=case: f'{case}: {text}'
            )
        assert 'gather=True, or drop the queue' in saved['message']
        # gather=False, and evaluation: each process for itself.
        torch.testing.assert_close(saved['alone'], [halves[rank]] * 2)


def test_settings_reach_the_formula():
    embeddings, labels = waves(8, 2, 4), torch.tensor(LABELS)
    for keys in [
        dict(temperature=0.5),
        dict(contrast_mode='one'),
        dict(form='in'),
        dict(base_temperature=0.07),
        dict(anchor_mean='all'),
    ]:
        loss = MODELS.build(dict(type='SupConLoss', **keys))(embeddings, labels)
        torch.testing.assert_close(loss, supervised_contrast(embeddings, labels, **keys))
    doubled = MODELS.build(dict(type='SupConLoss', loss_weight=2.0))(embeddings, labels)
    torch.testing.assert_close(doubled, 2 * supervised_contrast(embeddings, labels))


@pytest.mark.parametrize(
    'keys',
    [
        dict(temperature=0.0),
        dict(temperature=-1),
        dict(contrast_mode='any'),
        dict(form='middle'),
        dict(anchor_mean='some'),
        dict(base_temperature=0.0),
    ],
)
def test_wrong_settings_fail_when_built(keys):
    (name,) = keys
    with pytest.raises(ValueError, match=f'expected {name} '):
        MODELS.build(dict(type='SupConLoss', **keys))


def test_a_learned_temperature():
    embeddings, labels = waves(8, 2, 4), torch.tensor(LABELS)
    loss = MODELS.build(dict(type='SupConLoss', temperature=0.2, learn_temperature=True))
    tau = torch.tensor(0.2, requires_grad=True)
    expected = supervised_contrast(embeddings, labels, tau)
    found = loss(embeddings, labels)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    torch.testing.assert_close(loss.learned_temperature.log_temperature.grad, tau.grad * 0.2)
    assert list(loss.state_dict()) == ['learned_temperature.log_temperature']
    assert [*MODELS.build(dict(type='SupConLoss')).parameters()] == []


def test_the_queue_holds_past_batches_in_training_only():
    loss = MODELS.build(dict(type='SupConLoss', queue=dict(size=7, dim=4)))
    batches = waves(3, 2, 2, 4)  # two images in two views each
    labels = torch.tensor([[0, 1], [1, 2], [0, 0]])
    past, past_labels = torch.empty(0, 4), torch.empty(0, dtype=torch.int64)
    for embeddings, own in zip(batches, labels, strict=True):
        embeddings = embeddings.clone().requires_grad_()
        found = loss(embeddings, own)
        expected = supervised_contrast(embeddings, own, queue_embeddings=past[:7], queue_labels=past_labels[:7])
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found, embeddings), torch.autograd.grad(expected, embeddings))
        past = torch.cat([embeddings.detach().flatten(0, 1), past])
        past_labels = torch.cat([own.repeat_interleave(2), past_labels])
        assert len(loss.queue.contents()[0]) == min(7, len(past))

    before = {name: value.clone() for name, value in loss.state_dict().items()}
    loss.eval()
    torch.testing.assert_close(loss(batches[0], labels[0]), supervised_contrast(batches[0], labels[0]))
    torch.testing.assert_close(loss.state_dict(), before, rtol=0, atol=0)
    assert set(before) == {'queue.embeddings', 'queue.labels', 'queue.filled'}


def test_embeddings_that_are_not_finite_stay_out_of_the_queue():
    loss = MODELS.build(dict(type='SupConLoss', queue=dict(size=16, dim=4)))
    embeddings = waves(8, 2, 4)
    embeddings[5, 1, 2] = torch.nan
    assert loss(embeddings, torch.tensor(LABELS)).isnan()
    assert loss.queue.contents()[0].isfinite().all()
    assert loss(waves(8, 2, 4), torch.tensor(LABELS)).isfinite()


def test_a_wrong_queue_is_named():
    for queue, error, message in [
        (100, TypeError, 'must be a dict'),
        (dict(size=9), ValueError, 'dim=128'),
        (dict(size=9, dim=4, momentum=1), TypeError, "unknown key 'momentum'"),
    ]:
        with pytest.raises(error, match=message):
            MODELS.build(dict(type='SupConLoss', queue=queue))


def test_kernels_where_there_are_none(monkeypatch):
    said = []
    monkeypatch.setattr('hybridcls.models.losses.supcon_loss.print_log', lambda text, *_: said.append(text))
    embeddings = waves(100, 2, 4)
    loss = MODELS.build(dict(type='SupConLoss', kernels=True))
    for _ in range(2):
        torch.testing.assert_close(loss(embeddings), supervised_contrast(embeddings))
    assert [text.split(':')[1] for text in said] == [' kernels=True has no effect for torch.float32 on cpu']


@pytest.mark.parametrize(('keys', 'named'), [(dict(form='in'), "form='in'"), (dict(streamed=False), 'streamed=False')])
def test_kernels_of_another_form_are_refused_when_built(keys, named):
    with pytest.raises(ValueError, match=f'expected kernels=False with {named}, got kernels=True'):
        MODELS.build(dict(type='SupConLoss', kernels=True, **keys))
