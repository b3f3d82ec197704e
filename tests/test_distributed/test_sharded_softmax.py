"""Three processes that share the classes against one that has them all."""

import pytest
import torch
import torch.distributed as dist
from processes import run_processes

from hybridcls.distributed import RowShard
from hybridcls.distributed.sharded_softmax import sharded_cosine_logits, sharded_margin_cross_entropy
from hybridcls.functional import cosine_logits, margin_cross_entropy, sample_classes

COUNTS = [3, 1, 4]  # images of the processes
CASES = {
    'plain': dict(classes=8),
    'uneven': dict(classes=7, label_smoothing=0.1),
    'an empty share': dict(classes=4, cosine_clip=0.3, label_smoothing=0.2),
    'two empty shares': dict(classes=1),
    'subcenters': dict(classes=7, num_subcenters=3, label_smoothing=0.1, memory=256),
    'sampled': dict(classes=30, sample_rate=0.3, label_smoothing=0.1),
    'sampled subcenters': dict(classes=31, sample_rate=0.3, num_subcenters=2),
    'more of the batch than the rate': dict(classes=9, sample_rate=0.01),
    'adjusted': dict(classes=7, label_smoothing=0.1, is_adjusted=True),
    'adjusted, an empty share': dict(classes=4, is_adjusted=True),
    'adjusted and sampled': dict(classes=30, sample_rate=0.3, label_smoothing=0.1, is_adjusted=True),
}


def batch(classes, num_subcenters=1, **_):
    generator = torch.Generator().manual_seed(classes)
    embeddings = 3 * torch.randn(sum(COUNTS), 5, dtype=torch.float64, generator=generator)
    class_weights = torch.randn(classes, num_subcenters, 5, dtype=torch.float64, generator=generator)
    return embeddings, class_weights, torch.randint(classes, (sum(COUNTS),), generator=generator)


def margin(cosine, norms):
    return cosine - 0.2 - 0.01 * norms


def settings(case):
    return {key: value for key, value in case.items() if key not in ('classes', 'sample_rate', 'is_adjusted')}


def imbalance(case, drawn=slice(None), images=slice(None)):
    """A bias of the (drawn) classes and weights of the images, where the case has them."""
    if not case.get('is_adjusted'):
        return {}
    generator = torch.Generator().manual_seed(5)
    bias = 5 * torch.randn(case['classes'], dtype=torch.float64, generator=generator)
    weights = torch.rand(sum(COUNTS), dtype=torch.float64, generator=generator)
    return dict(logit_bias=bias[drawn], sample_weights=weights[images])


def _check_row_gradient(embeddings, own, own_labels, shard, loss, to_weights, case, balance, rank):
    """The same gradient, of the drawn rows alone."""
    own.requires_grad_()
    torch.manual_seed(10 + rank)
    sparse, _ = sharded_margin_cross_entropy(
        embeddings, own, own_labels, margin, shard, 8.0, sample_rate=case['sample_rate'], row_gradient=True,
        **settings(case), **balance
    )  # fmt: skip
    sparse.backward()
    assert own.grad.is_sparse
    torch.testing.assert_close(sparse, loss)
    torch.testing.assert_close(own.grad.to_dense(), to_weights)


def one_case(rank, case):
    embeddings, class_weights, labels = batch(**case)
    shard = RowShard.of_this_process(case['classes'])
    embeddings = embeddings.split(COUNTS)[rank].clone().requires_grad_()
    own = class_weights[shard.first : shard.first + shard.size].clone().requires_grad_()
    own_labels = labels.split(COUNTS)[rank]
    rate = case.get('sample_rate', 1.0)
    torch.manual_seed(10 + rank)
    drawn = torch.arange(shard.size)
    if rate < 1:
        drawn, _ = sample_classes(labels - shard.first, shard.size, rate)
    torch.manual_seed(10 + rank)
    balance = imbalance(case, images=torch.arange(sum(COUNTS)).split(COUNTS)[rank])
    loss, predicted = sharded_margin_cross_entropy(
        embeddings, own.flatten(0, 1), own_labels, margin, shard, 8.0, sample_rate=rate, **settings(case), **balance
    )
    loss.backward()
    if rate < 1:
        _check_row_gradient(embeddings.detach(), own.detach(), own_labels, shard, loss, own.grad, case, balance, rank)
    logits = sharded_cosine_logits(
        embeddings.detach(), own.detach().flatten(0, 1), shard, case.get('num_subcenters', 1)
    )
    return dict(
        loss=loss.detach(),
        predicted=predicted,
        to_embeddings=embeddings.grad,
        to_weights=own.grad,
        drawn=drawn + shard.first,
        logits=logits,
    )


