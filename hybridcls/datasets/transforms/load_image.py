"""Read an image file, and name the file when that fails."""

import io
from typing import Optional

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio

from hybridcls.registry import TRANSFORMS

__all__ = ['LoadImage', 'UnreadableImageError']


class UnreadableImageError(ValueError):
    """An image that cannot be read. The text names the file and says why.

    Args:
        message (str): The whole sentence, so that a data loader's worker can hand the error on.
        path (str): The file.
        reason (str): Why it cannot be read.
    """

    def __init__(self, message: str, path: str = '', reason: str = '') -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read ``img_path`` into ``img``: mmcv's reading, with an error that names the file and says what is wrong.

    Grayscale, palette, 16-bit, CMYK and transparent images all become (H, W, 3) uint8 BGR; transparency is dropped,
    not blended; the orientation of the camera (EXIF) is applied. A sample that already has its ``img`` in memory is
    left as it is.

    Reads ``img_path``; writes ``img``, ``img_shape`` and ``ori_shape`` (height, width).

    Args:
        color_type (str): ``'color'``, ``'grayscale'``, ``'unchanged'`` ... of :func:`mmcv.imfrombytes`.
            Defaults to ``'color'``.
        imdecode_backend (str): ``'cv2'``, ``'pillow'``, ``'turbojpeg'`` or ``'tifffile'``. Defaults to ``'cv2'``.
        backend_args (dict, optional): The file backend of mmengine; by default it follows from the path (local
            disk, ``s3://`` ...).

    Raises:
        UnreadableImageError: If the file is missing, empty, truncated or no image.
    """

    def __init__(
        self, color_type: str = 'color', imdecode_backend: str = 'cv2', backend_args: Optional[dict] = None
    ) -> None:
        self.color_type = color_type
        self.imdecode_backend = imdecode_backend
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Fill in ``results['img']``."""
        if 'img_path' not in results and 'img' in results:
            image = results['img']
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
            image = mmcv.imfrombytes(content, flag=self.color_type, backend=self.imdecode_backend) if content else None
            cause = None
        except Exception as error:  # each backend and decoder has its own kinds
            image, cause = None, error
        if image is None:
            reason = _why_not(content, cause)
            raise UnreadableImageError(f'LoadImage: cannot read {path}: {reason}', path, reason) from cause
        return image

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(color_type={self.color_type!r}, imdecode_backend={self.imdecode_backend!r}, '
            f'backend_args={self.backend_args})'
        )


def _why_not(content: bytes, cause: Optional[Exception]) -> str:
    """Say why ``content`` is no image. OpenCV only says that it is none, so Pillow is asked."""
    if isinstance(cause, OSError) and not content:
        return f'{cause.strerror or cause} ({type(cause).__name__}).'
    if not content:
        return 'the file is empty.' if cause is None else f'{cause} ({type(cause).__name__}).'
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = f'{image.format} image of mode {image.mode}'
            image.load()
    except UnidentifiedImageError:
        return f'its {len(content)} bytes are no known kind of image.'
    except Exception as error:  # Pillow raises SyntaxError, struct.error and others on broken files
        return f'the image is broken: {error}.'
    return f'this decoder does not know the {kind}' + (f' ({cause}).' if cause else '.')
