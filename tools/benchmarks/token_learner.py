"""TokenLearner: throughput of a plain ViT with K summary tokens after 1/4, 1/2 or 3/4 of its blocks.

python tools/benchmark.py token_learner [--model vit_small_patch16_224] [--tokens 8 16] [--images 8] [--rounds 11]
"""

import argparse
import time

import torch

from hybridcls.apis.timing import interleaved_timings
from hybridcls.models.backbones import HybridBackbone


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model', default='vit_small_patch16_224')
    parser.add_argument('--tokens', type=int, nargs='+', default=[8, 16], help='numbers of summary tokens K')
    parser.add_argument('--images', type=int, default=8)
    parser.add_argument('--rounds', type=int, default=11)
    parser.add_argument('--threads', type=int, help="defaults to torch's own choice")
    parser.add_argument('--merging', type=float, default=0.0, help='token_merging_ratio of the blocks before it')
    parser.add_argument('--cpu-time', action='store_true', help='measure CPU time, for a shared machine')
    parser.add_argument('--device', default='cpu')
    return parser.parse_args()


def main():
    """Measure."""
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    def backbone(**levers):
        return HybridBackbone(vit=dict(model_name=args.model), **levers).eval().to(args.device)

    models = {'without': backbone()}
    depth = len(models['without'].vit.model.blocks)
    images = torch.rand(args.images, 3, *models['without'].vit.img_size, device=args.device)
    for quarters in (1, 2, 3):
        for tokens in args.tokens:
            place = dict(num_tokens=tokens, after_block=depth * quarters // 4)
            models[f'K = {tokens:<3} after block {depth * quarters // 4} of {depth}'] = backbone(
                token_learner_tokens=place, token_merging_ratio=args.merging
            )
    with torch.no_grad():
        timings = interleaved_timings(
            {name: (lambda model=model: model(images)) for name, model in models.items()},
            rounds=args.rounds,
            clock=time.process_time if args.cpu_time else time.perf_counter,
        )
    print(f'{args.model}, {args.images} images, {torch.get_num_threads()} threads')
    print(f'{"":<28}{"images/s":>10}{"speed-up":>10}  quartiles')
    for name, timing in timings.items():
        low, high = 1 / timing.spread[1], 1 / timing.spread[0]
        print(f'{name:<28}{args.images / timing.seconds:>10.1f}{1 / timing.ratio:>10.2f}  {low:.2f} to {high:.2f}')


if __name__ == '__main__':
    main()
