"""The content of a calibration file: probability scaling, and thresholds with guarantees."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Optional

from hybridcls.checks import counted

__all__ = ['Calibration']

_FORMAT = 'hybridcls calibration'
_VERSION = 1


@dataclass(frozen=True)
class Calibration:
    """A calibration of one checkpoint, in the types of JSON.

    Args:
        checkpoint (str): The name of its file.
        weights_sha256 (str): The digest of its weights.
        classes (list[str]): The names of the model's classes, by number.
        scaling (dict): Of :func:`hybridcls.functional.calibration.fit_scaling`.
        risk (dict, optional): ``risk`` and ``confidence`` as asked for, the ``threshold`` of the calibrated confidence,
            and of how many ``images`` how many were ``answered``, with how many ``errors``.
        sets (dict, optional): ``alpha`` as asked for, the ``threshold`` of a class's calibrated probability, and the
            number of ``images``.
        skip_sure (dict, optional): Which stream is left out for which images, and what holds then: ``stream``,
            ``filling`` and ``threshold`` of :class:`hybridcls.models.classifiers.StreamSkipping`; ``rate`` and
            ``confidence`` as asked for; of how many ``images`` how many were ``skipped``, how many of these with
            another answer, ``changed``; the ``scaling`` of scores without the stream; ``risk`` and ``sets`` of all
            predictions then, as above; what was ``measured``.
        precision (str): The precision that the scores were computed with: ``'float32'``, ``'bfloat16'``, ``'float16'``.
        img_size (list[int], optional): Height and width of the images that the model saw; None: of several sizes.
        preprocessing_version (int): How images were read.
        images (int): How many there were.
        data (dict): Which images: ``source``, the folder or table that was named, and their sketch, ``images`` and
            ``digests`` (:func:`hybridcls.apis.image_sketch.image_sketch`). Empty in files of before 0.2.
        measured (dict): ``nll`` in nats and ``ece`` in percent, each before and after, of held-out halves.
        token_merging_ratio (float, optional): That of the key ``inference``; None: as the model has it.
    """

    checkpoint: str
    weights_sha256: str
    classes: list[str]
    scaling: dict[str, Any]
    risk: Optional[dict[str, Any]] = None
    sets: Optional[dict[str, Any]] = None
    skip_sure: Optional[dict[str, Any]] = None
    precision: str = 'float32'
    img_size: Optional[list[int]] = None
    preprocessing_version: int = 1
    images: int = 0
    data: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    token_merging_ratio: Optional[float] = None

    @property
    def has_guarantee(self) -> bool:
        """Whether a threshold comes with a guarantee for later images."""
        return self.risk is not None or self.sets is not None

    def __str__(self) -> str:
        """Summarize the calibration in a line."""
        kind = self.scaling['kind']
        number = f' {self.scaling["temperature"]:.3f}' if kind == 'temperature' else ''
        parts = ['probabilities as the model says them' if kind == 'none' else f'{kind}{number}']
        if self.risk is not None:
            parts.append(
                f"'unknown' below {self.risk['threshold']:.4f} (error at most {self.risk['risk']:.3g} with confidence "
                f'{self.risk["confidence"]:.3g})'
            )
        if self.sets is not None:
            parts.append(f'sets of classes (including the right one with probability {1 - self.sets["alpha"]:.3g})')
        return f'{", ".join(parts)}; from {counted(self.images, "image")}'

    def to_json(self) -> dict[str, Any]:
        """Return the content of a file."""
        return dict(format=_FORMAT, version=_VERSION, **asdict(self))

    @classmethod
    def from_json(cls, content: Any, path: str) -> 'Calibration':
        """Read the content of a file.

        Raises:
            ValueError: If it is no calibration, or one of a later version.
        """
        if not isinstance(content, Mapping) or content.get('format') != _FORMAT:
            raise ValueError(f'calibration: expected a file of hybridcls calibrate, got {path}.')
        if content.get('version') != _VERSION:
            raise ValueError(
                f'calibration: expected version {_VERSION}, got {content.get("version")} in {path}. Update hybridcls.'
            )
        known = {one.name for one in fields(cls)}
        try:
            return cls(**{name: value for name, value in content.items() if name in known})
        except TypeError as error:
            raise ValueError(f'calibration: {path} is damaged ({error}). Type: hybridcls calibrate') from error
