"""CorruptionTestLoop: which images each pass sees, and what it is named. (On two processes: test_on_two_processes.)"""

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel

from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_testing
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.registry import METRICS, MODELS

CONFIG = """
default_scope = 'hybridcls'
model = dict(type='PixelModel')
test_dataloader = dict(batch_size=8, num_workers=1, persistent_workers=True,
                       sampler=dict(type='DefaultSampler', shuffle=False),
                       dataset=dict(type='Digits', split='test', indices=12, pipeline=[dict(type='PackInputs')]))
test_evaluator = [dict(type='MeanPixel')]
test_cfg = dict(type='CorruptionTestLoop')
log_level = 'ERROR'
"""


@METRICS.register_module(force=True)
class MeanPixel(BaseMetric):
    """The mean of what the model got, with a table."""

    default_prefix = 'pixel'

    def process(self, data_batch, data_samples):
        self.results += [float(sample['mean']) for sample in data_samples]

    def compute_metrics(self, results):
        mean = sum(results) / len(results)
        return dict(mean=mean, mean_low=mean - 1, table=[results])


@MODELS.register_module(force=True)
class PixelModel(BaseModel):
    """The prediction is the mean of the pixels."""

    def __init__(self):
        super().__init__(data_preprocessor=dict(type='HybridDataPreprocessor', mean=[0] * 3, std=[1] * 3))
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        for sample, image in zip(data_samples, inputs, strict=True):
            sample.set_field(image.mean(), 'mean')
        return data_samples


def run(folder, **options):
    file = folder / 'config.py'
    file.write_text(CONFIG)
    checkpoint = str(folder / 'epoch_1.pth')
    torch.save(dict(meta={}, state_dict=dict(weight=torch.ones(()))), checkpoint)
    with isolated_globals():
        cfg = prepare_testing(load_config(file, options), checkpoint, TrainOptions(), str(folder / 'w'))
        return build_runner(cfg).test()


@pytest.mark.nightly
def test_each_pass_has_its_corruption_also_in_workers_that_persist(tmp_path):
    result = run(tmp_path, **{'test_cfg.corruptions': ['brightness', 'noise'], 'test_cfg.severities': [1, 5]})
    clean = result['pixel/mean']
    bright = [result[f'corruption/brightness_{severity}/pixel/mean'] for severity in (1, 5)]
    assert clean * 1.05 < bright[0] < bright[1]  # white stays white
    assert result['corruption/brightness/pixel/mean'] == pytest.approx(sum(bright) / 2)
    noisy = [result[f'corruption/noise_{severity}/pixel/mean'] for severity in (1, 5)]
    assert result['corruption/mean/pixel/mean'] == pytest.approx(sum([*bright, *noisy]) / 4)
    assert len([name for name in result if name.startswith('corruption/')]) == 4 * 2 + 3
    assert 'pixel/table' in result


def test_wrong_settings_are_named_before_the_first_pass(tmp_path):
    with pytest.raises(ValueError, match=r"^CorruptionTestLoop: expected corruptions to be one of .* got 'fog'"):
        run(tmp_path, **{'test_cfg.corruptions': 'fog'})
    with pytest.raises(ValueError, match=r'^CorruptionTestLoop: expected severities in \[1, 5\], got 0'):
        run(tmp_path, **{'test_cfg.severities': 0})
    dump = dict(type='DumpResults', out_file_path=str(tmp_path / 'p.pkl'))
    with pytest.raises(ValueError, match=r'^CorruptionTestLoop: expected metrics, got DumpResults too'):
        run(tmp_path, test_evaluator=[dump])
