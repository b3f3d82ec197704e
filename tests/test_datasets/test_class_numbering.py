"""Class numbering: labels are matched by class name in every kind of dataset and wrapper, against numbers by hand."""

import logging

import numpy as np
import pytest
from mmengine.dataset import BaseDataset, ClassBalancedDataset, RepeatDataset
from mmengine.dataset import ConcatDataset as MMEngineConcatDataset
from mmengine.runner.runner import _SlicedDataset
from mmpretrain.datasets import CustomDataset, KFoldDataset
from torch.utils.data import Subset

from hybridcls.datasets import ClassNumbering, ConcatDataset, Digits, class_names_of
from hybridcls.datasets.samplers.dataset_labels import labels_of
from hybridcls.structures import ClassNames

MODEL = ClassNames(('ant', 'bee', 'cat'))


class Named(BaseDataset):
    """Images that are called as their classes are."""

    def __init__(self, labels, classes=None, **kwargs):
        self.labels = labels
        super().__init__(metainfo={} if classes is None else dict(classes=classes), **kwargs)

    def load_data_list(self):
        classes = self.metainfo.get('classes')
        return [
            dict(gt_label=label, img_path=classes[np.ravel(label)[0]] if classes else str(label))
            for label in self.labels
        ]

    def get_gt_labels(self):
        return [self.get_data_info(index)['gt_label'] for index in range(len(self))]


def numbers_by_name(dataset):
    """The number of each class that has images, read from what a pipeline is given."""
    return {dataset[index]['img_path']: dataset[index]['gt_label'] for index in range(len(dataset))}


WRAPPERS = {
    'bare': lambda dataset: dataset,
    'unserialized': lambda dataset: Named(dataset.labels, dataset.metainfo['classes'], serialize_data=False),
    'lazy': lambda dataset: Named(dataset.labels, dataset.metainfo['classes'], lazy_init=True),
    'indices': lambda dataset: Named(dataset.labels, dataset.metainfo['classes'], indices=[0, 1]),
    'repeat': lambda dataset: RepeatDataset(dataset, 2),
    'balanced': lambda dataset: ClassBalancedDataset(Balanced(dataset.labels, dataset.metainfo['classes']), 0.5),
    'concat': lambda dataset: MMEngineConcatDataset([dataset]),
    'folds': lambda dataset: KFoldDataset(dict(type=Named, labels=[0, 1] * 5, classes=('cat', 'bee'))),
    'subset': lambda dataset: Subset(dataset, [0, 1]),
    'sliced': lambda dataset: _SlicedDataset(dataset, 2),
}


class Balanced(Named):
    def get_cat_ids(self, index):
        return [self.get_data_info(index)['gt_label']]


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_labels_become_the_numbers_of_the_model(wrapper):
    dataset = WRAPPERS[wrapper](Named([0, 1], ('cat', 'bee')))
    remark = ClassNumbering(MODEL).renumber(dataset, 'val')
    assert remark[:3] == (logging.INFO, "val: 2 of the model's 3 classes; without ant.", False)
    for _ in range(2):
        ClassNumbering(MODEL).renumber(dataset, 'val')  # once is enough
        assert numbers_by_name(dataset) == dict(cat=2, bee=1)
        assert {*labels_of(dataset).tolist()} == {1, 2}
    assert class_names_of(dataset) == MODEL
    if hasattr(dataset, 'metainfo'):
        assert dataset.metainfo['classes'] == MODEL.names


def test_equal_numbering_is_not_rewritten():
    dataset = Named([0, 1, 2], MODEL.names)
    before = dataset.data_bytes
    assert ClassNumbering(MODEL).renumber(dataset, 'val').text == "val: 3 classes, the same as the model's."
    assert dataset.data_bytes is before


def test_unknown_classes_get_the_same_number_in_all_sets():
    numbering = ClassNumbering(MODEL, num_classes=3)
    val = Named([0, 1, 1, 2], ('emu', 'dog', 'bee'))
    remark = numbering.renumber(val, 'val')
    assert remark.level == logging.WARNING
    assert remark.has_unknown
    assert remark.text == (
        "val: 2 of 3 class names are not among the model's 3: emu, dog (3 images); they count as unknown, except in "
        'retrieval and verification.'
    )
    renamed = ClassNumbering(MODEL).renumber(Named([0, 1], ('dog', 'emu')), 'test').text
    assert 'No image has a class of the model: the accuracy is 0 and means nothing.' in renamed
    assert numbers_by_name(val) == dict(bee=1, dog=3, emu=4)
    assert val.metainfo['classes'] == ('ant', 'bee', 'cat', 'dog', 'emu')
    bank = Named([0, 1, 2], ('cow', 'cat', 'emu'))
    assert numbering.renumber(bank, 'bank').has_unknown
    assert numbers_by_name(bank) == dict(cow=5, cat=2, emu=4)
    assert numbering.renumber(val, 'val').has_unknown
    assert numbers_by_name(val) == dict(bee=1, dog=3, emu=4)
    known = Named([0], ('cat',))
    numbering.renumber(known, 'test')
    assert known.metainfo['classes'] == MODEL.names  # as many as the head has, for hooks that count


