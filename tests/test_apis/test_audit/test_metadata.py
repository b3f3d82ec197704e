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
