"""Convert a batch of the data loader to the input of the model."""

from collections.abc import Sequence
from typing import Any, Optional

import torch
from mmpretrain.models.utils import ClsDataPreprocessor
from torch import Tensor, nn

from hybridcls.registry import MODELS
from hybridcls.structures import UNKNOWN_LABEL, known_rows

from .image_range import range_of


@MODELS.register_module()
class HybridDataPreprocessor(ClsDataPreprocessor):
    """Stack images, or several views of them, into one RGB batch in [0, 1]; each stream normalizes it by itself.

    It is mmpretrain's preprocessor (padding, mixup and cutmix included) with three differences: several views are one
    bigger batch, nothing is normalized here (two pretrained streams may want two normalizations) unless you say how,
    and a label that the head has no class for is an error that names the image (in a test, -1 marks an image of no
    known class).

    Args:
        to_rgb (bool): The pipeline gives BGR images, as mmcv reads them. Defaults to True.
        num_classes (int, optional): Labels must lie in [0, num_classes), in an evaluation above -2: -1 and labels from
            num_classes on are those of classes that the model does not have. ``HybridClassifier`` fills it in from its
            head. Defaults to None: not checked.
        mean (Sequence[float], optional), std (Sequence[float], optional): As in mmpretrain, of R, G, B in [0, 255]:
            ``(x - mean) / std`` instead of ``x / 255``, for a backbone that does not normalize by itself. Defaults to
            None. (``HybridClassifier`` normalizes for mmpretrain's backbones where they are not given.)
        device_augment (dict, optional): A :class:`DeviceAugment`, applied to the batches of a training on the device of
            the model. Defaults to None.
        label_check (bool): Whether a label out of range is an error. Defaults to True.
        pad_size_divisor (int), pad_value (int), to_onehot (bool), batch_augments (dict, optional): As in mmpretrain.

    Shape:
        - data['inputs']: ``(B, 3, H, W)`` or a list of B ``(3, H, W)`` images; or, with V views, a list of V such
          batches. uint8 or float in [0, 255].
        - returns: ``inputs`` float32 ``(V * B, 3, H, W)`` in [0, 1], the first view of all images, then the second,
          ...; ``data_samples`` with B entries.

    Attributes:
        gives_unit_range (bool): What leaves is in [0, 1]: no mean and std were given.

    Raises:
        ValueError: If a label is out of range, if images of the first batch are surely not in [0, 255], if views
            differ in size, or if mixup meets several views.
    """

    def __init__(
        self,
        to_rgb: bool = True,
        num_classes: Optional[int] = None,
        label_check: bool = True,
        pad_size_divisor: int = 1,
        pad_value: int = 0,
        to_onehot: bool = False,
        batch_augments: Optional[dict] = None,
        mean: Optional[Sequence[float]] = None,
        std: Optional[Sequence[float]] = None,
        device_augment: Optional[dict] = None,
    ) -> None:
        if (mean is None) != (std is None):
            raise ValueError(
                f'HybridDataPreprocessor: expected mean and std, got mean={mean} and std={std}. Give both, of values '
                'in [0, 255], or neither.'
            )
        super().__init__(
            mean=mean,
            std=std,
            to_rgb=to_rgb,
            num_classes=num_classes,
            pad_size_divisor=pad_size_divisor,
            pad_value=pad_value,
            to_onehot=to_onehot,
            batch_augments=batch_augments,
        )
        self.device_augment = None if device_augment is None else MODELS.build(device_augment)
        num_views = getattr(self.device_augment, 'num_views', 1)
        if batch_augments is not None and num_views > 1:
            raise ValueError(
                'HybridDataPreprocessor: expected one view of each image with batch_augments (mixup, cutmix), got '
                f'num_views={num_views} in device_augment. Drop one of them.'
            )
        self.label_check = label_check
        self.gives_unit_range = mean is None
        self._images_checked = mean is not None

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return the batch on the model's device."""
        data_samples = data.get('data_samples')
        if self.label_check and self.num_classes is not None and data_samples is not None:
            _check_labels(data_samples, self.num_classes, training)
        inputs = data['inputs']
        if _is_multi_view(inputs):
            if training and self.batch_augments is not None:
                raise ValueError(
                    'HybridDataPreprocessor: batch_augments (mixup, cutmix) mix one view of an image with '
                    f'another image, and this pipeline gives {len(inputs)} views. Drop batch_augments '
                    'or MultiView.'
                )
            data = {**data, 'inputs': _stack_views(inputs)}
        if not self._images_checked:
            self._images_checked = True
            _check_values(data['inputs'])
        if training and self.device_augment is not None:
            data = {**data, 'inputs': self._augmented(self.device_augment, data['inputs'])}
        if self.to_onehot and not training and self.num_classes is not None and data_samples is not None:
            _mark_unknown(data_samples, self.num_classes)
        data = super().forward(data, training)
        if self.gives_unit_range:
            # Not in place: a float batch may be the loader's own tensor.
            data['inputs'] = data['inputs'] / 255.0
        return data

    def _augmented(self, augment: nn.Module, images: Any) -> Tensor:
        """Return the batch on the device, augmented, with its order of channels unchanged."""
        sizes = {tuple(image.shape) for image in images}
        if len(sizes) > 1:
            raise ValueError(
                f'HybridDataPreprocessor: expected images of one size with device_augment, got {sorted(sizes)}. End '
                'the pipeline with CenterCropToSize or ResizeToSize.'
            )
        batch = images if isinstance(images, Tensor) else torch.stack(list(images))
        batch = batch.to(self.device, non_blocking=True)
        augmented: Tensor = augment(batch.flip(1)).flip(1) if self.to_rgb else augment(batch)
        return augmented


