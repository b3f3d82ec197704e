"""Pictures of predictions: colours, names, which images, and sets without labels."""

import types

import cv2
import pytest
import torch
from mmpretrain.structures import DataSample
from mmpretrain.visualization import UniversalVisualizer

from hybridcls.engine.hooks import VisualizationHook
from hybridcls.engine.hooks.visualization_hook import common_folder, picture_name
from hybridcls.registry import HOOKS


class Images:
    """A dataset of images by path."""

    def __init__(self, *paths):
        self.paths = paths

    def __len__(self):
        return len(self.paths)

    def get_data_info(self, number):
        path = self.paths[number]
        return {} if path is None else dict(img_path=path)


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draw the images of a dataset in batches of four; return the pictures, RGB, by name."""
    visualizer = UniversalVisualizer(vis_backends=None)
    visualizer.dataset_meta = dict(classes=['cat', 'dog'])
    monkeypatch.setattr('hybridcls.engine.hooks.visualization_hook.Visualizer.get_current_instance', lambda: visualizer)
    seen = []
    original = visualizer.visualize_cls
    monkeypatch.setattr(visualizer, 'visualize_cls', lambda **keys: (seen.append(keys), original(**keys)))

    def run(images, paths, labels=None, to_rgb=True, interval=1, **keys):
        keys.update(type='VisualizationHook', enable=True, out_dir=str(tmp_path / 'shown'), interval=interval)
        hook = HOOKS.build(keys)
        model = types.SimpleNamespace(data_preprocessor=types.SimpleNamespace(to_rgb=to_rgb))
        loader = types.SimpleNamespace(dataset=Images(*paths))
        runner = types.SimpleNamespace(model=model, test_dataloader=loader)
        hook.before_test_epoch(runner)
        samples = []
        for number, path in enumerate(paths):
            sample = DataSample().set_pred_score(torch.tensor([0.1, 0.9])).set_pred_label(1)
            if path is not None:
                sample.set_field(path, 'img_path', field_type='metainfo')
            if labels is not None:
                sample.set_gt_label(labels[number])
            samples.append(sample)
        for start in range(0, len(paths), 4):
            inputs = images(start) if callable(images) else images[start : start + 4]
            hook.after_test_iter(runner, start // 4, dict(inputs=inputs), samples[start : start + 4])
        files = sorted((tmp_path / 'shown').rglob('*.png'))
        names = [str(file.relative_to(tmp_path / 'shown')) for file in files]
        return {name: cv2.imread(str(file))[..., ::-1] for name, file in zip(names, files, strict=True)}, seen

    return run


def plain(*bgr, size=(20, 30)):
    return torch.tensor(bgr, dtype=torch.uint8).view(-1, 1, 1).expand(-1, *size)


def corner(picture):
    return picture[-3, -3].tolist()


def test_the_bare_name_means_ours():
    assert HOOKS.get('VisualizationHook') is VisualizationHook


def test_colours_are_right_and_equal_names_of_two_folders_stay_apart(draw):
    images = [plain(0, 0, 255), plain(255, 0, 0)]
    pictures, _ = draw(images, ['/data/val/cat/1.jpg', '/data/val/dog/1.jpg'], labels=[0, 1])
    assert list(pictures) == ['cat/1.jpg_0.png', 'dog/1.jpg_0.png']
    assert [corner(picture) for picture in pictures.values()] == [[255, 0, 0], [0, 0, 255]]
    assert min(pictures['cat/1.jpg_0.png'].shape[:2]) >= 320


def test_images_from_memory_have_their_number_and_the_order_that_the_model_says(draw):
    images = [plain(0, 0, 50 + number) for number in range(6)]
    pictures, _ = draw(images, [None] * 6, to_rgb=False)
    assert list(pictures) == [f'{number}_0.png' for number in range(6)]  # the last batch has two
    assert corner(pictures['5_0.png']) == [0, 0, 55]


def test_every_nth_image(draw):
    pictures, _ = draw([plain(1, 2, 3)] * 10, [f'/d/{number}.png' for number in range(10)], interval=3)
    assert list(pictures) == [f'{number}.png_0.png' for number in (0, 3, 6, 9)]


@pytest.mark.parametrize('labels', [None, [-1, 7]])
def test_without_labels_and_with_unknown_ones(draw, labels):
    pictures, calls = draw([plain(1, 2, 3)] * 2, ['/d/0.png', '/d/1.png'], labels=labels)
    assert len(pictures) == 2
    names = calls[0]['classes']
    assert (names[1], names[-1], names[7]) == ('dog', 'unknown', 'unknown')


def test_one_channel_and_several_views(draw):
    grey, _ = draw([plain(90)], ['/d/grey.png'])
    assert corner(grey['grey.png_0.png']) == [90, 90, 90]
    views, _ = draw(lambda start: [[plain(0, 0, 200)], [plain(200, 0, 0)]], ['/d/views.png'])
    assert corner(views['views.png_0.png']) == [200, 0, 0]


def test_what_the_config_says_goes_to_the_visualizer(draw):
    pictures, calls = draw([plain(1, 2, 3)], ['/d/0.png'], resize=40, draw_score=False, text_cfg=dict(size=3))
    assert min(pictures['0.png_0.png'].shape[:2]) == 40
    assert calls[0]['draw_score'] is False
    _, calls = draw([plain(1, 2, 3)], ['/d/0.png'], text_cfg=dict(size=3, color='red'))
    assert {**calls[-1]['text_cfg'], 'family': 0} == dict(size=3, color='red', family=0)


def test_names_are_unique_wherever_images_lie():
    dataset = Images('/a/b/cat/1.png', '/a/b/dog/1.png', 's3://x/1.png', None)
    assert common_folder(dataset) == '/a/b'
    assert common_folder(Images('/a/one.png')) == '/a'
    assert common_folder(Images(None)) is common_folder(object()) is None
    assert picture_name('/elsewhere/1.png', '/a/b') == 'elsewhere/1.png'
    assert picture_name('../x/1.png', None) == 'x/1.png'


def test_switched_off_it_asks_nothing():
    hook = VisualizationHook()
    hook.before_test_epoch(types.SimpleNamespace(test_dataloader=types.SimpleNamespace(dataset=None)))
    hook.after_test_iter(None, 0, None, [DataSample()])
