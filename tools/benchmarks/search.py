"""Exact nearest neighbours against faiss' IndexFlatIP and the bare product, on random unit vectors.

    python tools/benchmark.py search [--bank 100000] [--queries 4000] [--width 256] [--k 20] [--threads 1]

The alternatives run in turn; times are of the processor, medians over the rounds. faiss is left out where it is not
installed. With --device cuda the product is torch's, and times are of the clock.
"""

import argparse
import importlib.util
import time

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from hybridcls.apis import interleaved_timings, timing_table
from hybridcls.functional import nearest_neighbours


def faiss_search(bank, queries, k, threads):
    """Return a function that searches with faiss."""
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(bank.numpy())
    return lambda: index.search(queries.numpy(), k)


def product(bank, queries):
    """Return a function that computes all similarities in blocks, and keeps none."""
    if bank.device.type != 'cpu':
        return lambda: [queries @ part.T for part in bank.split(65_536)]
    pairs = [(some.numpy(), part.numpy().T) for part in bank.split(2000) for some in queries.split(1000)]
    blocks = {(len(some), part.shape[1]): np.empty((len(some), part.shape[1]), np.float32) for some, part in pairs}
    return lambda: [np.dot(some, part, out=blocks[len(some), part.shape[1]]) for some, part in pairs]


def main():
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    for name, default in dict(bank=100_000, queries=4000, width=256, k=20, threads=1, rounds=7).items():
        parser.add_argument(f'--{name}', type=int, default=default)
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)
    bank, queries = (
        torch.nn.functional.normalize(torch.randn(number, args.width, generator=generator)).to(args.device)
        for number in (args.bank, args.queries)
    )
    alternatives = {
        'nearest_neighbours': lambda: nearest_neighbours(queries, bank, args.k),
        'product alone': product(bank, queries),
    }
    if args.device == 'cpu' and importlib.util.find_spec('faiss'):
        alternatives = {'faiss IndexFlatIP': faiss_search(bank, queries, args.k, args.threads), **alternatives}
        _, theirs = alternatives['faiss IndexFlatIP']()
        _, ours = alternatives['nearest_neighbours']()
        print(f'{(ours.numpy() == theirs).mean():.4%} of the positions are the same')
    clock = time.process_time if args.device == 'cpu' else time.perf_counter
    with threadpool_limits(args.threads, 'blas'):
        timings = interleaved_timings(alternatives, rounds=args.rounds, warmup=1, clock=clock)
    sizes = f'bank {args.bank}, {args.queries} queries, width {args.width}, k {args.k}'
    print(f'{sizes}, {args.threads} threads, {args.device}')
    print(timing_table(timings))


if __name__ == '__main__':
    main()