def work(rank, folder):
    dist.init_process_group('gloo', init_method=f'file://{folder}/init', rank=rank, world_size=3)
    torch.save({name: one_case(rank, case) for name, case in CASES.items()}, f'{folder}/{rank}.pt')
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def of_three(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sharded')
    run_processes(work, folder, count=3)
    return [torch.load(folder / f'{rank}.pt') for rank in range(3)]


@pytest.mark.dist
@pytest.mark.parametrize('name', CASES)
def test_three_processes_equal_one(of_three, name):
    case, found = CASES[name], [result[name] for result in of_three]
    embeddings, class_weights, labels = batch(**case)
    num_subcenters = case.get('num_subcenters', 1)
    torch.testing.assert_close(
        torch.cat([part['logits'] for part in found]),
        cosine_logits(embeddings, class_weights.flatten(0, 1), num_subcenters),
    )

    drawn = torch.cat([part['drawn'] for part in found])
    assert set(labels.tolist()) <= set(drawn.tolist())
    embeddings.requires_grad_()
    class_weights.requires_grad_()
    places = torch.searchsorted(drawn, labels)
    loss, predicted = margin_cross_entropy(
        embeddings,
        class_weights[drawn].flatten(0, 1),
        places,
        margin,
        8.0,
        softmax='dense',
        **settings(case),
        **imbalance(case, drawn),
    )
    loss.backward()
    torch.testing.assert_close(sum(part['loss'] for part in found) / 3, loss.detach())
    torch.testing.assert_close(torch.cat([part['predicted'] for part in found]), drawn[predicted])
    # The embeddings go into a model whose gradient is averaged over processes; the class weights do not.
    torch.testing.assert_close(torch.cat([part['to_embeddings'] for part in found]) / 3, embeddings.grad)
    torch.testing.assert_close(torch.cat([part['to_weights'] for part in found]), class_weights.grad)


@pytest.mark.dist
def test_the_cases_are_what_their_names_say(of_three):
    assert [len(part['an empty share']['to_weights']) for part in of_three] == [2, 2, 0]
    assert [len(part['two empty shares']['to_weights']) for part in of_three] == [1, 0, 0]
    # int(0.3 * 10), or the classes of the batch where these are more
    assert all(3 <= len(part['sampled']['drawn']) < 10 for part in of_three)
    zero = torch.cat([part['sampled']['to_weights'] for part in of_three]).flatten(1).abs().sum(1) == 0
    assert zero.sum() == 30 - sum(len(part['sampled']['drawn']) for part in of_three)


def test_one_process_without_a_group():
    embeddings, class_weights, labels = batch(7)
    expected = margin_cross_entropy(embeddings, class_weights.flatten(0, 1), labels, margin, 8.0, softmax='dense')
    found = sharded_margin_cross_entropy(
        embeddings, class_weights.flatten(0, 1), labels, margin, RowShard(0, 7, 7), 8.0
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('sample_rate', [1.0, 0.4])
def test_precision_of_products(sample_rate):
    embeddings, class_weights, labels = (
        tensor.float() if tensor.is_floating_point() else tensor for tensor in batch(9)
    )
    class_weights, found = class_weights.flatten(0, 1), {}
    for precision in ('float32', 'tf32', 'bfloat16'):
        torch.manual_seed(0)
        leaf = class_weights.clone().requires_grad_()
        loss, _ = sharded_margin_cross_entropy(
            embeddings, leaf, labels, margin, RowShard(0, 9, 9), 8.0, sample_rate=sample_rate, precision=precision
        )
        loss.backward()
        found[precision] = loss.detach(), leaf.grad
    torch.testing.assert_close(found['tf32'], found['float32'], rtol=0, atol=0)
    torch.testing.assert_close(found['bfloat16'], found['float32'], rtol=2e-2, atol=2e-2)
    assert not torch.equal(found['bfloat16'][1], found['float32'][1])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    embeddings, class_weights, labels = batch(7)
    embeddings, class_weights = embeddings.to(dtype), class_weights.flatten(0, 1).to(dtype).requires_grad_()
    expected = margin_cross_entropy(embeddings.float(), class_weights.float(), labels, margin, 64.0, softmax='dense')[0]
    with torch.autocast('cpu', dtype):
        loss, _ = sharded_margin_cross_entropy(embeddings, class_weights, labels, margin, RowShard(0, 7, 7), 64.0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert class_weights.grad.dtype == dtype
    torch.testing.assert_close(loss, expected)
