"""Two sets of files are compared by a few digests."""

import pytest

from hybridcls.apis import image_sketch as module
from hybridcls.apis.image_inputs import Item
from hybridcls.apis.image_sketch import image_sketch, share_in_sketch


@pytest.fixture(scope='module')
def items(tmp_path_factory):
    folder = tmp_path_factory.mktemp('files')
    for number in range(300):
        (folder / f'{number}.png').write_bytes(b'%d' % number)
    return [Item(f'{number}.png', str(folder / f'{number}.png')) for number in range(300)]


def test_the_same_files_are_found_under_other_names(items, tmp_path):
    sketch = image_sketch(items[:100])
    assert sketch['images'] == 100
    copy = tmp_path / 'x.png'
    copy.write_bytes(b'7')
    assert share_in_sketch(sketch, [Item('x', str(copy)), items[150]]) == 0.5
    assert share_in_sketch(sketch, items[100:]) == 0
    assert share_in_sketch(sketch, items[:100]) == 1


def test_a_larger_set_is_estimated(items, monkeypatch):
    monkeypatch.setattr(module, '_MOST', 64)
    sketch = image_sketch(items[:200])
    assert sketch['images'] == 200
    assert share_in_sketch(sketch, items[:200]) == 1
    assert share_in_sketch(sketch, items[200:]) == 0
    assert share_in_sketch(sketch, items[100:300]) == pytest.approx(0.5, abs=0.15)


def test_nothing_is_said_without_files(items):
    assert share_in_sketch({}, items) is None
    assert share_in_sketch(image_sketch([Item(None, b'in memory')]), items) is None
    assert share_in_sketch(image_sketch(items), [Item('x', 'https://example.org/x.png')]) is None
