"""Tables of decisions: what is dropped, what is relabelled, and what is refused."""

import os

import cv2
import numpy as np
import pytest

from hybridcls.datasets import ImageFolder
from hybridcls.datasets.label_decisions import read_decisions


@pytest.fixture
def folder(tmp_path):
    """Two images of ants, two of bees, one of a café."""
    for name in ('ant/0.png', 'ant/1.png', 'bee/0.png', 'bee/1.png', 'café/0.png'):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))
    return tmp_path / 'images'


@pytest.fixture
def table(tmp_path):
    def write(text):
        path = tmp_path / 'audit.csv'
        path.write_text(text, encoding='utf8')
        return str(path)

    return write


def shown(dataset):
    dataset.full_init()
    infos = [dataset.get_data_info(row) for row in range(len(dataset))]
    names = dataset.metainfo['classes']
    return {info['img_path'].split('images/')[1]: names[info['gt_label']] for info in infos}


def test_a_table_drops_and_relabels_what_a_person_decided(folder, table):
    file = table(
        'path,label,suggested,decision,score\nant/0.png,ant,bee,relabel,0.9\nbee/1.png,bee,ant,drop,0.8\n'
        'café/0.png,café,ant,keep,0.7\nbee/0.png,bee,ant,,0.6\n'
    )
    dataset = ImageFolder(data_root=str(folder), drop=file, relabel=file)
    assert shown(dataset) == {'ant/0.png': 'bee', 'ant/1.png': 'ant', 'bee/0.png': 'bee', 'café/0.png': 'café'}
    assert 'dropped by decision (1)' in dataset.describe()
    assert 'Relabelled by decision: 1' in dataset.describe()
    assert len(ImageFolder(data_root=str(folder), drop=file)) == 4


@pytest.mark.parametrize('mark', [';', '\t'])
def test_a_spreadsheet_may_have_saved_it(folder, table, mark):
    file = table('\ufeffPath;Decision\r\n"ant/0.png";Drop\r\n\r\n'.replace(';', mark))
    assert len(ImageFolder(data_root=str(folder), drop=file)) == 4
    absolute = table(f'path\n{folder}/ant/0.png\n{folder}/bee/0.png\n')  # without decisions all rows are meant
    assert set(shown(ImageFolder(data_root=str(folder), drop=absolute))) == {'ant/1.png', 'bee/1.png', 'café/0.png'}


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('path,decision\nant/9.png,drop\n', r"decides on 'ant/9.png', which is not an image of this dataset"),
        ('path,label,decision\nant/0.png,wasp,drop\n', r"got 'wasp' of 'ant/0.png'.*renamed"),
        ('path,label,decision\nant/0.png,bee,drop\n', r"made for another label of 'ant/0.png': 'bee', got 'ant'"),
        ('path,decision\nant/0.png,drpo\n', r"got 'drpo'. Did you mean 'drop'"),
        ('path,decision\nant/0.png,keep\n', r"has the decision 'drop'"),
        ('path,decision\nant/0.png,drop\nant/0.png,drop\n', r'twice, again in line 3'),
        ('name,decision\nant/0.png,drop\n', r"a column 'path'"),
        (
            'path,decision\ncafé/0.png,drop\n',
            r"^ImageFolder: the decisions in \S*csv leave no image of the class 'café'\. Take one of them back, or set "
            r"empty_classes='warn' in the dataset to train without it\.$",
        ),
        ('', 'empty file'),
        ('\n \n', 'empty file'),
        ('path,label,suggested,decision\n', r"no line of .* has the decision 'drop'"),
        ('ant/0.png,ant,bee,drop\n', r"expected a column 'path'"),
        ('PK\x03\x04', 'got the spreadsheet .* Save it as CSV'),
        ('path,decision\ncat/0.png,drop\ncat/1.png,drop\n', r"none of the 2 images that .*'cat/0.png' .*of other data"),
    ],
)
def test_what_cannot_be_meant_is_refused(folder, table, text, message):
    with pytest.raises(ValueError, match=message):
        ImageFolder(data_root=str(folder), drop=table(text))


def test_relabel_needs_a_class_that_is_there(folder, table):
    with pytest.raises(ValueError, match=r"got 'wasp'"):
        ImageFolder(data_root=str(folder), relabel=table('path,suggested,decision\nant/0.png,wasp,relabel\n'))
    with pytest.raises(ValueError, match=r"a column 'suggested'"):
        ImageFolder(data_root=str(folder), relabel=table('path,decision\nant/0.png,relabel\n'))


