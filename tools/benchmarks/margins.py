"""Margin heads: time and memory of the streamed softmax against a lean dense implementation and the official codes.

    python tools/benchmark.py margins [--classes 10000 100000 300000 1000000] [--batch 256] [--dim 512]
                                      [--forms streamed dense auto lean_dense ...] [--rounds 7] [--device cpu]
    python tools/benchmark.py margins --cpu-time --threads 1     # on a shared machine

Each form gets the same embeddings, class weights and labels, and computes loss, top-1 accuracy and both gradients; its
results are compared with another form's before it is timed. Memory is the peak allocation beyond the two gradients.
Dense forms are skipped above ``--dense-up-to`` classes: at a million they take 8 to 9 GB. ``sampled`` uses a tenth of
the classes in each step. ``plain_dense`` and public fused linear cross entropies have no margin and no top-1; those of
packages run on a GPU alone (``pip install liger-kernel cut-cross-entropy``). With ``--updates`` ``sampled`` is timed
with SGD's and AdamW's update of all class weights, and of the drawn ones alone (``update_drawn_only``). On a GPU ten
million classes are measured as well; ``sharded_margins`` measures classes that are sharded over processes.
"""

import argparse
import math
import time
from functools import partial
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import nn

from hybridcls.apis.memory import peak_memory
from hybridcls.apis.timing import interleaved_timings, timing_table
from hybridcls.distributed import RowShard, sharded_margin_cross_entropy
from hybridcls.distributed.drawn_rows import with_row_gradient
from hybridcls.engine.optim import ComposedOptimWrapper
from hybridcls.functional import adaptive_margin_on_target, angular_margin_on_target, margin_cross_entropy, norm_scaler

SCALE, ARC_MARGIN, ADA_MARGIN, CLIP = 64.0, 0.5, 0.4, 1e-3
CLASSES = [10_000, 100_000, 300_000, 1_000_000, *([10_000_000] if torch.cuda.is_available() else [])]
PACKAGES = dict(liger='liger-kernel', cut_cross_entropy='cut-cross-entropy')
PEERS = ('plain_dense', 'torch_fused', *PACKAGES)
PLAIN_SCALE = 16.0  # at 64 and without a margin the loss is 5e-8, and the comparison one of roundings
NORM_MEAN, NORM_STD = torch.tensor(20.0), torch.tensor(10.0)


def arc_margin(cosine, norms):
    """ArcFace as InsightFace's CombinedMarginLoss computes it."""
    return angular_margin_on_target(cosine, ARC_MARGIN, 'wrap', 'straight_through')


def ada_margin(cosine, norms):
    """AdaFace with constant running statistics."""
    return adaptive_margin_on_target(
        cosine, norm_scaler(norms, NORM_MEAN.to(norms.device), NORM_STD.to(norms.device)), ADA_MARGIN
    )


def ours(embeddings, class_weights, labels, margin=arc_margin, **keys):
    """The loss as MarginHead computes it."""
    loss, predicted = margin_cross_entropy(embeddings, class_weights, labels, margin, SCALE, **keys)
    return loss, (predicted == labels).float().mean()


def sampled(embeddings, class_weights, labels):
    """Partial FC in one process: a tenth of the classes, those of the batch among them."""
    loss, predicted = sharded_margin_cross_entropy(
        embeddings,
        class_weights,
        labels,
        arc_margin,
        RowShard.of_this_process(len(class_weights)),
        SCALE,
        sample_rate=0.1,
    )
    return loss, (predicted == labels).float().mean()


def lean_dense(embeddings, class_weights, labels):
    """Cross entropy over scaled cosines, as a careful author writes it for autograd; the margin on N numbers."""
    cosine = F.normalize(embeddings) @ F.normalize(class_weights).t()
    target_index = labels.unsqueeze(1)
    target = arc_margin(cosine.gather(1, target_index), None)
    accuracy = (cosine.argmax(1) == labels).float().mean()
    return F.cross_entropy(cosine.scatter(1, target_index, target) * SCALE, labels), accuracy


def arcface_form(embeddings, class_weights, labels):
    """The steps of InsightFace's arcface_torch: to angles of all classes, the margin, and back, under no_grad."""
    logits = F.linear(F.normalize(embeddings), F.normalize(class_weights)).clamp(-1, 1)
    accuracy = (logits.argmax(1) == labels).float().mean()
    turn = torch.zeros_like(labels, dtype=logits.dtype).unsqueeze(1) + ARC_MARGIN
    with torch.no_grad():
        logits.acos_()
        logits.scatter_add_(1, labels.unsqueeze(1), turn)
        logits.cos_()
    return F.cross_entropy(logits * SCALE, labels), accuracy


