"""Datasets are built without reading images."""

import pytest
from made_images import class_folders
from mmengine.config import Config

from hybridcls.apis.doctor.data_parts import build_parts
from hybridcls.apis.doctor.subject import Subject


@pytest.fixture
def build(tmp_path):
    def build(**loaders):
        subject = Subject(Config({f'{split}_dataloader': dict(dataset=one) for split, one in loaders.items()}), '')
        return subject.parts, list(build_parts(subject))

    return build


def test_paths_labels_and_classes(build, tmp_path):
    class_folders(tmp_path, cat=2, dog=1)
    folder = dict(type='ImageFolder', data_root=str(tmp_path))
    parts, findings = build(train=dict(type='RepeatDataset', dataset=folder, times=2), test=folder)
    assert findings == []
    train = parts['train']
    assert train.labels == [(0,), (0,), (1,)] * 2
    assert train.labels_of_paths == [(0,), (0,), (1,)]
    assert train.count_classes() == dict(cat=4, dog=2)
    assert [path.rpartition('/')[2] for path in parts['test'].paths] == ['0.png', '1.png', '0.png']


def test_an_empty_class_is_told_and_the_others_are_seen(build, tmp_path):
    class_folders(tmp_path, cat=2, dog=1)
    (tmp_path / 'emu').mkdir()
    parts, findings = build(train=dict(type='ImageFolder', data_root=str(tmp_path)))
    assert len(findings) == 1
    assert '2 (emu)' in findings[0].what
    assert 'remove the class' in findings[0].change
    assert parts['train'].count_classes() == dict(cat=2, dog=1, emu=0)


def test_images_in_memory_have_no_paths(build):
    parts, _ = build(train=dict(type='Digits', split='train'))
    assert not parts['train'].paths
    assert len(parts['train'].labels) > 1000