def test_images_of_another_split_stay_as_they_are(folder, table, tmp_path):
    rows = [
        'ant/0.png,ant,train',
        'ant/1.png,ant,val',
        'bee/0.png,bee,train',
        'bee/1.png,bee,val',
        'café/0.png,café,train',
    ]
    (folder / 'split.csv').write_text('\n'.join(['path,label,split', *rows]), encoding='utf8')
    file = table('path,label,suggested,decision\nant/0.png,ant,bee,relabel\nant/1.png,ant,bee,relabel\n')
    settings = dict(data_root=str(folder / 'split.csv'), empty_classes='warn')
    assert shown(ImageFolder(**settings, split='train', relabel=file))['ant/0.png'] == 'bee'
    assert shown(ImageFolder(**settings, split='val'))['ant/1.png'] == 'ant'


def test_the_digest_is_of_the_decisions(folder, table):
    first = read_decisions('me', table('path,decision,score\na.png,drop,0.9\nb.png,drop,0.8\n'), 'drop')
    other = read_decisions('me', table('path;decision\nb.png;drop\na.png;drop\nc.png;keep\n'), 'drop')
    assert first.digest == other.digest
    noted = dict(file=table('path,decision\na.png,drop\n'), digest=first.digest)
    with pytest.raises(ValueError, match='have changed since this training began'):
        read_decisions('me', noted, 'drop')


@pytest.mark.parametrize('line', ['fly/0.png,,drop', 'ant/0.png,bee,drop', 'café/0.png,,drop'])
def test_an_error_in_the_copy_of_a_training_sends_to_the_table(folder, table, line):
    file = table(f'path,label,decision\n{line}\n')
    with pytest.raises(ValueError, match=r'^ImageFolder: ') as of_table:
        ImageFolder(data_root=str(folder), drop=file).full_init()
    noted = dict(file=file, digest=read_decisions('me', file, 'drop').digest)
    with pytest.raises(ValueError, match=r'^ImageFolder: ') as of_copy:
        ImageFolder(data_root=str(folder), drop=noted).full_init()
    assert str(of_copy.value) == f'{of_table.value} ({file} is a copy in the work dir: change your own table.)'


def test_a_line_that_ends_early_decides_nothing(folder, table):
    file = table('path,suggested,decision\nbee/0.png\nant/0.png,bee,drop\n')
    assert 'bee/0.png' in shown(ImageFolder(data_root=str(folder), drop=file))
    first_is_short = table('label,path,suggested,decision\nant\nant,ant/0.png,bee,relabel\n')
    assert shown(ImageFolder(data_root=str(folder), relabel=first_is_short))['ant/0.png'] == 'bee'


def test_two_decisions_on_an_image_are_refused_with_the_line_as_an_editor_counts_it(table):
    file = table('path,suggested,decision\nant/0.png,bee,relabel\n\nant/0.png,bee,drop\n')
    with pytest.raises(ValueError, match=r"'ant/0\.png' twice, again in line 4"):
        read_decisions('X', file, 'drop')


def test_a_name_may_have_a_line_separator(table):
    assert read_decisions('X', table('path,decision\nant/\u2028.png,drop\n'), 'drop').drop == {'ant/\u2028.png': ''}


def test_a_name_that_is_not_utf8_is_dropped_by_its_bytes(folder, tmp_path):
    os.rename(folder / 'ant/0.png', os.fsencode(folder) + b'/ant/gr\xfcn.png')
    table = tmp_path / 'audit.csv'
    table.write_bytes('path,label,decision\nant/gr\udcfcn.png,ant,drop\n'.encode('utf8', 'surrogateescape'))
    assert 'ant/gr\udcfcn.png' not in shown(ImageFolder(data_root=str(folder), drop=str(table)))
    decisions = read_decisions('X', str(table), 'drop')
    copy = tmp_path / 'drop.csv'
    copy.write_bytes(decisions.content())
    assert read_decisions('X', str(copy), 'drop').digest == decisions.digest


@pytest.mark.parametrize('line', ['ant/K\u00fcken.png,ant,bee,relabel', 'ant/0.png,ant,K\u00fcken,relabel'])
def test_a_table_in_another_encoding_is_named_although_names_may_be_bytes(folder, tmp_path, line):
    table = tmp_path / 'audit.csv'
    table.write_bytes(f'path,label,suggested,decision\n{line}\n'.encode('cp1252'))
    with pytest.raises(ValueError, match=r'as utf-8 text, got the byte 0xfc in line 2.*iconv -f CP1252'):
        ImageFolder(data_root=str(folder), relabel=str(table))


@pytest.mark.parametrize('start', ['\n', '\r\n\r\n'])
def test_a_table_may_begin_with_empty_lines(table, start):
    assert read_decisions('Me', table(f'{start}path;decision\na.png;drop\n'), 'drop').drop == {'a.png': ''}


def test_a_table_of_commas_alone(table):
    with pytest.raises(ValueError, match="expected a column 'path'"):
        read_decisions('Me', table(',,\n'), 'drop')
