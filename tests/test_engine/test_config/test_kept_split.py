"""A split is made once; later starts read it, and say what has changed since."""

import errno
import os
from collections import Counter

import pytest
from made_images import class_folders, picture, save

from hybridcls.datasets import ImageFolder
from hybridcls.datasets.annotation_file import Annotation, read_rows
from hybridcls.engine.config import ConfigError
from hybridcls.engine.config.kept_split import kept_or_made, near_duplicates_across
from hybridcls.engine.config.split_settings import SplitSettings


def rows_of(root, **more):
    paths = sorted(path.relative_to(root) for path in root.rglob('*.png'))
    return [Annotation(0, str(path), path.parts[0], **more) for path in paths]


@pytest.fixture
def root(tmp_path):
    return class_folders(tmp_path / 'photos', ant=10, bee=5)


@pytest.fixture
def make(root, tmp_path):
    def call(rows=None, file=tmp_path / 'split.csv', **settings):
        return kept_or_made(rows or rows_of(root), str(root), SplitSettings(**settings), str(file), False)

    return call


def written(path):
    return [row._replace(line=0) for row in read_rows('Me', str(path), True, labels='names', delimiter=',')[0]]


def test_a_split_is_written_as_it_is_returned(make, tmp_path):
    rows, file, notes = make()
    assert file == str(tmp_path / 'split.csv')
    assert written(file) == rows
    assert Counter((row.label, row.split) for row in rows) == {
        ('ant', 'train'): 8, ('ant', 'val'): 2, ('bee', 'train'): 4, ('bee', 'val'): 1,
    }  # fmt: skip
    assert len(notes) == 1
    assert (
        f'is divided into 12 train, 3 val (val=0.2, seed=0). The next training reads the split from {file}' in notes[0]
    )


def test_the_next_start_reads_it_also_where_it_was_edited(make, tmp_path):
    rows, file, _ = make()
    again, _, notes = make()
    assert again == rows
    assert notes == [f'{tmp_path / "photos"} is divided into 12 train, 3 val by {file} of an earlier training.']
    first = rows[0]
    other = 'Training' if first.split == 'val' else 'valid'
    (tmp_path / 'split.csv').write_text(
        (tmp_path / 'split.csv').read_text().replace(f'{first.path},ant,{first.split}', f'{first.path},ant,{other}')
    )
    edited, _, notes = make()
    assert edited[0].split == ('train' if first.split == 'val' else 'val')
    assert edited[1:] == rows[1:]
    assert 'This is not the split that val=0.2, seed=0 of data_split makes' in notes[1]


@pytest.mark.parametrize('settings', [dict(val=0.4), dict(seed=1), dict(test=0.2)])
def test_other_settings_than_it_was_made_with_are_said(make, settings):
    rows = make()[0]
    again, _, notes = make(**settings)
    assert again == rows
    assert 'This is not the split that' in notes[1]


def test_images_that_are_new_or_gone(make, root, tmp_path):
    make()
    save(picture(77), root, 'bee', 'new.png')
    (root / 'ant' / '0.png').unlink()
    (root / 'ant' / '1.png').unlink()
    rows, file, notes = make(rows_of(root))
    assert len(rows) == 13
    assert written(file) == rows
    assert '1 image added since then and not used, 2 missing. Remove the file to split all images again.' in notes[1]


def test_labels_are_those_of_today(make, root, tmp_path):
    rows, file, _ = make()
    changed = [row._replace(split='', label='cow' if row.path == 'bee/0.png' else row.label) for row in rows]
    again = make(changed)[0]
    assert {row.path: row.label for row in again}['bee/0.png'] == 'cow'
    assert written(file) == again


def test_a_split_of_other_images_is_refused(make, root):
    make()
    with pytest.raises(ConfigError, match=r'split\.csv is the split of other images: none of its 15 is in .*Remove it'):
        make([Annotation(0, 'x/1.png', 'x')])