def _check_values(images: Any) -> None:
    """Raise unless float images can be in [0, 255]; a whole batch near 0 is certainly wrong."""
    floats = [image for image in images if image.is_floating_point()]
    if not floats:
        return
    lows, highs = zip(*(range_of(image) for image in floats), strict=True)
    low, high = min(lows), max(highs)
    what = 'expected images in [0, 255], uint8 or float, got values'
    if low < -0.5 and high < 20:
        raise ValueError(
            f'HybridDataPreprocessor: {what} from {low:.3g} to {high:.3g}, which are already normalized. Remove '
            'Normalize from the pipeline (each stream normalizes by itself), or switch normalization off: '
            'data_preprocessor=dict(mean=[0., 0., 0.], std=[1., 1., 1.]).'
        )
    if low >= 0 and high <= 1 and any(bool((image % 1 != 0).any()) for image in floats):
        raise ValueError(
            f'HybridDataPreprocessor: {what} from {low:.3g} to {high:.3g}, which look like images in [0, 1]. Give '
            'uint8 images, or say that they need no division by 255: '
            'data_preprocessor=dict(mean=[0., 0., 0.], std=[1., 1., 1.]).'
        )


def _is_multi_view(inputs: Any) -> bool:
    if isinstance(inputs, Tensor) or not isinstance(inputs, Sequence) or not len(inputs):
        return False
    return not isinstance(inputs[0], Tensor) or inputs[0].dim() == 4


def _stack_views(views: Sequence) -> Tensor:
    sizes = {tuple(image.shape[-3:]) for view in views for image in ([view] if isinstance(view, Tensor) else view)}
    if len(sizes) > 1:
        raise ValueError(
            f'HybridDataPreprocessor: the views of a batch have different sizes, {sorted(sizes)}; all go '
            'through the streams as one batch. Give every view the same img_size.'
        )
    return torch.cat([view if isinstance(view, Tensor) else torch.stack(list(view)) for view in views])


def _mark_unknown(data_samples: Sequence, num_classes: int) -> None:
    """Give a batch with images of unknown classes soft labels of zeros for these, as one_hot accepts no -1."""
    known = set(known_rows(data_samples, num_classes))
    if len(known) == len(data_samples):
        return
    for row, sample in enumerate(data_samples):
        if 'gt_score' not in sample:
            score = torch.zeros(num_classes, dtype=torch.int64, device=sample.gt_label.device)
            sample.set_gt_score(score.index_fill(0, sample.gt_label, 1) if row in known else score)


def _check_labels(data_samples: Sequence, num_classes: int, training: bool) -> None:
    # Here the labels are still on the CPU: the check costs no synchronisation with a GPU.
    for sample in data_samples:
        if 'gt_label' not in sample:
            continue
        for label in sample.gt_label.tolist():
            # In an evaluation a label from num_classes on is that of a class that the model does not have.
            if (label < 0 and (training or label != UNKNOWN_LABEL)) or (training and label >= num_classes):
                image = sample.get('img_path', None) or f'sample {sample.get("sample_idx", "?")}'
                raise ValueError(
                    f'{image} has the label {label}, and the head has num_classes={num_classes}: labels must lie in '
                    f'[0, {num_classes - 1}]. Set num_classes in the config to the number of classes of the dataset, '
                    f'or fix the annotation. ({UNKNOWN_LABEL}, for an image to be rejected, is for tests only.)'
                )