def test_unknown_classes_follow_the_outputs_of_a_larger_head():
    numbering = ClassNumbering(MODEL, num_classes=10)
    dataset = Named([0, 1], ('emu', 'cat'))
    numbering.renumber(dataset, 'val')
    assert numbers_by_name(dataset) == dict(emu=10, cat=2)
    assert dataset.metainfo['classes'][10] == 'emu'


def test_a_name_without_images_is_not_unknown():
    dataset = Named([0, 0], ('cat', 'emu'))
    assert not ClassNumbering(MODEL).renumber(dataset, 'val').has_unknown
    assert numbers_by_name(dataset) == dict(cat=2)


def test_titles_match_the_names_of_folders():
    titles = ClassNames(('Ameise', 'Biene', 'Katze'), MODEL.names)
    dataset = Named([0, 1], ('cat', 'bee'))
    ClassNumbering(titles).renumber(dataset, 'val')
    assert numbers_by_name(dataset) == dict(cat=2, bee=1)
    assert dataset.metainfo == dict(classes=titles.names, class_folders=MODEL.names)


def test_same_classes_with_different_names_are_logged():
    dataset = Named([0, 1, 2], ('n01', 'n02', 'n03'))
    remark = ClassNumbering(MODEL).renumber(dataset, 'test')
    assert '3 of 3 class names' in remark.text
    assert 'set classes=[...] in this dataset to the names of the model' in remark.text


class TestNumbersWithoutNames:
    def renumber(self, labels, names=MODEL, num_classes=3, **kwargs):
        dataset = Named(labels, **kwargs)
        return dataset, ClassNumbering(names, num_classes).renumber(dataset, 'test')

    def test_numbers_stay(self):
        dataset, remark = self.renumber([1, 2, 1])
        assert dataset.get_gt_labels() == [1, 2, 1]
        assert remark[:3] == (
            logging.INFO,
            "test: its labels are numbers without names, read as the numbers of the model's classes (1: bee, 2: cat).",
            False,
        )

    def test_number_beyond_the_classes_of_a_classifier(self):
        with pytest.raises(ValueError, match=r'test: expected labels from 0 to 2, .* 3 classes, got 3\. Count from 0'):
            self.renumber([1, 2, 3])

    def test_number_beyond_the_classes_of_an_embedding_model(self):
        dataset, remark = self.renumber([1, 7, 5], num_classes=None)
        assert remark.has_unknown
        assert dataset.get_gt_labels() == [1, 4, 3]

    def test_numbers_that_are_class_names(self):
        dataset, remark = self.renumber([7, 3, 7], ClassNames(('3', '7')), 2)
        assert dataset.get_gt_labels() == [1, 0, 1]
        assert remark.text == "test: its labels are the names of 2 of the model's classes."
        assert self.renumber([0, 1], ClassNames(('3', '7')), 2)[0].get_gt_labels() == [0, 1]
        with pytest.raises(
            ValueError, match=r'all names or all numbers .* got 1, which is a name, and 0, which is not'
        ):
            self.renumber([0, 1, 2], ClassNames(('1', '2', '3')))

    def test_label_minus_one_stays(self):
        assert self.renumber([-1, 2])[0].get_gt_labels() == [-1, 2]

    def test_annotation_file_of_mmpretrain(self, tmp_path):
        (tmp_path / 'list.txt').write_text('a.png 0\nb.png 2\n')
        dataset = CustomDataset(data_prefix=str(tmp_path), ann_file=str(tmp_path / 'list.txt'))
        assert 'numbers without names' in ClassNumbering(MODEL, 3).renumber(dataset, 'test').text
        assert dataset.metainfo['classes'] == MODEL.names

    def test_a_model_trained_on_numbers_takes_the_names_of_as_many_classes(self):
        numbering = ClassNumbering(ClassNames(('0', '1', '2'), (), True), 3)
        assert (
            numbering.renumber(Named([0, 1, 2]), 'val').text
            == "val: its labels are numbers, as the model's classes are."
        )
        remark = numbering.renumber(Named([0, 1, 2], MODEL.names), 'val')
        assert remark.level == logging.WARNING
        assert (
            "the model's classes have no names; the order of these 3 is taken for them: ant, bee, cat." in remark.text
        )
        assert not remark.has_unknown
        test = Named([0, 1], ('cat', 'bee'))
        numbering.renumber(test, 'test')
        assert numbers_by_name(test) == dict(cat=2, bee=1)

    def test_names_of_another_count_are_unknown_to_a_model_trained_on_numbers(self):
        dataset = Named([0, 1], ('ant', 'bee'))
        remark = ClassNumbering(ClassNames(('0', '1', '2'), (), True), 3).renumber(dataset, 'test')
        assert '2 of 2 class names are not among' in remark.text
        assert 'Set classes=[...] in the training data to match by name.' in remark.text
        assert dataset.get_gt_labels() == [3, 4]


