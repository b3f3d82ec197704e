"""tools/benchmark.py: the benchmarks run; their numbers need an idle machine."""

import json
import os
import re
import runpy
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from processes import run_tool
from safetensors.torch import save_file
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_hybrid_step():
    output = run_tool(
        'benchmark.py',
        'hybrid_step',
        '--cnn',
        'test_convnext2',
        '--vit',
        'test_vit',
        '--img-size',
        '64',
        '--batch-size',
        '2',
        '--rounds',
        '1',
        '--levers',
        '--amp',
        'bfloat16',
    )
    assert 'test_convnext2 + test_vit, 64 px, batch 2, bfloat16' in output
    for name in ('the two models', 'hybrid', 'hybrid, CBAM, TokenLearner'):
        assert sum(line.startswith(f'{name}  ') for line in output.splitlines()) == 1


@pytest.mark.slow
def test_training():
    output = run_tool(
        'benchmark.py', 'training', '--cnn', 'test_resnet', '--vit', '', '--img-size', '32', '--batch-size', '2',
        '--rounds', '1', '--no-compile', '--threads', '1', '--cpu-time',
    )  # fmt: skip
    assert 'test_resnet, 32 px, batch 2, float32, 1 CPU threads' in output
    for name in ('torch alone', 'fused', 'fused, checkpointing', 'fused, channels last'):
        assert sum(line.startswith(f'{name}  ') for line in output.splitlines()) == 1


def test_margins_beside_peers_and_with_the_update_of_drawn_classes():
    output = run_tool(
        'benchmark.py', 'margins', '--classes', '300', '--batch', '8', '--dim', '16', '--forms', 'sampled',
        'plain_dense', 'torch_fused', 'liger', '--updates', '--rounds', '1', '--threads', '1',
    )  # fmt: skip
    assert 'left out: liger (needs a GPU)' in output
    for name in ('SGD, all rows', 'SGD, drawn rows', 'AdamW, all rows', 'AdamW, drawn rows', 'torch_fused'):
        assert sum(line.startswith(f'{name}  ') for line in output.splitlines()) == 1


@pytest.mark.nightly
def test_startup():
    output = run_tool('benchmark.py', 'startup', '--rounds', '1')
    seconds = {
        name: float(re.search(rf'^hybridcls train{name} +([\d.]+) +[\d.]+ +[\d.]+ +[\d.]+', output, re.M)[1])
        for name in (', to the first iteration', ' --help')
    }
    assert seconds[', to the first iteration'] > 3 * seconds[' --help']  # it does import and train
    assert re.search(r'^hybridcls train, to the first iteration .* <= 1.5$', output, re.M)
    assert re.search(r'^import hybridcls.models, hybridcls.engine .* <= 1.05$', output, re.M)


@pytest.mark.nightly
def test_inference():
    output = run_tool(
        'benchmark.py', 'inference', '--model', 'test_resnet', '--img-size', '64', '--workers', '0', '--rounds', '1'
    )
    assert '64 images, test_resnet, 64 px, batch 32, 1 threads, 0 workers' in output
    assert 'images per second of hybridcls / of the loop: ' in output
    assert sum(line.startswith('hybridcls predict, one image  ') for line in output.splitlines()) == 1


@pytest.mark.nightly
def test_calibration(tmp_path, digit_folder):
    checkpoint = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, LINEAR))[0]
    output = run_tool(
        'benchmark.py', 'calibration', checkpoint, '--data', str(digit_folder / 'train'), str(digit_folder / 'val'),
        '--risk', '0.1', '0.999', '--resamplings', '3', '--scale', 'none',
    )  # fmt: skip
    assert '64 images, accuracy ' in output
    lines = [line.split() for line in output.splitlines() if line.startswith('none ')]
    # Weights are random: no threshold for the first risk, and always one for the second.
    assert [line[:3] for line in lines] == [['none', '0.1', '0'], ['none', '0.999', '3']]


def test_drift_without_an_artifact():
    output = run_tool('benchmark.py', 'drift', '--streams', '20', '--length', '50', '--references', '100', '30')
    lines = [line.split() for line in output.splitlines() if line.startswith('synthetic ')]
    assert [line[1] for line in lines] == ['100', '30']
    assert all(int(line[2]) <= int(line[3].strip('()')) for line in lines)


def row(recipe, regression, plain):
    return {'recipe': recipe, 'logistic regression': regression, 'plain loop': plain}


@pytest.mark.parametrize(
    ('rows', 'expected'),
    [
        ([row(80, 79, 70), row(82, 85, 71), row(81, 80, 99)], ('logistic regression', -1 / 3, 4 / 3, True)),
        ([row(80, 70, 81), row(80, 70, 81), row(80, 70, 82)], ('plain loop', -4 / 3, 1 / 3, False)),
        ([row(80, 79, 80)], ('plain loop', 0, 0, True)),
        ([row(79, 79, 80)], ('plain loop', -1, 0, False)),
    ],
)
def test_difference_to_the_better_baseline_is_paired_by_seed(rows, expected):
    found = runpy.run_path(str(ROOT / 'tools' / 'benchmarks' / 'finetune.py'))['difference'](rows)
    assert (*found, found.is_as_good) == pytest.approx(expected)