def test_near_duplicates_are_kept_together_and_those_of_other_classes_said(make, root):
    for number in range(4):
        save(picture(number, (96, 80)).transpose(0), root, 'ant', f'{number}_turned.png')
    save(picture(9), root, 'bee', 'same as ant 9.png')
    rows, _, notes = make()
    groups = {row.group for row in rows} - {''}
    assert len(groups) == 5
    assert all(len({row.split for row in rows if row.group == group}) == 1 for group in groups)
    assert '10 near-duplicates kept together' in notes[0]
    assert '2 images nearly equal to one with another label: ant/9.png, bee/same as ant 9.png.' in notes[1]


def test_they_may_be_left_alone(make, root, monkeypatch):
    monkeypatch.setattr('hybridcls.engine.config.kept_split.groups_of_near_duplicates', None)
    assert {row.group for row in make(near_duplicates=False)[0]} == {''}


def test_groups_that_are_given_stay(make, root):
    rows = [row._replace(group='burst' if row.label == 'bee' and row.path < 'bee/3' else '') for row in rows_of(root)]
    divided = make(rows)[0]
    assert len({row.split for row in divided if row.group == 'burst'}) == 1
    assert Counter(row.group for row in divided)['burst'] == 3


def test_images_of_the_test_stay_there(make, root):
    rows = [row._replace(split='test' if row.path.endswith('4.png') else '') for row in rows_of(root)]
    divided = make(rows, test=0.3)[0]
    assert [row.path for row in divided if row.split == 'test'] == ['ant/4.png', 'bee/4.png']


def test_classes_without_a_validation_image_are_named(make, root):
    save(picture(88), root, 'cow', '1.png')
    save(picture(89), root, 'dog', '1.png')
    rows, _, notes = make(rows_of(root))
    assert {row.split for row in rows if row.label in ('cow', 'dog')} == {'train'}
    assert '2 of 4 classes have too few images for one in the validation: cow, dog.' in notes


def test_too_few_images(make):
    with pytest.raises(ConfigError, match=r'photos: expected at least 5 images .* got 3\. Add images'):
        make([Annotation(0, f'a/{number}.png', 'a') for number in range(3)])


class TestFolds:
    def test_each_image_is_the_validation_once(self, make, tmp_path):
        parts = [make(folds=3, fold=fold) for fold in (1, 2, 3)]
        assert [file for _, file, _ in parts] == [str(tmp_path / f'split_fold{fold}.csv') for fold in (1, 2, 3)]
        validated = [row.path for rows, _, _ in parts for row in rows if row.split == 'val']
        assert len(validated) == len(set(validated)) == 15
        assert all(written(file) == rows for rows, file, _ in parts)
        assert {row.split for row in written(tmp_path / 'split.csv')} == {'fold1', 'fold2', 'fold3'}

    def test_a_test_is_the_same_in_all(self, make):
        tested = [[row.path for row in make(folds=2, fold=fold, test=0.2)[0] if row.split == 'test'] for fold in (1, 2)]
        assert tested[0] == tested[1]
        assert len(tested[0]) == 3

    @pytest.mark.parametrize(
        ('before', 'now', 'message'),
        [
            (dict(folds=3, fold=1), {}, r'has 3 folds \(fold1, fold2, fold3\), not data_split folds=None'),
            ({}, dict(folds=3, fold=1), r'has no folds \(\), not data_split folds=3'),
            (dict(folds=3, fold=1), dict(folds=5, fold=1), 'has 3 folds .* not data_split folds=5'),
        ],
    )
    def test_another_number_of_folds_is_refused(self, make, before, now, message):
        make(**before)
        with pytest.raises(ConfigError, match=message):
            make(**now)


class TestFullDisk:
    @pytest.fixture
    def full(self, monkeypatch):
        def fsync(handle):
            raise OSError(errno.ENOSPC, 'No space left on device')

        monkeypatch.setattr('os.fsync', fsync)

    def test_nothing_is_left(self, make, tmp_path, full):
        with pytest.raises(OSError, match=r'split\.csv could not be written \(No space left on device\)'):
            make()
        assert [path.name for path in tmp_path.iterdir()] == ['photos']

    def test_what_was_there_stays(self, make, root, tmp_path, monkeypatch):
        file = make()[1]
        before = (tmp_path / 'split.csv').read_bytes()
        (root / 'ant' / '0.png').unlink()
        monkeypatch.setattr('os.replace', lambda *paths: (_ for _ in ()).throw(OSError(errno.ENOSPC, 'full')))
        with pytest.raises(OSError, match='could not be written'):
            make(rows_of(root))
        assert (tmp_path / 'split.csv').read_bytes() == before
        assert str(tmp_path / 'split.csv') == file


