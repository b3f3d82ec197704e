"""SupCon: time and memory of the streamed loss against a lean dense implementation and the official code.

    python tools/benchmark.py supcon [--images 256 1024 4096] [--views 2] [--dim 128] [--rounds 7] [--device cpu]
    OMP_NUM_THREADS=1 python tools/benchmark.py supcon --cpu-time   # on a shared machine

Each form gets the same embeddings and labels and computes loss and gradient. Memory is the peak allocation,
including the gradient of the embeddings.
"""

import argparse
import time

import torch
import torch.nn.functional as F

from hybridcls.apis.memory import peak_memory
from hybridcls.apis.timing import interleaved_timings, timing_table
from hybridcls.functional.contrastive import supervised_contrast

TEMPERATURE = 0.1


def streamed(embeddings, labels):
    """The loss as SupConLoss computes it."""
    return supervised_contrast(embeddings, labels, TEMPERATURE)


def lean_dense(embeddings, labels):
    """As few matrices as a careful author needs: similarities, their log-softmax, and what is picked from it."""
    views = embeddings.shape[1]
    z = F.normalize(embeddings, dim=2).flatten(0, 1)
    classes = labels.repeat_interleave(views)
    log_share = ((z / TEMPERATURE) @ z.t()).fill_diagonal_(-torch.inf).log_softmax(1)
    positive = (classes.unsqueeze(1) == classes).fill_diagonal_(False)
    return -(torch.where(positive, log_share, 0).sum(1) / positive.sum(1)).mean()


def official_form(embeddings, labels):
    """The steps of HobbitLong/SupContrast: a float mask, a mask of the others, the shift, exp, log, masked mean."""
    views = embeddings.shape[1]
    z = torch.cat(F.normalize(embeddings, dim=2).unbind(1))
    mask = (labels.unsqueeze(1) == labels).float().repeat(views, views)
    logits = z @ z.t() / TEMPERATURE
    logits = logits - logits.max(dim=1, keepdim=True).values.detach()
    others = torch.ones_like(mask).scatter(1, torch.arange(len(z), device=z.device).unsqueeze(1), 0)
    mask = mask * others
    log_share = logits - (logits.exp() * others).sum(1, keepdim=True).log()
    return -((mask * log_share).sum(1) / mask.sum(1)).mean()


def main():
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, nargs='+', default=[32, 256, 1024, 4096])
    parser.add_argument('--views', type=int, default=2)
    parser.add_argument('--dim', type=int, default=128)
    parser.add_argument('--classes', type=int, default=100)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--cpu-time', action='store_true', help='measure CPU time, without waiting')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    args = parser.parse_args()
    print(
        f'{args.device}, {torch.get_num_threads()} threads, D = {args.dim}, {args.views} views, loss and gradient'
        + (', CPU time' if args.cpu_time else '')
    )
    for images in args.images:
        torch.manual_seed(0)
        embeddings = torch.randn(images, args.views, args.dim, device=args.device, requires_grad=True)
        labels = torch.randint(0, args.classes, (images,), device=args.device)

        def step(form, embeddings=embeddings, labels=labels):
            return torch.autograd.grad(form(embeddings, labels), embeddings)[0]

        forms = dict(lean_dense=lean_dense, official_form=official_form, streamed=streamed)
        expected = step(lean_dense)
        for name, form in forms.items():
            torch.testing.assert_close(
                step(form),
                expected,
                rtol=1e-3,
                atol=1e-5 * float(expected.abs().max()),
                msg=lambda text, name=name: f'{name}: {text}',
            )
        rounds = args.rounds if images > 512 else 5 * args.rounds
        timings = interleaved_timings(
            {name: lambda form=form: step(form) for name, form in forms.items()},
            reference='lean_dense',
            rounds=rounds,
            clock=time.process_time if args.cpu_time else time.perf_counter,
        )
        print(timing_table(timings, f'{images} images'))
        peaks = {name: peak_memory(lambda form=form: step(form), args.device) for name, form in forms.items()}
        print('peak MiB: ' + ', '.join(f'{name} {peak / 2**20:.1f}' for name, peak in peaks.items()) + '\n')


if __name__ == '__main__':
    main()