@pytest.mark.nightly
def test_finetune_trains_all_three_on_the_same_images(tmp_path):
    random = np.random.default_rng(0)
    for part, images in (('train', 12), ('val', 4), ('test', 6)):
        for name, level in (('dark', 60), ('light', 190)):
            folder = tmp_path / 'images' / part / name
            folder.mkdir(parents=True)
            for number in range(images):
                pixels = random.integers(level - 40, level + 40, (40, 48, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f'{number}.png')
    save_file(timm.create_model('test_resnet').state_dict(), tmp_path / 'weights.safetensors')
    options = [
        '--data',
        tmp_path / 'images',
        '--model',
        'test_resnet',
        '--checkpoint',
        tmp_path / 'weights.safetensors',
    ]
    output = run_tool(
        'benchmark.py', 'finetune', *map(str, options), '--img-size', '32', '--epochs', '2', '--seeds', '2', '--json'
    )
    report = json.loads(output[output.index('{') : output.rindex('}') + 1])
    assert [one['images'] for one in report['rows']] == [[24, 8, 12]] * 2
    assert all(one['logistic regression'] == 100 for one in report['rows'])  # brightness alone tells the classes
    for one in report['rows']:
        assert one['plain epochs'] > 2
        assert one['plain seconds'] == pytest.approx(one['seconds'], rel=0.5)


def test_retrieval_of_each_image_among_the_others():
    retrieval = runpy.run_path(str(ROOT / 'tools' / 'benchmarks' / 'unseen_classes.py'))['retrieval']
    angles = torch.tensor(
        [0.0, 1.0, 2.2, 3.0, 3.1]
    )  # the nearest of 0 is 1, of 1 is 0, of 2 is 3, of 3 is 4, of 4 is 3
    found = retrieval(torch.stack([angles.cos(), angles.sin()], 1), torch.tensor([0, 0, 0, 1, 1]))
    # of class 0, R = 2: 0 and 1 find both (precision 1, 1), but 2 finds class 1 twice
    assert found == pytest.approx({'recall@1': 80.0, 'MAP@R': 80.0})


@pytest.mark.nightly
def test_unseen_classes_trains_each_recipe(tmp_path):
    random = np.random.default_rng(0)
    for number, level in enumerate((40, 100, 160, 220)):
        folder = tmp_path / 'images' / f'class{number}'
        folder.mkdir(parents=True)
        for image in range(8):
            pixels = random.integers(level - 30, level + 30, (40, 48, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f'{image}.png')
    save_file(timm.create_model('test_resnet').state_dict(), tmp_path / 'weights.safetensors')
    options = [
        '--data',
        tmp_path / 'images',
        '--model',
        'test_resnet',
        '--checkpoint',
        tmp_path / 'weights.safetensors',
    ]
    output = run_tool(
        'benchmark.py',
        'unseen_classes',
        *map(str, options),
        '--img-size',
        '32',
        '--epochs',
        '1',
        '--seeds',
        '1',
        '--json',
    )
    (row,) = json.loads(output[output.rindex('{"data"') : output.rindex('}') + 1])['rows']
    assert sorted(row) == ['finetune/arcface', 'finetune/supcon_adaface', 'frozen']
    assert all(50 <= score['recall@1'] <= 100 for score in row.values())  # brightness alone tells the classes


@pytest.mark.slow
@pytest.mark.parametrize('loss', [(), ('--supcon',)])
def test_head_precision(loss):
    small = ('--classes', '20', '--batch', '200', '--dim', '16', '--steps', '3', '--device', 'cpu')
    output = run_tool('benchmark.py', 'head_precision', *loss, *small)
    rows = [line.strip('| ').split(' | ') for line in output.splitlines() if ' steps |' in line]
    errors = {name: [float(row[-2]) for row in rows if name in row] for name in ('float32', 'bfloat16')}
    assert max(errors['float32']) < 1e-4 < min(errors['bfloat16'])  # of the gradient


def gpu(*options, timeout=240):
    environment = dict(os.environ, TRITON_INTERPRET='1', OMP_NUM_THREADS='1')
    command = [
        sys.executable,
        str(ROOT / 'tools' / 'benchmark.py'),
        'gpu',
        '--device',
        'cpu',
        '--tiny',
        *map(str, options),
    ]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def rows_of(page, title):
    lines = page.split(f'### {title}\n\n', 1)[1].split('\n\n')[0].splitlines()
    cells = [[cell.strip() for cell in line[1:-1].split('|')] for line in lines if line.startswith('|')]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def test_gpu_measures_and_keeps_the_page_around(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('# Mine\n\n<!-- gpu benchmark: begin -->\nold\n<!-- gpu benchmark: end -->\nLast.\n')
    printed = gpu('--only', 'head', '--out', page)
    text = page.read_text()
    assert text.startswith('# Mine\n')
    assert text.endswith('Last.\n')
    assert 'old' not in text
    for place in (text, printed):
        rows = {row['what']: row for row in rows_of(place, 'Margin head: streamed form and peers')}
        assert float(rows['streamed, bfloat16']['ms']) > 0
        assert float(rows['plain_dense, bfloat16, no margin']['ms']) > 0
        assert rows['liger, bfloat16, no margin']['error'] == 'left out: needs a GPU'
        assert float(rows['streamed, float32, against float64']['error, class weights']) < 1e-5
        assert 1e-4 < float(rows['streamed, bfloat16, against float64']['error, class weights']) < 2e-2


@pytest.mark.nightly
def test_gpu_runs_every_section(tmp_path):
    gpu('--out', tmp_path / 'page.md', '--time-limit', 6000, timeout=6000)  # a busy machine takes its time
    text = (tmp_path / 'page.md').read_text()
    for title in ("Margin head: Triton's kernels", 'Update', 'SupCon: loss and gradient', 'Token merging',
                  'Exact search', 'Reference pair: inference', 'Reference pair: a training step', 'Tests of a GPU',
                  "Numbers of the papers' codes", 'Fast predictions', 'Largest batch'):  # fmt: skip
        first = rows_of(text, title)[0]
        assert not first.get('error') or 'float64' in first['what']
    assert float(rows_of(text, 'Reference pair: a training step')[0]['TFLOP/s, pair']) > 0
    assert 'left out: needs' in rows_of(text, 'Update')[-1]['error']  # of 29 million classes
    by_kernels = [row['ms'] for row in rows_of(text, 'SupCon: loss and gradient') if row['what'].startswith('Triton')]
    assert len(by_kernels) == 5
    assert all(by_kernels)
    fast = rows_of(text, 'Fast predictions')[1]  # which is faster is the machine's answer
    assert min(float(fast[key]) for key in ('eager_ms', 'compiled_ms')) > 0
    assert fast['settings']
    assert int(rows_of(text, 'Largest batch')[0]['largest'].replace(',', '')) > 4


SECTION = """
import json, subprocess, sys, time
rows = sys.argv[sys.argv.index('--rows') + 1]
worker = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
with open(rows, 'a') as file:
    print(json.dumps(dict(what='first', worker=worker.pid)), file=file, flush=True)
    file.write('{"what": "hal')
    file.flush()
    if 'fails' in sys.argv:
        sys.exit('what it says\\nwhy it fails')
    time.sleep(60)
"""


def has_ended(pid):
    """Wait for a process that was killed; a zombie has ended."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z':
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ('section', 'end'), [('fails', 'why it fails'), ('hangs', 'stopped after 60 s'), ('killed', '')]
)
def test_a_section_of_gpu_that_fails_or_hangs_or_is_killed_keeps_its_rows(monkeypatch, tmp_path, capfd, section, end):
    """And leaves no process behind."""
    tool = runpy.run_path(str(ROOT / 'tools' / 'benchmarks' / 'gpu.py'))
    (tmp_path / 'section.py').write_text(SECTION)
    monkeypatch.setitem(tool['rows_of'].__globals__, 'HERE', tmp_path / 'section.py')
    monkeypatch.setattr(sys, 'argv', ['gpu'])
    noted = []
    clock = SimpleNamespace(sleep=time.sleep, monotonic=lambda: 100 if noted and section == 'hangs' else 0)
    monkeypatch.setitem(tool['rows_of'].__globals__, 'time', clock)

    def note(rows):
        noted.extend(rows)
        if section == 'killed':
            sys.exit(143)  # as at SIGTERM

    with pytest.raises(SystemExit) if section == 'killed' else nullcontext():
        rows = tool['rows_of'](section, 60, note)
        assert rows == [noted[0], dict(what=f'({section})', error=end)]
    assert noted[0]['what'] == 'first'
    assert has_ended(noted[0]['worker'])
    assert ('what it says' in capfd.readouterr().err) == (section == 'fails')


def test_gpu_answers_mistakes(monkeypatch):
    tool = runpy.run_path(str(ROOT / 'tools' / 'benchmarks' / 'gpu.py'))
    assert set(tool['SECTIONS']) == set(tool['LIMITS']) == set(tool['TITLES'])
    assert tool['attempt']('it', lambda: 1 / 0) == dict(what='it', error='ZeroDivisionError: division by zero')
    with pytest.raises(ValueError, match='expected --out to be a new file or a page with'):
        tool['page_with'](str(ROOT / 'README.md'), '')


@pytest.mark.slow
def test_search():
    output = run_tool('benchmark.py', 'search', '--bank', '2000', '--queries', '50', '--rounds', '1')
    assert 'bank 2000, 50 queries, width 256, k 20, 1 threads, cpu' in output
    for name in ('nearest_neighbours', 'product alone'):
        assert sum(line.startswith(f'{name}  ') for line in output.splitlines()) == 1
