"""hybridcls search: images, files of embeddings, tables and sheets, removal, and sentences for bad input."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from trained_checkpoints import CNN, LINEAR, VIT, config_of, write_checkpoint

from hybridcls.apis.embedding_index import EmbeddingIndex
from hybridcls.apis.index_search import IndexSearch
from hybridcls.cli.main import SUBCOMMANDS, parse_args
from hybridcls.structures import record_compatible


def command(name, *arguments):
    return SUBCOMMANDS[name].run(parse_args([name, *map(str, arguments), '--device', 'cpu']))


def search(*arguments):
    return command('search', *arguments)


@pytest.fixture(scope='module')
def made(tmp_path_factory, digit_folder):
    """A checkpoint, and the index of 48 images."""
    folder = tmp_path_factory.mktemp('work')
    checkpoint = write_checkpoint(folder / 'epoch_1.pth', config_of(CNN, LINEAR))[0]
    command('embed', checkpoint, digit_folder / 'train', '--out', folder / 'index.npz')
    return folder


@pytest.fixture
def index(made, tmp_path):
    return shutil.copy(made / 'index.npz', tmp_path / 'index.npz')


def test_the_queries_are_embedded_by_the_checkpoint_of_the_index(made, index, digit_folder, tmp_path, capfd):
    out = tmp_path / 'm.csv'
    assert search(index, digit_folder / 'val', '--k', 3, '--out', out) == 0
    command('embed', made / 'epoch_1.pth', digit_folder / 'val', '--out', tmp_path / 'val.npz')
    queries = EmbeddingIndex(tmp_path / 'val.npz')
    engine = IndexSearch(EmbeddingIndex(index), 3)
    expected = [
        [path, label, str(rank), match.path, match.label, str(match.similarity)]
        for path, label, matches in zip(queries.paths, queries.labels, engine(queries.vectors), strict=True)
        for rank, match in enumerate(matches, 1)
    ]
    with open(out, newline='') as file:
        rows = list(csv.reader(file))
    assert rows == [['query', 'query_label', 'rank', 'path', 'label', 'similarity'], *expected]
    assert search(index, tmp_path / 'val.npz', '--k', 3, '--out', tmp_path / 'n.csv') == 0
    assert (tmp_path / 'n.csv').read_text() == out.read_text()
    err = capfd.readouterr().err
    assert err.count('of 16 queries with a label') == 2
    assert f'16 queries -> {out}' in err


def test_json_and_lines(index, digit_folder, tmp_path, capfd):
    query = digit_folder / 'val' / 'two' / '13.png'
    assert search(index, query, '--k', 2, '--json') == 0
    report = json.loads(capfd.readouterr().out)
    assert (report['answered'], report['matched'], report['scores']) == (1, 1, None)
    matches = report['queries'][0]['matches']
    assert [set(match) for match in matches] == [{'path', 'label', 'similarity'}] * 2
    assert search(index, query, '--k', 2) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == str(query)
    assert lines[1].split() == [f'{matches[0]["similarity"]:.4f}', matches[0]['label'], matches[0]['path']]
    assert search(index, query, '--k', 2, '--out', tmp_path / 'm.jsonl', '--json') == 0
    assert json.loads((tmp_path / 'm.jsonl').read_text()) == report['queries'][0]
    assert json.loads(capfd.readouterr().out)['out'] == str(tmp_path / 'm.jsonl')
    assert search(index, query, '--threshold', '0.99999', '--out', tmp_path / 'm.csv') == 0
    assert (tmp_path / 'm.csv').read_text().splitlines()[1] == f'{query},,0,,,'
    assert '1 query, 1 without a match' in capfd.readouterr().err


def test_a_file_name_with_ends_of_lines_is_one_line(index, digit_folder, tmp_path, capfd):
    shutil.copy(digit_folder / 'val' / 'two' / '13.png', tmp_path / 'new\nline.png')
    assert search(index, tmp_path, '--k', 1) == 0
    assert capfd.readouterr().out.splitlines()[0] == f'{tmp_path}/new\\nline.png'


def test_a_query_of_the_index_does_not_find_itself(index, digit_folder, capfd):
    assert search(index, digit_folder / 'train' / 'two', '--k', 47, '--json') == 0
    for query in json.loads(capfd.readouterr().out)['queries']:
        paths = [match['path'] for match in query['matches']]
        assert len(paths) == 47
        assert query['query'] not in paths
    assert search(index, index, '--json', '--k', 1) == 0
    assert all(one['query'] != one['matches'][0]['path'] for one in json.loads(capfd.readouterr().out)['queries'])


def test_classes_and_distractors(made, index, digit_folder, tmp_path, capfd):
    others = tmp_path / 'others.npz'
    command('embed', made / 'epoch_1.pth', digit_folder / 'val', '--out', others)
    out = tmp_path / 'm.csv'
    assert search(index, digit_folder / 'val', '--pool', 'max', '--distractors', others, '--out', out) == 0
    with open(out, newline='') as file:
        rows = list(csv.DictReader(file))
    assert {row['distractor'] for row in rows} == {'0', '1'}
    best = [row for row in rows if row['rank'] == '1']
    assert all(
        row['path'] == row['query'] and row['distractor'] == '1' for row in best
    )  # the file itself is among them
    named = [row['label'] for row in rows[:5] if row['label']]
    assert len(named) == len({*named})


def test_a_sheet_shows_queries_and_matches(index, digit_folder, tmp_path, capfd):
    images = shutil.copytree(digit_folder / 'val', tmp_path / 'images')
    assert search(index, images, '--sheet', tmp_path / 's.png', '--sheet-queries', 3, '--k', 2) == 0
    with Image.open(tmp_path / 's.png') as sheet:
        assert sheet.size == (3 * 176 + 10, 31 + 3 * (166 + 3 * 17 + 10))
        frames = {sheet.getpixel((10 + column * 176, 31 + row * 227)) for row in range(3) for column in (1, 2)}
    assert frames <= {(46, 158, 68), (208, 58, 47)}


def test_images_that_are_gone_are_told_beside_the_sheet(made, digit_folder, tmp_path, capfd):
    images = shutil.copytree(digit_folder / 'val' / 'one', tmp_path / 'images' / 'one')
    index = tmp_path / 'gone.npz'
    command('embed', made / 'epoch_1.pth', tmp_path / 'images', '--out', index)
    shutil.rmtree(images)
    assert search(index, digit_folder / 'val', '--sheet', tmp_path / 's.png', '--sheet-queries', 3, '--k', 2) == 0
    assert 'shown as empty frames on the sheet: 6.' in capfd.readouterr().err


def test_without_queries_the_index_is_described(index, capfd):
    assert search(index) == 0
    out = capfd.readouterr().out
    assert '48 images, 96 numbers each' in out
    assert 'labels  one (12), three (12), two (12), zero (12)' in out
    assert search(index, '--json') == 0
    assert json.loads(capfd.readouterr().out)['labels'] == dict(one=12, three=12, two=12, zero=12)


def test_images_are_removed_by_path_folder_or_pattern(index, digit_folder, capfd, monkeypatch):
    monkeypatch.chdir(digit_folder)
    before = EmbeddingIndex(index)
    with pytest.raises(ValueError, match=r'for --remove train/gone.png, got none; nothing is removed'):
        search(index, '--remove', 'train/one', 'train/gone.png')
    assert len(EmbeddingIndex(index)) == 48
    assert search(index, '--remove', 'train/one', 'train/two/1*.png', digit_folder / 'train' / 'zero' / '3.png') == 0
    assert '16 images removed' in capfd.readouterr().err  # 12, then 1, 10 and 11, and one
    after = EmbeddingIndex(index)
    kept = np.isin(before.paths, after.paths)
    assert kept.sum() == len(after) == 32
    np.testing.assert_array_equal(after.vectors, before.vectors[kept])
    assert after.about == before.about
    with pytest.raises(ValueError, match=r'these are all the images of .* Delete the file instead'):
        search(index, '--remove', '*')


def test_a_file_of_plain_vectors(tmp_path, capfd):
    vectors = np.eye(5, dtype=np.float32) + 0.1
    np.save(tmp_path / 'g.npy', vectors)
    assert search(tmp_path / 'g.npy', tmp_path / 'g.npy', '--k', 4, '--json') == 0
    queries = json.loads(capfd.readouterr().out)['queries']
    name = str(tmp_path / 'g.npy')
    assert [match['path'] for match in queries[1]['matches']] == [f'{name}[{row}]' for row in (0, 2, 3, 4)]


def test_faiss_gives_the_same_answers(index, digit_folder, tmp_path, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr('importlib.util.find_spec', lambda name: None)
        with pytest.raises(ImportError, match=r'faiss for --engine faiss, .*hybridcls\[search\]'):
            search(index, digit_folder / 'val', '--engine', 'faiss')
    pytest.importorskip('faiss')
    for engine in ('exact', 'faiss'):
        search(index, digit_folder / 'val', '--engine', engine, '--pool', 'mean', '--out', tmp_path / f'{engine}.csv')
    assert (tmp_path / 'faiss.csv').read_text() == (tmp_path / 'exact.csv').read_text()


def test_an_unreadable_query_is_listed(index, digit_folder, tmp_path, capfd):
    images = shutil.copytree(digit_folder / 'val' / 'two', tmp_path / 'images')
    (images / 'broken.png').write_bytes(b'text')
    assert search(index, images, '--json') == 1
    report = json.loads(capfd.readouterr().out)
    assert report['answered'] == 4
    assert [one['path'] for one in report['unreadable']] == [str(images / 'broken.png')]


def test_an_interruption_leaves_no_file(index, digit_folder, tmp_path, monkeypatch):
    def interrupted(self, *arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(IndexSearch, '__call__', interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(index, digit_folder / 'val', '--out', tmp_path / 'm.csv')
    assert os.listdir(tmp_path) == ['index.npz']


def test_bad_input_gets_a_sentence(made, index, digit_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"search: .*gone.npz' does not exist"):
        search(tmp_path / 'gone.npz', digit_folder)
    np.save(tmp_path / 'wide.npy', np.ones((3, 97), np.float32))
    with pytest.raises(ValueError, match=r'the width of the embeddings differ.*width 96.*width 97'):
        search(index, tmp_path / 'wide.npy')
    np.save(tmp_path / 'none.npy', np.ones((0, 96), np.float32))
    with pytest.raises(ValueError, match=r'embeddings of queries, and .*none.npy is empty'):
        search(index, tmp_path / 'none.npy')
    with pytest.raises(ValueError, match=r'expected an index with images, and .*none.npy is empty'):
        search(tmp_path / 'none.npy', tmp_path / 'none.npy')
    with pytest.raises(ValueError, match='expected an index that knows its checkpoint'):
        search(tmp_path / 'wide.npy', digit_folder / 'val')
    other, _ = write_checkpoint(tmp_path / 'other.pth', config_of(CNN, LINEAR), seed=1)
    with pytest.raises(ValueError, match='one model, but the weights differ'):
        search(index, digit_folder / 'val', '--checkpoint', other)
    command('embed', other, digit_folder / 'val', '--out', tmp_path / 'other.npz')
    with pytest.raises(ValueError, match='one model, but the weights differ'):
        search(index, tmp_path / 'other.npz')
    os.remove(other)
    with pytest.raises(FileNotFoundError, match=r'the checkpoint of .*other.npz was .*other.pth, which does not exist'):
        search(tmp_path / 'other.npz', digit_folder / 'val')
    with pytest.raises(ValueError, match='Search once for each'):
        search(index, index, digit_folder / 'val')
    with pytest.raises(ValueError, match='Leave out the queries, or --remove'):
        search(index, digit_folder / 'val', '--remove', 'a')
    with pytest.raises(ValueError, match='expected k'):
        search(index, index, '--k', 0)


def test_an_index_of_other_inference_settings_is_refused(digit_folder, tmp_path):
    """Merged tokens give other embeddings of the same weights: neither searched, nor appended to, nor distractors."""
    checkpoint, index, merged = tmp_path / 'epoch_1.pth', tmp_path / 'plain.npz', tmp_path / 'merged.npz'
    write_checkpoint(checkpoint, config_of(VIT, LINEAR))
    config = tmp_path / 'merging.py'
    text = [f'{key} = {value!r}' for key, value in config_of(VIT, LINEAR).items()]
    config.write_text('\n'.join([*text, 'inference = dict(token_merging_ratio=0.3)']))
    images = digit_folder / 'val'
    assert command('embed', checkpoint, images, '--out', index) == 0
    assert command('embed', checkpoint, images, '--out', merged, '--config', config) == 0
    assert not np.allclose(EmbeddingIndex(index).vectors, EmbeddingIndex(merged).vectors)
    for words in ([index, merged], [index, images, '--config', config], [merged, images],
                  [index, index, '--distractors', merged]):  # fmt: skip
        with pytest.raises(ValueError, match='the key inference of the config'):
            search(*words)
    with pytest.raises(ValueError, match='the key inference of the config'):
        command('embed', checkpoint, digit_folder / 'train', '--out', index, '--append', '--config', config)
    assert search(merged, images, '--config', config) == 0


def test_a_backward_compatible_checkpoint_searches_the_old_index_and_no_other(
    made, index, digit_folder, tmp_path, capfd
):
    """The checkpoint that records the weights of the index is taken; of wider embeddings the first numbers count."""
    old = EmbeddingIndex(index)
    other = write_checkpoint(tmp_path / 'new.pth', config_of(CNN, LINEAR), seed=1)[0]
    content = torch.load(other, weights_only=False)
    record_compatible(content, [dict(digest=old.about['digest'], checkpoint='old.pth', width=old.width)])
    torch.save(content, other)
    assert search(index, digit_folder / 'val', '--checkpoint', other) == 0
    assert 'trained to be backward-compatible with the model of the index' in capfd.readouterr().err
    command('embed', other, digit_folder / 'val', '--out', tmp_path / 'val.npz')
    capfd.readouterr()
    assert search(index, tmp_path / 'val.npz', '--out', tmp_path / 'a.csv') == 0
    queries = EmbeddingIndex(tmp_path / 'val.npz')
    wider = np.concatenate([queries.vectors, np.full((len(queries), 3), 9, np.float32)], axis=1)
    EmbeddingIndex.write(tmp_path / 'wide.npz', queries.paths, wider, queries.labels, queries.about)
    assert search(index, tmp_path / 'wide.npz', '--out', tmp_path / 'b.csv') == 0
    assert (tmp_path / 'a.csv').read_text() == (tmp_path / 'b.csv').read_text()
    with pytest.raises(ValueError, match='one model, but the weights differ'):
        search(tmp_path / 'val.npz', index)  # not the other way round
