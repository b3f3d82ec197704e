"""Code of users, right and wrong: from the path of an image to the network's input."""

import numpy as np
from PIL import Image, ImageOps

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def load(path, background=(255, 255, 255), exif=True):
    """Read an image as the artifact does, written by a user who knows Pillow."""
    image = Image.open(path)
    if exif:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I'):
        image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ('LA', 'RGBA', 'PA') or 'transparency' in image.info:
        image = image.convert('RGBA')
        canvas = Image.new('RGB', image.size, background)
        canvas.paste(image, mask=image.getchannel('A'))
        image = canvas
    return image.convert('RGB')


def crop(image, size, ratio=0.875, filter=Image.Resampling.BICUBIC, round_=int, middle=round):
    """Resize the shorter edge and crop the middle."""
    edge = int(size / ratio)
    width, height = image.size
    new = (round_(edge * width / height), edge) if width >= height else (edge, round_(edge * height / width))
    image = image.resize(new, filter)
    left, top = middle((image.width - size) / 2), middle((image.height - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def opencv_crop(array, size, ratio, interpolation):
    """The same, by OpenCV."""
    import cv2

    edge = int(size / ratio)
    height, width = array.shape[:2]
    new = (int(edge * width / height), edge) if width >= height else (edge, int(edge * height / width))
    array = cv2.resize(array, new, interpolation=interpolation)
    top, left = round((array.shape[0] - size) / 2), round((array.shape[1] - size) / 2)
    return array[top : top + size, left : left + size]


def torch_crop(path, size, antialias=True, floats=False, mode='BICUBIC'):
    """The same, by torchvision, (3, size, size)."""
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    image = torch.from_numpy(np.asarray(load(path)).copy()).permute(2, 0, 1)
    image = image / 255 if floats else image
    image = F.resize(image, [int(size / 0.875)], interpolation=InterpolationMode[mode], antialias=antialias)
    return F.center_crop(image, [size, size])


def normalized(pixels, mean=MEAN, std=STD):
    """Normalize 0..255 with mean and std of 0..1."""
    return ((pixels / 255 - mean) / std).astype(np.float32)


def coarse_chroma(image):
    """Do what a decoder does that repeats pixels of the chroma."""
    light, *chroma = image.convert('YCbCr').split()
    halves = [one.resize((-(-one.width // 2), -(-one.height // 2)), Image.Resampling.BOX) for one in chroma]
    wide = [one.resize(image.size, Image.Resampling.NEAREST) for one in halves]
    return Image.merge('YCbCr', (light, *wide)).convert('RGB')


def is_jpeg(path):
    """Whether the file is one."""
    return Image.open(path).format == 'JPEG'


def half_size(path, size):
    """Decode JPEGs at a fraction of their size."""
    image = Image.open(path)
    if image.format != 'JPEG':
        return crop(load(path), size)
    image.draft(None, (image.width // 4, image.height // 4))
    return crop(ImageOps.exif_transpose(image).convert('RGB'), size)


def dropped_alpha(path, size):
    """Leave the colours below transparency."""
    image = Image.open(path)
    if image.mode == 'CMYK' or image.mode.startswith('I'):
        return crop(load(path), size)
    return crop(ImageOps.exif_transpose(image).convert('RGBA').convert('RGB'), size)


def inks_as_colors(path, size):
    """Take three channels of CMYK for RGB."""
    image = Image.open(path)
    if image.mode != 'CMYK':
        return crop(load(path), size)
    return crop(Image.fromarray(255 - np.asarray(image)[..., :3]), size)


def single_channel(path, size):
    """Leave grey images with one channel."""
    pixels = crop(load(path), size)
    return pixels[..., 0] if Image.open(path).mode == 'L' else pixels


def four_channels(path, size):
    """Keep the alpha channel."""
    image = Image.open(path)
    return np.asarray(image.resize((size, size))) if image.mode == 'RGBA' else crop(load(path), size)
