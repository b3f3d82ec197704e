"""Update stages: cost of SAM and its kin, Lookahead and gradient centralization; savings by fused steps and few groups.

    python tools/benchmark.py update [--device cuda] [--rounds 15]

Every alternative trains the same model on the same batch, five updates a round, in turn. Prints ratios with their
quartiles, the target where there is one, and the memory that stages keep.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any, Optional

import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hybridcls.apis.timing import Timing, interleaved_timings
from hybridcls.command_line import run_tool
from hybridcls.engine.optim import ComposedOptimWrapper, UpdateStage
from hybridcls.registry import MODELS

UPDATES = 5  # a round; the cycle of every=5 and k=5
STAGES = dict(
    sam=dict(sam=dict(type='SAM', rho=0.05)),
    asam=dict(sam=dict(type='SAM', rho=0.5, adaptive=True)),
    friendly=dict(sam=dict(type='FriendlySAM', rho=0.2)),
    msam=dict(msam=dict(type='MSAM', rho=3.0)),
    every=dict(sam=dict(type='SAM', rho=0.05, every=5, reuse=True)),
    lookahead_gc=dict(gc=dict(type='GradientCentralization'), lookahead=dict(type='Lookahead', k=5)),
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cnn', default='convnextv2_atto', help='timm model of the CNN stream')
    parser.add_argument('--vit', default='vit_tiny_patch16_224', help='timm model of the transformer stream')
    parser.add_argument('--img-size', type=int, default=64)
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--rounds', type=int, default=11)
    parser.add_argument(
        '--cpu-time',
        action='store_true',
        help='measure CPU time, for a shared machine',
    )
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    if args.cpu_time and (args.threads != 1 or args.device != 'cpu'):
        parser.error('--cpu-time adds up the threads and sees no GPU: it needs --threads 1 --device cpu.')
    return args


def build_model(args: argparse.Namespace) -> BaseModel:
    """Build the hybrid model that all alternatives share."""
    return MODELS.build(
        dict(
            type='HybridClassifier',
            backbone=dict(
                type='HybridBackbone',
                cnn=dict(model_name=args.cnn),
                vit=dict(model_name=args.vit),
                img_size=args.img_size,
            ),
            neck=dict(type='DHAFusion', fusion_dim=256),
            head=dict(type='LinearHead', num_classes=10),
        )
    ).to(args.device)


def make_batch(args: argparse.Namespace) -> dict:
    """Return a random batch in the format of a dataloader."""
    images = torch.randint(0, 256, (args.batch_size, 3, args.img_size, args.img_size), dtype=torch.uint8)
    return dict(inputs=list(images), data_samples=[DataSample().set_gt_label(i % 10) for i in range(args.batch_size)])


def adamw(model: nn.Module, **kwargs: Any) -> torch.optim.Optimizer:
    """Return AdamW with a tiny rate: the weights hardly change, and all alternatives do the same work."""
    return torch.optim.AdamW(model.parameters(), lr=1e-7, **kwargs)


def trainer(model: BaseModel, batch: dict, wrapper: OptimWrapper, updates: int = UPDATES) -> Callable[[], None]:
    """Return a function that runs UPDATES updates."""

    def train() -> None:
        for _ in range(updates):
            model.train_step(batch, wrapper)

    return train


def two_passes(model: BaseModel, batch: dict) -> Callable[[], None]:
    """Return a lower bound of SAM: two forward and backward passes and a step, without copies and norms."""
    optimizer = adamw(model, fused=True)

    def train() -> None:
        for _ in range(UPDATES):
            data = model.data_preprocessor(batch, True)
            for _ in range(2):
                optimizer.zero_grad()
                model.parse_losses(model(**data, mode='loss'))[0].backward()
            optimizer.step()
            optimizer.zero_grad()

    return train


class ManyParameters(BaseModel):
    """A model with many small parameters: its cost is that of the bookkeeping."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.rest = nn.ParameterList([nn.Parameter(torch.ones(1)) for _ in range(count)])

    def forward(self, inputs: Tensor, data_samples: Optional[list] = None, mode: str = 'loss') -> dict[str, Tensor]:
        """Return a loss of one parameter."""
        return dict(loss=(self.rest[0] * inputs).sum())


def kept_tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of an object, in dicts and lists too."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from kept_tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from kept_tensors(part)
    elif isinstance(value, UpdateStage):
        yield from kept_tensors(vars(value))


