"""Read an image file, and name the file when that fails."""

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

from .decoding import BACKGROUNDS, Decoded, ImageDepthError, decode, from_pillow, to_eight_bits

__all__ = ['LoadImage', 'UnreadableImageError']


class UnreadableImageError(ValueError):
    """An image that cannot be read. The text names the file and says why.

    Args:
        message (str): The whole sentence.
        path (str): The file.
        reason (str): Why it cannot be read.
    """

    def __init__(self, message: str, path: str = '', reason: str = '') -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read ``img_path`` into ``img``, (H, W, 3) uint8 BGR, with an error that names the file and says what is wrong.

    Grey, palette, CMYK, transparent and 16-bit images all become three channels of 8 bits, turned as the camera says
    (EXIF). What is lost on the way is decided by ``transparency`` and ``depth``, and the log says so the first time.
    Of an animation it is the first frame.

    A sample that has its ``img`` in memory needs no ``img_path``. An image of Pillow is converted like a file. An array
    stays as it is, with any number of channels, except that uint16 is scaled as ``depth`` says; its colours are BGR,
    as everywhere in OpenMMLab, unless ``color_order='rgb'`` says otherwise: ``np.array(pillow_image)`` is RGB.

    Reads ``img_path`` or ``img``; writes ``img``, ``img_shape`` and ``ori_shape`` (height, width).

    Args:
        color_type (str): ``'color'``, ``'grayscale'`` (H, W), ``'color_ignore_orientation'``,
            ``'grayscale_ignore_orientation'``; or ``'unchanged'``: whatever :func:`mmcv.imfrombytes` makes of the file,
            four bands or 16 bits. Defaults to ``'color'``.
        imdecode_backend (str): ``'cv2'``, ``'pillow'``, ``'turbojpeg'`` or ``'tifffile'``, for images of 8 opaque bits;
            the others are decoded by whichever of OpenCV and Pillow does it right, except that the last two decode all
            files in mmcv's way. Defaults to ``'cv2'``.
        backend_args (dict, optional): The file backend of mmengine; by default it follows from the path (local
            disk, ``s3://`` ...).
        transparency (str | Sequence[int]): What shows through: ``'white'``, ``'black'``, or (blue, green, red) in
            [0, 255]; ``'drop'``: the colours that are stored below the transparency, often black. Defaults to
            ``'white'``.
        depth (str | int): How many bits count in 16-bit images, 9 to 16: 12-bit values in 16-bit files need
            ``depth=12``. ``'check'``: 16, and an error for an image whose values all lie below 2 ** 14. ``'max'``: the
            largest value of each image becomes 255. Defaults to ``'check'``.
        color_order (str): ``'bgr'`` or ``'rgb'``: the colours of arrays in memory. Defaults to ``'bgr'``.
        version (int, optional): 2; or 1, as hybridcls read images before it had this key: transparency dropped, the
            upper 8 of 16 bits. Defaults to None: 2, or what the checkpoint that is tested or resumed was trained with.

    Raises:
        TypeError: If ``img`` is neither an array nor an image of Pillow.
        ValueError: If a key has no such value, or ``color_order='rgb'`` meets an array of other than 1 or 3 channels.
        UnreadableImageError: If the file is missing, empty, truncated or no image.
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
    ) -> None:
        check_choice('LoadImage', 'imdecode_backend', imdecode_backend, mmcv.image.io.supported_backends)
        check_choice('LoadImage', 'color_type', color_type, mmcv.image.io.imread_flags)
        check_choice('LoadImage', 'color_order', color_order, ('bgr', 'rgb'))
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
        # In shared memory: what one worker of a data loader has said, the others need not say again.
        self._said = torch.zeros(len(Decoded._fields), dtype=torch.bool).share_memory_()

    def transform(self, results: dict) -> dict:
        """Fill in ``results['img']``."""
        if 'img_path' not in results and 'img' in results:
            image = self._from_memory(results['img'])
        else:
            image = self.read(results['img_path'])
        results['img'] = image
        results['img_shape'] = image.shape[:2]
        results['ori_shape'] = image.shape[:2]
        return results

    def read(self, path: str) -> np.ndarray:
        """Return the image in ``path``, (H, W, 3) uint8 BGR unless ``color_type`` says otherwise."""
        content = b''
        try:
            content = fileio.get(path, backend_args=self.backend_args)
            with _naming(path):
                decoded = self._decode(content) if content else None
            cause = None
        except ImageDepthError:
            raise
        except Exception as error:  # each backend and decoder has its own kinds
            decoded, cause = None, error
        if decoded is None or decoded.image is None:  # OpenCV returns None
            reason = _why_not(content, cause)
            raise UnreadableImageError(f'LoadImage: cannot read {path}: {reason}', path, reason) from cause
        self._say(decoded, path)
        return decoded.image

    def _decode(self, content: bytes) -> Decoded:
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
            self._say(decoded, 'an image in memory')
            return decoded.image
        if not isinstance(image, np.ndarray):
            raise TypeError(
                f'LoadImage: expected img as an array (H, W, 3) or an image of Pillow, got {type(image).__name__}. '
                'Convert it in the data set.'
            )
        if image.dtype == np.uint16 and self.color_type != 'unchanged' and self.version != 1:
            with _naming('an image in memory'):
                image = to_eight_bits(image, self.depth)
            self._say(Decoded(image, reduced=True), 'an image in memory')
        if self.color_order == 'rgb' and image.ndim == 3 and image.shape[2] != 1:
            if image.shape[2] != 3:
                raise ValueError(
                    f"LoadImage: expected an array (H, W, 3) with color_order='rgb', got shape {image.shape}. Give an "
                    'image of Pillow, whose mode says what its channels are, or take color_order out.'
                )
            return np.ascontiguousarray(image[..., ::-1])
        return image

    def _say(self, decoded: Decoded, what: str) -> None:
        """Log what is lost of an image, the first time that it happens."""
        for number, field in enumerate(Decoded._fields):
            if number and getattr(decoded, field) and not self._said[number]:
                self._said[number] = True
                level = logging.WARNING if field == 'emptied' else logging.INFO
                print_log(_SENTENCES[field].format(what=what, self=self), logger='current', level=level)

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(color_type={self.color_type!r}, imdecode_backend={self.imdecode_backend!r}, '
            f'backend_args={self.backend_args}, transparency={self.transparency!r}, depth={self.depth!r}, '
            f'color_order={self.color_order!r}, version={self.version})'
        )


