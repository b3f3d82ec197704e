"""Fixtures of all tests: a folder of real images."""
import cv2
import pytest
from sklearn.datasets import load_digits


@pytest.fixture(scope='session')
def digit_folder(tmp_path_factory):
    """``train/<class>/*.png`` and ``val/<class>/*.png``: 12 and 4 scans of the digits 0 to 3, 64 x 64 pixels."""
    root = tmp_path_factory.mktemp('digit_folder')
    data = load_digits()
    for digit in range(4):
        scans = data.images[data.target == digit][:16]
        for number, scan in enumerate(scans):
            folder = root / ('train' if number < 12 else 'val') / ['zero', 'one', 'two', 'three'][digit]
            folder.mkdir(parents=True, exist_ok=True)
            image = cv2.resize((scan * 15.9).astype('uint8'), (64, 64), interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(folder / f'{number}.png'), image)
    return root
