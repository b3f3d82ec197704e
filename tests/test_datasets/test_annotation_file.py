"""Annotation files: delimiters, headings, encodings and labels, against lists written by hand."""

import pytest

from hybridcls.datasets import read_annotations

WANTED = [('a b/1.jpg', 'cat'), ('c.png', 'golden retriever')]


def read(tmp_path, text, name='list.csv', with_label=True, **options):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return [entry[1:] for entry in read_annotations('Me', str(tmp_path / name), with_label, **options)]


def table(mark, *rows):
    return ''.join(f'{mark.join(row)}\n' for row in rows)


@pytest.mark.parametrize('mark', [',', ';', '\t'])
@pytest.mark.parametrize('name', ['list.csv', 'LIST.TSV'])
@pytest.mark.parametrize('heading', [None, ('path', 'label'), ('Image Name', 'Class'), ('FILENAME', 'target')])
def test_a_table_with_each_delimiter_and_heading(tmp_path, mark, name, heading):
    rows = [heading, *WANTED] if heading else WANTED
    assert read(tmp_path, table(mark, *rows), name) == WANTED


def test_file_with_tabs_is_a_table(tmp_path):
    assert read(tmp_path, table('\t', *WANTED), 'list.txt') == WANTED
    assert read(tmp_path, 'a b/1.jpg\n', 'list.txt', with_label=False) == [('a b/1.jpg', '')]


def test_columns_are_found_by_name_at_any_position(tmp_path):
    pandas = ',label,width,filename\n0,cat,3,a b/1.jpg\n1,golden retriever,4,c.png\n'
    assert read(tmp_path, pandas) == WANTED
    assert read(tmp_path, pandas.replace(',label', 'Unnamed: 0,label', 1)) == WANTED
    assert read(tmp_path, pandas, with_label=False) == [('a b/1.jpg', ''), ('c.png', '')]
    assert read(tmp_path, 'filename label\na.jpg cat\n', 'list.txt') == [('a.jpg', 'cat')]


def test_paths_without_extension(tmp_path):
    assert read(tmp_path, 'images/1,cat\nimages/2,dog\n') == [('images/1', 'cat'), ('images/2', 'dog')]
    assert read(tmp_path, 'images/1 cat\n', 'list.txt') == [('images/1', 'cat')]


@pytest.mark.parametrize(
    ('text', 'options', 'expected'),
    [
        ('Bild;Klasse\na b/1.jpg;cat\n', dict(columns=('Bild', 'Klasse')), 'cat'),
        ('x,a b/1.jpg,cat\n', dict(columns=(1, 2)), 'cat'),
        ('Nummer,Bild,Art\nx,a b/1.jpg,cat\n', dict(columns=(1, 2)), 'cat'),
        ('a b/1.jpg|cat\n', dict(delimiter='|'), 'cat'),
        ('a b/1.jpg;1,5\nb.jpg;2,5\n', dict(delimiter=';'), '1,5'),
        ('a b/1.jpg,Küken\n'.encode('cp1252'), dict(encoding='cp1252'), 'Küken'),
        ('path,label\na b/1.jpg,Küken\n'.encode('utf-8-sig'), {}, 'Küken'),
        ('path\tlabel\na b/1.jpg\tKüken\n'.encode('utf-16'), {}, 'Küken'),
    ],
)
def test_ann_format_resolves_ambiguous_files(tmp_path, text, options, expected):
    assert read(tmp_path, text, **options)[0] == ('a b/1.jpg', expected)


@pytest.mark.parametrize(
    ('name', 'text', 'options', 'message'),
    [
        (
            'a.csv',
            '0,a.jpg,cat\n1,b.jpg,dog\n',
            {},
            r"column for the path in .*, got '0', 'a\.jpg', 'cat'\. .*ann_format=dict\(columns=\(\.\.\., \.\.\.\)\)",
        ),
        ('a.csv', 'Bild,Klasse\na.jpg,cat\n', {}, "column for the path in .*, got 'Bild', 'Klasse'"),
        ('a.csv', 'image,diagnosis\na.jpg,cat\n', {}, "column for the label in .*, got 'image', 'diagnosis'"),
        ('a.csv', 'image,label,class\na.jpg,0,cat\n', {}, "column for the label in .*, got 'image', 'label', 'class'"),
        ('a.csv', 'image,path,label\na.jpg,b,0\n', {}, "column for the path in .*, got 'image', 'path', 'label'"),
        ('a.txt', 'bild klasse\na.jpg cat\n', {}, "column for the path in .*, got 'bild', 'klasse'"),
        (
            'a.csv',
            'a.jpg cat\nb.jpg dog\n',
            {},
            'expected one delimiter in .*, got neither tab nor semicolon nor comma',
        ),
        ('a.csv', 'a,1.jpg;cat\nb,2.jpg;dog\n', {}, "expected one delimiter in .*, got ';' and ','"),
        (
            'a.txt',
            'my a.jpg,cat\nmy b.jpg,dog\n',
            {},
            r"expected lines .*If ',' separates .*dict\(delimiter=','\)",
        ),
        ('a.txt', 'a.jpg;cat\n', {}, "If ';' separates"),
        ('a.csv', 'path,label\na.jpg,cat\nb.jpg,\n', {}, "expected a label in line 3 of .*, got 'b.jpg '"),
        ('a.csv', 'path,label\n', {}, 'lists no image'),
        ('a.csv', 'a.jpg,é\n'.encode('cp1252'), {}, r'as utf-8 text, got the byte 0xe9 in line 1\..*ann_format'),
        ('a.csv', 'a.jpg,cat\n', dict(encoding='utf9'), "name of an encoding, got 'utf9'"),
        ('a.csv', 'Bild,Art\na.jpg,cat\n', dict(columns=('Bid', 'Art')), "a column 'Bid' .* Did you mean 'Bild'"),
        ('a.csv', 'a.jpg,cat\n', dict(columns=(0, 2)), 'expected a column 2'),
        ('a.csv', 'a.jpg,cat\n', dict(columns='path'), r"expected ann_format columns=\(path, label\), got 'path'"),
    ],
)
def test_ambiguous_files_are_errors(tmp_path, name, text, options, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text, name, **options)


def test_lines_are_numbered_as_in_the_file(tmp_path):
    (tmp_path / 'a.csv').write_text('path,label\n\na.jpg,cat\n\nb.jpg,"two\nlines"\nc.jpg,dog\n')
    assert read_annotations('Me', str(tmp_path / 'a.csv'), True) == [
        (3, 'a.jpg', 'cat'),
        (6, 'b.jpg', 'twolines'),
        (7, 'c.jpg', 'dog'),
    ]
