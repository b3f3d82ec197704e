"""Token merging: speed-up of a ViT-S on 224 pixels at several r, against the ratio of FLOPs.

    python tools/benchmark.py token_merging [--model vit_small_patch16_224] [--r 8 13 16] [--images 8] [--rounds 11]

r = 0 is timed too: it should cost nothing. The FLOPs ratio counts multiplications, without matching and merging;
"reached" is the measured speed-up relative to it.
"""

import argparse
import time

import timm
import torch

from hybridcls.apis.timing import interleaved_timings, timing_table
from hybridcls.models.adapters import add_token_merging, merged_tokens


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--model', default='vit_small_patch16_224')
    parser.add_argument('--r', type=int, nargs='+', default=[8, 13, 16])
    parser.add_argument('--images', type=int, default=8)
    parser.add_argument('--rounds', type=int, default=11)
    parser.add_argument('--threads', type=int, help="defaults to torch's own choice")
    parser.add_argument('--cpu-time', action='store_true', help='measure CPU time, for a shared machine')
    parser.add_argument('--device', default='cpu')
    return parser.parse_args()


def merging(model, images, r):
    """Return a forward pass with r; swapping the classes takes microseconds."""

    def run():
        handle = add_token_merging(model, dict(r=r))
        model(images)
        handle.undo()

    return run


def multiplications(model, image, r):
    """Count the multiplications for one image: patch embedding, and in each block projections, attention and MLP."""
    handle = add_token_merging(model, dict(r=r))
    after = [state.tokens.shape[1] for state in merged_tokens(model, image)]
    handle.undo()
    width, hidden = model.embed_dim, model.blocks[0].mlp.fc1.out_features
    total = model.patch_embed.proj.weight.numel() * model.patch_embed.num_patches
    for before, left in zip([model.patch_embed.num_patches + model.num_prefix_tokens, *after], after, strict=False):
        total += before * 4 * width**2 + 2 * before**2 * width + left * 2 * width * hidden
    return total


def main():
    """Measure."""
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = timm.create_model(args.model, num_classes=0).eval().to(args.device)
    size = model.patch_embed.img_size
    images = torch.randn(args.images, 3, *size, device=args.device)
    names = {f'r = {r}': r for r in args.r}
    with torch.no_grad():
        timings = interleaved_timings(
            {
                'without': lambda: model(images),
                'r = 0': merging(model, images, 0),
                **{name: merging(model, images, r) for name, r in names.items()},
            },
            rounds=args.rounds,
            clock=time.process_time if args.cpu_time else time.perf_counter,
        )
        whole = multiplications(model, images[:1], 0)
        print(
            timing_table(
                timings,
                f'{args.model}, {args.images} images of {size[0]} x {size[1]}, {torch.get_num_threads()} threads',
            )
        )
        for name, r in names.items():
            expected, measured = whole / multiplications(model, images[:1], r), 1 / timings[name].ratio
            print(
                f'{name}: {measured:.2f} times as fast; FLOPs ratio {expected:.2f}, reached {measured / expected:.0%}'
            )


if __name__ == '__main__':
    main()
