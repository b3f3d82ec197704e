"""Parts of images are found in them, and in no others."""

import numpy as np

from hybridcls.apis.audit.crops import find_crops, is_crop


def test_a_crop_is_found_mirrored_too_and_another_image_is_not(blobs):
    whole = np.asarray(blobs(1).convert('L'))
    part = whole[20:100, 30:140]
    assert is_crop(whole, part)
    assert is_crop(part, whole)
    assert is_crop(whole, part[:, ::-1])
    assert not is_crop(whole, np.asarray(blobs(2).convert('L'))[20:100, 30:140])
    assert not is_crop(whole, None)
    assert not is_crop(whole, np.full((80, 80), 128, dtype=np.uint8))  # a flat part lies in every image
    assert find_crops(['a.png'], np.zeros(1, int), np.ones((1, 2)), 1) == []