def test_model_without_names_takes_those_of_the_first_set():
    numbering = ClassNumbering(None)
    val, bank = Named([0, 1], ('dog', 'cat')), Named([0, 1], ('cat', 'cow'))
    assert numbering.renumber(val, 'val').level == logging.WARNING
    numbering.renumber(bank, 'bank')
    assert numbers_by_name(val) == dict(dog=0, cat=1)
    assert numbers_by_name(bank) == dict(cat=1, cow=2)


def test_lists_of_labels_are_renumbered_too():
    dataset = Named([[0], np.array([1])], ('cat', 'bee'))
    ClassNumbering(MODEL).renumber(dataset, 'val')
    assert [np.ravel(label).tolist() for label in dataset.get_gt_labels()] == [[2], [1]]


def test_unlabelled_images_are_left_alone():
    class Unlabelled(Named):
        def load_data_list(self):
            return [dict(img_path='x')]

        def get_gt_labels(self):
            raise AttributeError

    remark = ClassNumbering(MODEL).renumber(Unlabelled([]), 'test')
    assert remark.level == logging.DEBUG
    named = Unlabelled([], ('emu', 'bee'))
    assert not ClassNumbering(MODEL).renumber(named, 'test').has_unknown
    assert 'gt_label' not in named[0]


def test_other_kind_of_data_set_with_other_numbers_is_an_error():
    class Other:
        metainfo = dict(classes=('bee', 'ant'))

        def get_data_info(self, index):
            return dict(gt_label=index)

        def __len__(self):
            return 2

    with pytest.raises(TypeError, match=r"val: expected a subclass of mmengine's BaseDataset, .* got Other"):
        ClassNumbering(MODEL).renumber(Other(), 'val')
    ClassNumbering(ClassNames(('bee', 'ant'))).renumber(Other(), 'val')


def test_a_label_without_a_name_is_an_error():
    class Wrong(Named):
        def load_data_list(self):
            return [dict(gt_label=5)]

    with pytest.raises(ValueError, match='val: expected labels from 0 to 1, one for each class name, got 5'):
        ClassNumbering(MODEL).renumber(Wrong([], ('cat', 'bee')), 'val')


def test_subsets_of_digits():
    dataset = Digits(split='test', digits=(9, 3))
    threes = sum(label == 1 for label in dataset.get_gt_labels())
    ClassNumbering(ClassNames(('3', '7'))).renumber(dataset, 'test')
    assert (dataset.get_gt_labels() == 0).sum() == threes
    assert {*dataset.get_gt_labels().tolist()} == {0, 2}


class Authored(Named):
    METAINFO = dict(author='me')


class TestConcatDataset:
    def test_classes_are_the_union(self):
        whole = ConcatDataset([Named([0, 1], ('dog', 'cat')), Named([0, 1, 2], ('ant', 'cat', 'dog'))])
        assert whole.metainfo['classes'] == ('dog', 'cat', 'ant')
        assert numbers_by_name(whole) == dict(dog=0, cat=1, ant=2)
        assert labels_of(whole).tolist() == [0, 1, 2, 1, 0]
        assert class_names_of(whole).names == ('dog', 'cat', 'ant')

    def test_ignore_keys(self):
        for ignored in ('classes', ['classes'], None):
            parts = [Named([0, 1], ('cat', 'dog')), Named([0], ('emu',))]
            assert numbers_by_name(ConcatDataset(parts, ignore_keys=ignored)) == dict(cat=0, dog=1, emu=2)

    def test_other_metainfo_keys_are_compared(self):
        with pytest.raises(ValueError, match='author does not in the meta'):
            ConcatDataset([Named([0], ('cat',)), Authored([0], ('cat',))])

    def test_wrapped_lazy_and_unnamed_parts(self):
        parts = [
            dict(type=RepeatDataset, times=2, dataset=dict(type=Named, labels=[0, 1], classes=('cat', 'dog'))),
            dict(type=Named, labels=[0], classes=('dog',), lazy_init=True),
            dict(type=Named, labels=[1]),
        ]
        whole = ConcatDataset(parts, lazy_init=True)
        assert whole.metainfo['classes'] == ('cat', 'dog')
        assert labels_of(whole).tolist() == [0, 1, 0, 1, 1, 1]
        with pytest.raises(ValueError, match='ConcatDataset: part 1: expected labels from 0 to 1'):
            ConcatDataset([Named([0, 1], ('cat', 'dog')), Named([2])])

    def test_parts_with_numbers_only(self):
        whole = ConcatDataset([Named([0, 1]), Named([2])])
        assert 'classes' not in whole.metainfo
        assert labels_of(whole).tolist() == [0, 1, 2]

    def test_bare_name_builds_concat_dataset_of_hybridcls(self):
        from hybridcls.registry import DATASETS

        assert DATASETS.get('ConcatDataset') is ConcatDataset

    def test_concat_dataset_of_mmengine_with_different_numbers_is_an_error(self):
        parts = [Named([0, 1], ('cat', 'dog')), Named([0], ('emu',))]
        with pytest.raises(ValueError, match=r"got cat, dog and emu\. .*hybridcls\.ConcatDataset'\) concat"):
            class_names_of(MMEngineConcatDataset(parts, ignore_keys='classes'))
