"""Inference of the reference pair by settings of `hybridcls predict`, against eager, interleaved, in processor time.

python tools/benchmark.py fast_inference [--batch-size 16] [--settings compiled+bf16] [--threads 1] [--rounds 7]

Weights are random; images are noise. The first call, which compiles, is timed apart.
"""

import argparse
import time

import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample

from hybridcls.apis.inference_settings import InferenceSettings
from hybridcls.apis.prepared_network import PreparedNetwork
from hybridcls.apis.timing import interleaved_seconds, timing_of, timing_table
from hybridcls.compat.torch_compiler import compiler_counts
from hybridcls.registry import MODELS


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--cnn', default='convnextv2_base')
    parser.add_argument('--vit', default='swinv2_base_window12_192')
    parser.add_argument('--img-size', type=int, default=192)
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--settings', default='compiled+bf16')
    parser.add_argument('--threads', type=int, default=1, help='of PyTorch')
    parser.add_argument('--rounds', type=int, default=7)
    return parser.parse_args()


def build(args):
    """Build the pair with random weights."""
    streams = dict(cnn=dict(model_name=args.cnn), vit=dict(model_name=args.vit), img_size=args.img_size)
    with DefaultScope.overwrite_default_scope('hybridcls'):
        return MODELS.build(
            dict(
                type='HybridClassifier',
                backbone=dict(type='HybridBackbone', **streams),
                neck=dict(type='DHAFusion', fusion_dim=1024),
                head=dict(type='LinearHead', num_classes=10),
            )
        ).eval()


def main():
    """Measure."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    model, wanted = build(args), InferenceSettings.of_name(args.settings)
    shape = (args.batch_size, 3, args.img_size, args.img_size)
    images = list(torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))
    eager, fast = PreparedNetwork(model, pseudo_collate), PreparedNetwork(model, pseudo_collate)

    def scores(network):
        packed = [dict(inputs=image, data_samples=DataSample()) for image in images]
        return torch.stack([sample.pred_score for sample in network.predict(packed)])

    def seconds_of(network):
        began = time.process_time()
        if network is eager:
            with torch.compiler.set_stance('force_eager'):
                scores(network)
        else:
            scores(network)
        return time.process_time() - began

    expected = scores(eager)
    began = time.perf_counter()
    fast.use(wanted, args.batch_size)
    change = float((scores(fast) - expected).abs().max())
    print(f'first call {time.perf_counter() - began:.0f} s, largest change of a probability {change:.1e}')
    print(compiler_counts())
    seconds = interleaved_seconds(
        {'eager': lambda: seconds_of(eager), wanted.name: lambda: seconds_of(fast)}, args.rounds, 1
    )
    timings = {name: timing_of(own, seconds['eager']) for name, own in seconds.items()}
    print(timing_table(timings, f'{args.cnn} + {args.vit}, {args.img_size} px, batch {args.batch_size}'))


if __name__ == '__main__':
    main()
