"""Files that are left out are told by reason; folders in class folders where they may be the classes."""

import pytest
from made_images import class_folders, picture, save

from hybridcls.apis.doctor import examine_data


@pytest.fixture
def root(tmp_path):
    class_folders(tmp_path / 'data' / 'val', cat=2, dog=2)
    return class_folders(tmp_path / 'data' / 'train', cat=3, dog=3).parent


def told(root, part):
    return [(one.level, one.change) for one in examine_data(str(root)).findings if part in one.what]


def test_an_image_without_its_decoder_is_a_warning_and_other_files_a_note(root, monkeypatch):
    monkeypatch.setattr(
        'hybridcls.datasets.image_files.missing_decoder', lambda suffix: 'pip install d' * (suffix == '.x')
    )
    (root / 'train' / 'cat' / 'photo.x').write_bytes(b'x')
    (root / 'train' / 'cat' / 'Thumbs.db').write_bytes(b'x')
    (root / 'train' / 'cat' / '._1.png').write_bytes(b'x')
    assert told(root, 'not read: .x') == [('warning', 'pip install d, or convert them')]
    assert told(root, 'left out: .db 1') == [('note', '')]
    assert not told(root, 'hidden')


def test_an_image_beside_the_class_folders(root):
    save(picture(77), root / 'train' / 'lost.png')
    assert [level for level, _ in told(root, 'beside the class folders')] == ['warning']


@pytest.mark.parametrize(
    ('folders', 'level'),
    [
        (('animals/ape', 'animals/bee'), 'warning'),  # the others have none
        (('cat', ), None),
    ],
)  # fmt: skip
def test_inner_folders_beside_plain_classes(root, folders, level):
    for number, folder in enumerate(folders):
        save(picture(500 + number), root / 'train' / folder / 'more.png')
    assert [one for one, _ in told(root, 'inner folders')] == [level] * (level is not None)


@pytest.mark.parametrize(('names', 'level'), [(('a', 'b', 'a', 'b'), 'warning'), (('a', 'b', 'c', 'd'), 'note')])
def test_inner_folders_of_all_classes(tmp_path, names, level):
    for number, name in enumerate(names):
        save(picture(9000 + number), tmp_path / 'val' / f'class{number // 2}' / f'{number}.png')
        for image in range(2):
            save(picture(10 * number + image), tmp_path / 'train' / f'class{number // 2}' / name / f'{image}.png')
    assert [one for one, _ in told(tmp_path, 'inner folders')] == [level]


def test_files_of_class_folders_that_the_run_divides(tmp_path):
    class_folders(tmp_path, cat=6, dog=6)
    (tmp_path / 'cat' / 'notes.txt').write_text('x')
    assert told(tmp_path, 'left out: .txt 1') == [('note', '')]
