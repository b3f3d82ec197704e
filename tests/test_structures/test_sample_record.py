"""The record of a training as a file."""

import numpy as np
import pytest

from hybridcls.structures.sample_record import SampleRecord


def record(**more):
    epochs, images = 2, 3
    values = np.arange(epochs * images, dtype=np.float16).reshape(epochs, images)
    return SampleRecord(
        paths=['/a/é\udcff.png', '/a/b, c.png', '/a/日本.png'], labels=np.array([0, 1, 0], np.int32),
        classes=['ant', 'bee, wasp'], root='/a', epochs=np.array([0, 4], np.int32), loss=values, margin=-values,
        other=np.ones((epochs, images), np.int32), seen=np.full(images, 5, np.int32),
        means=dict(loss=values[0].astype(np.float32)), about=dict(head='LinearHead', skipped=2), **more,
    )  # fmt: skip


def test_a_file_gives_all_back(tmp_path):
    one = record(vacuity=np.full((2, 3), 0.5, np.float16))
    path = tmp_path / 'record.npz'
    path.write_bytes(one.content())
    other = SampleRecord.read(path)
    for name, value in vars(one).items():
        np.testing.assert_equal(getattr(other, name), value)
    np.testing.assert_allclose(other.probability, np.exp(-one.loss.astype(float)), rtol=1e-6)


def test_a_record_of_before_has_a_margin_that_nothing_uses(tmp_path):
    path = tmp_path / 'record.npz'
    path.write_bytes(record().content())
    with np.load(path) as file:
        np.savez(path, shadow=file['loss'], mean_shadow=file['mean_loss'], **file)
    np.testing.assert_equal(vars(SampleRecord.read(path)), vars(record()))


def test_a_part_is_of_the_same_images():
    part = record().part(np.array([2, 0]))
    assert part.paths == ['/a/日本.png', '/a/é\udcff.png']
    assert part.loss.tolist() == [[2, 0], [5, 3]]
    assert part.means['loss'].tolist() == [2, 0]


def test_another_file_is_refused(tmp_path):
    path = tmp_path / 'record.npz'
    np.savez(path, a=np.zeros(2))
    with pytest.raises(ValueError, match='expected the record of a training'):
        SampleRecord.read(path)
    path.write_bytes(record().content()[:-50])
    with pytest.raises(ValueError, match='cannot be read'):
        SampleRecord.read(path)
