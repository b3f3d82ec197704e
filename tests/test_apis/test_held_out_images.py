"""Images that trained the model are found out, wherever the work dir or the data tell."""

from pathlib import Path

import pytest
from PIL import Image

from hybridcls.apis.held_out_images import held_out_images


@pytest.fixture
def data(tmp_path):
    """Class folders below train, val and test; and class folders alone."""
    for split, count in (('train', 3), ('val', 2), ('test', 1)):
        for name in ('cat', 'dog'):
            for number in range(count):
                for folder in (tmp_path / 'split' / split / name, tmp_path / 'flat' / name):
                    folder.mkdir(parents=True, exist_ok=True)
                    Image.new('RGB', (4, 4)).save(folder / f'{split}{number}.png')
    return tmp_path


def trained_on(root, prefix='', **more):
    return dict(train_dataloader=dict(dataset=dict(data_root=str(root), data_prefix=prefix, **more)))


def names(items):
    return sorted(Path(item.path).name for item in items)


def test_of_splits_the_validation_is_taken_else_the_test(data):
    items, notes = held_out_images(str(data / 'split'), 'w/a.pth', {})
    assert names(items) == ['val0.png', 'val0.png', 'val1.png', 'val1.png']
    assert [item.label for item in items] == ['cat', 'cat', 'dog', 'dog']
    assert notes == [f'Of its splits the images of {data / "split" / "val"} are taken.']
    (data / 'split' / 'val').rename(data / 'elsewhere')
    assert names(held_out_images(str(data / 'split'), 'w/a.pth', {})[0]) == ['test0.png'] * 2


def test_a_folder_that_trained_is_refused(data):
    cfg = trained_on(data / 'split', 'train')
    with pytest.raises(ValueError, match=r'expected held-out images, got .*train, whose images the model was trained'):
        held_out_images(str(data / 'split' / 'train'), 'w/a.pth', cfg)
    with pytest.raises(ValueError, match='was trained'):
        held_out_images(str(data / 'flat'), 'w/a.pth', trained_on(data / 'flat'))
    wrapped = dict(train_dataloader=dict(dataset=dict(type='RepeatDataset', **cfg['train_dataloader'])))
    with pytest.raises(ValueError, match='was trained'):
        held_out_images(str(data / 'split' / 'train'), 'w/a.pth', wrapped)
    assert len(held_out_images(str(data / 'split' / 'test'), 'w/a.pth', cfg)[0]) == 2
    for split in ('val', 'test'):
        (data / 'split' / split).rename(data / split)
    with pytest.raises(ValueError, match=r'with training images only \(train\)'):
        held_out_images(str(data / 'split'), 'w/a.pth', cfg)


def test_what_the_split_of_the_training_gave_to_it_is_left_out(data):
    work_dir = data / 'w'
    (work_dir / '1_phase').mkdir(parents=True)
    rows = [f'{name}/{split}{number}.png,{name},{"val" if split == "val" else "train"},'
            for name in ('cat', 'dog') for split, count in (('train', 3), ('val', 2), ('test', 1))
            for number in range(count)]  # fmt: skip
    (work_dir / 'split.csv').write_text('path,label,split,group\n' + '\n'.join(rows) + '\n')
    cfg = trained_on(data / 'flat', split='train')
    for checkpoint in (work_dir / 'a.pth', work_dir / '1_phase' / 'a.pth'):
        items, notes = held_out_images(str(data / 'flat'), str(checkpoint), cfg)
        assert names(items) == ['val0.png', 'val0.png', 'val1.png', 'val1.png']
        assert notes == [
            f'8 of 12 images are left out, because the model was trained on them ({work_dir / "split.csv"}).'
        ]
    assert len(held_out_images(str(data / 'flat'), str(work_dir / 'a.pth'), trained_on(data / 'split'))[0]) == 12


def test_a_table_may_have_a_column_of_the_split(data):
    table = data / 'list.csv'
    lines = ['flat/cat/train0.png,cat,train', 'flat/cat/val0.png,cat,valid', 'flat/dog/test0.png,dog,test']
    table.write_text('path,label,split\n' + '\n'.join(lines))
    items, notes = held_out_images(str(table), 'w/a.pth', {})
    assert [(Path(item.path).name, item.label) for item in items] == [('val0.png', 'cat')]
    assert notes == ['Of its splits val is taken: 1 image.']
    table.write_text('path,label\n' + '\n'.join(line.rpartition(',')[0] for line in lines))
    assert held_out_images(str(table), 'w/a.pth', {})[1] == []
    assert len(held_out_images(str(table), 'w/a.pth', {})[0]) == 3


def test_a_folder_without_images_is_a_sentence(data):
    (data / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='expected images below'):
        held_out_images(str(data / 'empty'), 'w/a.pth', {})
