"""Start-up: our imports, a training up to its first iteration and --help, against the imports that they need.

python tools/benchmark.py startup [--rounds 5] [--config hybridcls::digits/ce_hybrid.py]

Each line is a process of its own, in turn; one round before them warms the file cache. Processor time is that of all
threads, and hardly moves with what else runs on the machine; time on the clock does.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

from hybridcls.apis.timing import interleaved_timings

BARE = 'import torch, timm, mmengine, mmpretrain.models'
# The training ends itself as soon as the first batch has moved the weights.
FIRST_ITERATION = """
import os, sys
import hybridcls
from mmengine.runner import EpochBasedTrainLoop
run_iter = EpochBasedTrainLoop.run_iter
def run_one(self, *args):
    run_iter(self, *args)
    sys.stdout.flush()
    os._exit(0)
EpochBasedTrainLoop.run_iter = run_one
from hybridcls.cli.main import main
main()
"""
COMMAND = 'from hybridcls.cli.main import main; main()'
GOALS = {'import hybridcls.models, hybridcls.engine': 1.05, 'hybridcls train, to the first iteration': 1.5}
REFERENCE = 'bare imports'


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--config', default='hybridcls::digits/ce_hybrid.py', help='what is trained')
    return parser.parse_args()


def of_children():
    """Return the processor time of all processes that this one has started and that have ended, in seconds."""
    spent = os.times()
    return spent.children_user + spent.children_system


def main():
    """Time the starts and print their ratios to the bare imports beside the goals."""
    args = parse_args()
    clock = {}

    def start(name, code, *arguments):
        def run():
            began = time.perf_counter()
            command = [sys.executable, '-W', 'ignore', '-c', code, *arguments]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f'startup: {name} failed.\n{done.stderr}')
            clock.setdefault(name, []).append(time.perf_counter() - began)

        return run

    with tempfile.TemporaryDirectory() as folder:
        train = ('train', args.config, '--work-dir', folder, '--force', '--device', 'cpu')
        runs = {
            REFERENCE: (BARE,),
            'import hybridcls.models, hybridcls.engine': ('import hybridcls.models, hybridcls.engine',),
            'hybridcls train, to the first iteration': (FIRST_ITERATION, *train),
            'hybridcls train --help': (COMMAND, 'train', '--help'),
        }
        functions = {name: start(name, *command) for name, command in runs.items()}
        timings = interleaved_timings(functions, rounds=args.rounds, warmup=1, clock=of_children)
    print(f'{"":<42}  {"processor s":>11}  {"ratio":>6}  {"clock s":>8}  {"ratio":>6}  goal')
    for name, timing in timings.items():
        walls = clock[name][-args.rounds :]
        wall = statistics.median(own / bare for own, bare in zip(walls, clock[REFERENCE][-args.rounds :], strict=True))
        goal = f'<= {GOALS[name]}' if name in GOALS else ''
        print(
            f'{name:<42}  {timing.seconds:>11.2f}  {timing.ratio:>6.3f}  {statistics.median(walls):>8.2f}  {wall:>6.3f}'
            f'  {goal}'.rstrip()
        )


if __name__ == '__main__':
    main()
