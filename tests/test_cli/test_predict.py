"""hybridcls predict: answers on stdout or in a file, the same after an interruption, and sentences for bad input."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from trained_checkpoints import CLASSES, CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.inferencer import HybridInferencer
from hybridcls.cli import unfinished_answers
from hybridcls.cli.main import SUBCOMMANDS, parse_args
from hybridcls.datasets.transforms.load_image import UnreadableImageError


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, digit_folder):
    cfg = config_of(CNN, LINEAR, digit_folder / 'val')
    return write_checkpoint(tmp_path_factory.mktemp('work') / 'epoch_1.pth', cfg)[0]


@pytest.fixture(scope='module')
def expected(checkpoint, digit_folder):
    return list(hybridcls.load(checkpoint, 'cpu')(digit_folder / 'val'))


def predict(*arguments):
    args = parse_args(['predict', *map(str, arguments), '--device', 'cpu'])
    return SUBCOMMANDS['predict'].run(args)


def test_a_line_an_image_on_stdout_and_everything_else_on_stderr(checkpoint, digit_folder, expected, capfd):
    assert predict(os.path.dirname(checkpoint), digit_folder / 'val', '--top-k', 2) == 0
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert len(lines) == 16
    first = expected[0]
    other, score = first.top[1]
    assert lines[0].split() == [
        f'{first.probability:.4f}', first.class_name, f'({other}', f'{score:.4f})', first.path
    ]  # fmt: skip
    assert err.startswith(f'Checkpoint {checkpoint}, the last of ')
    right = np.mean([answer.class_name == answer.label for answer in expected])
    assert f'accuracy  {right:6.1%}  of 16 images with a label' in err


def test_a_file_name_with_ends_of_lines_is_one_line(checkpoint, digit_folder, tmp_path, capfd):
    shutil.copy(digit_folder / 'val' / 'two' / '13.png', tmp_path / 'new\nline\x1b[31m.png')
    assert predict(checkpoint, tmp_path) == 0
    (line,) = capfd.readouterr().out.splitlines()
    assert line.endswith(f'  {tmp_path}/new\\nline\\x1b[31m.png')
    assert predict(checkpoint, tmp_path, '--json') == 0
    assert json.loads(capfd.readouterr().out)['predictions'][0]['path'] == f'{tmp_path}/new\nline\x1b[31m.png'


def test_files_have_the_numbers_of_python(checkpoint, digit_folder, expected, tmp_path, capfd):
    assert predict(checkpoint, digit_folder / 'val', '--out', tmp_path / 'a.csv', '--top-k', 2, '--embeddings') == 0
    with open(tmp_path / 'a.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:7] == ['path', 'class', 'probability', 'class_2', 'probability_2', 'label', 'embedding_0']
    for row, answer in zip(rows, expected, strict=True):
        assert (row['path'], row['class'], row['label']) == (answer.path, answer.class_name, answer.label)
        assert float(row['probability']) == answer.probability
    assert predict(checkpoint, digit_folder / 'val', '--out', tmp_path / 'a.jsonl', '--json') == 0
    rows = [json.loads(line) for line in (tmp_path / 'a.jsonl').read_text().splitlines()]
    assert [row['probability'] for row in rows] == [answer.probability for answer in expected]
    report = json.loads(capfd.readouterr().out)
    assert (report['images'], report['answered'], report['unreadable']) == (16, 16, [])
    assert set(report['accuracy']['by_class']) == set(CLASSES)
    assert sorted(os.listdir(tmp_path)) == ['a.csv', 'a.jsonl']


def test_json_is_one_object(checkpoint, digit_folder, expected, capfd):
    assert predict(checkpoint, digit_folder / 'val' / 'two', '--json') == 0
    report = json.loads(capfd.readouterr().out)
    two = [answer for answer in expected if answer.label == 'two']
    assert [one['class'] for one in report['predictions']] == [answer.class_name for answer in two]
    assert report['accuracy'] is None


def test_json_of_a_diverged_model(checkpoint, digit_folder, tmp_path, capfd):
    content = torch.load(checkpoint, weights_only=False)
    content['state_dict']['head.fc.bias'].fill_(torch.nan)
    torch.save(content, tmp_path / 'diverged.pth')
    predict(tmp_path / 'diverged.pth', digit_folder / 'val' / 'two', '--json')
    report = json.loads(capfd.readouterr().out, parse_constant=lambda name: pytest.fail(f'{name} is no JSON'))
    assert report['predictions'][0]['probability'] is None


def test_parquet(checkpoint, digit_folder, expected, tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet')
    assert predict(checkpoint, digit_folder / 'val', '--out', tmp_path / 'a.parquet', '--embeddings') == 0
    table = parquet.read_table(tmp_path / 'a.parquet').to_pydict()
    assert table['probability'] == [answer.probability for answer in expected]
    assert len(table['embedding'][0]) == 96


def test_parquet_without_its_package_is_a_sentence(checkpoint, digit_folder, tmp_path, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r'expected the package pyarrow for --out .*hybridcls\[parquet\]'):
        predict(checkpoint, digit_folder, '--out', tmp_path / 'a.parquet')


def test_an_interrupted_run_goes_on_to_the_same_file(checkpoint, digit_folder, tmp_path, monkeypatch, capfd):
    out, whole = tmp_path / 'a.csv', tmp_path / 'whole.csv'
    command = (checkpoint, digit_folder / 'val', '--out', out)
    predict(checkpoint, digit_folder / 'val', '--out', whole)
    forward, calls = HybridInferencer.forward, []

    def interrupted(self, inputs):
        calls.append(len(inputs))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return forward(self, inputs)

    monkeypatch.setattr(HybridInferencer, 'forward', interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(*command)
    assert '8 of 16 images are done. Type the same command with --resume to continue.' in capfd.readouterr().err
    assert not out.exists()
    with pytest.raises(FileExistsError, match=r'has left 8 answers for .* Add --resume'):
        predict(*command)
    with pytest.raises(ValueError, match='had batch_size 4, this one has 5'):
        predict(*command, '--resume', '--batch-size', 5)
    with pytest.raises(ValueError, match='the list of images has changed'):
        predict(checkpoint, digit_folder / 'train', '--out', out, '--resume')
    (tmp_path / '.a.csv.unfinished').open('ab').write(b'a row that was cut')
    assert predict(*command, '--resume') == 0
    assert calls == [4, 4, 4, 4, 4]
    assert out.read_bytes() == whole.read_bytes()
    err = capfd.readouterr().err
    assert 'of 16 images with a label' in err
    assert sorted(os.listdir(tmp_path)) == ['a.csv', 'whole.csv']


def test_unreadable_images_are_listed_and_skipped_or_fatal(checkpoint, digit_folder, tmp_path, capfd):
    folder = tmp_path / 'photos'
    shutil.copytree(digit_folder / 'val' / 'two', folder)
    (folder / 'broken.jpg').write_bytes(b'text')
    out = tmp_path / 'a.csv'
    assert predict(checkpoint, folder, '--out', out) == 1
    assert len(out.read_text().splitlines()) == 1 + 4
    err = capfd.readouterr().err
    assert f'cannot be read: {folder}/broken.jpg: its 4 bytes are not a known image format.' in err
    assert '4 images answered, 1 cannot be read' in err
    with pytest.raises(UnreadableImageError, match=r'cannot read .*broken.jpg'):
        predict(checkpoint, folder, '--out', out, '--force', '--on-unreadable', 'error')


def test_thousands_that_are_no_images_are_one_sentence(checkpoint, tmp_path, capfd):
    for number in range(200):
        (tmp_path / f'{number}.jpg').write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'none of 200 images can be read. The first, .*: its 8 bytes'):
        predict(checkpoint, tmp_path, '--out', tmp_path / 'out' / 'a.csv')
    assert capfd.readouterr().err.count('cannot be read') == 20
    assert not os.listdir(tmp_path / 'out')


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['gone.pth', '.'], "checkpoint='gone.pth' does not exist"),
        (['{checkpoint}', 'texts'], r"expected images below 'texts', got none; there are other files: .txt \(30\)"),
        (['{checkpoint}', 'gone.jpg'], "the image 'gone.jpg' does not exist"),
        (['{checkpoint}', 'texts', '--out', 'a.xlsx'], 'expected --out to end in .csv or .jsonl or .parquet'),
        (['{checkpoint}', 'texts', '--out', 'there.csv'], "--out 'there.csv' exists. Add --force"),
        (['{checkpoint}', 'texts', '--resume'], '--resume needs --out FILE'),
    ],
)
def test_mistakes_are_answered_before_torch_is_imported(checkpoint, tmp_path, arguments, sentence):
    (tmp_path / 'texts').mkdir()
    (tmp_path / 'there.csv').touch()
    for number in range(30):
        (tmp_path / 'texts' / f'{number}.txt').touch()
    code = (
        'import sys\nfrom hybridcls.cli.main import SUBCOMMANDS, parse_args\n'
        'try:\n    SUBCOMMANDS["predict"].run(parse_args())\n'
        'except Exception as error:\n    print(error)\nprint("torch" in sys.modules)'
    )
    given = [one.format(checkpoint=checkpoint) for one in arguments]
    run = [sys.executable, '-W', 'ignore', '-c', code, 'predict', *given]
    out = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True).stdout.splitlines()
    assert re.search(sentence, out[0]), out
    assert out[-1] == 'False'


@pytest.mark.parametrize('size', ['0', '-1', 'many'])
def test_batches_hold_at_least_one_image(size, capfd):
    with pytest.raises(SystemExit):
        parse_args(['predict', 'a.pth', 'images', '--batch-size', size])
    assert f"argument --batch-size: expected an integer of 1 or more, got '{size}'" in capfd.readouterr().err


def test_a_model_without_classes_needs_a_file(tmp_path, digit_folder, capfd):
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, dict(type='SupConHead'), digit_folder))
    with pytest.raises(ValueError, match=r'SupConHead. has no classes, so there are only embeddings. Add --out'):
        predict(path, digit_folder / 'val')
    assert predict(path, digit_folder / 'val', '--out', tmp_path / 'a.jsonl') == 0
    assert list(json.loads((tmp_path / 'a.jsonl').read_text().splitlines()[0])) == ['path', 'embedding']


def test_a_full_disk_is_a_sentence(checkpoint, digit_folder, tmp_path, monkeypatch):
    def no_room(rows):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(unfinished_answers, '_csv_lines', no_room)
    expected = r'a.csv cannot be written .No space left on device.. .* type the same command with --resume'
    with pytest.raises(OSError, match=expected):
        predict(checkpoint, digit_folder / 'val', '--out', tmp_path / 'a.csv')
    assert not os.listdir(tmp_path)
