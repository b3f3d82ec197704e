"""A file of answers in pieces: what is noted is on the disk, what is not is cut off."""

import json

import pytest

from hybridcls.cli import unfinished_answers
from hybridcls.cli.unfinished_answers import Progress, UnfinishedAnswers, digest_of


def begin(path, resume=False, force=False, digest='abc', **settings):
    return UnfinishedAnswers(str(path), Progress(digest, settings), resume, force)


def test_the_digest_is_of_paths_in_order():
    assert digest_of(['a', 'b']) != digest_of(['b', 'a'])
    assert digest_of(['ab']) != digest_of(['a', 'b'])
    assert digest_of(['caf\udce9']) == digest_of(iter(['caf\udce9']))  # a name that is no UTF-8


def test_parquet_of_rows_whose_first_thousands_differ_from_later_ones(tmp_path, monkeypatch):
    parquet = pytest.importorskip('pyarrow.parquet')
    monkeypatch.setattr(unfinished_answers, '_ROWS_OF_A_GROUP', 2)
    rows = [dict(path=f'{number}.jpg', label=None, vector=[1.5, 2.5]) for number in range(4)]
    rows.append(dict(path='\udcff.jpg', label='cat', vector=[3.5, 4.5]))
    file = begin(tmp_path / 'a.parquet')
    file.write(rows, 5, dict)
    file.finish()
    table = parquet.read_table(tmp_path / 'a.parquet').to_pydict()
    assert table['path'] == [b'0.jpg', b'1.jpg', b'2.jpg', b'3.jpg', b'\xff.jpg']
    assert table['label'] == [None] * 4 + ['cat']
    assert table['vector'][3:] == [[1.5, 2.5], [3.5, 4.5]]
    assert [one.name for one in tmp_path.iterdir()] == ['a.parquet']


@pytest.mark.parametrize('ending', ['.jsonl', '.parquet'])
def test_a_number_that_is_not_finite(tmp_path, ending):
    """JSON has none; Parquet has."""
    if ending == '.parquet':
        parquet = pytest.importorskip('pyarrow.parquet')
    file = begin(tmp_path / f'a{ending}')
    file.write([dict(path='x', probability=float('nan')), dict(path='y', probability=0.5)], 2, dict)
    file.finish()
    if ending == '.jsonl':
        lines = (tmp_path / 'a.jsonl').read_text().splitlines()
        rows = [json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in lines]
        assert [row['probability'] for row in rows] == [None, 0.5]
    else:
        found = parquet.read_table(tmp_path / 'a.parquet').to_pydict()['probability']
        assert found[0] != found[0]
        assert found[1] == 0.5


def test_rows_after_the_last_note_are_written_again(tmp_path, monkeypatch):
    monkeypatch.setattr(unfinished_answers, '_SECONDS_BETWEEN_NOTES', 0)
    file = begin(tmp_path / 'a.csv')
    file.write([dict(path='x', score=1.5), dict(path='y,"z"', score=2.5)], 2, lambda: dict(kept=7))
    monkeypatch.setattr(unfinished_answers, '_SECONDS_BETWEEN_NOTES', 1e9)
    file.write([dict(path='lost', score=0)], 3, dict)
    file._file.flush()  # the process is killed here
    again = begin(tmp_path / 'a.csv', resume=True)
    assert (again.progress.done, again.progress.more) == (2, dict(kept=7))
    again.write([dict(path='w', score=3.5)], 3, dict)
    again.finish()
    assert (tmp_path / 'a.csv').read_text() == 'path,score\nx,1.5\n"y,""z""",2.5\nw,3.5\n'
    assert [one.name for one in tmp_path.iterdir()] == ['a.csv']


def test_a_note_of_another_run_is_refused(tmp_path):
    file = begin(tmp_path / 'a.jsonl', top_k=1)
    file.write([dict(path='x')], 1, dict)
    file.leave(1, {})
    with pytest.raises(FileExistsError, match='has left 1 answers'):
        begin(tmp_path / 'a.jsonl', top_k=1)
    with pytest.raises(ValueError, match='the list of images has changed'):
        begin(tmp_path / 'a.jsonl', resume=True, digest='other', top_k=1)
    with pytest.raises(ValueError, match='had top_k 1, this one has 2'):
        begin(tmp_path / 'a.jsonl', resume=True, top_k=2)
    (tmp_path / '.a.jsonl.progress').write_text('{}')
    with pytest.raises(ValueError, match='is not the progress file of an interrupted run'):
        begin(tmp_path / 'a.jsonl', resume=True)
    (tmp_path / '.a.jsonl.progress').write_text(json.dumps(dict(digest='x', settings={}, done=1, size=14)))
    fresh = begin(tmp_path / 'a.jsonl', force=True)
    assert fresh.progress.done == 0
    fresh.leave(0, {})


def test_nothing_is_left_of_no_answers(tmp_path):
    begin(tmp_path / 'sub' / 'a.csv').leave(0, {})
    assert not list((tmp_path / 'sub').iterdir())


def test_a_run_that_ends_before_its_rows_are_written_keeps_its_last_note(tmp_path):
    file = begin(tmp_path / 'a.csv')
    file.write([dict(path='x')], 1, dict)
    file.note({})
    file.leave(2, dict(ahead=True))  # the answers were computed, and the interruption came before they were written
    assert begin(tmp_path / 'a.csv', resume=True).progress.more == {}


def test_a_parquet_file_of_no_rows(tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet')
    begin(tmp_path / 'a.parquet').finish()
    assert parquet.read_table(tmp_path / 'a.parquet').num_rows == 0


def test_a_run_killed_while_the_file_gets_its_name_loses_nothing(tmp_path, monkeypatch):
    """Rows stay rows until the file is there: cut off as rows, a converted file would be damaged."""
    rows = [dict(path='x'), dict(path='y')]

    def convert(of, to):
        to.write_text('|'.join(json.loads(line)['path'] for line in of.read_text().splitlines()))

    def begin_again(**more):
        return UnfinishedAnswers(str(tmp_path / 'a.npz'), Progress('abc', {}), convert=convert, force=False, **more)

    file = begin_again(resume=False)
    file.write(rows, 2, dict)
    file.note({})
    replace, calls = unfinished_answers.os.replace, []

    def killed(source, target):
        replace(source, target)
        calls.append(target)
        raise SystemExit

    monkeypatch.setattr(unfinished_answers.os, 'replace', killed)
    with pytest.raises(SystemExit):
        file.finish()
    monkeypatch.undo()
    assert calls
    begin_again(resume=True).finish()
    assert (tmp_path / 'a.npz').read_text() == 'x|y'
    assert [one.name for one in tmp_path.iterdir()] == ['a.npz']


def test_files_that_were_written_since_are_refused(tmp_path):
    photos = [tmp_path / f'{number}.jpg' for number in range(3)]
    for photo in photos:
        photo.write_text('photo')
    images = [*map(str, photos), 'https://example.org/x.jpg', None]

    def go(**more):
        return UnfinishedAnswers(str(tmp_path / 'a.csv'), Progress('abc', {}), force=False, images=images, **more)

    file = go(resume=False)
    for number, photo in enumerate(photos[:2]):
        file.write([dict(path=str(photo))], number + 1, dict)
        file.note({})
    file.leave(2, {})
    photos[2].write_text('written later')
    file = go(resume=True)
    file.write([dict(path='z')], 3, dict)
    file.leave(3, {})
    go(resume=True).leave(3, {})
    photos[0].unlink()
    with pytest.raises(ValueError, match=r'some of the 3 that are done have been written since. Add --force'):
        go(resume=True)
