"""A GPU in ten minutes: peaks, margin heads, the pair, SupCon, token merging, search; then what only a GPU can test.

    python tools/benchmark.py gpu --out docs/performance.md     # the table goes between the marks of the page
    python tools/benchmark.py gpu --only head,kernels --classes 100000
    python tools/benchmark.py gpu --only tests,fidelity,fast,doctor         # the checks alone
    python tools/benchmark.py gpu --device cpu --tiny           # sees that all of it runs; its numbers say nothing

The sections run in the order of their worth, each in a process with a time limit: what fails or takes too long is a row
that says so, and costs no other section. Each row is on stderr and in ``--out`` as soon as it is measured: a killed run
has lost one row at most. Peers are measured where they are installed:

    pip install liger-kernel cut-cross-entropy

The heads compute loss and both gradients, from embeddings with cosines of about 0.7 to their class. The peers have no
margin, and take L2-normalized bfloat16 inputs whose normalization is in their time. MiB are beyond the parameters and
their gradients. Images per second are those of both streams of the pair, TFLOP/s its operations (a training step has
three times those of an inference): divide by the card's products in bfloat16 for the share of its peak. A ratio of
times is that of the pair over its two timm models one after the other, in the same rounds: below 1 the pair is faster.
`s` are seconds of a test or a command. Partial FC draws a tenth of the classes; of 29 million classes all rows need
178 GB.

The checks are ``pytest -m gpu``, `hybridcls fidelity`, `predict --fast` (made to compile, however few the images are)
and the largest batch that `hybridcls doctor` finds, of a training of noise.
"""

import argparse
import json
import os
import re
import runpy
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve()
BEGIN, END = '<!-- gpu benchmark: begin -->', '<!-- gpu benchmark: end -->'
SCALE = 64.0
PRECISIONS = ('float32', 'tf32', 'bfloat16')
MANY_CLASSES = 29_000_000

# Seconds for each section, its imports included, in the order of what they tell; the last ones have what others leave.
LIMITS = dict(
    card=40, kernels=140, inference=105, training=125, supcon=55, merging=40, search=25,
    tests=150, fidelity=60, fast=60, doctor=60, head=80, updates=30,
)  # fmt: skip
USUAL_LIMIT = 600


def arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--only', default=','.join(LIMITS), help=f'sections, with commas between them, of {", ".join(LIMITS)}'
    )
    parser.add_argument('--out', metavar='FILE', help='write the tables into this page, between its marks')
    parser.add_argument('--classes', type=int, nargs='+', default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument('--batch', type=int, default=512, help='embeddings of the head')
    parser.add_argument('--dim', type=int, default=512, help='their width')
    parser.add_argument('--embeddings', type=int, nargs='+', default=[8192, 16384, 32768, 65536], help='of SupCon')
    parser.add_argument('--cnn', default='convnextv2_base')
    parser.add_argument('--vit', default='swinv2_base_window12_192')
    parser.add_argument('--img-size', type=int, default=192)
    parser.add_argument('--images', type=int, default=256, help='batch of inference; training takes a quarter')
    parser.add_argument('--merged', default='vit_base_patch16_224', help='model of token merging')
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--tiny', action='store_true', help='sizes for a CPU: sees that everything runs')
    parser.add_argument('--time-limit', type=float, default=USUAL_LIMIT, help='seconds for all sections')
    parser.add_argument('--section', choices=list(LIMITS), help=argparse.SUPPRESS)
    parser.add_argument('--rows', help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.only = args.only.split(',')
    if not set(args.only) <= set(LIMITS):
        parser.error(f'expected --only to name sections of {", ".join(LIMITS)}, got {", ".join(args.only)}.')
    if args.device != 'cpu' and not has_gpu():
        parser.error('expected a CUDA device, found none. Type --device cpu --tiny to see that everything runs.')
    if args.tiny:
        args.classes, args.batch, args.dim, args.embeddings = [300], 8, 16, [400]
        args.cnn, args.vit, args.img_size, args.images = 'test_convnext2', 'test_vit', 64, 4
        args.merged = 'vit_tiny_patch16_224'
    return args


def has_gpu():
    """Whether PyTorch finds a GPU."""
    import torch

    return torch.cuda.is_available()


def main():
    """Run the sections one after the other, or one of them in this process."""
    args = arguments()
    if args.section:
        run_section(args)
        return
    if args.out:
        try:
            page_with(args.out, '')
        except ValueError as error:  # now, not when all is measured
            sys.exit(f'{error}')
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a section ends with it
    began, found = time.monotonic(), {}

    def note(name, rows):
        found[name] = rows
        if args.out:
            page = page_with(args.out, '\n\n'.join(table(*one) for one in found.items()))
            Path(f'{args.out}.part').write_text(page, encoding='utf8')
            os.replace(f'{args.out}.part', args.out)

    for name in args.only:
        most = LIMITS[name] * max(1, args.time_limit / USUAL_LIMIT)  # whoever gives more, gives more to each
        left = min(most, args.time_limit - (time.monotonic() - began))
        rows = rows_of(name, left, partial(note, name)) if left > 5 else [dict(what=name, error='no time left')]
        note(name, rows)
        print(f'\n{table(name, rows)}', flush=True)


def rows_of(name, limit, note):
    """Run a section in a process of its own; return its rows, and a row about how it ended if it did not end well.

    ``note`` is called with the rows so far whenever there are more.
    """
    with tempfile.TemporaryDirectory() as folder:
        rows, errors = Path(folder) / 'rows.jsonl', Path(folder) / 'stderr'
        rows.touch()
        command = [sys.executable, '-W', 'ignore', str(HERE), '--section', name, '--rows', str(rows), *sys.argv[1:]]
        with open(errors, 'w', encoding='utf8') as stderr:
            # A session: what a section starts (compilers, workers, tests) ends with it.
            section = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True)
        end, found = time.monotonic() + limit, []
        try:
            while is_running := section.poll() is None:
                if time.monotonic() > end:
                    break
                time.sleep(0.1)
                found = told(rows, found, note)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(section.pid, signal.SIGKILL)
            section.wait()
        found = told(rows, found, note)
        if is_running:
            return [*found, dict(what=f'({name})', error=f'stopped after {limit:.0f} s')]
        if section.returncode:
            said = errors.read_text(encoding='utf8', errors='replace').strip() or f'ended with {section.returncode}'
            print(said, file=sys.stderr, flush=True)
            found.append(dict(what=f'({name})', error=said.splitlines()[-1]))
        return found


def told(path, before, note):
    """Return the rows that a section has written so far; print those that are new."""
    text = path.read_text(encoding='utf8')
    rows = [json.loads(line) for line in text[: text.rfind('\n') + 1].splitlines()]
    for row in rows[len(before) :]:
        print(json.dumps(row), file=sys.stderr, flush=True)
    if len(rows) > len(before):
        note(rows)
    return rows


def run_section(args):
    """Append each row of a section to ``--rows`` as soon as it is measured."""
    with open(args.rows, 'a', encoding='utf8') as file:
        for row in SECTIONS[args.section](args):
            print(json.dumps(row), file=file, flush=True)


def table(name, rows):
    """Format the rows of a section as Markdown."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ['---'] * len(columns)] + [[shown(row.get(key, '')) for key in columns] for row in rows]
    return '\n'.join([f'### {TITLES[name]}', '', *(f'| {" | ".join(line)} |' for line in lines)])


def shown(value):
    """Format a number by three digits."""
    if value is None:
        return ''
    if not isinstance(value, float):
        return f'{value:,}' if isinstance(value, int) else str(value).replace('|', '/')
    return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'


def page_with(path, tables):
    """Return the page with the tables between its marks; a page that is not there yet has nothing else."""
    if not os.path.exists(path):
        return f'{BEGIN}\n{tables}\n{END}\n'
    page = Path(path).read_text(encoding='utf8')
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f'gpu: expected --out to be a new file or a page with {BEGIN} and {END}, got {path!r}.')
    return f'{page[: page.index(BEGIN)]}{BEGIN}\n{tables}\n{page[page.index(END) :]}'


# What sections are made of


def attempt(what, measure):
    """Return a row of what ``measure`` found, or of the error that it raised."""
    try:
        return dict(what=what, **measure())
    except Exception as error:
        free_memory()
        return dict(what=what, error=f'{type(error).__name__}: {error}'.split('\n')[0][:150])


def free_memory():
    """Give what is not used back to the device."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def seconds_of(function, args, most=0.6):
    """Return the median time of a call: two to warm up, then at least three, at most 30, for about ``most`` seconds."""
    import torch

    def timed():
        began = time.perf_counter()
        function()
        if args.device != 'cpu':
            torch.cuda.synchronize()
        return time.perf_counter() - began

    timed(), timed()
    times = [timed() for _ in range(1 if args.tiny else 3)]
    while sum(times) < most and len(times) < 30 and not args.tiny:
        times.append(timed())
    return statistics.median(times)


def siblings(name):
    """Return what another benchmark defines."""
    return argparse.Namespace(**runpy.run_path(str(HERE.with_name(f'{name}.py'))))


def autocast(args):
    """Return autocast to bfloat16."""
    import torch

    return torch.autocast(args.device.split(':')[0], torch.bfloat16)


def card(args):
    """The card, its software, and its peaks."""
    import torch

    on_gpu = args.device != 'cpu'
    name = torch.cuda.get_device_name(args.device) if on_gpu else 'CPU'
    yield dict(what='card', value=name)
    for package in ('torch', 'triton', 'timm', 'liger_kernel', 'cut_cross_entropy'):
        yield dict(what=package, value=version_of(package))
    compiler = shutil.which(os.environ.get('CC', 'gcc')) or shutil.which('cc') or shutil.which('clang')
    yield dict(what='C compiler', value='yes' if compiler else 'none: no Triton kernels, no torch.compile')
    if on_gpu:
        properties = torch.cuda.get_device_properties(args.device)
        yield dict(what='memory', value=properties.total_memory / 2**30, unit='GiB')
    side = 64 if args.tiny else 8192
    for precision in PRECISIONS:

        def peak(precision=precision):
            dtype = torch.bfloat16 if precision == 'bfloat16' else torch.float32
            left, right = (torch.randn(side, side, device=args.device, dtype=dtype) for _ in range(2))
            torch.backends.cuda.matmul.allow_tf32 = precision == 'tf32'
            return dict(value=2 * side**3 / seconds_of(lambda: left @ right, args) / 1e12, unit='TFLOP/s')

        yield attempt(f'{side} x {side} x {side}, {precision}', peak)

    def copy():
        source = torch.randn((2**28 if on_gpu else 2**16), device=args.device)
        target = torch.empty_like(source)
        seconds = seconds_of(lambda: target.copy_(source), args)
        return dict(value=2 * source.numel() * 4 / seconds / 1e9, unit='GB/s')

    yield attempt('copy, read and written', copy)


def version_of(package):
    """Return the version of a package that may not be there."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return 'not installed'


# The margin head


def trained_like(num_classes, args):
    """Return embeddings, class weights and labels as late in a training: cosines of about 0.7, norms around 20."""
    import torch

    torch.manual_seed(0)
    labels = torch.randint(num_classes, (args.batch,), device=args.device)
    class_weights = torch.randn(num_classes, args.dim, device=args.device).mul_(args.dim**-0.5)
    embeddings = class_weights[labels] + torch.randn(args.batch, args.dim, device=args.device) * args.dim**-0.5
    embeddings = 20 * embeddings * (0.5 + torch.rand(args.batch, 1, device=args.device))
    return embeddings.requires_grad_(), class_weights.requires_grad_(), labels


def step_of(loss_of, problem):
    """Return a function that computes the loss and both gradients."""
    embeddings, class_weights, labels = problem

    def step():
        embeddings.grad = class_weights.grad = None
        loss = loss_of(embeddings, class_weights, labels)
        loss.backward()
        return loss.detach()

    return step


def ours(precision, **keys):
    """ArcFace as MarginHead computes it."""
    from hybridcls.functional import angular_margin_on_target, margin_cross_entropy

    def margin(cosine, norms):
        return angular_margin_on_target(cosine, 0.5)

    def loss_of(embeddings, class_weights, labels):
        return margin_cross_entropy(embeddings, class_weights, labels, margin, SCALE, precision=precision, **keys)[0]

    return loss_of


@contextmanager
def form(logits_by_triton=None, weights_by_triton=None):
    """Switch Triton's kernels off (None), or on and choose who multiplies in them."""
    from unittest import mock

    from hybridcls.functional.margins import kernel_softmax

    chosen = kernel_softmax._Form(logits_by_triton, weights_by_triton)
    works = dict(return_value=logits_by_triton is not None)
    with (
        mock.patch('hybridcls.functional.margins.streamed_softmax.kernels_work', **works),
        mock.patch('hybridcls.functional.contrastive.kernel_logsumexp.kernels_work', **works),
        mock.patch.dict(kernel_softmax._FORMS, dict.fromkeys(PRECISIONS, chosen)),
    ):
        yield


def head_row(args, loss_of, num_classes, problem):
    """Measure time and memory of a head."""
    import torch

    from hybridcls.apis.memory import peak_memory

    step = step_of(loss_of, problem)
    if not torch.isfinite(step()):
        raise ArithmeticError('the loss is not finite')
    problem[0].grad = problem[1].grad = None
    gradients = sum(tensor.numel() * tensor.element_size() for tensor in problem[:2])
    memory = peak_memory(step, args.device) - gradients
    seconds = seconds_of(step, args)
    flop = 8 * args.batch * num_classes * args.dim
    return dict(classes=num_classes, ms=1e3 * seconds, MiB=memory / 2**20, **{'TFLOP/s': flop / seconds / 1e12})


def errors_of(args, cases):
    """Compare the gradients on trained class weights with those in float64: the norm of the error over the norm."""
    precisions = siblings('head_precision')
    num_classes = min(4000, *args.classes)
    identities = precisions.Identities(num_classes, args.batch, args.dim, args.device)
    with form():
        class_weights = precisions.trained(identities, 3 if args.tiny else 400)
        embeddings, labels = identities.draw(1.0)
        problem = embeddings, class_weights, labels
        exact = precisions.gradients(problem, 'float32', class_weights.double().dtype)
    for what, switched, precision in cases:

        def compare(switched=switched, precision=precision):
            with switched():
                found = precisions.errors(problem, precision, exact)
            return dict(classes=num_classes, **{f'error, {name}': value for name, value in found.items()})

        yield attempt(f'{what}, against float64', compare)


def head(args):
    """Streamed heads without Triton's kernels, and peers."""
    for num_classes in args.classes:
        yield from streamed_heads(args, num_classes, trained_like(num_classes, args))
        free_memory()
    yield from errors_of(args, [(f'streamed, {precision}', form, precision) for precision in PRECISIONS])


def streamed_heads(args, num_classes, problem):
    """Rows for one number of classes."""
    import torch

    for precision in PRECISIONS:
        with form():
            loss_of = ours(precision, softmax='streamed')
            yield attempt(f'streamed, {precision}', partial(head_row, args, loss_of, num_classes, problem))
    if num_classes <= 1_000_000:
        margins = siblings('margins')
        for name in margins.PEERS:
            what = f'{name}, bfloat16, no margin'
            if why := margins.missing(name, torch.device(args.device)):
                yield dict(what=what, error=f'left out: {why}')
            else:
                loss_of = margins.peer(name, torch.bfloat16)
                yield attempt(what, partial(head_row, args, loss_of, num_classes, problem))


# Other tiles for bfloat16, to see whether those of the kernels are the best: the table they stand in, and the entry.
OTHER_TILES = {
    'logits 128 x 128': ('_TILES_OF_LOGITS', (128, 128, 64, 8, 3)),
    'logits 128 x 64, 8 warps': ('_TILES_OF_LOGITS', (128, 64, 64, 8, 4)),
    'logits 64 x 128, 4 warps': ('_TILES_OF_LOGITS', (64, 128, 64, 4, 3)),
    'logits 256 x 64': ('_TILES_OF_LOGITS', (256, 64, 64, 8, 3)),
    'logits 128 x 128, 4 stages': ('_TILES_OF_LOGITS', (128, 128, 64, 8, 4)),
    'logits 128 x 256': ('_TILES_OF_LOGITS', (128, 256, 64, 8, 3)),
    'weights 128 x 256': ('_TILES_OF_WEIGHTS', (128, 256, 64, 8, 3)),
    'weights 64 x 256': ('_TILES_OF_WEIGHTS', (64, 256, 64, 8, 3)),
    'weights 128 x 128, 4 warps': ('_TILES_OF_WEIGHTS', (128, 128, 64, 4, 3)),
}

# `softmax_memory`, 128 MiB where it is not set: small blocks stay in the cache of the card from one kernel to the next,
# large ones have fewer launches.
BLOCKS = (None, 2**25, 2**26, 2**28)

# Who multiplies: the logits, the gradient of class weights.
KERNEL_FORMS = {
    'all products in kernels': ((True, True), ('bfloat16',)),
    'logits in kernels': ((True, False), ('bfloat16',)),
    'products by cuBLAS': ((False, False), PRECISIONS),
}


def kernels_run(args):
    """Whether Triton's kernels run on the device, or are interpreted."""
    import torch

    from hybridcls.functional.margins.kernel_softmax import kernels_work

    return bool(os.environ.get('TRITON_INTERPRET')) or kernels_work(torch.device(args.device))


def kernels(args):
    """Heads with Triton's kernels, by who multiplies."""
    if not kernels_run(args):
        yield dict(what='kernels', error='they do not run here')
        return
    cases = [
        (f'Triton, {what}, {precision}', partial(form, *who), precision)
        for what, (who, precisions) in KERNEL_FORMS.items()
        for precision in precisions
    ]
    yield from errors_of(args, cases)
    for num_classes in args.classes:
        yield from kernel_heads(args, num_classes, trained_like(num_classes, args))
        free_memory()


def kernel_heads(args, num_classes, problem):
    """Rows for one number of classes."""
    for what, (who, precisions) in KERNEL_FORMS.items():
        for precision in precisions:
            for memory in BLOCKS if num_classes == 1_000_000 and precision == 'bfloat16' else (None,):
                with form(*who):
                    loss_of = ours(precision, softmax='streamed', memory=memory)
                    yield attempt(
                        f'Triton, {what}, {precision}'
                        + ('' if memory is None else f', blocks of {memory // 2**20} MiB'),
                        partial(head_row, args, loss_of, num_classes, problem),
                    )
    if num_classes == 1_000_000:
        for what, (name, entry) in OTHER_TILES.items():
            with form(True, True), tiles(name, entry):
                loss_of = ours('bfloat16', softmax='streamed')
                yield attempt(
                    f'Triton, all products in kernels, bfloat16, {what}',
                    partial(head_row, args, loss_of, num_classes, problem),
                )


@contextmanager
def tiles(name, entry):
    """Compute with other tiles for a while."""
    from unittest import mock

    import torch

    from hybridcls.functional.margins import kernel_softmax

    tile = dict(zip(('ROWS', 'COLUMNS', 'DEPTH', 'num_warps', 'num_stages'), entry, strict=True))
    with mock.patch.dict(getattr(kernel_softmax, name), {torch.bfloat16: tile}):
        yield


# SupCon, token merging, the reference pair


def supcon(args):
    """The streamed loss, the same by Triton's kernels, and a dense one."""
    import torch

    from hybridcls.apis.memory import peak_memory
    from hybridcls.functional.contrastive import supervised_contrast

    def loss_by(precision, kernels):
        return partial(supervised_contrast, temperature=0.1, precision=precision, kernels=kernels)

    forms = {f'streamed, {precision}': (form, loss_by(precision, False)) for precision in PRECISIONS}
    if kernels_run(args):
        forms |= {
            f'Triton, {what}, {precision}': (partial(form, *who), loss_by(precision, True))
            for what, (who, precisions) in KERNEL_FORMS.items()
            for precision in precisions
        }
    else:
        yield dict(what='Triton', error='it does not run here')
    forms['all similarities, lean'] = nullcontext, siblings('supcon').lean_dense
    for num in args.embeddings:
        torch.manual_seed(0)
        embeddings = torch.randn(num // 2, 2, 128, device=args.device, requires_grad=True)
        labels = torch.randint(max(2, num // 64), (num // 2,), device=args.device)
        for what, (switched, loss_of) in forms.items():
            if num > 32_768 and what.startswith('all similarities'):
                continue

            def measure(loss_of=loss_of, embeddings=embeddings, labels=labels, num=num):
                def step():
                    return torch.autograd.grad(loss_of(embeddings, labels), embeddings)[0]

                memory = peak_memory(step, args.device)
                return dict(embeddings=num, ms=1e3 * seconds_of(step, args), MiB=memory / 2**20)

            with switched():
                yield attempt(what, measure)
            free_memory()


def merging(args):
    """A sweep of r."""
    import timm
    import torch

    token_merging = siblings('token_merging')
    torch.manual_seed(0)
    model = timm.create_model(args.merged, num_classes=0).eval().to(args.device)
    images = torch.randn(args.images, 3, *model.patch_embed.img_size, device=args.device)
    whole = token_merging.multiplications(model, images[:1], 0)
    base = None
    for r in (0, 8, 13, 16):

        def measure(r=r):
            nonlocal base
            handle = token_merging.add_token_merging(model, dict(r=r))
            try:
                with torch.no_grad(), autocast(args):
                    seconds = seconds_of(lambda: model(images), args)
            finally:
                handle.undo()
            base = base or seconds
            promise = whole / token_merging.multiplications(model, images[:1], r)
            return dict(
                r=r,
                **{'images/s': len(images) / seconds, 'times as fast': base / seconds, 'FLOPs ratio': promise},
            )

        yield attempt(f'{args.merged}, bfloat16', measure)


def search(args):
    """Exact neighbours of many queries and of one, beside the float32 product that they need."""
    import torch

    from hybridcls.functional import nearest_neighbours

    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    product, rows = siblings('search').product, 2000 if args.tiny else 1_000_000
    bank = torch.nn.functional.normalize(torch.randn(rows, args.dim, device=args.device))
    for num in (1,) if args.tiny else (4096, 1):
        queries = torch.nn.functional.normalize(torch.randn(num, args.dim, device=args.device))

        def measure(num=num, queries=queries):
            found = seconds_of(lambda: nearest_neighbours(queries, bank, 20), args)
            bare = seconds_of(product(bank, queries), args)
            return {'queries': num, 'ms': 1e3 * found, 'ms, product alone': 1e3 * bare, 'ratio': found / bare}

        yield attempt(f'20 neighbours among {rows:,} x {args.dim}', measure)


def updates(args):
    """The update alone, and that of classes of which a tenth is drawn."""
    import torch

    margins = siblings('margins')
    shape = (4, 4) if args.tiny else (1024, 2048)
    for form in ('foreach', 'fused'):

        def measure(form=form):
            params = [torch.nn.Parameter(torch.randn(shape, device=args.device)) for _ in range(64)]
            for param in params:
                param.grad = torch.randn_like(param)
            optimizer = torch.optim.AdamW(params, lr=1e-6, **{form: True})
            return dict(parameters=sum(param.numel() for param in params), ms=1e3 * seconds_of(optimizer.step, args))

        yield attempt(f'AdamW, {form}', measure)
        free_memory()
    memory = 0 if args.device == 'cpu' else torch.cuda.get_device_properties(args.device).total_memory
    fits = memory > 2.2 * 4 * MANY_CLASSES * args.dim  # class weights and momentum
    for num_classes in [*args.classes, MANY_CLASSES] if fits else args.classes:
        for drawn_only in (True,) if num_classes == MANY_CLASSES else (False, True):

            def drawn(drawn_only=drawn_only, num_classes=num_classes):
                embeddings, class_weights, labels = trained_like(num_classes, args)
                step = margins.sampled_update('SGD', drawn_only, embeddings.detach(), class_weights, labels)
                del class_weights  # the step has a copy
                return dict(parameters=num_classes * args.dim, ms=1e3 * seconds_of(step, args))

            rows = 'drawn rows' if drawn_only else 'all rows'
            yield attempt(f'Partial FC of {num_classes:,} classes, loss and SGD of {rows}', drawn)
            free_memory()
    if not fits:
        needed = 2.2 * 4 * MANY_CLASSES * args.dim / 2**30
        yield dict(what=f'Partial FC of {MANY_CLASSES:,} classes', error=f'left out: needs {needed:.0f} GiB of a card')


def pair(args, compiled, training, channels_last=False):
    """Time the pair and its two timm models one after the other, interleaved; compiled, both have the same streams."""
    import torch
    from mmengine.optim import OptimWrapper
    from mmpretrain.structures import DataSample

    from hybridcls.apis.counted_flops import counted_flops
    from hybridcls.apis.timing import interleaved_timings
    from hybridcls.models import HybridClassifier
    from hybridcls.models.backbones.channels_last import cnn_streams, set_channels_last

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    num = max(2, args.images // 4) if training else args.images
    model = HybridClassifier(
        backbone=dict(
            type='HybridBackbone',
            cnn=dict(model_name=args.cnn),
            vit=dict(model_name=args.vit),
            img_size=args.img_size,
            pooled=True,
        ),
        neck=dict(type='DHAFusion'),
        head=dict(type='LinearHead', num_classes=1000),
    ).to(args.device)
    model.train(training)
    if channels_last:
        set_channels_last(model, cnn_streams(model))
    streams = [model.backbone.cnn.model, model.backbone.vit.model]
    heads = [torch.nn.Linear(stream.num_features, 1000).to(args.device).train() for stream in streams]
    pixels = torch.randint(0, 256, (num, 3, args.img_size, args.img_size), dtype=torch.uint8, device=args.device)
    images = (pixels / 255.0 - 0.5) / 0.25
    labels = torch.randint(1000, (num,), device=args.device)
    fused = args.device != 'cpu'
    if training:
        samples = [DataSample().set_gt_label(int(label)) for label in labels]
        wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-5, fused=fused))
        optimizers = [
            torch.optim.AdamW([*stream.parameters(), *own.parameters()], lr=1e-5, fused=fused)
            for stream, own in zip(streams, heads, strict=True)
        ]

        def bare():
            for stream, own, optimizer in zip(streams, heads, optimizers, strict=True):
                with autocast(args):
                    loss = torch.nn.functional.cross_entropy(own(stream(images)), labels)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()

        def hybrid():
            with autocast(args):
                model.train_step(dict(inputs=pixels, data_samples=samples), wrapper)
    else:

        def bare():
            with torch.no_grad(), autocast(args):
                for stream, own in zip(streams, heads, strict=True):
                    own(stream(images))

        def hybrid():
            with torch.no_grad(), autocast(args):
                data = model.data_preprocessor(dict(inputs=pixels))
                model(data['inputs'], mode='tensor')

    flops = counted_flops(lambda: model(images[:1], mode='tensor')) * (3 if training else 1)
    if compiled:
        for stream in streams:
            stream.compile(backend='eager' if args.tiny else 'inductor')
    began = time.perf_counter()
    bare()
    first = time.perf_counter() - began
    rounds = 1 if args.tiny else 7
    timings = interleaved_timings({'timm': bare, 'pair': hybrid}, rounds=rounds, warmup=1 if args.tiny else 2)
    return {
        'batch': num,
        'images/s, pair': num / timings['pair'].seconds,
        'images/s, two timm models': num / timings['timm'].seconds,
        'TFLOP/s, pair': flops * num / timings['pair'].seconds / 1e12,
        'ratio of times': timings['pair'].ratio,
        'first call, s': first,
    }


def both_modes(args, training):
    """Eager, then compiled."""
    import torch

    what = f'{args.cnn} + {args.vit}, {args.img_size} px, bfloat16'
    for compiled, channels_last in ((False, False), (False, True), (True, False)):
        yield attempt(
            f'{what}, {"compiled" if compiled else "eager"}{", the CNN in channels last" if channels_last else ""}',
            lambda compiled=compiled, channels_last=channels_last: pair(args, compiled, training, channels_last),
        )
        free_memory()
        torch.compiler.reset()


# What only a GPU can test


def tests(args):
    """``pytest -m gpu``, a row for each test; why one fails is its last line."""
    folder = HERE.parents[2] / 'tests'
    files = [path for path in sorted(folder.rglob('test_*.py')) if 'mark.gpu' in path.read_text(encoding='utf8')]
    if args.tiny:
        files = [path for path in files if path.name == 'test_memory.py']
    if not files:
        yield dict(what='pytest -m gpu', error='left out: the tests are not beside the tools')
        return
    command = [sys.executable, '-m', 'pytest', '-m', 'gpu', '-v', '-rfE', '--tb=short', '-p', 'no:cacheprovider']
    began, output = time.monotonic(), []
    with subprocess.Popen(
        [*command, *map(str, files)], cwd=folder.parent, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=dict(os.environ, COLUMNS='400'),
    ) as running:  # fmt: skip
        for line in running.stdout:
            output.append(line.rstrip())
            if found := re.match(r'(\S+::\S.*?) (PASSED|FAILED|ERROR|SKIPPED)', line):
                yield dict(what=found[1].split('/')[-1], outcome=found[2].lower(), s=time.monotonic() - began)
                began = time.monotonic()
            elif found := re.match(r'(?:FAILED|ERROR) (\S+::\S.*?) - (.*)', line):
                yield dict(what=found[1].split('/')[-1], error=found[2])
    if running.returncode:
        print('\n'.join(output[-200:]), file=sys.stderr)
        raise RuntimeError(f'pytest ended with {running.returncode}: {output[-1]}')


def json_of(*arguments):
    """Run the command in a process of its own; return what it prints with ``--json``."""
    command = [sys.executable, '-W', 'ignore', '-m', 'hybridcls', *map(str, arguments), '--json']
    ended = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[2])
    try:
        return json.loads(ended.stdout)
    except ValueError:
        said = ended.stderr.strip().splitlines() or [f'ended with {ended.returncode}']
        raise RuntimeError(f'{" ".join(map(str, arguments[:2]))}: {said[-1]}') from None


def fidelity(args):
    """The parts against the numbers of their papers' codes, on the GPU."""
    for dtype in ('float64',) if args.tiny else ('float64', 'float32'):

        def compared(dtype=dtype):
            chosen = ['arcface'] if args.tiny else []
            cases = json_of('fidelity', *chosen, '--device', args.device, '--dtype', dtype)['cases']
            off = [case['name'] for case in cases if case['ok'] is False]
            return dict(cases=len(cases), ok=sum(case['ok'] is True for case in cases), off=', '.join(off))

        yield attempt(f'hybridcls fidelity, {dtype}', compared)


@contextmanager
def noise(args):
    """Yield a folder of two classes of noise, and the options of a training with it from random weights."""
    import numpy as np
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        for number in range(16 if args.tiny else 128):
            path = (
                Path(folder) / 'images' / ('train' if number % 4 else 'val') / f'class_{number % 2}' / f'{number}.png'
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (args.img_size, args.img_size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        data = Path(folder) / 'images'
        options = ['finetune/full', '--data', data, '--model', args.cnn, '--img-size', args.img_size]
        options += ['--device', args.device, '--cfg-options', 'pretrained=False']
        yield data, Path(folder) / 'work', options


def fast(args):
    """`predict --fast` of a model that was trained for an epoch; it compiles as if that took no time."""
    from unittest import mock

    import hybridcls.apis.compile_plan as plan
    from hybridcls import load

    with noise(args) as (data, work_dir, options):

        def trained():
            done = json_of('train', *options, '--epochs', 1, '--work-dir', work_dir)
            return dict(s=done['seconds'])

        row = attempt(f'train finetune/full, {args.cnn}', trained)
        yield row
        if 'error' in row:
            return

        def predicted():
            settings = (plan.InferenceSettings('bfloat16', False, 'eager'), '')  # of a CPU
            with (
                mock.patch.object(plan, 'estimated_compile_seconds', return_value=0.0),
                mock.patch('hybridcls.apis.inferencer.fast_settings', return_value=settings)
                if args.tiny
                else nullcontext(),
            ):
                model = load(work_dir, args.device, fast=True)
                batch = 2 if args.tiny else 16
                compared = model.plan(batch, None)
                if compared is None:
                    raise RuntimeError('it does not compile here')
                with mock.patch.object(model, 'plan', return_value=compared):
                    list(model(data, batch_size=batch))
                return {
                    name: compared.facts.get(name)
                    for name in (
                        'settings', 'eager_ms', 'compiled_ms', 'compile_seconds', 'graph_breaks', 'compared_images',
                        'changed_decisions', 'largest_change', 'why',
                    )
                }  # fmt: skip

        yield attempt('predict --fast', predicted)


def doctor(args):
    """The largest batch by trial."""
    with noise(args) as (_, _, options):

        def largest():
            found = json_of('doctor', *options)
            memory = found['facts']['memory']
            return dict(
                **{name: memory.get(name) for name in ('device', 'batch_size', 'largest')},
                MiB=memory['bytes'] / 2**20,
                problems=found['counts']['problem'],
                s=found['seconds'],
            )

        yield attempt(f'doctor finetune/full, {args.cnn}, {args.img_size} px', largest)


SECTIONS = dict(
    card=card,
    head=head,
    kernels=kernels,
    updates=updates,
    supcon=supcon,
    merging=merging,
    search=search,
    inference=lambda args: both_modes(args, False),
    training=lambda args: both_modes(args, True),
    tests=tests,
    fidelity=fidelity,
    fast=fast,
    doctor=doctor,
)
TITLES = dict(
    card='Card',
    head='Margin head: streamed form and peers',
    kernels="Margin head: Triton's kernels",
    updates='Update',
    supcon='SupCon: loss and gradient',
    merging='Token merging',
    search='Exact search',
    inference='Reference pair: inference',
    training='Reference pair: a training step',
    tests='Tests of a GPU',
    fidelity="Numbers of the papers' codes",
    fast='Fast predictions',
    doctor='Largest batch',
)

if __name__ == '__main__':
    main()