def adaface_form(embeddings, class_weights, labels):
    """The steps of mk-minchul/AdaFace: two B x C matrices of margins, and the angles of all classes differentiated."""
    norms = embeddings.norm(dim=1, keepdim=True)
    cosine = ((embeddings / norms) @ (class_weights / class_weights.norm(dim=1, keepdim=True)).t()).clamp(
        -1 + CLIP, 1 - CLIP
    )
    accuracy = (cosine.argmax(1) == labels).float().mean()
    quality = norms.detach().clamp(1e-3, 100)
    quality = ((quality - NORM_MEAN.to(norms.device)) / (NORM_STD.to(norms.device) + 1e-3) * 0.333).clamp(-1, 1)
    target_index = labels.unsqueeze(1)
    turn = torch.zeros_like(cosine).scatter_(1, target_index, 1.0) * (-ADA_MARGIN * quality)
    cosine = (cosine.acos() + turn).clamp(1e-3, math.pi - 1e-3).cos()
    off = torch.zeros_like(cosine).scatter_(1, target_index, 1.0) * (ADA_MARGIN + ADA_MARGIN * quality)
    return F.cross_entropy((cosine - off) * SCALE, labels), accuracy


def peer(name, dtype=torch.float32):
    """Return a public linear cross entropy over the same cosines; it has no margin, and tells no top-1."""

    def loss_of(embeddings, class_weights, labels):
        units, weights = (PLAIN_SCALE * F.normalize(embeddings)).to(dtype), F.normalize(class_weights).to(dtype)
        if name == 'liger':
            from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

            return liger_fused_linear_cross_entropy(units, weights, labels)
        if name == 'cut_cross_entropy':
            from cut_cross_entropy import linear_cross_entropy

            return linear_cross_entropy(units, weights, labels)
        if name == 'torch_fused':
            return F.linear_cross_entropy(units, weights, labels, options=torch.nn.LinearCrossEntropyOptions())
        return F.cross_entropy((units @ weights.t()).float(), labels)

    return loss_of


def missing(name, device):
    """Return why a form cannot run here; '' if it can."""
    if name == 'torch_fused' and not hasattr(F, 'linear_cross_entropy'):
        return f'torch {torch.__version__} has none'
    if name in PACKAGES and device.type != 'cuda':
        return 'needs a GPU'
    if name in PACKAGES and find_spec(PACKAGES[name].replace('-', '_')) is None:
        return f'pip install {PACKAGES[name]}'
    return ''


def without_top1(name):
    """Return a peer as the other forms are."""
    loss_of = peer(name)

    def form(*problem):
        loss = loss_of(*problem)
        return loss, loss.new_zeros(())

    return form


def sampled_update(optimizer, drawn_only, embeddings, class_weights, labels):
    """Return a step of sampled classes: loss, gradients, and the update by ComposedOptimWrapper."""
    weights = nn.Parameter(class_weights.detach().clone())
    if drawn_only:
        with_row_gradient(weights)
    settings = dict(SGD=dict(momentum=0.9), AdamW={})[optimizer]
    built = getattr(torch.optim, optimizer)([weights], lr=1e-6, weight_decay=5e-4, fused=True, **settings)
    wrapper, shard = ComposedOptimWrapper(built), RowShard.of_this_process(len(weights))

    def step():
        loss, _ = sharded_margin_cross_entropy(
            embeddings, weights, labels, arc_margin, shard, SCALE, sample_rate=0.1, row_gradient=drawn_only
        )
        wrapper.update_params(loss)

    return step


FORMS = {
    'lean_dense': lean_dense,
    'streamed': partial(ours, softmax='streamed'),
    'dense': partial(ours, softmax='dense'),
    'auto': ours,
    'sampled': sampled,
    'arcface_form': arcface_form,
    'adaface': partial(ours, margin=ada_margin, cosine_clip=CLIP),
    'adaface_form': adaface_form,
    **{name: without_top1(name) for name in PEERS},
}
HOLD_ALL_LOGITS = ('lean_dense', 'dense', 'arcface_form', 'adaface_form', 'plain_dense')
SAME_NUMBERS = {name: 'adaface_form' if 'adaface' in name else 'lean_dense' for name in FORMS if name != 'sampled'}
SAME_NUMBERS.update(dict.fromkeys(PEERS, 'plain_dense'))


