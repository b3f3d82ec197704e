"""Read an image file, with an error that names the file."""

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Optional, Union

import mmcv
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine import fileio
from mmengine.logging import print_log
from PIL import Image, UnidentifiedImageError

from hybridcls.checks import check_choice, check_number
from hybridcls.registry import TRANSFORMS
from hybridcls.structures import PREPROCESSING_VERSION

from ..jpeg_header import jpeg_size
from .decoding import BACKGROUNDS, Decoded, ImageDepthError, decode, decode_jpeg_at, from_pillow, to_eight_bits
from .planned_crops import PLANNED_CROPS, PlannedCrops, crops_after

__all__ = ['LoadImage', 'UnreadableImageError']


class UnreadableImageError(ValueError):
    """The image cannot be read. The message has the file and the reason.

    Args:
        message (str): The message.
        path (str): The file.
        reason (str): Why it cannot be read.
    """

    def __init__(self, message: str, path: str = '', reason: str = '') -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read ``img_path`` into ``img``, (H, W, 3) uint8 BGR, with errors that name the file and the reason.

    Grey, palette, CMYK, transparent and 16-bit images all become three channels of 8 bits, rotated by their EXIF
    orientation. ``transparency`` and ``depth`` set what is lost, and the log reports the first such image. Of an
    animation, the first frame is read.

    A sample with its ``img`` in memory needs no ``img_path``. An image of Pillow is converted like a file, as are
    the bytes of one. An array stays unchanged, with any number of channels, except that uint16 is scaled by ``depth``;
    its colours are BGR, as everywhere in OpenMMLab, unless ``color_order='rgb'`` is set: ``np.array(pillow_image)`` is
    RGB.

    Reads ``img_path`` or ``img``; writes ``img``, ``img_shape`` and ``ori_shape`` (height, width).

    Args:
        color_type (str): ``'color'``, ``'grayscale'`` (H, W), ``'color_ignore_orientation'``,
            ``'grayscale_ignore_orientation'``; or ``'unchanged'``: the output of :func:`mmcv.imfrombytes`, four bands
            or 16 bits too. Defaults to ``'color'``.
        imdecode_backend (str): ``'cv2'``, ``'pillow'``, ``'turbojpeg'`` or ``'tifffile'``, for opaque images of 8
            bits; for others OpenCV or Pillow is chosen, except that the last two decode all files, as in mmcv. Defaults
            to ``'cv2'``.
        backend_args (dict, optional): The file backend of mmengine. Defaults to None: chosen by the path (local disk,
            ``s3://`` ...).
        transparency (str | Sequence[int]): Background: ``'white'``, ``'black'``, or (blue, green, red) in [0, 255];
            ``'drop'``: the stored colours of transparent pixels, often black. Defaults to ``'white'``.
        depth (str | int): Number of significant bits of 16-bit images, 9 to 16: 12-bit values in 16-bit files need
            ``depth=12``. ``'check'``: 16, with an error for an image whose values are all below 2 ** 14. ``'max'``:
            scale the largest value of each image to 255. Defaults to ``'check'``.
        color_order (str): ``'bgr'`` or ``'rgb'``: the colours of arrays in memory. Defaults to ``'bgr'``.
        decode_scale (str): ``'full'``; or ``'crop'``, for training: draw the crops of the image before it is decoded
            (``planned_crops``), and decode a JPEG at 1 / 2, 1 / 4 or 1 / 8 of its size where every crop still has at
            least the pixels of its output. It needs ``imdecode_backend='cv2'``, and acts where
            :class:`RandomCropToSize`, or an :class:`ImageViews` whose views begin with it, is the next transform
            of an ``ImageFolder``; elsewhere the whole image is decoded. Defaults to ``'full'``.
        version (int, optional): 2; or 1, the behaviour before this key existed: transparency dropped, the upper 8 of 16
            bits kept. Defaults to None: 2, or the version of the checkpoint that is tested or resumed.

    Raises:
        TypeError: If ``img`` is neither an array nor bytes nor an image of Pillow.
        ValueError: If an argument is invalid, or an array has other than 1 or 3 channels with ``color_order='rgb'``.
        UnreadableImageError: If the file is missing, empty, truncated or not an image.
        ImageDepthError: If 16 bits would become a few grey levels, or a value has more bits than ``depth``.

    Example:
        >>> red = Image.new('RGB', (4, 2), 'red')
        >>> LoadImage()(dict(img=red))['img'][0, 0].tolist()
        [0, 0, 255]
    """

    def __init__(
        self,
        color_type: str = 'color',
        imdecode_backend: str = 'cv2',
        backend_args: Optional[dict] = None,
        transparency: Union[str, Sequence[int]] = 'white',
        depth: Union[str, int] = 'check',
        color_order: str = 'bgr',
        version: Optional[int] = None,
        decode_scale: str = 'full',
    ) -> None:
        check_choice('LoadImage', 'imdecode_backend', imdecode_backend, mmcv.image.io.supported_backends)
        check_choice('LoadImage', 'color_type', color_type, mmcv.image.io.imread_flags)
        check_choice('LoadImage', 'color_order', color_order, ('bgr', 'rgb'))
        check_choice('LoadImage', 'decode_scale', decode_scale, ('full', 'crop'))
        if decode_scale == 'crop' and (imdecode_backend != 'cv2' or color_type == 'unchanged'):
            raise ValueError(
                "LoadImage: expected imdecode_backend='cv2' and a color_type other than 'unchanged' with "
                f"decode_scale='crop', got {imdecode_backend!r} and {color_type!r}. Remove decode_scale."
            )
        check_choice('LoadImage', 'version', version, (None, 1, PREPROCESSING_VERSION))
        if isinstance(transparency, str):
            check_choice('LoadImage', 'transparency', transparency, (*BACKGROUNDS, 'drop'))
        elif len(transparency) != 3:
            raise ValueError(f'LoadImage: expected transparency=(blue, green, red), got {tuple(transparency)}.')
        else:
            for value in transparency:
                check_number('LoadImage', 'transparency', value, 0, 255, integer=True)
        if isinstance(depth, str):
            check_choice('LoadImage', 'depth', depth, ('check', 'max'))
        else:
            check_number('LoadImage', 'depth', depth, 9, 16, integer=True)
        self.color_type = color_type
        self.imdecode_backend = imdecode_backend
        self.backend_args = backend_args
        self.transparency = transparency if isinstance(transparency, str) else tuple(transparency)
        self.depth = depth
        self.color_order = color_order
        self.version = version
        self.decode_scale = decode_scale
        self.pipeline: Any = None  # what this transform is a part of: its dataset sets it
        # In shared memory: of all workers of a data loader, the first one logs.
        self._logged = torch.zeros(len(Decoded._fields), dtype=torch.bool).share_memory_()

    def transform(self, results: dict) -> dict:
        """Load ``results['img']``."""
        plan = self.plan()
        if 'img_path' not in results and 'img' in results:
            image = self._from_memory(results['img'])
        else:
            image = self.read(results['img_path'], plan)
        return record(results, image, plan)

    def plan(self) -> Optional[PlannedCrops]:
        """Return the crops to draw for an image, if ``decode_scale`` asks for them and no transform comes between."""
        crops = crops_after(self.pipeline, self) if self.decode_scale == 'crop' else []
        return PlannedCrops(crops) if crops else None

    def read(self, path: str, plan: Optional[PlannedCrops] = None) -> np.ndarray:
        """Return the image in ``path``, (H, W, 3) uint8 BGR unless ``color_type`` is set, at the scale of ``plan``."""
        content, cause = b'', None
        try:
            content = fileio.get(path, backend_args=self.backend_args)
        except Exception as error:  # each backend has its own error types
            cause = error
        return self._from_file(content, path, plan, cause)

    def _from_file(
        self, content: bytes, name: str, plan: Optional[PlannedCrops] = None, cause: Optional[Exception] = None
    ) -> np.ndarray:
        decoded = None
        try:
            with _naming(name):
                decoded = self._decode(content, plan) if content else None
        except ImageDepthError:
            raise
        except Exception as error:  # each decoder has its own error types
            cause = error
        if decoded is None or decoded.image is None:  # OpenCV returns None
            reason = _why_not(content, cause)
            raise UnreadableImageError(f'LoadImage: cannot read {name}: {reason}', name, reason) from cause
        self._log(decoded, name)
        return decoded.image

    def _decode(self, content: bytes, plan: Optional[PlannedCrops]) -> Decoded:
        size = None if plan is None else jpeg_size(content, not self.color_type.endswith('_ignore_orientation'))
        if plan is not None and size is not None:
            plan.draw(*size)
            image = None if plan.scale == 1 else decode_jpeg_at(content, plan.scale, self.color_type)
            if image is not None and image.shape[:2] == plan.decoded_size(plan.scale):
                return Decoded(image)
        as_stored = self.color_type == 'unchanged' or self.imdecode_backend in ('turbojpeg', 'tifffile')
        if as_stored or self.version == 1:
            image = mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend)
            if image is not None or as_stored:
                return Decoded(image)
        return decode(content, self.color_type, self.imdecode_backend, self.transparency, self.depth)

    def _from_memory(self, image: Any) -> np.ndarray:
        if isinstance(image, Image.Image):
            color_type = 'color' if self.color_type == 'unchanged' else self.color_type
            with _naming('an image in memory'):
                decoded = from_pillow(image, color_type, self.transparency, self.depth)
            self._log(decoded, 'an image in memory')
            return decoded.image
        if isinstance(image, bytes):
            return self._from_file(image, 'an image in memory')
        if not isinstance(image, np.ndarray):
            raise TypeError(
                f'LoadImage: expected img as an array (H, W, 3), the bytes of a file or an image of Pillow, got '
                f'{type(image).__name__}. Convert it in the dataset.'
            )
        if image.dtype == np.uint16 and self.color_type != 'unchanged' and self.version != 1:
            with _naming('an image in memory'):
                image = to_eight_bits(image, self.depth)
            self._log(Decoded(image, reduced=True), 'an image in memory')
        if self.color_order == 'rgb' and image.ndim == 3 and image.shape[2] != 1:
            if image.shape[2] != 3:
                raise ValueError(
                    f"LoadImage: expected an array (H, W, 3) with color_order='rgb', got shape {image.shape}. Pass an "
                    'image of Pillow, whose mode names its channels, or remove color_order.'
                )
            return np.ascontiguousarray(image[..., ::-1])
        return image

    def _log(self, decoded: Decoded, what: str) -> None:
        """Log a lossy conversion, once per kind."""
        for number, field in enumerate(Decoded._fields):
            if number and getattr(decoded, field) and not self._logged[number]:
                self._logged[number] = True
                level = logging.WARNING if field == 'emptied' else logging.INFO
                print_log(_SENTENCES[field].format(what=what, self=self), logger='current', level=level)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(color_type={self.color_type!r}, imdecode_backend={self.imdecode_backend!r}, '
            f'backend_args={self.backend_args}, transparency={self.transparency!r}, depth={self.depth!r}, '
            f'color_order={self.color_order!r}, version={self.version}, decode_scale={self.decode_scale!r})'
        )


def record(results: dict, image: np.ndarray, plan: Optional[PlannedCrops]) -> dict:
    """Write an image, its size and the crops of a plan into a sample.

    Args:
        results (dict): The sample; ``img``, ``img_shape``, ``ori_shape`` (height, width) and ``planned_crops`` are set.
        image (np.ndarray): (H, W, ...), whole, or at the scale of the plan.
        plan (PlannedCrops, optional): The crops; drawn here, unless they have been for the image's size.
    """
    results['img'] = image
    results['img_shape'] = results['ori_shape'] = image.shape[:2]
    if plan is not None:
        scale = plan.scale
        if plan.size is None or scale == 1 or image.shape[:2] != plan.decoded_size(scale):
            plan.draw(*image.shape[:2])
            scale = 1
        results['ori_shape'] = plan.size
        results[PLANNED_CROPS] = plan.boxes(scale)
    return results


_SENTENCES = {
    'blended': 'LoadImage: {what} is partly transparent; its background is transparency={self.transparency!r}, here '
    "and in later images ('white', 'black', (B, G, R), or 'drop' for the stored colours).",
    'emptied': 'LoadImage: all pixels of {what} have one colour with transparency={self.transparency!r}. Try another '
    'background. Later images like it are not logged.',
    'reduced': 'LoadImage: {what} has 16 bits a channel; they are scaled to 8 with depth={self.depth!r}, here and in '
    'later images.',
}


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Add the name of the image to an ImageDepthError in the block."""
    try:
        yield
    except ImageDepthError as error:
        raise ImageDepthError(f'LoadImage: {what}: {error}') from None


def _why_not(content: bytes, cause: Optional[Exception]) -> str:
    """Explain why ``content`` is not an image, from Pillow's error: OpenCV gives no reason."""
    if isinstance(cause, OSError) and not content:
        return f'{cause.strerror or cause} ({type(cause).__name__}).'
    if not content:
        return 'the file is empty.' if cause is None else f'{cause} ({type(cause).__name__}).'
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = f'{image.format} image of mode {image.mode}'
            image.load()
    except UnidentifiedImageError:
        return f'its {len(content)} bytes are not a known image format.'
    except Exception as error:  # Pillow raises SyntaxError, struct.error and others on broken files
        return f'the image is broken: {error}.'
    return f'this decoder does not support the {kind}' + (f' ({cause}).' if cause else '.')
