"""Images that look like one of the training are found, of other bytes too."""

import numpy as np
from PIL import Image

from hybridcls.apis.image_inputs import Item
from hybridcls.apis.report import near_copies as module
from hybridcls.apis.report.near_copies import near_copies


def pictures(folder, count, seed):
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        small.resize((96, 96), Image.Resampling.BICUBIC).save(folder / f'{number}.png')
    return [Item(str(path), str(path)) for path in sorted(folder.iterdir())]


def test_copies_of_other_bytes_are_found(tmp_path, monkeypatch):
    trained, own = pictures(tmp_path / 'train', 5, 0), pictures(tmp_path / 'test', 3, 1)
    small, mirrored = tmp_path / 'test' / 's.jpg', tmp_path / 'test' / 'm.png'
    Image.open(trained[1].path).resize((48, 48)).save(small, quality=60)
    Image.open(trained[2].path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored)
    items = [
        *own,
        Item(str(small), str(small)),
        Item(str(mirrored), str(mirrored)),
        Item(None, Image.new('RGB', (9, 9))),
    ]
    found = near_copies(items, trained)
    assert found.pairs == [(str(small), trained[1].path), (str(mirrored), trained[2].path)]
    assert found[1:] == (5, 5, 5, 5)
    assert found.is_whole
    monkeypatch.setattr(module, '_MOST_IMAGES', 6)
    some = near_copies(items, trained)
    assert some[1:] == (3, 5, 3, 5)
    assert not some.is_whole