def check(outcomes):
    """Compare each form with another one that computes the same."""
    for name, outcome in outcomes.items():
        other = outcomes.get(SAME_NUMBERS.get(name), outcome)
        for found, expected in zip(outcome, other, strict=True):
            # Half of the tolerance is the angles' of the official forms, which acos and cos round.
            torch.testing.assert_close(
                found,
                expected,
                rtol=1e-4,
                atol=2e-5 * float(expected.abs().max()),
                msg=lambda text, name=name: f'{name}: {text}',
            )


def measure(num_classes, args):
    """Print the times and the memory of all forms at one number of classes."""
    device, clock = torch.device(args.device), time.process_time if args.cpu_time else time.perf_counter
    torch.manual_seed(0)
    labels = torch.randint(num_classes, (args.batch,), device=device)
    class_weights = (0.01 * torch.randn(num_classes, args.dim, device=device)).requires_grad_()
    with torch.no_grad():  # as during training: cosines to the target class around 0.5, norms around 20
        embeddings = class_weights[labels] * 100 + 1.7 * torch.randn(args.batch, args.dim, device=device)
        embeddings *= 0.5 + torch.rand(args.batch, 1, device=device)
    embeddings.requires_grad_()

    def step(form):
        embeddings.grad = class_weights.grad = None
        loss, accuracy = form(embeddings, class_weights, labels)
        loss.backward()
        return loss.detach(), accuracy

    skipped = {name: why for name in args.forms if (why := missing(name, device))}
    names = [
        name
        for name in args.forms
        if name not in skipped and (num_classes <= args.dense_up_to or name not in HOLD_ALL_LOGITS)
    ]
    if num_classes <= args.check_up_to:
        outcomes = {}
        for name in names:
            outcomes[name] = (*step(FORMS[name]), embeddings.grad, class_weights.grad)
        check(outcomes)
        del outcomes
    memory = {}
    for name in names:
        embeddings.grad = class_weights.grad = None
        # On a CPU the gradient of sampled classes is pages of the system, which no allocator of torch's counts.
        counted = [embeddings] if name == 'sampled' and device.type == 'cpu' else [embeddings, class_weights]
        peak = peak_memory(lambda name=name: step(FORMS[name]), device)
        memory[name] = (peak - sum(4 * tensor.numel() for tensor in counted)) / 2**20
    timings = interleaved_timings(
        {name: lambda name=name: step(FORMS[name]) for name in names},
        rounds=args.rounds,
        warmup=1,
        clock=clock,
    )
    print(timing_table(timings, f'C = {num_classes:,}'))
    print('MiB beyond the gradients: ' + ', '.join(f'{name} {memory[name]:,.1f}' for name in names))
    if skipped:
        print('left out: ' + ', '.join(f'{name} ({why})' for name, why in skipped.items()))
    print(flush=True)
    for optimizer in ('SGD', 'AdamW') if args.updates else ():
        steps = {
            f'{optimizer}, {what}': sampled_update(optimizer, only, embeddings.detach(), class_weights, labels)
            for what, only in (('all rows', False), ('drawn rows', True))
        }
        print(timing_table(interleaved_timings(steps, rounds=args.rounds, clock=clock), f'C = {num_classes:,}') + '\n')


def main():
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--classes', type=int, nargs='+', default=CLASSES)
    parser.add_argument('--batch', type=int, default=256)
    parser.add_argument('--dim', type=int, default=512)
    parser.add_argument('--forms', nargs='+', choices=list(FORMS), default=list(FORMS))
    parser.add_argument('--dense-up-to', type=int, default=300_000, help='largest number of classes of dense forms')
    parser.add_argument('--check-up-to', type=int, default=100_000, help='largest number of classes to compare')
    parser.add_argument('--updates', action='store_true', help='also time sampled classes with their update')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--cpu-time', action='store_true', help='measure CPU time')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    args = parser.parse_args()
    if args.cpu_time and (args.threads != 1 or args.device != 'cpu'):
        parser.error('--cpu-time sums over threads and excludes the GPU: it needs --threads 1 --device cpu.')
    torch.set_num_threads(args.threads)
    print(
        f'{args.device}, {args.threads} threads, B = {args.batch}, D = {args.dim}, loss, top-1 and both gradients, '
        f'{"CPU" if args.cpu_time else "wall"} time\n'
    )
    for num_classes in args.classes:
        measure(num_classes, args)


if __name__ == '__main__':
    main()
