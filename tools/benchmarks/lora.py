"""LoRA against full fine-tuning: time of a step, memory beyond the weights, trainable parameters.

    python tools/benchmark.py lora
    python tools/benchmark.py lora --cnn convnextv2_base --vit swinv2_base_window12_192 --img-size 192 --batch 32

Timings are interleaved. Memory excludes the weights: on a GPU the peak of torch's allocator during a step, on a CPU
the bytes that autograd saves for the backward pass, gradients and optimizer states.
"""

import argparse

import torch
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from torch import nn

from hybridcls.apis import interleaved_timings, timing_table
from hybridcls.engine.optim import ComposedOptimWrapper
from hybridcls.registry import MODELS


def build(args: argparse.Namespace, rank: int) -> nn.Module:
    """Return the hybrid with LoRA of a rank, or without at 0."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('hybridcls'):
        model = MODELS.build(
            dict(
                type='HybridClassifier',
                backbone=dict(
                    type='HybridBackbone',
                    cnn=dict(model_name=args.cnn),
                    vit=dict(model_name=args.vit),
                    img_size=args.img_size,
                    lora_rank=rank,
                ),
                neck=dict(type='DHAFusion', fusion_dim=256),
                head=dict(type='LinearHead', num_classes=100),
            )
        )
    return model.to(args.device).train()


def kept_bytes(model: nn.Module, wrapper: ComposedOptimWrapper, data: dict) -> int:
    """Return the bytes that a step allocates beyond the weights."""
    if next(model.parameters()).is_cuda:
        torch.cuda.synchronize()
        before = sum(p.numel() * p.element_size() for p in model.parameters())
        torch.cuda.reset_peak_memory_stats()
        model.train_step(data, wrapper)
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(data['inputs'].float() / 255, data['data_samples'], mode='loss')['loss']
    saved = sum(seen.values())
    del loss
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return saved + 3 * trained  # the gradient, and AdamW's two moments


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cnn', default='convnextv2_atto')
    parser.add_argument('--vit', default='vit_tiny_patch16_224')
    parser.add_argument('--img-size', type=int, default=96)
    parser.add_argument('--batch', type=int, default=16)
    parser.add_argument('--rank', type=int, default=8)
    parser.add_argument('--rounds', type=int, default=11)
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    args = parser.parse_args()
    inputs = torch.randint(0, 256, (args.batch, 3, args.img_size, args.img_size), dtype=torch.uint8)
    data = dict(
        inputs=inputs.to(args.device),
        data_samples=[DataSample().set_gt_label(i % 100).to(args.device) for i in range(args.batch)],
    )
    steps, lines = {}, []
    for name, rank in (('everything', 0), (f'LoRA, r = {args.rank}', args.rank)):
        model = build(args, rank)
        params = [p for p in model.parameters() if p.requires_grad]
        wrapper = ComposedOptimWrapper(torch.optim.AdamW(params, lr=1e-4, fused=True))
        steps[name] = lambda model=model, wrapper=wrapper: model.train_step(data, wrapper)
        trained, total = sum(p.numel() for p in params), sum(p.numel() for p in model.parameters())
        lines.append(
            f'{name}: trainable params: {trained:,} || all params: {total:,} || '
            f'trainable%: {100 * trained / total:.2f}, '
            f'{kept_bytes(model, wrapper, data) / 2**20:.0f} MiB beyond the weights'
        )
    print(timing_table(interleaved_timings(steps, rounds=args.rounds), 'step'))
    print('\n'.join(lines))


if __name__ == '__main__':
    main()
