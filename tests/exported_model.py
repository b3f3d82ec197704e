"""One exported model for all tests that need one: an export takes several seconds."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from trained_checkpoints import CLASSES, CNN, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.artifact import export
from hybridcls.apis.artifact.golden import golden_images
from hybridcls.engine.checkpoints.calibration_file import calibration_path, digest_of_weights, write_calibration
from hybridcls.structures import Calibration

EVIDENTIAL = dict(type='EvidentialHead', num_classes=4)


class ExportedModel(NamedTuple):
    """A checkpoint of random weights with a calibration, and its artifact."""

    checkpoint: str
    folder: Path


@functools.cache
def exported_model() -> ExportedModel:
    """Export once a session, to a folder that no test changes; copy it to change it."""
    root = Path(tempfile.mkdtemp(prefix='exported_model_'))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    checkpoint, _ = write_checkpoint(root / 'work_dir' / 'epoch_1.pth', config_of(CNN, EVIDENTIAL))
    _spread(checkpoint)
    calibration = Calibration(
        'epoch_1.pth', digest_of_weights(checkpoint), list(CLASSES), dict(kind='temperature', temperature=0.7),
        risk=dict(risk=0.1, confidence=0.9, threshold=0.6), sets=dict(alpha=0.1, threshold=0.2, images=99),
        img_size=[64, 64], preprocessing_version=2, images=99,
    )  # fmt: skip
    write_calibration(calibration, calibration_path(checkpoint))
    export(checkpoint, root / 'artifact')
    return ExportedModel(checkpoint, root / 'artifact')


def _spread(checkpoint: str) -> None:
    """Let the golden images have different classes: random weights say the same of all."""
    content = torch.load(checkpoint)
    embeddings = torch.from_numpy(hybridcls.load(checkpoint, 'cpu').embed(list(golden_images().values())))
    weight, bias = (content['state_dict'][f'head.fc.{name}'] for name in ('weight', 'bias'))
    weight /= (embeddings @ weight.T).std(0, keepdim=True).T / 4
    bias.copy_(-(embeddings @ weight.T).mean(0))
    torch.save(content, checkpoint)
