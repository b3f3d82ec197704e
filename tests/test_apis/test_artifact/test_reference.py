"""The reference of an artifact: what it keeps of held-out images."""

import numpy as np
import pytest

from hybridcls.apis.artifact.reference import drift_entry, read_reference, reference_of, write_reference
from hybridcls.apis.artifact.shipped.alarm import bins_of

COUNT, SIZE = 60, 8


@pytest.fixture
def outputs():
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(COUNT, 3))
    powers = np.exp(logits)
    return {
        'probabilities': (powers / powers.sum(1, keepdims=True)).astype(np.float32),
        'embedding': draw.normal(size=(COUNT, SIZE)).astype(np.float32),
        'vacuity': draw.random(COUNT).astype(np.float32),
    }


@pytest.fixture
def labels():
    return np.random.default_rng(1).integers(0, 3, COUNT)


def directions_of(outputs):
    rows = outputs['embedding'].astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_every_image_counts_once_in_each_score(outputs, labels):
    reference = reference_of(outputs, labels, 3)
    counts = dict(zip(reference['names'].tolist(), reference['counts'], strict=True))
    assert {name: int(row.sum()) for name, row in counts.items()} == {
        'vacuity': COUNT, 'least_confidence': COUNT, 'norm': COUNT, 'distance': COUNT - COUNT // 2,
    }  # fmt: skip
    for name, values in (('vacuity', outputs['vacuity']), ('norm', np.linalg.norm(outputs['embedding'], axis=1))):
        one, count = np.unique(bins_of(values.astype(np.float64)), return_counts=True)
        assert counts[name][one].tolist() == count.tolist()
    assert drift_entry(reference)['scores']['distance'] == COUNT // 2


def test_no_image_is_measured_from_a_mean_that_it_made(outputs, labels):
    """With one-hot embeddings a mean of a half is at zero cosine to the other half, but for its own members."""
    outputs['embedding'] = np.eye(COUNT, dtype=np.float32)
    reference = reference_of(outputs, labels, 3)
    (distances,) = np.flatnonzero(reference['counts'][reference['names'].tolist().index('distance')])
    assert distances == bins_of(np.ones(1))[0]  # 1 - cosine, of each image


def test_class_summaries_by_hand(outputs, labels):
    labels[:5] = -1
    labels[labels == 2] = 1
    labels[-1] = 2  # alone in its class
    reference = reference_of(outputs, labels, 4)
    rows = directions_of(outputs)
    assert reference['class_counts'].tolist() == [*np.bincount(labels[5:], minlength=3).tolist(), 0]
    np.testing.assert_allclose(reference['class_means'][1], rows[labels == 1].mean(0), atol=1e-3)
    assert not reference['class_means'][3].any()
    cosines = []
    for row in np.flatnonzero(labels == 1):
        others = rows[(labels == 1) & (np.arange(COUNT) != row)].mean(0)
        cosines.append(rows[row] @ others / np.linalg.norm(others))
    expected = [min(cosines), *np.quantile(cosines, [0.05, 0.25, 0.5, 0.75]), max(cosines)]
    np.testing.assert_allclose(reference['class_similarity'][1], expected, rtol=1e-5)
    assert np.isnan(reference['class_similarity'][2:]).all()


def test_without_labels_the_predicted_classes_are_the_groups(outputs):
    predicted = outputs['probabilities'].argmax(1)
    without, known = reference_of(outputs), reference_of(outputs, predicted, 3)
    np.testing.assert_array_equal(without['means'], known['means'])
    assert 'class_means' not in without
    del outputs['probabilities']
    assert reference_of(outputs)['means'].shape == (1, SIZE)  # SupCon


def test_it_is_read_as_it_was_written(outputs, labels, tmp_path):
    reference = reference_of(outputs, labels, 3)
    write_reference(reference, tmp_path)
    read = read_reference(tmp_path)
    assert read.keys() == reference.keys()
    for name, values in reference.items():
        np.testing.assert_array_equal(read[name], values)
    assert (tmp_path / 'reference.npz').stat().st_size < 10_000
    with pytest.raises(ValueError, match='Export it with --data HELD_OUT'):
        read_reference(tmp_path / 'nowhere')


def test_too_few_or_broken_images_are_a_sentence(outputs):
    few = {name: values[:19] for name, values in outputs.items()}
    with pytest.raises(ValueError, match='expected at least 20 held-out images that can be read, got 19'):
        reference_of(few)
    with pytest.raises(ValueError, match='got 0'):
        reference_of({})
    outputs['vacuity'][7] = np.nan
    with pytest.raises(ValueError, match=r"NaN or infinity in 'vacuity' of image 7"):
        reference_of(outputs)
