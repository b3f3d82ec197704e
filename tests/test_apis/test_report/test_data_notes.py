"""What is wrong with images is said, in a sentence each."""

import shutil
from types import SimpleNamespace

from answered_images import answered
from PIL import Image

from hybridcls.apis.image_inputs import Item
from hybridcls.apis.report.data_notes import data_notes, repeated_files, same_files


def picture(path, colour, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', size, colour).save(path)
    return Item(str(path), str(path), path.parent.name)


def test_files_of_equal_content_are_found(tmp_path):
    red, blue = picture(tmp_path / 'a/1.bmp', 'red'), picture(tmp_path / 'a/2.bmp', 'blue')  # of one size
    copy = tmp_path / 'b/other.bmp'
    copy.parent.mkdir()
    shutil.copy(red.path, copy)
    other = Item(str(copy), str(copy))
    in_memory = Item(None, Image.new('RGB', (8, 8)))
    assert same_files([blue, red, in_memory], [other, in_memory]) == [(red.path, str(copy))]
    assert repeated_files([red, blue, other, in_memory, in_memory]) == 1


def test_each_thing_is_a_sentence(tmp_path):
    train = [picture(tmp_path / 'train' / name / '0.png', name) for name in ('red', 'blue')]
    shutil.copytree(tmp_path / 'train', tmp_path / 'val')
    images = answered([0, -1, -1], [0, 0, 0], unreadable=['broken.png'])
    images.items = [
        Item(item.path.replace('train', 'val'), item.source.replace('train', 'val'), item.label) for item in train
    ] + [Item('x.png', 'x.png')]
    config = dict(train_dataloader=dict(dataset=dict(type='ImageFolder', data_root=str(tmp_path / 'train'))))
    model = SimpleNamespace(classes=('red', 'green'), multi_label=False, config=config, checkpoint_path='w/a.pth')
    unreadable, unknown, empty, leak = data_notes(model, images)
    assert unreadable == '1 image could not be read: broken.png.'
    assert unknown.startswith(
        '2 of 3 images are left out, because the model has no class of this name: blue (1), (none) (1).'
    )
    assert empty == '1 of 2 classes has no images here: green.'
    assert leak.startswith('2 of 3 images are exact copies of training images')
    shutil.rmtree(tmp_path / 'train')
    assert data_notes(model, images)[-1].startswith('The training images are missing')


def test_near_copies_of_the_training_are_told_and_left_out(tmp_path, monkeypatch):
    picture(tmp_path / 'train' / 'red' / '0.png', 'red')
    seen = Image.radial_gradient('L').crop((0, 0, 200, 128))
    seen.save(tmp_path / 'train' / 'red' / '1.png')
    small, other = tmp_path / 'small.png', tmp_path / 'other.png'
    seen.resize((90, 60)).save(small)
    Image.linear_gradient('L').save(other)
    images = answered([0, 0], [0, 1])
    images.items = [Item(str(path), str(path)) for path in (small, other)]
    config = dict(train_dataloader=dict(dataset=dict(type='ImageFolder', data_root=str(tmp_path / 'train'))))
    model = SimpleNamespace(classes=('red',), multi_label=False, config=config, checkpoint_path='w/a.pth')
    near, clean = data_notes(model, images)
    assert near.startswith('1 of 2 images is a near copy of training images')
    assert near.endswith(f'{small} like {tmp_path / "train" / "red" / "1.png"}.')
    assert clean == 'The accuracy on the 1 image without a copy is 0.0 % [0.0, 97.5].'
    monkeypatch.setattr('hybridcls.apis.report.near_copies._MOST_IMAGES', 2)
    assert data_notes(model, images)[-1].startswith(
        'Near copies were searched among 1 of 2 images and 1 of 2 training images.'
    )