class TestNamesThatAreNotUTF8:
    @pytest.fixture
    def raw(self, root):
        for number in (3, 4):
            (root / 'ant' / f'{number}.png').rename(os.fsdecode(os.fsencode(root) + b'/ant/\xff%d.png' % number))
        return root

    def test_of_files_are_kept(self, raw, make, tmp_path):
        rows, file, _ = make()
        again, _, notes = make(rows_of(raw))
        assert again == rows
        assert len(notes) == 1
        (raw / 'ant' / '\udcff4.png').unlink()
        left, _, notes = make(rows_of(raw))
        assert left == [row for row in rows if row.path != 'ant/\udcff4.png']
        assert 'and not used, 1 missing' in notes[1]
        of_train = dict(data_root=str(raw), ann_file=file, ann_format=dict(delimiter=',', labels='names'))
        assert len(ImageFolder(**of_train, split='val')) == sum(row.split == 'val' for row in left)

    def test_of_near_duplicates_are_listed(self, tmp_path):
        for path in ('train/ant/\udcff.png', 'val/ant/\udcff.png'):
            save(picture(1), tmp_path, path)
        rows = [row._replace(split=row.path.split('/')[0]) for row in rows_of(tmp_path)]
        file = str(tmp_path / 'near.csv')
        for _ in range(2):
            assert len(near_duplicates_across(rows, str(tmp_path), file)) == 1

    def test_of_a_class_are_refused(self, make):
        rows = [Annotation(0, f'\udcff/{number}.png', 'a\udcff'[number % 2]) for number in range(12)]
        with pytest.raises(ConfigError, match=r'split.csv: expected names of classes in UTF-8, got .*Rename it'):
            make(rows, near_duplicates=False)


class TestSplitsOfTheUser:
    def rows(self, tmp_path):
        one = class_folders(tmp_path / 'photos' / 'train', ant=3)
        save(picture(1).transpose(0), tmp_path, 'photos/val/ant/turned.png')
        save(picture(50), tmp_path, 'photos/val/ant/other.png')
        save(picture(2), tmp_path, 'photos/train/ant/2_copy.png')
        root = one.parent
        return root, [row for split in ('train', 'val') for row in self.of(root, split)]

    def of(self, root, split):
        paths = sorted(path.relative_to(root) for path in (root / split).rglob('*.png'))
        return [Annotation(0, str(path), 'ant', split) for path in paths]

    def test_near_duplicates_across_splits_are_listed_once(self, tmp_path, monkeypatch):
        root, rows = self.rows(tmp_path)
        file = tmp_path / 'near_duplicates.csv'
        notes = near_duplicates_across(rows, str(root), str(file))
        assert notes[0].startswith('2 images nearly equal to an image of another split of ')
        assert [(row.path, row.split) for row in written(file)] == [
            ('train/ant/1.png', 'train'), ('val/ant/turned.png', 'val'),
        ]  # fmt: skip
        monkeypatch.setattr('hybridcls.engine.config.kept_split.groups_of_near_duplicates', None)
        assert near_duplicates_across(rows, str(root), str(file)) == notes

    def test_none_is_not_said(self, tmp_path):
        root, rows = self.rows(tmp_path)
        rows = [row for row in rows if 'turned' not in row.path]
        assert near_duplicates_across(rows, str(root), str(tmp_path / 'near.csv')) == []

    def test_too_many_are_not_compared(self, tmp_path, monkeypatch):
        root, rows = self.rows(tmp_path)
        monkeypatch.setattr('hybridcls.engine.config.kept_split._TOO_MANY', 3)
        assert near_duplicates_across(rows, str(root), str(tmp_path / 'near.csv')) == []
        assert not (tmp_path / 'near.csv').exists()
