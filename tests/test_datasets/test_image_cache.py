"""The cache of decoded images: the pixels of the files, where it lies, when it is remade, and how large it may be."""

import copy
import multiprocessing
import os
import pickle
import time

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, pseudo_collate
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader

from hybridcls.datasets import ImageFolder
from hybridcls.datasets.image_cache import ImageCache, checked_cache
from hybridcls.datasets.transforms import UnreadableImageError

CROP = dict(type='hybridcls.RandomCropToSize', img_size=16, interpolation='bicubic', backend='torch')
TRAIN = [
    dict(type='hybridcls.LoadImage', decode_scale='crop'),
    dict(type='hybridcls.ImageViews', num_views=2, transforms=[[CROP, dict(type='RandomFlip', prob=0.5)]]),
    dict(type='hybridcls.PackInputs'),
]
ONE_VIEW = [  # RandomErasing writes to its image
    dict(type='hybridcls.LoadImage'),
    dict(type='mmpretrain.RandomErasing', erase_prob=1.0, mode='rand'),
    dict(type='hybridcls.PackInputs'),
]
EVALUATE = [
    dict(type='hybridcls.LoadImage'),
    dict(type='hybridcls.CenterCropToSize', img_size=16),
    dict(type='hybridcls.PackInputs'),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Six colour images in two classes; five too small to be decoded at a smaller scale."""
    monkeypatch.setenv('TMPDIR', str(tmp_path / 'tmp'))
    monkeypatch.setattr('tempfile.tempdir', None)
    (tmp_path / 'tmp').mkdir()
    photo = load_sample_images().images[0]
    for number in range(6):
        path = tmp_path / 'images' / 'ab'[number % 2] / f'{number}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), photo[50 * number : 50 * number + 30, : 30 - number])
    cv2.imwrite(str(path.with_suffix('.png')), photo[:20, :25])
    return tmp_path / 'images'


@pytest.fixture
def logged(monkeypatch):
    messages = []
    monkeypatch.setattr('hybridcls.datasets.image_cache.print_log', lambda text, **kwargs: messages.append(text))
    return messages


def outputs(folder, cache, pipeline, **keys):
    dataset = ImageFolder(data_root=str(folder), pipeline=pipeline, cache=cache, **keys)
    np.random.seed(0)  # noqa: NPY002
    return [dataset[index] for _ in range(2) for index in range(len(dataset))]


def same(found, expected):
    for own, other in zip(found, expected, strict=True):
        pairs = [(own['inputs'], other['inputs'])]
        if isinstance(own['inputs'], list):
            pairs = zip(own['inputs'], other['inputs'], strict=True)
        for image, reference in pairs:
            if not torch.equal(image, reference):
                return False
        if own['data_samples'].to_dict() != other['data_samples'].to_dict():
            return False
    return True


@pytest.mark.parametrize('where', ['memory', 'mapped'])
@pytest.mark.parametrize('pipeline', [TRAIN, ONE_VIEW, EVALUATE], ids=['views', 'one view', 'evaluation'])
def test_a_training_has_the_same_bits(folder, where, pipeline, monkeypatch):
    expected = outputs(folder, None, pipeline)
    dataset = ImageFolder(data_root=str(folder), pipeline=pipeline, cache=dict(where=where))
    monkeypatch.setattr('mmengine.fileio.get', lambda *_, **__: pytest.fail('the file has been read again'))
    np.random.seed(0)  # noqa: NPY002
    found = [dataset[index] for _ in range(2) for index in range(len(dataset))]
    assert [sample['data_samples'].gt_label.item() for sample in found] == [0, 0, 0, 1, 1, 1, 1] * 2
    for own, other in zip(found, expected, strict=True):
        own['data_samples'].gt_label, other['data_samples'].gt_label = None, None
    assert same(found, expected)


def test_what_follows_the_cache_sees_the_whole_image(folder):
    """Where the crop would be decoded smaller, the cache keeps the crops and the whole image's pixels."""
    photo = load_sample_images().images[0]
    cv2.imwrite(str(folder / 'a' / '0.jpg'), photo)
    whole = [dict(TRAIN[0], decode_scale='full'), *TRAIN[1:]]
    np.random.seed(0)  # noqa: NPY002
    found = ImageFolder(data_root=str(folder), pipeline=TRAIN, cache='uint8')[0]
    assert found['data_samples'].ori_shape == photo.shape[:2]
    without_flip = [TRAIN[0], dict(TRAIN[1], transforms=[[CROP]]), TRAIN[2]]
    np.random.seed(0)  # noqa: NPY002
    found = ImageFolder(data_root=str(folder), pipeline=without_flip, cache='uint8')[0]
    np.random.seed(0)  # noqa: NPY002
    expected = ImageFolder(data_root=str(folder), pipeline=[whole[0], *without_flip[1:]])[0]
    assert all(torch.equal(*pair) for pair in zip(found['inputs'], expected['inputs'], strict=True))


def test_a_mapped_file_is_reused_until_an_image_changes(folder, tmp_path, logged):
    cache = dict(where='mapped', folder=str(tmp_path / 'cache'))
    outputs(folder, cache, EVALUATE)
    (path,) = [path for path in (tmp_path / 'cache').iterdir() if not path.suffix]
    written = path.stat().st_mtime_ns
    assert 'made in' in logged[-1]
    outputs(folder, cache, EVALUATE)
    assert path.stat().st_mtime_ns == written
    assert f'a cache of 7 images, 0.00 GB, reused from {path}' in logged[-1]
    image = folder / 'a' / '0.jpg'
    os.utime(image, ns=(0, image.stat().st_mtime_ns + 1))
    outputs(folder, cache, EVALUATE)
    assert 'made in' in logged[-1]
    cv2.imwrite(str(image), np.full((40, 40, 3), 9, np.uint8))
    assert outputs(folder, cache, EVALUATE)[0]['inputs'].unique().tolist() == [9]
    os.remove(folder / 'a' / '2.jpg')
    assert len(outputs(folder, cache, EVALUATE)) == 12
    assert [found.name for found in (tmp_path / 'cache').iterdir() if not found.suffix] == [path.name]


def test_a_file_that_was_not_finished_is_no_cache(folder, tmp_path, monkeypatch):
    cache = dict(where='mapped', folder=str(tmp_path / 'cache'))
    with monkeypatch.context() as patch:
        patch.setattr('os.fsync', lambda _: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
        with pytest.raises(OSError, match=r'cannot write the cache .* \(No space left on device\)\. Set cache='):
            outputs(folder, cache, EVALUATE)
    assert [path.suffix for path in (tmp_path / 'cache').iterdir()] == ['.lock']
    assert same(outputs(folder, cache, EVALUATE)[:1], outputs(folder, None, EVALUATE)[:1])


def _open(folder, where, results):
    os.environ['TMPDIR'] = str(folder.parent / 'tmp')
    with open(os.devnull, 'w') as nothing:
        os.dup2(nothing.fileno(), 1)
    results.put(outputs(folder, dict(where='mapped', folder=where), EVALUATE)[0]['inputs'].sum().item())


def test_two_processes_make_it_once(folder, tmp_path, monkeypatch):
    """Both begin at the same time; the slower one finds the file of the other."""
    made = []
    make = ImageCache._make_file
    context = multiprocessing.get_context('fork')
    count = context.Value('i', 0)

    def counted(self, *args):
        with count.get_lock():
            count.value += 1
        time.sleep(0.5)
        return make(self, *args)

    monkeypatch.setattr(ImageCache, '_make_file', counted)
    results = context.Queue()
    processes = [context.Process(target=_open, args=(folder, str(tmp_path / 'cache'), results)) for _ in range(2)]
    for process in processes:
        process.start()
    made = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert made[0] == made[1]
    assert count.value == 1


@pytest.mark.parametrize('where', ['memory', 'mapped'])
def test_workers_share_it(folder, where):
    dataset = ImageFolder(data_root=str(folder), pipeline=EVALUATE, cache=dict(where=where))
    loader = DataLoader(dataset, batch_size=4, num_workers=2, collate_fn=pseudo_collate, multiprocessing_context='fork')
    found = torch.cat([torch.stack(batch['inputs']) for batch in loader])
    expected = torch.stack([sample['inputs'] for sample in outputs(folder, None, EVALUATE)[:7]])
    assert torch.equal(found, expected)


def test_a_copy_for_another_process(folder):
    dataset = ImageFolder(data_root=str(folder), pipeline=EVALUATE, cache=dict(where='mapped'))
    sent = pickle.loads(pickle.dumps(dataset._images))
    assert torch.equal(sent.run(dataset.get_data_info(1), dataset.pipeline)['inputs'], dataset[1]['inputs'])
    assert copy.deepcopy(dataset._images) is dataset._images
    in_memory = ImageFolder(data_root=str(folder), pipeline=EVALUATE, cache='uint8')
    with pytest.raises(TypeError, match="Set cache=dict\\(where='mapped'\\)"):
        pickle.dumps(in_memory._images)
    state = pickle.dumps(dataset._images)
    os.utime(folder / 'a' / '0.jpg', ns=(0, 1))
    outputs(folder, dict(where='mapped'), EVALUATE)
    with pytest.raises(OSError, match='has been replaced'):
        pickle.loads(state)


def test_another_pipeline_reads_the_files(folder):
    """What a hook puts in place of the pipeline, and a loader of another version."""
    dataset = ImageFolder(data_root=str(folder), pipeline=EVALUATE, cache='uint8')
    other = Compose([dict(type='hybridcls.LoadImage', color_type='grayscale'), *EVALUATE[2:]])
    dataset.pipeline = other
    assert dataset[0]['inputs'].shape == (1, 30, 30)
    dataset.pipeline = Compose([dict(type='hybridcls.LoadImage', version=1), *EVALUATE[1:]])
    assert same([dataset[0]], outputs(folder, None, EVALUATE)[:1])


def test_unreadable_images_keep_their_error(folder):
    (folder / 'a' / '0.jpg').write_bytes(b'nothing')
    dataset = ImageFolder(data_root=str(folder), pipeline=EVALUATE, cache='uint8')
    with pytest.raises(UnreadableImageError, match=r'0\.jpg'):
        dataset[0]
    skipping = ImageFolder(data_root=str(folder), pipeline=EVALUATE, cache='uint8', on_unreadable='skip')
    assert torch.equal(skipping[0]['inputs'], skipping[1]['inputs'])


def test_grey_images_and_a_part_of_the_images(folder):
    grey = [dict(type='hybridcls.LoadImage', color_type='grayscale'), dict(type='hybridcls.PackInputs')]
    found = outputs(folder, 'uint8', grey, indices=[4, 1])
    assert same(found, outputs(folder, None, grey, indices=[4, 1]))


def test_images_that_do_not_fit(folder):
    words = (
        r'expected a cache of at most 0\.00 GB \(max_bytes\), got about 0\.00 GB: 7 images of 0\.00 MB each, decoded\. '
        r"Put a transform .* such as dict\(type='ResizeEdge', scale=256\)"
    )
    with pytest.raises(ValueError, match=words):
        outputs(folder, dict(max_bytes=7 * 30 * 20 * 3), TRAIN)
    outputs(folder, dict(max_bytes=7 * 30 * 40 * 3 + 2000), TRAIN)
    outputs(folder, dict(max_bytes=7 * (16 * 16 * 3 + 300) + 1000), EVALUATE)


@pytest.mark.parametrize(
    ('cache', 'words'),
    [('float', 'expected kind'), (dict(where='disk'), 'expected where'), (dict(max_bytes=0), 'expected max_bytes'),
     (dict(size=1), 'size')],
)  # fmt: skip
def test_wrong_settings(folder, cache, words):
    with pytest.raises((ValueError, TypeError, KeyError), match=words):
        ImageFolder(data_root=str(folder), pipeline=TRAIN, cache=cache)


def test_images_from_memory_have_no_cache(folder):
    with pytest.raises(ValueError, match=r"expected LoadImage as the first transform .* got \['PackInputs'\]"):
        ImageFolder(data_root=str(folder), pipeline=[dict(type='hybridcls.PackInputs')], cache='uint8')


def test_settings_have_defaults():
    assert checked_cache(None) is None
    assert checked_cache('uint8') == dict(kind='uint8', where='memory', max_bytes=None, folder=None)
