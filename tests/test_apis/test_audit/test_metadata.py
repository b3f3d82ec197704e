"""Columns of tables find their images, or a sentence says why not."""

import pytest

from hybridcls.apis.audit.metadata import metadata_attributes


def test_tables_that_do_not_fit(tmp_path):
    table = tmp_path / 'a.csv'
    table.write_text('path,hour\n1.jpg,3\n')
    with pytest.raises(ValueError, match=r'that tell the images apart, got .* for /x/a/1'):
        metadata_attributes(str(table), ['/x/a/1.jpg', '/x/b/1.jpg'])
    with pytest.raises(ValueError, match='expected lines about the images'):
        metadata_attributes(str(table), ['/x/2.jpg'])
    table.write_text('path,hour\na/1.jpg,3\n./a/1.jpg,4\n')
    with pytest.raises(ValueError, match='one line for each image'):
        metadata_attributes(str(table), ['/x/a/1.jpg'])
    table.write_text('name,hour\n1.jpg,3\n')
    with pytest.raises(ValueError, match='expected a column path in the first line'):
        metadata_attributes(str(table), ['/x/1.jpg'])
    table.write_text('filename;label;hour\n/x/a/1.jpg;cat;3\n2.jpg;cat;\n')
    found, notes = metadata_attributes(str(table), ['/x/a/1.jpg', '/x/b/2.jpg', '/x/b/3.jpg', None])
    assert [(one.name, one.values.tolist(), one.brought) for one in found] == [('hour', ['3', '', '', ''], True)]
    assert notes == [f'Without a line in {table}: 2 of 4 images.']


def test_names_that_are_not_utf8_are_found_by_their_bytes(tmp_path):
    table = tmp_path / 'a.csv'
    table.write_bytes(b'path,hour\ngr\xfcn.jpg,3\nb.jpg,4\n')
    found, notes = metadata_attributes(str(table), ['/x/gr\udcfcn.jpg', '/x/b.jpg'])
    assert (found[0].values.tolist(), notes) == (['3', '4'], [])
    with pytest.raises(ValueError, match='iconv -f CP1252'):  # names no image: it is text
        metadata_attributes(str(table), ['/x/grün.jpg', '/x/b.jpg'])
    table.write_bytes(b'path,Gr\xf6\xdfe\na.jpg,3\n')
    with pytest.raises(ValueError, match='iconv -f CP1252'):
        metadata_attributes(str(table), ['/x/a.jpg'])
