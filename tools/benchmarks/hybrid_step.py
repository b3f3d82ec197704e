"""A train step of the hybrid classifier against the steps of its two timm models in turn.

    python tools/benchmark.py hybrid_step                                    # a small pair, for a CPU
    python tools/benchmark.py hybrid_step --cnn convnextv2_base --vit swinv2_base_window12_192 --img-size 192 \\
        --batch-size 64 --device cuda --amp bfloat16                         # the reference pair

The timm models get a normalized float batch and train by cross entropy; the hybrid gets the uint8 batch of the data
loader and runs its whole ``train_step``: preprocessing, both normalizations, fusion, head, losses for the log. The
target is a ratio of at most 1.05. ``--cpu-clock`` measures CPU seconds, for a shared machine.

On a CPU, glibc may return memory to the system and request it again in each step, more so for a hybrid step, which
holds the activations of both streams. MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_MMAP_THRESHOLD_=4000000000 in the
environment prevents that.
"""

import argparse
import ast
import time

import timm
import torch
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from torch.nn.functional import cross_entropy

from hybridcls.apis.timing import interleaved_timings, timing_table
from hybridcls.models import HybridClassifier


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--cnn', default='convnextv2_atto')
    parser.add_argument('--vit', default='vit_tiny_patch16_224')
    parser.add_argument('--cnn-args', default='{}', help='more arguments of the model: "{\'depths\': (1, 1, 2, 1)}"')
    parser.add_argument('--vit-args', default='{}', help='the same for the ViT')
    parser.add_argument('--img-size', type=int, default=96)
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--num-classes', type=int, default=100)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--amp', default=None, choices=['bfloat16', 'float16'], help='autocast of both alternatives')
    parser.add_argument('--levers', action='store_true', help='also time it with CBAM and 8 tokens of TokenLearner')
    parser.add_argument('--rounds', type=int, default=15)
    parser.add_argument('--cpu-clock', action='store_true')
    return parser.parse_args()


def optimizer_of(model):
    """Return the optimizer of all alternatives."""
    return torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.05)


def timm_step(name, options, args, images, labels, **keys):
    """Return a plain train step of one timm model with its own classifier."""
    model = timm.create_model(name, num_classes=args.num_classes, **options, **keys).to(args.device).train()
    optimizer = optimizer_of(model)

    def step():
        with autocast(args):
            loss = cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def hybrid_step(args, cnn, vit, data, **keys):
    """Return the train step of a Runner."""
    model = (
        HybridClassifier(
            backbone=dict(type='HybridBackbone', cnn=cnn, vit=vit, img_size=args.img_size, **keys),
            neck=dict(type='DHAFusion'),
            head=dict(type='LinearHead', num_classes=args.num_classes),
        )
        .to(args.device)
        .train()
    )
    wrapper = OptimWrapper(optimizer_of(model))

    def step():
        with autocast(args):
            model.train_step(dict(data), wrapper)

    return step


def autocast(args):
    """Return the autocast context of ``--amp``."""
    kind = args.device.split(':')[0]
    return torch.autocast(kind, getattr(torch, args.amp or 'bfloat16'), enabled=args.amp is not None)


def main():
    """Time and print."""
    args = arguments()
    torch.manual_seed(0)
    cnn_args, vit_args = ast.literal_eval(args.cnn_args), ast.literal_eval(args.vit_args)
    pixels = torch.randint(0, 256, (args.batch_size, 3, args.img_size, args.img_size), dtype=torch.uint8)
    labels = torch.randint(args.num_classes, (args.batch_size,))
    data = dict(inputs=pixels, data_samples=[DataSample().set_gt_label(int(label)) for label in labels])
    images = ((pixels / 255.0 - 0.5) / 0.25).to(args.device)
    labels = labels.to(args.device)
    cnn = timm_step(args.cnn, cnn_args, args, images, labels)
    vit = timm_step(args.vit, vit_args, args, images, labels, img_size=args.img_size, drop_path_rate=0.2)
    streams = dict(model_name=args.cnn, **cnn_args), dict(model_name=args.vit, **vit_args)

    def both():
        cnn()
        vit()

    alternatives = {'the two models': both, 'hybrid': hybrid_step(args, *streams, data)}
    if args.levers:
        alternatives['hybrid, CBAM, TokenLearner'] = hybrid_step(
            args, *streams, data, use_cbam=True, token_learner_tokens=8
        )
    timings = interleaved_timings(
        alternatives, rounds=args.rounds, clock=time.process_time if args.cpu_clock else time.perf_counter
    )
    where = torch.cuda.get_device_name() if args.device.startswith('cuda') else f'{torch.get_num_threads()} CPU threads'
    print(f'{args.cnn} + {args.vit}, {args.img_size} px, batch {args.batch_size}, {args.amp or "float32"}, {where}')
    print(timing_table(timings))


if __name__ == '__main__':
    main()
