"""A report: its numbers are those of a test, its page is one file that holds up to odd names."""

import json
import re
import shutil

import numpy as np
import pytest
from command_runs import run_command
from html_pages import read_page
from PIL import Image
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.report import make_report
from hybridcls.evaluation.result_file import plain_results


@pytest.fixture(scope='module')
def model(tmp_path_factory, digit_folder):
    cfg = config_of(CNN, LINEAR, digit_folder / 'train')
    return write_checkpoint(tmp_path_factory.mktemp('w') / 'epoch_1.pth', cfg)[0]


def test_a_report_of_a_checkpoint(model, digit_folder, tmp_path, capfd):
    out = tmp_path / 'r.html'
    options = ('--data', digit_folder / 'val', '--ood', digit_folder / 'train', '--out', out, '--device', 'cpu')
    assert run_command('report', model, *options) == 0
    text = out.read_text(encoding='utf8')
    page = read_page(text)
    assert {address for address in page.addresses if not address.startswith(('data:', '#'))} == set()
    assert '://' not in re.sub(r'https?://www\.w3\.org/\S+', '', text)
    assert {'numbers', 'training', 'confusion', 'images', 'classes', 'trust', 'map', 'cost'} <= set(page.ids)
    numbers = json.loads(out.with_suffix('.json').read_text())
    shown = {row['key']: row['value'] for row in numbers['headline']}
    pairs = {(row['class'], row['predicted_as']) for row in numbers['confusions']}
    assert numbers['confused_pairs'] == len(pairs)
    assert numbers['wrong_images'] == sum(row['images'] for row in numbers['confusions'])
    nearest = numbers['neighbours']['nearest_of_errors']
    assert f'For {nearest["wrong"]} wrong answers, the nearest image is of the predicted class in ' in text
    assert numbers['calibration']['applied'] is None
    answers = hybridcls.load(model, 'cpu')(digit_folder / 'val')
    assert len(list(answers)) == numbers['images']
    assert shown['accuracy/top1'] == pytest.approx(100 * answers.accuracy.top1)
    capfd.readouterr()
    assert run_command('report', model, *options) == 2  # it is there
    assert 'Add --force' in capfd.readouterr().err
    out.unlink()
    out.with_suffix('.json').write_text('mine')
    assert run_command('report', model, *options) == 2  # the numbers would be written over it
    assert "r.json' exists" in capfd.readouterr().err
    assert out.with_suffix('.json').read_text() == 'mine'


def test_mistakes_are_told_before_the_model_runs(model, digit_folder, tmp_path):
    loaded = hybridcls.load(model, 'cpu')
    other = tmp_path / 'others' / 'zebra'
    other.mkdir(parents=True)
    Image.new('RGB', (9, 9)).save(other / 'a.png')
    with pytest.raises(ValueError, match=r'report: expected images of the classes of the model .* got none'):
        make_report(loaded, str(other.parent))
    (tmp_path / 'none').mkdir()
    with pytest.raises(FileNotFoundError, match='report: expected images below'):
        make_report(loaded, str(digit_folder / 'val'), ood=str(tmp_path / 'none'))


def test_names_of_classes_and_files_are_text(digit_folder, tmp_path):
    names = ['<script>alert(1)</script>', 'a&b"c', 'ñandú 北京 ' * 8, "d'e"]
    data = tmp_path / 'data'
    for number, name in enumerate(names):
        safe = name.replace('/', '∕')
        shutil.copytree(sorted((digit_folder / 'val').iterdir())[number], data / safe)
    names = sorted(path.name for path in data.iterdir())
    cfg = config_of(CNN, LINEAR, data)
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', cfg, classes=names)
    report = make_report(hybridcls.load(path, 'cpu'))
    assert '<script>alert' not in report.html
    assert '&lt;script&gt;' in report.html
    read_page(report.html)


@pytest.mark.nightly
def test_the_same_report_twice_is_the_same_but_for_date_and_times(model):
    first, second = (make_report(hybridcls.load(model, 'cpu'), tell=lambda text: None) for _ in range(2))
    assert without_times(first.html) == without_times(second.html)
    for numbers in (first.numbers, second.numbers):
        assert numbers.pop('seconds') >= numbers.pop('inference_seconds')
        del numbers['date']
        assert min(numbers['cost'].pop('milliseconds').values()) > 0
    assert first.numbers == second.numbers


def without_times(html):
    html = re.sub(r'<section id="cost".*?</section>', '', html, flags=re.DOTALL)
    return re.sub(r'\d{4}-\d\d-\d\d \d\d:\d\d', '', html)


@pytest.mark.parametrize('count', [1, 2])
def test_of_one_image_there_is_a_report(model, digit_folder, count):
    images = sorted((digit_folder / 'val' / 'one').iterdir())[:count]
    table = images[0].parent.parent / f'{count}.csv'
    table.write_text('path,label\n' + ''.join(f'one/{image.name},one\n' for image in images))
    report = make_report(hybridcls.load(model, 'cpu'), str(table))
    table.unlink()
    assert report.numbers['images'] == count
    assert '3 of 4 classes have no images here' in report.html
    read_page(report.html)
    json.dumps(plain_results(report.numbers, finite=True), allow_nan=False)


def test_embeddings_alone_have_a_report(digit_folder, tmp_path):
    head = dict(type='SupConHead', projection=dict(type='ProjectionMLP', out_channels=8))
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, head, digit_folder / 'val'))
    loaded = hybridcls.load(path, 'cpu')
    report = make_report(loaded)
    values = {row['key']: row['value'] for row in report.numbers['headline']}
    vectors = loaded.embed(str(digit_folder / 'val'))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = unit @ unit.T - 9 * np.eye(len(unit))
    labels = np.repeat(np.arange(4), 4)
    assert values['retrieval/recall@1'] == pytest.approx(100 * (labels[near.argmax(1)] == labels).mean())
    assert {'numbers', 'training', 'confusion', 'map', 'cost'} <= set(read_page(report.html).ids)
    with pytest.raises(ValueError, match='expected a model of one class an image for --ood, got SupConHead'):
        make_report(loaded, ood=str(digit_folder / 'train'))


@pytest.mark.parametrize(
    'head',
    [
        dict(type='MultiLabelHead', num_classes=4, thresholds=0.5),
        dict(type='mmpretrain.MultiLabelLinearClsHead', num_classes=4, in_channels=96),
        dict(type='mmpretrain.MultiLabelLinearClsHead', num_classes=4, in_channels=96, topk=2),
    ],
)
def test_several_labels_have_a_report(digit_folder, tmp_path, head):
    rows = [
        (f'{name}/{number}.png', f'{name}|two' if number % 2 else '')
        for name in ('one', 'zero')
        for number in range(12, 16)
    ]
    table = tmp_path / 'labels.csv'
    table.write_text('path,label\n' + ''.join(f'{digit_folder / "val" / path},{label}\n' for path, label in rows))
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, head, digit_folder / 'val'))
    report = make_report(hybridcls.load(path, 'cpu'), str(table))
    assert report.numbers['images'] == 8
    assert [row['images'] for row in report.numbers['classes']] == [2, 0, 4, 2]  # one, three, two, zero
    assert {row['threshold'] for row in report.numbers['classes']} == {None if 'topk' in head else 0.5}
    read_page(report.html)
