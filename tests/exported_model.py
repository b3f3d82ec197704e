"""One exported model for all tests that need one: an export takes several seconds."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

from trained_checkpoints import CLASSES, CNN, config_of, write_checkpoint

from hybridcls.apis.artifact import export
from hybridcls.engine.checkpoints.calibration_file import calibration_path, digest_of_weights, write_calibration
from hybridcls.structures import Calibration

EVIDENTIAL = dict(type='EvidentialHead', num_classes=4)


class ExportedModel(NamedTuple):
    """A checkpoint of random weights with a calibration, and its artifact."""

    checkpoint: str
    folder: Path


@functools.cache
def exported_model() -> ExportedModel:
    """Export once a session, to a folder that nobody changes; copy it to change it."""
    root = Path(tempfile.mkdtemp(prefix='exported_model_'))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    checkpoint, _ = write_checkpoint(root / 'work_dir' / 'epoch_1.pth', config_of(CNN, EVIDENTIAL))
    calibration = Calibration(
        'epoch_1.pth', digest_of_weights(checkpoint), list(CLASSES), dict(kind='temperature', temperature=0.05),
        risk=dict(risk=0.1, confidence=0.9, threshold=0.3), sets=dict(alpha=0.1, threshold=0.25, images=99),
        img_size=[64, 64], preprocessing_version=2, images=99,
    )  # fmt: skip
    write_calibration(calibration, calibration_path(checkpoint))
    export(checkpoint, root / 'artifact')
    return ExportedModel(checkpoint, root / 'artifact')