_SENTENCES = {
    'blended': 'LoadImage: {what} is partly transparent; transparency={self.transparency!r} shows through, here and in '
    "later images ('white', 'black', (B, G, R), or 'drop' for the colours below it).",
    'emptied': 'LoadImage: nothing can be seen of {what} with transparency={self.transparency!r}: all of its pixels '
    'have one colour. Later images like it are not named; another background may show them.',
    'reduced': 'LoadImage: {what} has 16 bits a channel; they are scaled to 8 with depth={self.depth!r}, here and in '
    'later images.',
}


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Say of which image an ImageDepthError is."""
    try:
        yield
    except ImageDepthError as error:
        raise ImageDepthError(f'LoadImage: {what}: {error}') from None


def _why_not(content: bytes, cause: Optional[Exception]) -> str:
    """Say why ``content`` is no image. OpenCV only says that it is none, so Pillow is asked."""
    if isinstance(cause, OSError) and not content:
        return f'{cause.strerror or cause} ({type(cause).__name__}).'
    if not content:
        return 'the file is empty.' if cause is None else f'{cause} ({type(cause).__name__}).'
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = f'{image.format} image of mode {image.mode}'
            image.load()
    except UnidentifiedImageError:
        return f'its {len(content)} bytes are no known kind of image.'
    except Exception as error:  # Pillow raises SyntaxError, struct.error and others on broken files
        return f'the image is broken: {error}.'
    return f'this decoder does not know the {kind}' + (f' ({cause}).' if cause else '.')
