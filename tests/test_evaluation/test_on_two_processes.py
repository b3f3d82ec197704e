"""A test of two processes gives the numbers of one: every metric, with a bank, a gallery and corrupted images.

45 images do not divide by two processes or by the batch: the last batches are padded.
"""

import json

import processes
import pytest
from made_images import class_folders
from mmengine.config import Config
from trained_checkpoints import CNN, LINEAR, PIPELINE, config_of, write_checkpoint


def folder(root, **keys):
    return dict(type='ImageFolder', data_root=str(root), pipeline=PIPELINE, test_mode=True, **keys)


def loader(dataset):
    sampler = dict(type='DefaultSampler', shuffle=False)
    return dict(batch_size=4, num_workers=0, sampler=sampler, dataset=dataset)


@pytest.fixture
def config(tmp_path):
    known = class_folders(tmp_path / 'known', one=12, three=11, two=10)  # no image of 'zero'
    others = class_folders(tmp_path / 'others', four=9, five=3)
    bank = class_folders(tmp_path / 'bank', one=6, three=6, two=6, zero=2)
    gallery = class_folders(tmp_path / 'gallery', one=4, three=5, four=4, seven=8)  # unseen classes, distractors
    cfg = config_of(CNN, LINEAR, launcher='none', env_cfg=dict(dist_cfg=dict(backend='gloo')))
    both = dict(type='ConcatDataset', datasets=[folder(known), folder(others)])
    cfg.update(
        test_dataloader=loader(both),
        custom_hooks=[
            dict(type='EmbeddingBankHook', dataloader=loader(folder(bank))),
            dict(type='GalleryHook', dataloader=loader(folder(gallery))),
        ],
        test_cfg=dict(type='CorruptionTestLoop', corruptions='noise', severities=5),
        test_evaluator=[
            dict(type='Accuracy', topk=(1, 3), confidence=0.95),
            dict(type='ClassReport'),
            dict(type='CalibrationMetric', errors=['equal_width', 'equal_mass', 'smooth', 'classwise'], confidence=0.9),
            dict(type='OODMetric', positive='both', aupr=True),
            dict(type='SelectiveMetric', risks=[0.5]),
            dict(type='KNNAccuracy', k=3),
            dict(type='LinearProbeAccuracy', inverse_penalty=1.0),
            dict(type='RetrievalMetric', whole_list=True, confidence=0.9),
            dict(type='VerificationMetric', far=[0.1]),
        ],
    )
    file = tmp_path / 'config.py'
    file.write_text(Config(cfg).pretty_text)
    return file, write_checkpoint(tmp_path / 'work' / 'epoch_1.pth', cfg)[0]


def results_of(config, checkpoint, count, folder):
    out = folder / f'of_{count}.json'
    arguments = [config, checkpoint, '--out', out, '--out-item', 'metrics', '--work-dir', folder / f'test_{count}']
    said = processes.run_tool('test.py', *arguments, count=count, folder=folder)
    return json.loads(out.read_text()), said


def test_two_processes_give_the_numbers_of_one(config, tmp_path):
    alone, said = results_of(*config, 1, tmp_path)
    assert 'smaller' not in said
    together, _ = results_of(*config, 2, tmp_path)
    assert list(alone) == list(together)
    for name, value in alone.items():
        assert together[name] == (value if isinstance(value, list) else pytest.approx(value, abs=1e-3)), name
    assert alone['retrieval/queries'] == 45
    assert alone['retrieval/matched_queries'] == 12 + 11 + 9
    assert alone['retrieval/gallery'] == 21
    assert alone['retrieval/map@r_all'] < alone['retrieval/map@r']
    assert sum(row['images'] for row in alone['classes/table']) == 33
    assert alone['linear/top1'] <= 100 * 33 / 45  # four and five are not in the bank
    assert alone['corruption/noise_5/calibration/nll'] != alone['calibration/nll']
    assert 'corruption/noise_5/accuracy/top1_low' in alone
    assert 'corruption/mean/accuracy/top1_low' not in alone
