"""Annotation files: delimiters, headings, encodings and labels, against lists written by hand."""

import os

import pytest

from hybridcls.datasets import read_annotations
from hybridcls.datasets.annotation_file import Annotation, number_label_sets, read_rows
from hybridcls.datasets.split_file import split_table

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


@pytest.mark.parametrize('name', ['new\nline.jpg', 'two\n\nlines.jpg', 'carriage\rreturn.jpg', 'both\r\n.jpg'])
def test_a_file_name_keeps_its_ends_of_lines(tmp_path, name):
    (tmp_path / 'split.csv').write_bytes(split_table([Annotation(0, name, 'a\nb', 'train'), Annotation(0, 'x', 'c')]))
    read = read_rows('Me', str(tmp_path / 'split.csv'), True, delimiter=',', labels='names')[0]
    assert [row[1:3] for row in read] == [(name, 'a\nb'), ('x', 'c')]


@pytest.mark.parametrize('lines', [1, 20_000])  # the second: more than a cell may hold
@pytest.mark.parametrize('options', [{}, dict(delimiter=',')])
def test_a_quotation_mark_that_is_not_closed(tmp_path, lines, options):
    (tmp_path / 'a.csv').write_text('path,label\n1.jpg,cat\n"2.jpg,cat\n' + '3.jpg,dog\n' * lines)
    with pytest.raises(ValueError, match=r'^Me: expected a closing quotation mark .* in line 3\. Close it'):
        read_annotations('Me', str(tmp_path / 'a.csv'), True, **options)


def test_a_quotation_mark_within_a_cell_is_text(tmp_path):
    (tmp_path / 'a.csv').write_text('path,label\n12" record.jpg,disc\nb.jpg,two" "words')
    assert [row[1:] for row in read_annotations('Me', str(tmp_path / 'a.csv'), True)] == [
        ('12" record.jpg', 'disc'),
        ('b.jpg', 'two" "words'),
    ]


def test_lines_are_numbered_as_in_the_file(tmp_path):
    (tmp_path / 'a.csv').write_text('path,label,x\n\na.jpg,cat,\n\nb.jpg,dog,"two\nlines"\nc.jpg,dog,\n')
    assert read_annotations('Me', str(tmp_path / 'a.csv'), True) == [
        (3, 'a.jpg', 'cat'),
        (5, 'b.jpg', 'dog'),
        (7, 'c.jpg', 'dog'),
    ]


class TestSplitGroupAndSeveralLabels:
    def read(self, tmp_path, text, name='a.csv', **options):
        (tmp_path / name).write_text(text, encoding='utf-8', newline='')
        return read_rows('Me', str(tmp_path / name), True, **options)

    def test_split_and_group_are_found_by_name(self, tmp_path):
        rows, _ = self.read(tmp_path, 'Group,Split,label,path\n7,train,cat,a.jpg\n,val,dog,b.jpg\n')
        assert rows == [Annotation(2, 'a.jpg', 'cat', 'train', '7'), Annotation(3, 'b.jpg', 'dog', 'val', '')]

    def test_without_such_columns_they_are_empty(self, tmp_path):
        assert self.read(tmp_path, 'path,label\na.jpg,cat\n')[0] == [Annotation(2, 'a.jpg', 'cat')]
        assert self.read(tmp_path, 'a.jpg,cat\n')[0] == [Annotation(1, 'a.jpg', 'cat')]

    def test_several_labels_in_a_cell_and_an_empty_one_is_none(self, tmp_path):
        text = 'path,label,split\na.jpg,cat|dog,train\nb.jpg,,val\nc.jpg\n'
        rows, classes = self.read(tmp_path, text, multi_label=True)
        assert [row.label for row in rows] == ['cat|dog', '', '']
        assert [row.split for row in rows] == ['train', 'val', '']
        assert classes is None

    @pytest.mark.parametrize('cell', ['0', '0.0', 'False', ''])
    def test_a_column_for_each_class(self, tmp_path, cell):
        text = f',path,dog,a cat,group\n0,a.jpg,1,TRUE,x\n1,b.jpg,{cell},1.0,y\n2,c.jpg,{cell},{cell},\n'
        rows, classes = self.read(tmp_path, text, multi_label=True)
        assert [row.label for row in rows] == ['dog|a cat', 'a cat', '']
        assert [row.group for row in rows] == ['x', 'y', '']
        assert classes == ['dog', 'a cat']

    @pytest.mark.parametrize(
        ('text', 'options', 'message'),
        [
            ('path,label\na.jpg,cat|dog\n', {}, r"got 'cat\|dog' in line 2 .* set multi_label=True .*labels='names'"),
            ('path,cat,dog\na.jpg,1,0\n', {}, 'got one of 0 and 1 for each of 2 classes. Set multi_label=True'),
            (
                'path,cat,width\na.jpg,1,640\n',
                dict(multi_label=True),
                "0 or 1 in the column 'width' of .*a.csv, got '640' in line 2. Take out columns that are no class",
            ),
            ('path,cat,dog\n,1,0\n', dict(multi_label=True), 'expected a path in line 2'),
            ('path,cat,dog\n', dict(multi_label=True), 'lists no image'),
            ('path,a|b,dog\na.jpg,1,0\n', dict(multi_label=True), r"class name without .* got 'a\|b'"),
            ('path,label\na.jpg,\n', {}, 'expected a label in line 2'),
        ],
    )
    def test_errors(self, tmp_path, text, options, message):
        with pytest.raises(ValueError, match=message):
            self.read(tmp_path, text, **options)

    def test_labels_that_are_names_to_the_letter(self, tmp_path):
        rows, _ = self.read(tmp_path, 'path,label\na.jpg, cat|dog \n', labels='names')
        assert rows[0].label == ' cat|dog '

    def test_letters_of_two_characters_become_one(self, tmp_path):
        assert self.read(tmp_path, 'path,label\na.jpg,Ku\u0308ken\n')[0][0].label == 'K\u00fcken'

    def test_lines_end_where_the_file_says(self, tmp_path):
        rows, _ = self.read(tmp_path, 'path,label\r\na\u2028b.jpg,cat\r\nc.jpg,dog\r\n')
        assert [row.path for row in rows] == ['a\u2028b.jpg', 'c.jpg']


