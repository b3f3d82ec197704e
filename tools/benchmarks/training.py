"""A training step in the settings that change its cost alone: fused, channels last, checkpointing, compiled.

    python tools/benchmark.py training                                      # a small pair, for a CPU
    python tools/benchmark.py training --cnn efficientnet_b0 --vit '' --img-size 96 --no-compile
    python tools/benchmark.py training --cnn convnextv2_base --vit swinv2_base_window12_192 --img-size 192 \\
        --batch-size 64 --device cuda --amp bfloat16

Each alternative trains a copy of the same model on the same batch, in turn; all but the first are with a fused AdamW.
The first one is what torch does by itself. The update alone follows. Memory is the peak of what a step allocates.
Compiled steps are timed after their compilation; the seconds of each first step are printed. ``--cpu-time`` measures
CPU time, for a shared machine; a first step has that of the C++ compiler with it. torch keeps what it has compiled: for
all of it set TORCHINDUCTOR_CACHE_DIR to an empty folder.
"""

import argparse
import os
import time
from copy import deepcopy
from functools import partial

import torch
from mmpretrain.structures import DataSample

from hybridcls.apis.memory import peak_memory
from hybridcls.apis.timing import interleaved_timings, timing_table
from hybridcls.command_line import run_tool
from hybridcls.engine.optim import ComposedOptimWrapper
from hybridcls.models import HybridClassifier
from hybridcls.models.backbones.channels_last import cnn_streams, set_channels_last
from hybridcls.models.backbones.compiled_streams import compile_streams


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--cnn', default='convnextv2_atto', help="timm model of the CNN stream; '' for none")
    parser.add_argument('--vit', default='vit_tiny_patch16_224', help="the same of the transformer; '' for none")
    parser.add_argument('--img-size', type=int, default=96)
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--amp', choices=['bfloat16', 'float16'])
    parser.add_argument('--no-compile', action='store_true', help='leave the compiled alternatives out')
    parser.add_argument('--backend', default='inductor', help='of torch.compile')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--cpu-time', action='store_true')
    args = parser.parse_args()
    if args.cpu_time and (args.threads != 1 or args.device != 'cpu'):
        parser.error('--cpu-time adds up the threads and sees no GPU: it needs --threads 1 --device cpu.')
    return args


def build(args):
    """Return the model that all alternatives are copies of."""
    streams = {name: dict(model_name=model) for name, model in (('cnn', args.cnn), ('vit', args.vit)) if model}
    backbone = dict(type='HybridBackbone', img_size=args.img_size, pooled=True, **streams)
    head = dict(type='LinearHead', num_classes=100)
    return HybridClassifier(backbone=backbone, neck=dict(type='DHAFusion'), head=head).to(args.device).train()


def step_of(model, args, fused=True, channels_last=False, checkpointing=False, compiled=False):
    """Return the training step of a copy of a model."""
    model = deepcopy(model)
    if channels_last:
        set_channels_last(model, cnn_streams(model))
    if checkpointing:
        for name in model.backbone.stream_names:
            getattr(model.backbone, name).model.set_grad_checkpointing(True)
    if compiled:
        # One process compiles, whose time is counted.
        options = dict(options=dict(compile_threads=1)) if args.cpu_time and args.backend == 'inductor' else {}
        compile_streams(model, backend=args.backend, **options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.05, fused=fused or None)
    wrapper = ComposedOptimWrapper(optimizer, amp=args.amp)
    pixels = torch.randint(0, 256, (args.batch_size, 3, args.img_size, args.img_size), dtype=torch.uint8)
    samples = [DataSample().set_gt_label(number % 100) for number in range(args.batch_size)]
    batch = dict(inputs=pixels.to(args.device), data_samples=samples)
    return lambda: model.train_step(dict(batch), wrapper)


def updates_of(name, args):
    """Return the step of an optimizer alone, in each form, on copies of the model's parameters."""
    found = {}
    settings = dict(lr=1e-6, weight_decay=0.05, **(dict(momentum=0.9) if name == 'SGD' else {}))
    for form in (None, 'foreach', 'fused'):
        params = [torch.nn.Parameter(param.detach().clone()) for param in build(args).parameters()]
        for param in params:
            param.grad = torch.randn_like(param)
        form_of = {form: True} if form else {}
        found[f'{name}, {form or "torch alone"}'] = getattr(torch.optim, name)(params, **settings, **form_of).step
    return found


def with_children():
    """Return the CPU seconds of this process and of those that it waited for."""
    return sum(os.times()[:4])


def main():
    """Time and print."""
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    clock = time.process_time if args.cpu_time else time.perf_counter
    first_clock = with_children if args.cpu_time else clock
    make = partial(step_of, build(args), args)
    steps = {'torch alone': make(fused=False), 'fused': make(), 'fused, checkpointing': make(checkpointing=True)}
    if args.cnn:
        steps['fused, channels last'] = make(channels_last=True)
    if not args.no_compile:
        steps['fused, compiled'] = make(compiled=True)
        if args.cnn:
            steps['fused, channels last, compiled'] = make(channels_last=True, compiled=True)
    seconds = {}
    for name, step in steps.items():
        began = first_clock()
        step()
        seconds[name] = first_clock() - began
    memory = {name: peak_memory(step, args.device) / 2**20 for name, step in steps.items()}
    timings = interleaved_timings(steps, rounds=args.rounds, warmup=1, clock=clock)
    where = torch.cuda.get_device_name() if args.device.startswith('cuda') else f'{args.threads} CPU threads'
    print(
        f'{" + ".join(filter(None, (args.cnn, args.vit)))}, {args.img_size} px, batch {args.batch_size}, '
        f'{args.amp or "float32"}, {where}, torch {torch.__version__}, {"CPU" if args.cpu_time else "wall"} time'
    )
    print(timing_table(timings))
    print('MiB of a step: ' + ', '.join(f'{name} {found:,.0f}' for name, found in memory.items()))
    for name in ('AdamW', 'SGD'):
        print(timing_table(interleaved_timings(updates_of(name, args), rounds=3 * args.rounds, clock=clock), name))
    print('first step, s: ' + ', '.join(f'{name} {found:.1f}' for name, found in seconds.items()))


if __name__ == '__main__':
    run_tool(main)
