"""Predict from one stream where its prediction is confident, and run the other stream for the other images alone."""

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hybridcls.structures import Calibration

from ..necks import FusionNeck

__all__ = ['StreamSkipping', 'channels_of_stream', 'check_skippable', 'fused_without', 'skip_streams', 'skips_of']


def skip_streams(model: Any, calibration: Optional[Calibration]) -> 'StreamSkipping':
    """Skip a stream in a model's predictions by its calibration; ``model.skipping = None`` ends it.

    Raises:
        ValueError: If the model has one stream, or its calibration does not say which images are sure.
    """
    check_skippable(model)
    if calibration is None or calibration.skip_sure is None:
        raise ValueError(
            'skip_sure: expected a calibration that says which images are sure, got '
            f'{"none" if calibration is None else "one without"}. Type: hybridcls calibrate CHECKPOINT --data FOLDER '
            '--skip-sure 0.01'
        )
    model.skipping = StreamSkipping(model, calibration.skip_sure)
    return model.skipping


class StreamSkipping:
    """Predict with a :class:`HybridClassifier` that runs one stream only for images where the other is not confident.

    The first stream sees all images. With the features of the other one replaced by constants, neck and head give an
    answer; where its largest score is at least the threshold, that answer stands and the other stream is not computed.
    The other images of the batch go through the other stream, and get the answer of both: that of the model without
    skipping, up to the rounding of a smaller batch.

    Predictions get a field ``streams``, the names of those that were computed. Embeddings and uncertainties of skipped
    images are those of the first stream and the constants; they compare with others of their kind alone.

    Args:
        model (HybridClassifier): Of two streams.
        skip (Mapping): ``stream``: the name of the stream that is skipped; ``filling``: of it, the constants, one list
            of floats a feature; ``threshold``: in [0, 1].

    Raises:
        ValueError: If the model has no such stream, or other channels.
    """

    def __init__(self, model: nn.Module, skip: Mapping[str, Any]) -> None:
        names = check_skippable(model)
        if skip['stream'] not in names:
            raise ValueError(f'skip_sure: expected one of the streams {", ".join(names)}, got {skip["stream"]!r}.')
        self.skipped = skip['stream']
        self.first = next(name for name in names if name != self.skipped)
        self.threshold = float(skip['threshold'])
        self.filling = [torch.tensor(values, dtype=torch.float32) for values in skip['filling']]
        widths, expected = [len(values) for values in self.filling], channels_of_stream(model, self.skipped)
        if widths != expected:
            raise ValueError(f'skip_sure: expected fillings of {expected} channels, got {widths}.')

    def predict(
        self, model: Any, inputs: Tensor, data_samples: Optional[Sequence[DataSample]], **kwargs: Any
    ) -> list[DataSample]:
        """Return one DataSample an image."""
        samples = [DataSample() for _ in inputs] if data_samples is None else list(data_samples)
        if len(samples) != len(inputs):
            raise ValueError(
                f'skip_sure: expected one view an image, got {len(inputs)} of {len(samples)} images. Leave it out.'
            )
        seen = model.backbone.stream_features(self.first, inputs)
        cheap = model.head.predict(
            fused_without(model, self.skipped, seen, self.filling), [DataSample() for _ in samples], **kwargs
        )
        sure = torch.stack([one.pred_score.max() for one in cheap]) >= self.threshold
        rest = (~sure).nonzero().flatten()
        full = []
        if len(rest):
            other = model.backbone.stream_features(self.skipped, inputs[rest])
            own = tuple(feature[rest] for feature in seen)
            features = own + other if self.first == model.backbone.stream_names[0] else other + own
            full = model.head.predict(model.neck(features), [DataSample() for _ in rest], **kwargs)
        of_both = iter(full)
        for sample, one, is_sure in zip(samples, cheap, sure.tolist(), strict=True):
            found = one if is_sure else next(of_both)
            for name, value in found.items():
                sample.set_field(value, name)
            if 'num_classes' in found:
                sample.set_metainfo(dict(num_classes=found.num_classes))
            sample.set_field((self.first,) if is_sure else model.backbone.stream_names, 'streams')
        return samples


def check_skippable(model: Any) -> tuple[str, ...]:
    """Return the names of a model's streams, one of which can be skipped.

    Raises:
        ValueError: If it has one stream, several members, or a neck that fuses in a way of its own.
    """
    names = tuple(getattr(getattr(model, 'backbone', None), 'stream_names', ()))
    if hasattr(model, 'members'):
        raise ValueError('skip_sure: expected a model of two streams, got an ensemble. Skip in a single model.')
    if len(names) != 2:
        one = f'the stream {names[0]} alone' if names else f'a {type(getattr(model, "backbone", model)).__name__}'
        raise ValueError(f'skip_sure: expected a model of two streams, got {one}: there is nothing to skip.')
    if hasattr(model, 'embedding_dropout'):
        raise ValueError(f'skip_sure: expected one draw an image, got {type(model).__name__}, which takes several.')
    if not isinstance(model.neck, FusionNeck):
        raise ValueError(
            f'skip_sure: expected a neck that pools the streams (DHAFusion, ConcatFusion, SumFusion, or one derived '
            f'from FusionNeck), got {type(model.neck).__name__}.'
        )
    return names


def channels_of_stream(model: Any, name: str) -> list[int]:
    """Return the number of channels of a stream's features."""
    channels = getattr(model.backbone, name).out_channels
    return list(channels) if isinstance(channels, tuple) else [channels]


def fused_without(model: Any, skipped: str, seen: Sequence[Tensor], filling: Sequence[Tensor]) -> Any:
    """Return the neck's output for the features of one stream, and constants for those of the other.

    Args:
        model (HybridClassifier): Of two streams; see :func:`check_skippable`.
        skipped (str): The stream that the constants stand for.
        seen (Sequence[Tensor]): The features of the other stream, of B images.
        filling (Sequence[Tensor]): For each feature of the skipped stream ``(C,)``.
    """
    vectors = tuple(values.to(seen[0]).expand(len(seen[0]), -1) for values in filling)
    return model.neck((*vectors, *seen) if skipped == model.backbone.stream_names[0] else (*seen, *vectors))


def skips_of(samples: Sequence[DataSample]) -> Optional[Tensor]:
    """Return which predictions were made without a stream, bool (B,); None if no stream is ever skipped."""
    return torch.tensor([len(sample.streams) == 1 for sample in samples]) if 'streams' in samples[0] else None
