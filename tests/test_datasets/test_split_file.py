"""A split file keeps every name to the letter."""

import csv
import io

import pytest

from hybridcls.datasets.annotation_file import Annotation, read_rows
from hybridcls.datasets.split_file import split_table

NAMES = ['cat', 'a b', ' a ', 'a.b', 'a,b', 'a;b', 'a|b', '"a"', "it's", '007', '3', 'é', '日本', 'a\u2028b']
ROWS = [Annotation(number, f'{name}/1.png', name, 'train', '') for number, name in enumerate(NAMES, 2)]


def test_what_is_written_is_read(tmp_path):
    (tmp_path / 'split.csv').write_bytes(split_table(ROWS))
    rows, _ = read_rows('Me', str(tmp_path / 'split.csv'), True, delimiter=',', labels='names')
    assert rows == ROWS


def test_other_readers_read_it():
    table = list(csv.DictReader(io.StringIO(split_table(ROWS).decode(), newline='')))
    assert [row['path'] for row in table] == [row.path for row in ROWS]
    assert {row['split'] for row in table} == {'train'}


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(UnicodeEncodeError):
        split_table([Annotation(2, 'cat/\udcff.png', 'cat', 'train', '')])