def test_numbers_of_several_labels():
    rows = [Annotation(2, 'a', 'dog|cat|dog'), Annotation(3, 'b', ''), Annotation(4, 'c', ' dog ')]
    assert number_label_sets('Me', 'a.csv', rows, None) == ([[0, 1], [], [1]], ('cat', 'dog'))
    assert number_label_sets('Me', 'a.csv', rows, ['dog', 'cat', 'cow'])[0] == [[0, 1], [], [0]]
    with pytest.raises(ValueError, match=r"got 'cat' in line 2 of .*a\.csv"):
        number_label_sets('Me', 'a.csv', rows, ['dog'])
    with pytest.raises(ValueError, match=r'no image in .*a\.csv has a label'):
        number_label_sets('Me', 'a.csv', [Annotation(2, 'a', '')], None)


def test_names_that_are_not_utf8_may_stand_as_their_bytes_where_the_file_is_there(tmp_path):
    open(os.fsencode(tmp_path) + b'/gr\xfcn.png', 'wb').close()
    table = tmp_path / 'a.csv'
    table.write_bytes(b'path,label\ngr\xfcn.png,ant\n')
    rows, _ = read_rows('Me', str(table), True, folder=str(tmp_path))
    assert [row[1:3] for row in rows] == [('gr\udcfcn.png', 'ant')]
    text = 'as utf-8 text, got the byte 0xfc in line .*iconv -f CP1252'
    for content in (b'path,label\nK\xfcken.png,ant\n', b'path,label\ngr\xfcn.png,K\xfcken\n', b'Gr\xfcn;b\na;b\n'):
        table.write_bytes(content)
        with pytest.raises(ValueError, match=text):
            read_rows('Me', str(table), True, folder=str(tmp_path))
    table.write_bytes(b'path,label\ngr\xfcn.png,ant\n')
    with pytest.raises(ValueError, match=text):
        read_rows('Me', str(table), True)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('path,label\na.png,"x\nb.png,y\nc.png,z\n', 'a closing quotation mark .* in line 2'),
        ('path,label\na.png,x\nb.png,"y', 'a closing quotation mark .* in line 3'),
        ('path,label\na.png,"x\nb.png,y"\nc.png,z\n', 'a cell of several lines from line 2 on'),  # another one closes
        ('path,label,note\na.png,x,"two\nlines"\nb.png,y,"open\nc.png,z\n', 'a closing quotation mark .* in line 4'),
    ],
)
def test_a_quotation_mark_hides_no_image(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_notes_of_several_lines_may_stand_beside_images(tmp_path):
    text = 'path,label,note\na b/1.jpg,cat,"of two\nlines"\nc.png,golden retriever,"a ""b""\nc"\n'
    assert read(tmp_path, text) == WANTED


def test_names_with_line_breaks_are_read_from_a_split_file(tmp_path):
    rows = [Annotation(2, 'a\nb.png', 'cat', 'train', ''), Annotation(4, 'c.png', 'dog', 'val', 'g')]
    (tmp_path / 'split.csv').write_bytes(split_table(rows))
    found, _ = read_rows('Me', str(tmp_path / 'split.csv'), True, delimiter=',', labels='names')
    assert found == rows
