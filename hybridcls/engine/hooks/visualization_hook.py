"""Draw images with their predictions."""

import os
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, Optional

from mmengine.fileio import join_path
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop
from mmengine.visualization import Visualizer
from mmpretrain.structures import DataSample
from torch import Tensor

from hybridcls.checks import check_number
from hybridcls.compat.mmengine import bare_model
from hybridcls.registry import HOOKS
from hybridcls.visualization.prediction_image import ClassNames, enlarge, fitting_text, to_rgb_image


@HOOKS.register_module()
class VisualizationHook(Hook):
    """Draw predictions, as mmpretrain's hook does and with its options; used by ``tools/test.py --show-dir``.

    The pictures show what the network gets, of several views the first:

    - Colours are right: what mmcv reads has blue first. (An image without ``img_path``, from memory, is taken for RGB
      where the data preprocessor says ``to_rgb=False``.) Of one channel a grey picture is drawn, of four or more the
      first three.
    - Small images are enlarged by a whole factor, so that the text can be read; the text is as large as fits.
    - In ``out_dir`` a picture has the path of its image below the dataset's common folder, ``cat/1.jpg_0.png``, where
      0 is the epoch of a validation; without paths, the number of the image in the dataset.
    - Labels outside the classes, and -1, are called *unknown*; images without
      labels show the prediction alone.

    Of several processes the first draws its share of the images.

    Args:
        enable (bool): Whether to draw. Defaults to False.
        interval (int): Every n-th image is drawn. Defaults to 5000.
        show (bool): Show them in a window. Defaults to False.
        out_dir (str, optional): Where to write them. Defaults to None: the visualizer's backends.
        **kwargs: For the visualizer's ``visualize_cls``, such as ``resize``, ``rescale_factor`` (nothing is enlarged
            then), ``text_cfg``, ``classes``, ``draw_score``, ``wait_time``.
    """

    def __init__(
        self,
        enable: bool = False,
        interval: int = 5000,
        show: bool = False,
        out_dir: Optional[str] = None,
        **kwargs: Any,
    ) -> None:
        check_number('VisualizationHook', 'interval', interval, 1, integer=True)
        self.enable = enable
        self.interval = interval
        self.out_dir = out_dir
        self.draw_args = {**kwargs, 'show': show}
        self._seen = 0
        self._root: Optional[str] = None

    def before_val_epoch(self, runner: Any) -> None:
        """Reset the count of images."""
        self._begin(runner.val_dataloader)

    def before_test_epoch(self, runner: Any) -> None:
        """Reset the count of images."""
        self._begin(runner.test_dataloader)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any, outputs: Sequence[DataSample]) -> None:
        """Draw images of a validation batch."""
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        self._draw(runner, data_batch, outputs, runner.epoch if by_epoch else runner.iter)

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any, outputs: Sequence[DataSample]) -> None:
        """Draw images of a test batch."""
        self._draw(runner, data_batch, outputs, 0)

    def _begin(self, dataloader: Any) -> None:
        if self.enable:
            self._seen, self._root = 0, common_folder(dataloader.dataset)

    def _draw(self, runner: Any, data_batch: Any, samples: Sequence[DataSample], step: int) -> None:
        if not self.enable:
            return
        visualizer = Visualizer.get_current_instance()
        names = self.draw_args.get('classes') or (visualizer.dataset_meta or {}).get('classes')
        classes = None if names is None else ClassNames(names)
        for row, sample in enumerate(samples):
            number, self._seen = self._seen, self._seen + 1
            if number % self.interval:
                continue
            path = sample.get('img_path')
            image = to_rgb_image(_image_of(data_batch['inputs'], row), path is not None or _takes_bgr(runner.model))
            options = {**self.draw_args, 'classes': classes}
            if not {'resize', 'rescale_factor'} & {*options}:
                image = enlarge(image)
                text = fitting_text(image.shape[1], sample, classes)
                options['text_cfg'] = {**text, **(options.get('text_cfg') or {})}
            name = str(number) if path is None else picture_name(path, self._root)
            if self.out_dir is not None:
                options['out_file'] = join_path(self.out_dir, f'{name}_{step}.png')
            visualizer.visualize_cls(image=image, data_sample=sample, step=step, name=name, **options)


def common_folder(dataset: Any) -> Optional[str]:
    """Return the common folder of all images of a dataset, or None if they have no paths."""
    if not hasattr(dataset, 'get_data_info'):
        return None
    paths = (dataset.get_data_info(number).get('img_path') for number in range(len(dataset)))
    folders = {os.path.dirname(os.path.abspath(path)) for path in paths if path and '://' not in path}
    return os.path.commonpath(folders) if folders else None


def picture_name(path: str, root: Optional[str]) -> str:
    """Return a path relative to ``root``; for a path outside, all of it without its anchor.

    Example:
        >>> picture_name('/data/val/cat/1.jpg', '/data/val'), picture_name('s3://bucket/1.jpg', '/data/val')
        ('cat/1.jpg', 's3/bucket/1.jpg')
    """
    if root is not None and '://' not in path:
        relative = os.path.relpath(path, root)
        if not relative.startswith(os.pardir):
            return PurePosixPath(relative.replace(os.sep, '/')).as_posix()
        path = os.path.abspath(path)
    return '/'.join(
        part for part in path.replace('://', '/').replace('\\', '/').split('/') if part not in ('', '.', '..')
    )


def _image_of(inputs: Any, row: int) -> Tensor:
    """Return one image (C, H, W) of a batch of the data loader; of several views the first."""
    if not isinstance(inputs, Tensor) and (not isinstance(inputs[0], Tensor) or inputs[0].dim() == 4):
        inputs = inputs[0]
    return inputs[row]


def _takes_bgr(model: Any) -> bool:
    return bool(getattr(getattr(bare_model(model), 'data_preprocessor', None), 'to_rgb', True))
