"""A split file keeps every name to the letter."""

import csv
import io
import os

import pytest

from hybridcls.datasets.annotation_file import Annotation, read_rows
from hybridcls.datasets.split_file import read_split_table, split_table

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


def test_names_of_files_that_are_not_utf8_have_their_bytes(tmp_path):
    rows = [Annotation(2, 'gr\udce9.png', 'cat', 'train', ''), Annotation(3, 'gone\udcff.png', 'cat', 'val', '')]
    table = tmp_path / 'split.csv'
    table.write_bytes(split_table(rows))
    assert table.read_bytes().startswith(b'path,label,split,group\r\ngr\xe9.png,cat,train,\r\ngone\xff.png')
    with pytest.raises(ValueError, match='got the byte 0xe9 in line 2'):  # no file is called so: a table of Excel's
        read_split_table('Me', str(table), str(tmp_path))
    open(os.fsencode(tmp_path) + b'/gr\xe9.png', 'wb').close()
    for root in (tmp_path, table):
        assert read_split_table('Me', str(table), str(root)) == rows


def test_the_name_of_a_class_is_text():
    with pytest.raises(
        ValueError, match=r"names of classes in UTF-8, got 'k\\udcfc' \(of 'k\\udcfc/1.png'\). Rename it"
    ):
        split_table([Annotation(2, 'k\udcfc/1.png', 'k\udcfc', 'train', '')])
