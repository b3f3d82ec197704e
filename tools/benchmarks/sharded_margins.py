"""Time sharded class weights, all and sampled, against one process with all class weights.

    python tools/benchmark.py sharded_margins [--classes 100000] [--processes 2] [--sample-rate 0.1] ...

Loss and gradients of an ArcFace loss, from embeddings and class weights. The reference is one process with the whole
batch and all classes, streamed; the others have a shard of both, and communicate over gloo (NCCL if each has a GPU).
All processes have ``--threads`` threads: with W processes the ratio is at least 1 / W without sampling, and
``sample rate / W`` with it. On a shared machine, ``--clock cpu`` measures the CPU time of the first process, without
waiting.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from hybridcls.apis.timing import interleaved_timings, timing_table
from hybridcls.distributed import RowShard
from hybridcls.distributed.sharded_softmax import sharded_margin_cross_entropy
from hybridcls.functional import angular_margin_on_target, margin_cross_entropy

STOP = -1


def arcface(target_cosine: Tensor, norms: Tensor) -> Tensor:
    """The ArcFace margin; the cost of others is similar."""
    return angular_margin_on_target(target_cosine, 0.5)


def steps_of(args: argparse.Namespace, rank: int, device: torch.device) -> list[Callable[[], None]]:
    """Return the step of this process for each alternative; the reference runs in the first process only."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(args.batch, args.width, generator=generator).to(device)
    labels = torch.randint(args.classes, (args.batch,), generator=generator).to(device)
    shard = RowShard.of_this_process(args.classes)
    own = nn.Parameter(0.01 * torch.randn(shard.size, args.width, device=device))
    own_embeddings = embeddings.chunk(args.processes)[rank].clone().requires_grad_()
    own_labels = labels.chunk(args.processes)[rank]
    everything = nn.Parameter(0.01 * torch.randn(args.classes if rank == 0 else 0, args.width, device=device))
    all_embeddings = embeddings.clone().requires_grad_()

    def alone() -> None:
        if rank == 0:
            all_embeddings.grad = everything.grad = None
            margin_cross_entropy(all_embeddings, everything, labels, arcface, softmax='streamed')[0].backward()

    def together(sample_rate: float) -> None:
        own_embeddings.grad = own.grad = None
        loss, _ = sharded_margin_cross_entropy(own_embeddings, own, own_labels, arcface, shard, sample_rate=sample_rate)
        loss.backward()

    return [alone, lambda: together(1.0), lambda: together(args.sample_rate)]


def work(rank: int, args: argparse.Namespace, folder: str) -> None:
    """Run one process; the first one chooses the next step and measures the time."""
    torch.set_num_threads(args.threads)
    on_gpus = torch.cuda.device_count() >= args.processes
    device = torch.device('cuda', rank) if on_gpus else torch.device('cpu')
    if on_gpus:
        torch.cuda.set_device(device)
    dist.init_process_group(
        'nccl' if on_gpus else 'gloo', init_method=f'file://{folder}/init', rank=rank, world_size=args.processes
    )
    steps = steps_of(args, rank, device)
    order = torch.zeros((), dtype=torch.int64, device=device)

    def do(number: int) -> None:
        dist.broadcast(order.fill_(number), 0)
        steps[number]()

    if rank == 0:
        sharded = f'{args.processes} processes'
        names = ['one process', sharded, f'{sharded}, {args.sample_rate:g} drawn']
        timings = interleaved_timings(
            {name: (lambda number=number: do(number)) for number, name in enumerate(names)},
            rounds=args.rounds,
            clock=time.process_time if args.clock == 'cpu' else time.perf_counter,
        )
        dist.broadcast(order.fill_(STOP), 0)
        print(
            f'B = {args.batch}, D = {args.width}, C = {args.classes:,}, {device.type}, threads a process: '
            f'{args.threads}, clock: {args.clock}'
        )
        print(timing_table(timings, 'loss and gradients'))
    else:
        while True:
            dist.broadcast(order, 0)
            if order.item() == STOP:
                break
            steps[int(order)]()
    dist.destroy_process_group()


def main() -> None:
    """Start the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--classes', type=int, default=100_000)
    parser.add_argument('--batch', type=int, default=256)
    parser.add_argument('--width', type=int, default=512)
    parser.add_argument('--processes', type=int, default=2)
    parser.add_argument('--sample-rate', type=float, default=0.1)
    parser.add_argument('--threads', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--clock', choices=['wall', 'cpu'], default='wall')
    args = parser.parse_args()
    os.environ['OMP_NUM_THREADS'] = str(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(work, (args, folder), nprocs=args.processes)


if __name__ == '__main__':
    main()
