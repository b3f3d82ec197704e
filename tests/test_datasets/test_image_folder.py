"""ImageFolder: class folders, annotation files, unreadable images, and messages for wrong folders."""

import logging
import re

import cv2
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmpretrain.datasets import PackInputs
from torch.utils.data import DataLoader

from hybridcls.datasets import ImageFolder
from hybridcls.datasets.transforms import UnreadableImageError
from hybridcls.registry import DATASETS

LOAD = [dict(type='hybridcls.LoadImage')]


def write_image(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((6, 5, 3), value, np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Three images of ants (values 0, 1, 2), two of bees (10, 11), one of cats (20)."""
    for number, (name, count) in enumerate([('ant', 3), ('bee', 2), ('cat', 1)]):
        for image in range(count):
            write_image(tmp_path / 'train' / name / f'{image}.png', 10 * number + image)
    return tmp_path


@pytest.fixture
def logged(monkeypatch):
    messages = []
    monkeypatch.setattr(
        'hybridcls.datasets.image_folder.print_log', lambda text, level, **kwargs: messages.append((level, text))
    )
    return messages


def values(dataset):
    return [int(sample['img'][0, 0, 0]) for sample in (dataset[index] for index in range(len(dataset)))]


def test_class_folders(folder):
    dataset = DATASETS.build(
        dict(type='hybridcls.ImageFolder', data_root=str(folder), data_prefix='train', pipeline=LOAD)
    )
    assert dataset.metainfo['classes'] == ('ant', 'bee', 'cat')
    assert dataset.get_gt_labels().tolist() == [0, 0, 0, 1, 1, 2]
    assert values(dataset) == [0, 1, 2, 10, 11, 20]
    assert dataset[4]['ori_shape'] == (6, 5)
    assert dataset.get_cat_ids(4) == [1]


def test_images_may_lie_deeper_and_hidden_ones_are_left_out(folder):
    write_image(folder / 'train' / 'cat' / 'a' / 'b' / 'deep.JPG', 30)
    write_image(folder / 'train' / 'cat' / '.ipynb_checkpoints' / '0-checkpoint.png', 40)
    write_image(folder / 'train' / '.hidden' / '0.png', 50)
    write_image(folder / 'train' / '__MACOSX' / '0.png', 50)
    (folder / 'train' / 'cat' / 'notes.txt').write_text('no image')
    dataset = ImageFolder(data_root=str(folder / 'train'), pipeline=LOAD)
    assert dataset.metainfo['classes'] == ('ant', 'bee', 'cat')
    assert len(dataset) == 7


def test_three_ways_to_set_the_folder(folder, monkeypatch):
    monkeypatch.setenv('HOME', str(folder))
    monkeypatch.chdir(folder)
    for where in (
        dict(data_root='~/train'),
        dict(data_prefix='train'),
        dict(data_root='train'),
        dict(data_root=str(folder), data_prefix=dict(img_path='train')),
    ):
        assert len(ImageFolder(**where)) == 6


class TestClasses:
    def test_classes_number_the_folders_by_name(self, folder):
        dataset = ImageFolder(data_root=str(folder / 'train'), classes=['cat', 'bee', 'ant'])
        assert dataset.get_gt_labels().tolist() == [2, 2, 2, 1, 1, 0]
        assert dataset.CLASSES == ('cat', 'bee', 'ant')

    def test_a_split_that_lacks_a_folder_keeps_the_numbers(self, folder, logged):
        write_image(folder / 'val' / 'cat' / '0.png', 7)
        dataset = ImageFolder(
            data_root=str(folder), data_prefix='val', classes=['ant', 'bee', 'cat'], empty_classes='warn'
        )
        assert dataset.get_gt_labels().tolist() == [2]
        assert 'no image for 2 of 3 classes' in logged[0][1]
        assert '0 (ant), 1 (bee)' in logged[0][1]

    def test_titles_follow_the_alphabetical_order(self, folder):
        dataset = ImageFolder(data_root=str(folder / 'train'), classes=['Ameise', 'Biene', 'Katze'])
        assert dataset.get_gt_labels().tolist() == [0, 0, 0, 1, 1, 2]
        assert dataset.metainfo == dict(classes=('Ameise', 'Biene', 'Katze'), class_folders=('ant', 'bee', 'cat'))

    def test_folder_that_is_not_a_class_is_named(self, folder):
        with pytest.raises(ValueError, match=r'among the 3 classes, got cat\. Did you mean .cats.'):
            ImageFolder(data_root=str(folder / 'train'), classes=['ant', 'bee', 'cats'])


class TestNotThere:
    def test_missing_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(FileNotFoundError) as caught:
            ImageFolder(data_root='data/flowers', data_prefix='train')
        assert f'the folder {tmp_path / "data/flowers/train"} does not exist' in str(caught.value)
        assert 'top-level data_root of the config' in str(caught.value)
        assert '--cfg-options data_root=' in str(caught.value)

    def test_missing_subfolder(self, folder):
        with pytest.raises(FileNotFoundError, match=r"contains the folders train\. Did you mean 'train'.*data_prefix"):
            ImageFolder(data_root=str(folder), data_prefix='trian')

    def test_lazy_init_does_not_check_the_folder(self):
        dataset = ImageFolder(data_root='/nowhere', lazy_init=True)
        with pytest.raises(FileNotFoundError, match='/nowhere'):
            dataset.full_init()

    def test_missing_annotation_file(self, folder):
        with pytest.raises(FileNotFoundError, match=r"ann_file='.*/train.txt' does not exist .*data_root"):
            ImageFolder(data_root=str(folder), ann_file='train.txt')

    def test_no_data_root(self):
        with pytest.raises(ValueError, match='expected a data_root, got none'):
            ImageFolder()

    def test_folder_without_images(self, tmp_path):
        (tmp_path / 'a').mkdir()
        (tmp_path / 'a' / 'x.psd').touch()
        (tmp_path / 'a' / 'y.psd').touch()
        with pytest.raises(ValueError, match=r'no image in .*Left out: \.psd \(2\)\..*\.bmp, .*\.jpeg, .*\.jpg'):
            ImageFolder(data_root=str(tmp_path), classes=['a'])

    def test_images_without_class_folders(self, tmp_path):
        write_image(tmp_path / '0.png', 1)
        with pytest.raises(ValueError, match=r'no class folders; .* with_label=False'):
            ImageFolder(data_root=str(tmp_path))


class TestLevel:
    """The folder of the class folders, or one above it."""

    def test_train_and_val_are_not_classes(self, folder):
        write_image(folder / 'val' / 'ant' / '0.png', 1)
        with pytest.raises(ValueError, match=r"got train, val: splits of a dataset\. Set data_prefix='train'"):
            ImageFolder(data_root=str(folder))
        assert len(ImageFolder(data_root=str(folder), classes=['train', 'val'])) == 7
        (folder / 'x').mkdir()
        (folder / 'train').rename(folder / 'x' / 'train')
        with pytest.raises(ValueError, match=r"Set data_prefix='x/train'"):
            ImageFolder(data_root=str(folder), data_prefix='x')

    def test_single_folder_of_folders_is_an_error(self, folder):
        (folder / 'train').rename(folder / 'insects')
        with pytest.raises(
            ValueError, match=r"got only insects, .* ant, bee, cat\. Set data_prefix='insects'.*classes="
        ):
            ImageFolder(data_root=str(folder))

    def test_single_class_is_a_warning(self, tmp_path, logged):
        write_image(tmp_path / 'ant' / '0.png', 1)
        assert len(ImageFolder(data_root=str(tmp_path))) == 1
        assert [level for level, _ in logged] == [logging.WARNING]
        assert 'one class folder, ant' in logged[0][1]
        assert len(ImageFolder(data_root=str(tmp_path), classes=['ant'])) == 1
        assert len(logged) == 1, 'no warning if classes name the single class'

    def test_same_folders_in_each_class_are_a_warning(self, tmp_path, logged):
        for city in ('london', 'paris'):
            for name in ('ant', 'bee'):
                write_image(tmp_path / city / name / '0.png', 1)
        assert ImageFolder(data_root=str(tmp_path)).CLASSES == ('london', 'paris')
        assert 'london, paris' in logged[0][1]
        assert 'all contain the folders ant, bee' in logged[0][1]
        assert "data_prefix='london'" in logged[0][1]


class TestDescribe:
    def test_describe_counts_images_and_skipped_files(self, folder):
        cat = folder / 'train' / 'cat'
        cv2.imwrite(str(cat / 'grey.png'), np.zeros((4, 4), np.uint8))
        cv2.imwrite(str(cat / 'deep.png'), np.zeros((4, 4, 3), np.uint16))
        cv2.imwrite(str(cat / 'alpha.png'), np.zeros((4, 4, 4), np.uint8))
        for name in ('notes.txt', 'more.txt', '.hidden.png', '.a', '.b'):
            (cat / name).touch()
        write_image(folder / 'train' / 'beside.png', 3)
        assert ImageFolder(data_root=str(folder), data_prefix='train').describe() == (
            f'ImageFolder {folder}/train: 9 images of 3 classes (2 to 4 each). Left out: hidden (3), .txt (2), '
            'images beside the class folders (1). Formats, from the headers of all: RGB (6), RGB with transparency '
            '(1), 16-bit RGB (1), grey (1).'
        )

    def test_headers_of_a_sample(self, tmp_path):
        for number in range(150):
            write_image(tmp_path / 'a' / f'{number}.png', 1)
        (tmp_path / 'b').mkdir()
        (tmp_path / 'b' / '0.png').touch()
        logged = ImageFolder(data_root=str(tmp_path), indices=130).describe()
        assert ': 151 images of 2 classes (1 to 150 each), of which indices keeps 130.' in logged
        assert logged.endswith(' Formats, from the headers of a sample of 64: RGB (64).')
        dataset = ImageFolder(data_root=str(tmp_path), with_label=False, on_unreadable='skip', verify=True)
        assert ': 150 images. Left out: unreadable (1).' in dataset.describe()

    def test_annotation_file(self, folder):
        (folder / 'a.csv').write_text('ant/0.png,ant\nnothing.png,ant\n')
        dataset = ImageFolder(data_root=str(folder), data_prefix='train', ann_file='a.csv')
        assert dataset.describe() == (
            f'ImageFolder {folder}/a.csv: 2 images of 1 class (2 each). Formats, from the headers of all: RGB (1), '
            'without a known header (1).'
        )


def test_an_empty_class_is_named(folder, logged):
    (folder / 'train' / 'dog').mkdir()
    with pytest.raises(ValueError, match=r"no image for 1 of 4 classes in .*train: 3 \(dog\)\..* empty_classes='warn'"):
        ImageFolder(data_root=str(folder / 'train'))
    dataset = ImageFolder(data_root=str(folder / 'train'), empty_classes='warn')
    assert dataset.CLASSES == ('ant', 'bee', 'cat', 'dog')
    assert logged[0][0] == logging.WARNING
    assert '3 (dog)' in logged[0][1]


def test_without_labels(folder):
    dataset = ImageFolder(data_root=str(folder), with_label=False, pipeline=LOAD)
    assert values(dataset) == [0, 1, 2, 10, 11, 20]
    assert 'gt_label' not in dataset[0]


class TestList:
    def build(self, folder, name, text, **kwargs):
        (folder / name).write_text(text)
        return ImageFolder(data_root=str(folder), data_prefix='train', ann_file=name, pipeline=LOAD, **kwargs)

    def test_numbers_and_paths_with_spaces(self, folder):
        write_image(folder / 'train' / 'cat' / 'a cat.png', 21)
        dataset = self.build(folder, 'a.txt', 'ant/1.png 0\n\ncat/a cat.png 1\n')
        assert values(dataset) == [1, 21]
        assert dataset.get_gt_labels().tolist() == [0, 1]
        assert dataset.CLASSES == ('0', '1')

    def test_labels_are_names(self, folder):
        dataset = self.build(folder, 'a.txt', 'cat/0.png cat\nant/1.png ant\n')
        assert dataset.get_gt_labels().tolist() == [1, 0]
        assert dataset.CLASSES == ('ant', 'cat')

    def test_csv_with_and_without_heading(self, folder):
        for heading in ('', 'path,label\n'):
            dataset = self.build(folder, 'a.csv', heading + '"cat/0.png",cat,extra\nant/1.png, ant\n')
            assert values(dataset) == [20, 1]
            assert dataset.get_gt_labels().tolist() == [1, 0]

    def test_without_labels(self, folder):
        dataset = self.build(folder, 'a.txt', 'cat/0.png\nant/1.png\n', with_label=False)
        assert values(dataset) == [20, 1]

    def test_ann_format(self, folder):
        text = 'Bild;Größe;Klasse\ncat/0.png;3;Küken\nant/1.png;4;Ameise\n'.encode('cp1252')
        (folder / 'a.csv').write_bytes(text)
        settings = dict(data_root=str(folder), data_prefix='train', ann_file='a.csv', pipeline=LOAD)
        with pytest.raises(ValueError, match=r"ann_format=dict\(encoding='cp1252'\)"):
            ImageFolder(**settings)
        with pytest.raises(ValueError, match=r"the path in .* got 'Bild', 'Größe', 'Klasse'.*ann_format=dict\(columns"):
            ImageFolder(**settings, ann_format=dict(encoding='cp1252'))
        dataset = ImageFolder(**settings, ann_format=dict(encoding='cp1252', columns=('Bild', 'Klasse')))
        assert dataset.CLASSES == ('Ameise', 'Küken')
        assert values(dataset) == [20, 1]
        with pytest.raises(TypeError, match=r"ann_format: unknown key 'encodnig'\. Did you mean 'encoding'"):
            ImageFolder(**settings, ann_format=dict(encodnig='cp1252'))

    def test_class_names_that_are_numbers(self, folder):
        dataset = self.build(folder, 'a.txt', 'cat/0.png 7\nant/1.png 3\n', classes=['7', '3'])
        assert dataset.get_gt_labels().tolist() == [0, 1]
        assert dataset.metainfo == dict(classes=('7', '3'))

    def test_labels_are_all_names_or_all_numbers(self, folder):
        dataset = self.build(folder, 'a.txt', 'cat/0.png 0\nant/1.png 1\n', classes=['1', '2'])
        assert dataset.get_gt_labels().tolist() == [0, 1]
        with pytest.raises(ValueError, match=r"in a list of numbers, got '1' in line 2 of"):
            self.build(folder, 'a.txt', 'cat/0.png cat\nant/1.png 1\n', classes=['ant', 'cat'])

    def test_leading_zeros_are_names(self, folder):
        dataset = self.build(folder, 'a.txt', 'cat/0.png 007\nant/1.png 003\n')
        assert dataset.get_gt_labels().tolist() == [1, 0]
        assert dataset.metainfo == dict(classes=('003', '007'))

    def test_test_set_may_lack_numbers(self, folder):
        dataset = self.build(folder, 'a.txt', 'cat/0.png 2\n', test_mode=True)
        assert dataset.metainfo == dict(classes=('0', '1', '2'), classes_are_numbers=True)
        with pytest.raises(ValueError, match=r'no image for 2 of 3 classes in .*: 0 \(0\), 1 \(1\)'):
            self.build(folder, 'a.txt', 'cat/0.png 2\n')

    @pytest.mark.parametrize(
        ('text', 'message'),
        [
            ('cat/0.png\n', "expected a label in line 1 of .*a.txt, got 'cat/0.png'"),
            ('ant/1.png ant\ncat/0.png cta\n', "got 'cta' in line 2 of .* Did you mean 'cat'"),
            ('ant/1.png 3\n', "a number from 0 to 2 .*, got '3'"),
            ('ant/1.png -1\n', "got '-1' in line"),
            ('\n', 'lists no image'),
            ('ant/1.png ant\n', r'no image for 2 of 3 classes in .*a.txt: 1 \(bee\), 2 \(cat\)'),
        ],
    )
    def test_invalid_lines_are_named(self, folder, text, message):
        with pytest.raises(ValueError, match=message):
            self.build(folder, 'a.txt', text, classes=['ant', 'bee', 'cat'])

    def test_a_listed_file_that_is_missing_is_named(self, folder):
        dataset = self.build(folder, 'a.txt', 'ant/1.png 0\nant/nothing.png 0\n')
        with pytest.raises(UnreadableImageError, match=r'ant/nothing\.png: No such file'):
            dataset[1]


class TestUnreadable:
    @pytest.fixture(autouse=True)
    def break_two(self, folder):
        """The second ant is cut, the first bee is empty."""
        path = folder / 'train' / 'ant' / '1.png'
        path.write_bytes(path.read_bytes()[:40])
        (folder / 'train' / 'bee' / '0.png').write_bytes(b'')

    def build(self, folder, pipeline=LOAD, **kwargs):
        return ImageFolder(data_root=str(folder), data_prefix='train', pipeline=pipeline, **kwargs)

    @pytest.mark.parametrize('loader', ['hybridcls.LoadImage', 'LoadImageFromFile'])
    @pytest.mark.parametrize('test_mode', [True, False])
    def test_unreadable_file_is_named_with_advice(self, folder, loader, test_mode):
        dataset = self.build(folder, [dict(type=loader)], test_mode=test_mode)
        assert len(dataset) == 6
        with pytest.raises(UnreadableImageError, match=r"train/ant/1\.png: .*on_unreadable='skip'"):
            dataset[1]
        with pytest.raises(UnreadableImageError, match=r'train/bee/0\.png: the file is empty'):
            dataset[3]

    @pytest.mark.parametrize('loader', ['hybridcls.LoadImage', 'LoadImageFromFile'])
    def test_skip_replaces_the_image_and_logs_once(self, folder, logged, loader):
        dataset = self.build(folder, [dict(type=loader)], on_unreadable='skip')
        for _ in range(3):
            assert values(dataset) == [0, 2, 2, 11, 11, 20]
            assert [dataset[index]['gt_label'] for index in range(6)] == [0, 0, 0, 1, 1, 2]
        assert [level for level, _ in logged] == [logging.ERROR] * 2
        assert 'ant/1.png' in logged[0][1]
        assert 'the file is empty' in logged[1][1]

    @pytest.mark.parametrize('workers', [0, 2])
    def test_skip_logs_once_for_all_workers_and_epochs(self, folder, tmp_path, workers):
        log = tmp_path / 'said.log'
        logger = MMLogger.get_instance(f'test_image_folder_{workers}', log_file=str(log))
        assert MMLogger.get_current_instance() is logger
        dataset = self.build(folder, on_unreadable='skip')
        loader = DataLoader(dataset, batch_size=None, num_workers=workers, collate_fn=lambda sample: sample['gt_label'])
        for _ in range(3):  # without persistent workers: new processes each time
            assert list(loader) == [0, 0, 0, 1, 1, 2]
        assert log.read_text().count('ant/1.png') == 1
        assert log.read_text().count('bee/0.png') == 1

    def test_skip_in_a_test_drops_unreadable_files(self, folder, logged):
        dataset = self.build(folder, on_unreadable='skip', test_mode=True)
        assert values(dataset) == [0, 2, 11, 20]
        assert dataset.get_gt_labels().tolist() == [0, 0, 1, 2]
        assert '2 of 6 images cannot be read and are left out' in logged[0][1]
        assert 'ant/1.png' in logged[0][1]
        assert 'bee/0.png' in logged[0][1]

    def test_file_that_breaks_during_a_test_is_an_error(self, folder):
        dataset = self.build(folder, on_unreadable='skip', test_mode=True)
        (folder / 'train' / 'cat' / '0.png').write_bytes(b'')
        with pytest.raises(UnreadableImageError, match='A test cannot replace an image'):
            dataset[3]

    def test_verify_lists_all_unreadable_files(self, folder):
        with pytest.raises(UnreadableImageError, match=r'2 of 6 images cannot be read:(?s:.*)ant/1\.png(?s:.*)bee/0'):
            self.build(folder, verify=True)

    def test_verify_drops_unreadable_files_in_training(self, folder):
        assert values(self.build(folder, on_unreadable='skip', verify=True)) == [0, 2, 11, 20]

    def test_a_class_that_loses_its_last_image_is_named(self, folder):
        (folder / 'train' / 'bee' / '1.png').write_bytes(b'')
        with pytest.raises(ValueError, match=r'no image for 1 of 3 classes in the readable files .*1 \(bee\)'):
            self.build(folder, on_unreadable='skip', verify=True)
        with pytest.raises(UnreadableImageError, match=r'no image of class 1 \(bee\) in'):
            self.build(folder, on_unreadable='skip')[3]

    def test_other_pipeline_errors_are_raised(self, folder):
        def fail(results):
            raise RuntimeError('a bug in a transform')

        with pytest.raises(RuntimeError, match='a bug in a transform'):
            self.build(folder, [*LOAD, fail], on_unreadable='skip')[0]

    def test_subset_keeps_track_of_its_files(self, folder, logged):
        dataset = self.build(folder, on_unreadable='skip').get_subset([2, 1, 0])
        assert values(dataset) == [2, 0, 0]
        assert self.build(folder, on_unreadable='skip', indices=[5, 1, 2])[1]['img'][0, 0, 0] == 2


def test_many_unreadable_files_in_a_row(tmp_path, logged):
    write_image(tmp_path / 'a' / '9999.png', 5)
    for number in range(1200):
        (tmp_path / 'a' / f'{number:04}.png').touch()
    dataset = ImageFolder(data_root=str(tmp_path), classes=['a'], pipeline=LOAD, on_unreadable='skip')
    assert dataset[0]['img'][0, 0, 0] == 5
    assert len(logged) == 1200


@pytest.mark.parametrize('wrong', [dict(empty_classes='ignore'), dict(on_unreadable='skipp')])
def test_invalid_choices_are_errors(wrong):
    with pytest.raises(ValueError, match=f'ImageFolder: expected {next(iter(wrong))} '):
        ImageFolder(data_root='x', **wrong)


def test_batches_through_a_pipeline(folder):
    pipeline = [*LOAD, dict(type='hybridcls.CenterCropToSize', img_size=4), dict(type='PackInputs')]
    dataset = ImageFolder(data_root=str(folder / 'train'), pipeline=pipeline)
    packed = dataset[5]
    assert packed['inputs'].dtype == torch.uint8
    assert packed['inputs'].shape == (3, 4, 4)
    assert packed['data_samples'].gt_label.tolist() == [2]
    assert packed['data_samples'].img_path.endswith('train/cat/0.png')


def test_its_loader_knows_the_crop_that_follows(tmp_path):
    """Of 60 pixels, a crop to 6 needs 8 at most: no whole image is decoded."""
    (tmp_path / 'a').mkdir()
    cv2.imwrite(str(tmp_path / 'a' / '0.jpg'), np.full((60, 60, 3), 9, np.uint8))
    crop = dict(type='hybridcls.RandomCropToSize', img_size=6, crop_ratio_range=(1.0, 1.0), ratio=(1.0, 1.0))
    pipeline = [dict(type='hybridcls.LoadImage', decode_scale='crop'), crop]
    dataset = ImageFolder(data_root=str(tmp_path), pipeline=pipeline)
    loaded = dataset.pipeline.transforms[0](dataset.get_data_info(0))
    assert loaded['img'].shape == (8, 8, 3)
    assert loaded['ori_shape'] == (60, 60)
    assert dataset[0]['img'].shape == (6, 6, 3)


class TestSplit:
    def test_folders_of_splits(self, folder):
        write_image(folder / 'Validation' / 'cat' / '0.png', 7)
        assert values(ImageFolder(data_root=str(folder), split='train', pipeline=LOAD)) == [0, 1, 2, 10, 11, 20]
        assert values(ImageFolder(data_root=str(folder), split='val', pipeline=LOAD)) == [7]
        with pytest.raises(ValueError, match=r"folder for split='test' in .*, got the splits Validation, train\. A"):
            ImageFolder(data_root=str(folder), split='test')

    def test_class_folders_only(self, folder):
        with pytest.raises(ValueError, match=r"split='val' in .*train, got no folders of splits.*set data_prefix, or"):
            ImageFolder(data_root=str(folder / 'train'), split='val')
        with pytest.raises(FileNotFoundError, match='nowhere does not exist'):
            ImageFolder(data_root=str(folder / 'nowhere'), split='val')

    def test_a_prefix_that_is_written_wins(self, folder):
        assert len(ImageFolder(data_root=str(folder), data_prefix='train', split='test')) == 6

    def table(self, folder, text, **settings):
        (folder / 'train' / 'a.csv').write_text(text)
        return ImageFolder(data_root=str(folder / 'train' / 'a.csv'), pipeline=LOAD, **settings)

    def test_a_table(self, folder):
        text = 'path,label,split\ncat/0.png,cat,Training\nant/1.png,ant,valid\nant/2.png,ant,train\n'
        train, val = (self.table(folder, text, split=split) for split in ('train', 'val'))
        assert (values(train), values(val)) == ([20, 2], [1])
        assert train.get_gt_labels().tolist() == [1, 0]
        assert val.get_gt_labels().tolist() == [0]
        assert train.CLASSES == val.CLASSES == ('ant', 'cat')  # numbered over all lines
        assert values(self.table(folder, text)) == [20, 1, 2]
        assert self.table(folder, text).get_data_info(1)['split'] == 'valid'
        assert re.search(r'a\.csv \(train\): 2 images of 2 classes', train.describe())

    @pytest.mark.parametrize(
        ('text', 'message'),
        [
            ('path,label\ncat/0.png,cat\n', "expected a column split in .*, for split='train'"),
            (
                'path,label,split\ncat/0.png,cat,trian\n',
                "train, val or test in the column split .* got 'trian' in line 2",
            ),
            ('path,label,split\ncat/0.png,cat,val\n', "no image of split='train' in .*, which has val \\(1\\)"),
            (
                'path,label,split\ncat/0.png,cat,val\nant/0.png,ant,train\n',
                r'no image for 1 of 2 classes in the lines of split=train in .*: 1 \(cat\)',
            ),
        ],
    )
    def test_wrong_tables(self, folder, text, message):
        with pytest.raises(ValueError, match=message):
            self.table(folder, text, split='train')

    def test_names_of_classes_that_are_numbers(self, folder):
        text = 'path,label\ncat/0.png,7\nant/1.png,3\n'
        dataset = self.table(folder, text, ann_format=dict(labels='names'))
        assert dataset.metainfo == dict(classes=('3', '7'))
        with pytest.raises(ValueError, match=r"ann_format labels.*'names'.*'numbers'"):
            self.table(folder, text, ann_format=dict(labels='numbers'))

    def test_paths_in_the_other_form_of_unicode_are_found(self, folder):
        write_image(folder / 'train' / 'cat' / 'Ku\u0308ken.png', 33)
        assert values(self.table(folder, 'path,label\ncat/K\u00fcken.png,cat\n')) == [33]


class TestMultiLabel:
    TEXT = 'path,label\ncat/0.png,cat|ant\nant/1.png,\nant/2.png,ant\n'

    def build(self, folder, text=TEXT, **settings):
        (folder / 'train' / 'a.csv').write_text(text)
        return ImageFolder(data_root=str(folder / 'train/a.csv'), multi_label=True, pipeline=LOAD, **settings)

    def test_labels_are_lists_and_an_empty_one_is_kept(self, folder):
        dataset = self.build(folder)
        assert dataset.CLASSES == ('ant', 'cat')
        assert [sample['gt_label'] for sample in (dataset[0], dataset[1], dataset[2])] == [[0, 1], [], [0]]
        assert dataset.get_gt_labels() == [[0, 1], [], [0]]
        assert dataset.get_cat_ids(0) == [0, 1]
        assert '3 images of 2 classes (1 to 2 each)' in dataset.describe()

    def test_a_data_sample_has_an_integer_tensor(self, folder):
        dataset = self.build(folder)
        labels = [PackInputs()(dataset[number])['data_samples'].gt_label for number in range(3)]
        assert [label.tolist() for label in labels] == [[0, 1], [], [0]]
        assert {label.dtype for label in labels} == {torch.int64}

    def test_columns_of_classes(self, folder):
        dataset = self.build(folder, 'path,cat,ant\ncat/0.png,1,1\nant/1.png,0,0\nant/2.png,0,1\n')
        assert dataset.CLASSES == ('ant', 'cat')
        assert dataset.get_gt_labels() == [[0, 1], [], [0]]

    def test_classes_without_an_image(self, folder):
        with pytest.raises(ValueError, match=r'no image for 1 of 3 classes .*: 2 \(cow\)'):
            self.build(folder, classes=['ant', 'cat', 'cow'])

    def test_an_unreadable_image_is_replaced_by_any(self, folder, logged):
        (folder / 'train/ant/1.png').write_bytes(b'')
        dataset = self.build(folder, on_unreadable='skip')
        assert values(dataset) == [20, 2, 2]
        assert 'Another image of its class replaces it' in logged[0][1]

    def test_class_folders_are_refused(self, folder):
        with pytest.raises(ValueError, match=r'multi_label=True expects a table .* got the folder .*path and label'):
            ImageFolder(data_root=str(folder / 'train'), multi_label=True)


class TestNoImages:
    @pytest.mark.parametrize('content', [b'', b'no image'])
    def test_files_that_are_called_images_but_none_is(self, tmp_path, content):
        for number in range(70):
            path = tmp_path / 'cat' / f'{number}.jpg'
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        with pytest.raises(
            UnreadableImageError, match=r'none of 70 files .* is one, such as .*0\.jpg: .*Set data_root'
        ):
            ImageFolder(data_root=str(tmp_path))
        ImageFolder(data_root=str(tmp_path), extensions=['.jpg'])  # read by a transform of the user's own
        write_image(tmp_path / 'cat' / '69.jpg', 3)
        assert len(ImageFolder(data_root=str(tmp_path))) == 70
