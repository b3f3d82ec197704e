"""Class folders, their numbers, and what is said where they are none."""

import pytest

from hybridcls.datasets.class_folders import check_image_folder, check_level, number_folders


def test_folders_are_numbered_in_their_order_by_name_or_as_titles_of_them():
    assert number_folders('x', ['a', 'b'], None) == (dict(a=0, b=1), dict(classes=('a', 'b')))
    assert number_folders('x', ['a', 'b'], ['b', 'c', 'a']) == (dict(a=2, b=0), {})
    assert number_folders('x', ['a', 'b'], ['Ant', 'Bee']) == (dict(a=0, b=1), dict(class_folders=('a', 'b')))
    with pytest.raises(ValueError, match=r"to be among the 2 classes, got bat\. Did you mean 'cat'"):
        number_folders('x', ['bat', 'cat'], ['cat', 'dog'])


def test_one_level_too_high_is_an_error_or_a_warning():
    assert check_level('x', '', ['a', 'b'], ['a/1.png', 'b/2.png']) == ''
    with pytest.raises(ValueError, match=r"got train, val: splits of a dataset\. Set data_prefix='p/train'"):
        check_level('x', 'p', ['train', 'val'], ['train/a/1.png'])
    with pytest.raises(ValueError, match='got only all, which contains no image but the folders a, b'):
        check_level('x', '', ['all'], ['all/a/1.png', 'all/b/2.png'])
    with pytest.raises(ValueError, match=r"folders train, val: splits of a dataset\. Set data_root='x/all'"):
        check_level('x', '', ['all'], ['all/train/a/1.png', 'all/val/a/2.png'])
    assert 'has one class folder, a' in check_level('x', '', ['a'], ['a/1.png'])
    assert "If those are the classes, set data_prefix='a'" in check_level('x', '', ['a', 'b'], ['a/c/1', 'b/c/2'])


def test_a_folder_that_is_missing_says_which_key_leads_to_it(tmp_path):
    (tmp_path / 'train').mkdir()
    check_image_folder(str(tmp_path / 'train'), str(tmp_path), 'train')
    with pytest.raises(FileNotFoundError, match=r"folders train\. Did you mean 'train'.* data_prefix to one"):
        check_image_folder(str(tmp_path / 'trian'), str(tmp_path), 'trian')
    with pytest.raises(FileNotFoundError, match='--cfg-options data_root='):
        check_image_folder(str(tmp_path / 'no/train'), str(tmp_path / 'no'), 'train')
