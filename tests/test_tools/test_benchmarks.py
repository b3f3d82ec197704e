"""tools/benchmark.py: the benchmarks run; their numbers need an idle machine."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import timm
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
        '--risk', '0.1', '0.8', '--resamplings', '3', '--scale', 'none',
    )  # fmt: skip
    assert '64 images, accuracy ' in output
    lines = [line.split() for line in output.splitlines() if line.startswith('none ')]
    assert [line[:3] for line in lines] == [['none', '0.1', '0'], ['none', '0.8', '3']]


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


@pytest.mark.slow
def test_search():
    output = run_tool('benchmark.py', 'search', '--bank', '2000', '--queries', '50', '--rounds', '1')
    assert 'bank 2000, 50 queries, width 256, k 20, 1 threads, cpu' in output
    for name in ('nearest_neighbours', 'product alone'):
        assert sum(line.startswith(f'{name}  ') for line in output.splitlines()) == 1