def megabytes(tensors: Iterator[Tensor]) -> float:
    """Return the size of all storages, each counted once."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values()) / 1e6


def line(what: str, timing: Timing, target: Optional[float] = None) -> str:
    """Format one line of a table."""
    aim = '' if target is None else f'  <= {target:.2f}  {"met" if timing.ratio <= target else "missed"}'
    return (
        f'  {what:<46} {timing.seconds * 1e3:>9.2f} ms  {timing.ratio:>6.3f}  '
        f'({timing.spread[0]:.3f} to {timing.spread[1]:.3f}){aim}'
    )


def compare_stages(model: BaseModel, batch: dict, timing: dict) -> None:
    """Time the stages, and measure the memory of their state."""
    composed = {name: ComposedOptimWrapper(adamw(model, fused=True), stages=stages) for name, stages in STAGES.items()}
    plain = trainer(model, batch, OptimWrapper(adamw(model, fused=True)))
    train = {name: trainer(model, batch, wrapper) for name, wrapper in composed.items()}
    off = trainer(model, batch, ComposedOptimWrapper(adamw(model, fused=True)))
    print(f"{UPDATES} updates, against {UPDATES} plain ones (mmengine's OptimWrapper):")
    timings = interleaved_timings(
        dict(plain=plain, off=off, **{name: train[name] for name in ('lookahead_gc', 'msam', 'every', 'friendly')}),
        **timing,
    )
    print(line('plain', timings['plain']))
    print(line('stages off', timings['off'], 1.01))
    print(line('Lookahead k=5 + GradientCentralization', timings['lookahead_gc'], 1.02))
    print(line('MSAM', timings['msam'], 1.03))
    print(line('SAM every=5, reuse', timings['every'], 1.27))
    print(line('FriendlySAM', timings['friendly']))
    print(f'{UPDATES} updates, against two bare forward and backward passes and a step each:')
    timings = interleaved_timings(dict(two=two_passes(model, batch), sam=train['sam'], asam=train['asam']), **timing)
    print(line('two passes', timings['two']))
    print(line('SAM', timings['sam'], 1.03))
    print(line('ASAM', timings['asam']))
    weights = megabytes(model.parameters())
    print(f'Memory kept between updates, in copies of the weights ({weights:.1f} MB):')
    for name, wrapper in composed.items():
        for stage in wrapper.stages.values():
            kept = megabytes(kept_tensors(stage))
            print(f'  {f"{name}: {type(stage).__name__}":<46} {kept:>9.1f} MB  {kept / weights:>6.3f}')


def compare_bookkeeping(tensors: int, device: str, timing: dict) -> None:
    """Time the overhead of a wrapper."""
    model = ManyParameters(tensors).to(device)
    batch = dict(inputs=torch.ones(1))
    updates = 100
    kinds = {'OptimWrapper': OptimWrapper, 'ComposedOptimWrapper': ComposedOptimWrapper}
    timings = interleaved_timings(
        {
            name: trainer(model, batch, kind(torch.optim.SGD(model.parameters(), lr=0.0)), updates)
            for name, kind in kinds.items()
        },
        **timing,
    )
    each = {name: found.seconds / updates * 1e3 for name, found in timings.items()}
    extra = each['ComposedOptimWrapper'] - each['OptimWrapper']
    print(
        f'Bookkeeping of an update with {tensors} parameters: {each["OptimWrapper"]:.3f} ms in OptimWrapper, '
        f'{extra:+.3f} ms in ComposedOptimWrapper  <= 0.10  {"met" if extra <= 0.1 else "missed"}'
    )


def compare_optimizers(model: BaseModel, timing: dict) -> None:
    """Time the step of AdamW alone: its implementations, and many groups against few."""
    base = dict(type='AdamW', lr=1e-7, weight_decay=0.05)

    def grouped(constructor: str, **optimizer: Any) -> torch.optim.Optimizer:
        return build_optim_wrapper(
            model,
            dict(
                type='OptimWrapper',
                optimizer=dict(base, **optimizer),
                constructor=constructor,
                paramwise_cfg=dict(layer_decay_rate=0.75),
            ),
        ).optimizer

    ours, theirs = 'HybridOptimWrapperConstructor', 'LearningRateDecayOptimWrapperConstructor'
    optimizers = {
        "torch's default": adamw(model),
        'foreach=True': adamw(model, foreach=True),
        'fused=True': adamw(model, fused=True),
        'fused=True, our groups': grouped(ours, fused=True),
        'fused=True, one group a tensor': grouped(theirs, fused=True),
    }
    for param in model.parameters():
        param.grad = torch.randn_like(param)
    timings = interleaved_timings({name: optimizer.step for name, optimizer in optimizers.items()}, **timing)
    model.zero_grad()
    few, many = (len(optimizers[f'fused=True, {name}'].param_groups) for name in ('our groups', 'one group a tensor'))
    print(f"The step of AdamW alone, layer-wise rates in {few} groups of ours, {many} of mmpretrain's constructor:")
    for name, found in timings.items():
        print(line(name, found))


def main() -> None:
    """Print all tables."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    MMLogger.get_instance('benchmark', log_level='WARNING')  # without the tables of groups
    DefaultScope.get_instance('benchmark', scope_name='hybridcls')
    model, batch = build_model(args), make_batch(args)
    tensors, parameters = len(list(model.parameters())), sum(param.numel() for param in model.parameters())
    print(
        f'{args.cnn} + {args.vit}, {parameters / 1e6:.1f} M parameters in {tensors} tensors, batch {args.batch_size} '
        f'at {args.img_size} px, {args.device}, {args.threads} threads, torch {torch.__version__}, '
        f'{"CPU" if args.cpu_time else "wall"} time'
    )
    timing = dict(rounds=args.rounds, clock=time.process_time if args.cpu_time else time.perf_counter)
    compare_stages(model, batch, timing)
    compare_bookkeeping(tensors, args.device, dict(timing, rounds=3 * args.rounds))
    compare_optimizers(model, dict(timing, rounds=3 * args.rounds))


if __name__ == '__main__':
    run_tool(main)
