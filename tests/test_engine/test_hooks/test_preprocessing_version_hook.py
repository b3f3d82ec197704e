"""Old checkpoints read images as they were trained."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmcv.transforms import BaseTransform
from PIL import Image
from torch import nn

from hybridcls.datasets.transforms import LoadImage
from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_testing, prepare_training
from hybridcls.engine.hooks import PreprocessingVersionHook
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.models.classifiers import MixtureTTA
from hybridcls.registry import TRANSFORMS

SEEN = []


@TRANSFORMS.register_module(force=True)
class MeanColours(BaseTransform):
    """What the toy model takes: four numbers and a label."""

    def transform(self, results):
        """Remember the mean, too."""
        SEEN.append(float(results['img'].mean()))
        inputs = torch.full((4,), SEEN[-1] / 255)
        return dict(inputs=inputs, labels=results['gt_label'], index=results['sample_idx'])


@pytest.fixture
def settings(toy_configs, tmp_path):
    """A toy that looks at drawings: black on transparency, which is 0 in version 1 and mostly white now."""
    drawing = np.zeros((8, 8, 4), np.uint8)
    drawing[3, :, 3] = 255
    for name in ('a', 'b'):
        (tmp_path / 'data' / name).mkdir(parents=True)
        for number in range(8):
            Image.fromarray(drawing).save(tmp_path / 'data' / name / f'{number}.png')
    data = dict(
        _delete_=True,
        type='ImageFolder',
        data_root=str(tmp_path / 'data'),
        pipeline=[dict(type='LoadImage'), dict(type='MeanColours')],
    )
    text = ''.join(f'{kind}_dataloader = dict(dataset={data})\n' for kind in ('train', 'val', 'test'))
    (toy_configs / 'drawings.py').write_text(f"_base_ = 'toy.py'\n{text}train_cfg = dict(max_epochs=1)\n")
    return toy_configs / 'drawings.py'


def run(settings, work_dir, checkpoint=None, log_level='INFO', **options):
    """Train, or test ``checkpoint``; return the log and the means of the images."""
    cfg = load_config(settings, dict(log_level=log_level, **options))
    SEEN.clear()
    with isolated_globals():
        if checkpoint is None:
            runner = build_runner(prepare_training(cfg, TrainOptions(resume='auto'), str(work_dir)))
            runner.train()
        else:
            runner = build_runner(prepare_testing(cfg, str(checkpoint), TrainOptions(), str(work_dir)))
            runner.test()
    (log,) = [path.read_text() for path in work_dir.glob(f'{runner.timestamp}/*.log')]
    return log, [*SEEN]


def recorded(path):
    return torch.load(path, weights_only=False)['meta'].get('preprocessing_version')


def make_old(path):
    checkpoint = torch.load(path, weights_only=False)
    del checkpoint['meta']['preprocessing_version']
    torch.save(checkpoint, path)


NOW = 255 * 7 / 8


def test_a_checkpoint_says_how_its_images_were_read(settings, tmp_path):
    work = tmp_path / 'work'
    log, seen = run(settings, work)
    assert seen == [NOW] * 32  # training and validation
    assert recorded(work / 'epoch_1.pth') == 2
    assert (
        log.count(
            'data: 16 images of 2 classes (8 each). Formats, from the headers of all: RGB with transparency (16).'
        )
        == 1
    )
    assert 'LoadImage: the model' not in log
    assert run(settings, tmp_path / 'test', work / 'epoch_1.pth')[1] == [NOW] * 16

    make_old(work / 'epoch_1.pth')
    log, seen = run(settings, tmp_path / 'old', work / 'epoch_1.pth')
    assert seen == [0] * 16
    assert log.count('LoadImage: the model is trained with preprocessing version 1, which is kept') == 1
    written = {'test_dataloader.dataset.pipeline.0.version': 2}
    assert run(settings, tmp_path / 'written', work / 'epoch_1.pth', **written)[1] == [NOW] * 16

    switched = dict(action_epoch=2, train_pipeline=[dict(type='LoadImage'), dict(type='MeanColours')])
    hooks = [dict(type='SwitchRecipeHook', schedule=[switched])]
    log, seen = run(settings, work, **{'train_cfg.max_epochs': 2, 'custom_hooks': hooks})  # goes on
    assert seen == [0] * 32
    assert recorded(work / 'epoch_2.pth') == 1
    seen = run(settings, tmp_path / 'from_weights', load_from=str(work / 'epoch_2.pth'))[1]
    assert seen == [NOW] * 32
    assert recorded(tmp_path / 'from_weights' / 'epoch_1.pth') == 2


def test_a_written_version_is_recorded_and_holds_for_the_validation(settings, tmp_path):
    _, seen = run(settings, tmp_path / 'work', **{'train_dataloader.dataset.pipeline.0.version': 1})
    assert seen == [0] * 32
    assert recorded(tmp_path / 'work' / 'epoch_1.pth') == 1


def test_a_later_version_is_refused(settings, tmp_path):
    run(settings, tmp_path / 'work')
    checkpoint = torch.load(tmp_path / 'work' / 'epoch_1.pth', weights_only=False)
    checkpoint['meta']['preprocessing_version'] = 3
    torch.save(checkpoint, tmp_path / 'later.pth')
    with pytest.raises(ValueError, match='expected preprocessing version 2 or earlier of a checkpoint, got 3'):
        run(settings, tmp_path / 'test', tmp_path / 'later.pth')


@pytest.mark.parametrize(('of_the_model', 'expected'), [(1, 1), (2, None), (None, None)])
def test_an_ensemble_has_the_version_of_its_members(of_the_model, expected):
    """Below the wrappers; there is no checkpoint of the Runner's."""
    ensemble = nn.Linear(1, 1)
    ensemble.test_step = None  # mmengine asks for it
    ensemble.preprocessing_version = of_the_model
    model = MixtureTTA(module=ensemble)
    runner = SimpleNamespace(model=model, logger=SimpleNamespace(info=lambda text: None))
    loader = LoadImage()
    dataset = SimpleNamespace(pipeline=SimpleNamespace(transforms=[loader]))
    PreprocessingVersionHook().after_build_dataloader(runner, SimpleNamespace(dataset=dataset))
    assert loader.version == expected
