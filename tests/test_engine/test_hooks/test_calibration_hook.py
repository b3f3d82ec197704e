"""A test of a calibrated model gives the answers of the inferencer, to the bit, and what its thresholds bring."""

import numpy as np
import pytest
import torch
from trained_checkpoints import CLASSES, CNN, LINEAR, config_of, scores_of_a_test, write_checkpoint

import hybridcls
from hybridcls.engine.checkpoints.calibration_file import calibration_path, digest_of_weights, write_calibration
from hybridcls.engine.hooks import CalibrationHook
from hybridcls.functional.calibration import apply_scaling
from hybridcls.structures import Calibration

SCALINGS = dict(
    temperature=dict(kind='temperature', temperature=0.3),
    vector=dict(kind='vector', weight=[2.0, 1.0, 3.0, 1.5], bias=[0.1, 0.0, -0.2, 0.1]),
    isotonic=dict(
        kind='isotonic',
        functions=[[[0.0, 0.3, 1.0], [0.0, high, 0.9]] for high in (0.1, 0.2, 0.3, 0.4)],
        own_share=0.01,
    ),
)


@pytest.mark.parametrize('kind', SCALINGS)
def test_scores_are_those_of_the_inferencer_to_the_bit(kind, digit_folder, tmp_path):
    cfg = config_of(CNN, LINEAR, digit_folder / 'val')
    path = write_checkpoint(tmp_path / 'w' / 'epoch_1.pth', cfg)[0]
    _, plain = scores_of_a_test(cfg, path, tmp_path)
    known = dict(preprocessing_version=2, img_size=[64, 64])
    threshold = float(np.median(apply_scaling(SCALINGS[kind], torch.from_numpy(plain)).numpy().max(1)))
    known['risk'] = dict(risk=0.1, confidence=0.9, threshold=threshold)
    calibration = Calibration('epoch_1.pth', digest_of_weights(path), list(CLASSES), SCALINGS[kind], **known)
    write_calibration(calibration, calibration_path(path))
    cfg['custom_hooks'] = [dict(type='CalibrationHook', checkpoint=path)]
    paths, scores = scores_of_a_test(cfg, path, tmp_path)
    answers = hybridcls.load(path, 'cpu')(digit_folder / 'val')
    got = list(answers)
    assert [answer.path for answer in got] == paths
    assert (np.stack([answer.scores for answer in got]) == scores).all()
    assert (scores == apply_scaling(SCALINGS[kind], torch.from_numpy(plain)).numpy()).all()
    assert abs(scores - plain).max() > 0.01
    assert {answer.answered for answer in got} == {True, False}
    assert [answer.answered for answer in got] == (scores.max(1) >= threshold).tolist()


def test_without_a_calibration_it_says_what_to_type(tmp_path):
    path = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, LINEAR))[0]
    hook = CalibrationHook(path)
    with pytest.raises(ValueError, match=r'CalibrationHook: expected a calibration beside .*hybridcls calibrate'):
        hook.before_run(None)
