"""The alarm: against plain float64 code, MAPIE, and a thousand streams in which nothing changes."""

import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom, kstest

from hybridcls.apis.artifact.reference import REFERENCE, drift_entry, reference_of, write_reference
from hybridcls.apis.artifact.shipped.alarm import BINS, Alarm, Martingales, bets_on, bins_of, pixel_scores, scores_of

STREAMS = 200


def counted(bins):
    return np.stack([np.bincount(row, minlength=BINS) for row in np.atleast_2d(bins)])


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).astype(np.float32)


def outputs_of(count, seed, shift=0.0, classes=5, size=16):
    """Outputs of a model: embeddings around class means, and what a linear head makes of them."""
    corners = np.random.default_rng(99).normal(size=(classes, size))
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, count)
    embeddings = corners[labels] + draw.normal(size=(count, size)) * (0.6 + shift)
    return {'probabilities': softmax(embeddings @ corners.T / 4), 'embedding': embeddings.astype(np.float32)}, labels


@pytest.fixture(scope='module')
def artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp('artifact')
    reference = reference_of(*outputs_of(300, 0), num_classes=5)
    write_reference(reference, folder)
    (folder / 'model.json').write_text(json.dumps(dict(drift=drift_entry(reference, alpha=0.01))))
    return folder


def plain_martingale(calibration, stream, uniforms):
    """The definitions, in O(n^2) float64: ranks among all before, wealth of each bet from each image on."""
    seen, p_values, evidence = list(calibration), [], []
    for score, uniform in zip(stream, uniforms, strict=True):
        above, equal = sum(one > score for one in seen), sum(one == score for one in seen)
        p_values.append((above + uniform * (equal + 1)) / (len(seen) + 1))
        seen.append(score)
    payoffs = [bets_on(np.array(p)) for p in p_values]
    for now in range(1, len(stream) + 1):
        wealth = 1 / (1 + math.log(1 + now))  # not yet staked
        for start in range(1, now + 1):
            stake = 1 / (1 + math.log(start)) - 1 / (1 + math.log(1 + start))
            wealth += stake * np.prod(payoffs[start - 1 : now], axis=0).mean()
        evidence.append(wealth)
    return p_values, evidence


def test_it_is_the_plain_definition():
    draw = np.random.default_rng(0)
    calibration, stream, uniforms = draw.beta(0.5, 2, 30), draw.beta(2, 2, 60), draw.random(60)
    kept = Martingales(counted(bins_of(calibration)))
    found = []
    for one, uniform in zip(bins_of(stream), uniforms, strict=True):
        p_value = kept.p_values(np.array([one]), np.array([uniform]))[0]
        found.append((p_value, kept.update(np.array([one]), np.array([uniform]))[0]))
    expected = plain_martingale(bins_of(calibration).tolist(), bins_of(stream).tolist(), uniforms)
    np.testing.assert_allclose(np.array(found).T, expected, rtol=1e-9)
    assert max(expected[1]) > 100


def test_p_values_are_those_of_mapie():
    mapie = pytest.importorskip('mapie.exchangeability_testing')
    test = mapie.OnlineMartingaleTest(task='classification')
    draw = np.random.default_rng(0)
    seen = draw.integers(0, 40, 25).tolist()  # with ties
    kept = Martingales(counted(np.array(seen)))
    for one in draw.integers(0, 40, 50):
        uniform = draw.random()
        test.rng = SimpleNamespace(uniform=lambda value=uniform: value)
        ours = kept.p_values(np.array([one]), np.array([uniform]))[0]
        kept.update(np.array([one]), np.array([uniform]))
        assert ours == pytest.approx(test.compute_p_value(one, np.array(seen)), abs=1e-12)
        seen.append(one)


def test_each_bet_pays_one_on_average():
    """The integral over [0, 1], with p = x^8 where payoffs have poles at the ends."""
    x = (np.arange(200_000) + 0.5) / 200_000
    half = 0.5 * x**8
    weights = 0.5 * 8 * x**7
    paid = ((bets_on(half) + bets_on(1 - half)) * weights[:, None]).mean(0)
    np.testing.assert_allclose(paid, 1, atol=2e-2)  # 1 - p is exact to 1e-16 only, where p^-0.85 is large
    assert (bets_on(np.array([0.0, 0.5, 1.0])) >= 0).all()


@pytest.mark.parametrize('images', [20, 100])
def test_p_values_of_streams_without_a_shift_are_uniform_and_independent(images):
    draw = np.random.default_rng(images)
    scores = bins_of(draw.beta(0.1, 4, (STREAMS, images + 60)))  # most are nearly 0: many are equal
    kept = Martingales(counted(scores[:, :images]))
    p_values = []
    for one in scores[:, images:].T:
        uniforms = draw.random(STREAMS)
        p_values.append(kept.p_values(one, uniforms))
        kept.update(one, uniforms)
    p_values = np.array(p_values)
    assert kstest(p_values.ravel(), 'uniform').pvalue > 0.01
    assert kstest(p_values.mean(0) * math.sqrt(12 * 60) - math.sqrt(3 * 60), 'norm').pvalue > 0.01  # of each stream


def richest(images, length, update=True, seed=0):
    """The largest evidence of streams in which nothing changes."""
    draw = np.random.default_rng([seed, images])
    scores = bins_of(draw.beta(0.3, 3, (STREAMS, images + length)))
    kept = Martingales(counted(scores[:, :images]))
    held_out, highest = Martingales(kept.counts), np.ones(STREAMS)
    if not update:  # ranks among the held-out images alone
        kept.p_values = held_out.p_values
    for one in scores[:, images:].T:
        highest = np.maximum(highest, kept.update(one, draw.random(STREAMS)))
    return highest


def check_false_alarms(highest):
    for alpha in (0.01, 0.05, 0.2):
        assert (highest >= 1 / alpha).sum() <= binom.ppf(0.99, STREAMS, alpha)


@pytest.mark.parametrize('images', [20, 100, 300, 1000])
def test_false_alarms_stay_below_the_bound(images):
    """tools/benchmarks/drift.py does it with the outputs of an exported model."""
    check_false_alarms(richest(images, 1000))


def test_against_the_held_out_images_alone_there_would_be_false_alarms():
    assert (richest(100, 1000, update=False) >= 20).sum() > 2 * binom.ppf(0.99, STREAMS, 0.05)


@pytest.mark.nightly
@pytest.mark.parametrize('images', [100, 300, 1000])
def test_false_alarms_of_long_streams_stay_below_the_bound(images):
    check_false_alarms(richest(images, 5000, seed=1))


def test_scores_by_hand():
    outputs = {
        'probabilities': np.array([[0.25, 0.75], [0.5, 0.5]], np.float32),
        'embedding': np.array([[3, 4], [0, -2]], np.float32),
        'vacuity': np.array([0.5, 0.25], np.float32),
        'logits': np.zeros((2, 2), np.float32),
        'color.vacuity': np.zeros(2, np.float32),  # of another head
    }
    scores = scores_of(outputs, means=np.array([[0, 5], [2, 0]]))
    assert set(scores) == {'least_confidence', 'norm', 'distance', 'vacuity'}
    np.testing.assert_allclose(scores['least_confidence'], [0.25, 0.5])
    np.testing.assert_allclose(scores['norm'], [5, 2])
    np.testing.assert_allclose(scores['distance'], [0.2, 1])
    several = scores_of(outputs, multi_label=True)
    np.testing.assert_allclose(several['least_confidence'], [0.25, 0.5])
    assert 'distance' not in several


def test_scores_of_pixels_by_hand():
    images = np.zeros((2, 5, 5, 3), np.uint8)
    images[0] = (30, 20, 9)
    images[1, 2, 2] = (90, 90, 90)  # a point
    found = pixel_scores(images)
    np.testing.assert_allclose(found['brightness'], [59 / 3 + 1, 90 / 25 + 1])
    np.testing.assert_allclose(found['color'], [3.1, 1])
    np.testing.assert_allclose(found['detail'], [0.01, (90 + 4 * 22.5) / 9 + 0.01])
    np.testing.assert_allclose(found['grain'], [0.01, 0.01])
    noise = np.random.default_rng(0).integers(90, 110, (1, 32, 32, 3)).astype(np.uint8)
    assert pixel_scores(noise)['grain'] > 1


def test_scores_can_be_chosen(artifact):
    alarm = Alarm(artifact, alpha=0.02, scores=['distance'], seed=0)
    assert set(alarm.report()['evidence']) == {'distance'}
    report = alarm.update(outputs_of(300, 3, shift=0.6)[0])
    assert report['alarm']
    with pytest.raises(ValueError, match='expected scores among least_confidence, norm, distance, got'):
        Alarm(artifact, scores=['sharpness'])


def test_scores_are_rounded_to_64_values_an_octave():
    values = 2 ** np.array([-30, -24, -23.5, 0, 0.01, 1, 100])
    assert bins_of(values).tolist() == [0, 0, 32, 1536, 1536, 1600, BINS - 1]
    assert bins_of(np.zeros(1)).tolist() == [0]


def test_a_shift_raises_the_alarm_and_none_does_not(artifact):
    alarm = Alarm(artifact, seed=0)
    same, _ = outputs_of(400, 1)
    assert alarm.update(same)['alarm'] is False
    assert alarm.report()['p_value'] > 0.01
    report = alarm.update(outputs_of(400, 2, shift=0.6)[0])
    assert report['alarm']
    assert 400 < report['alarm_at'] < 600
    assert report['p_value'] <= 0.01
    assert set(report['evidence']) == {'least_confidence', 'norm', 'distance'}
    assert alarm.update(same)['alarm_at'] == report['alarm_at']  # it stays
    alarm.restart()
    assert alarm.report() == dict(
        alarm=False, alarm_at=None, images=0, p_value=1.0, evidence=dict.fromkeys(alarm.names, 1.0)
    )


def test_the_threshold_counts_the_scores(artifact):
    """Several scores are several chances of a false alarm."""
    alarm = Alarm(artifact, alpha=0.02, seed=0)
    images, _ = outputs_of(300, 3, shift=0.3)
    largest = []
    for row in range(300):
        report = alarm.update({name: values[row : row + 1] for name, values in images.items()})
        largest.append(max(report['evidence'].values()))
    assert report['alarm_at'] == 1 + int(np.argmax(np.array(largest) >= 3 / 0.02))
    assert report['p_value'] == pytest.approx(3 / max(largest))


def test_a_stream_goes_on_from_its_state(artifact, tmp_path):
    images, _ = outputs_of(150, 4, shift=0.2)
    whole, first, second = (Alarm(artifact, seed=seed) for seed in (7, 7, 8))
    expected = whole.update(images)
    first.update({name: values[:70] for name, values in images.items()})
    first.save(tmp_path / 'state.json')
    second.restore(tmp_path / 'state.json')
    assert second.update({name: values[70:] for name, values in images.items()}) == expected
    assert [path.name for path in tmp_path.iterdir()] == ['state.json']


def test_the_state_does_not_grow(artifact, tmp_path):
    alarm = Alarm(artifact, seed=0)
    sizes = []
    for seed in range(4):
        alarm.update(outputs_of(1000, seed)[0])
        alarm.save(tmp_path / 'state.json')
        sizes.append((tmp_path / 'state.json').stat().st_size)
    assert sizes[-1] < 1.3 * sizes[0] < 40_000


def test_what_cannot_be_compared_is_a_sentence(artifact, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'alarm: expected an artifact, got .*nowhere'):
        Alarm(tmp_path / 'nowhere')
    (tmp_path / 'model.json').write_text('{"drift": null}')
    with pytest.raises(ValueError, match='Export it with --data HELD_OUT'):
        Alarm(tmp_path)
    with pytest.raises(ValueError, match=r'expected alpha in \(0, 1\), got 1.5'):
        Alarm(artifact, alpha=1.5)
    alarm = Alarm(artifact)
    broken, _ = outputs_of(5, 0)
    broken['embedding'][3, 2] = np.nan
    with pytest.raises(ValueError, match=r"NaN or infinity in 'embedding' of image 3 of the batch"):
        alarm.update(broken)
    assert alarm.images == 0
    with pytest.raises(ValueError, match='with the outputs for norm, distance, got probabilities without images'):
        alarm.update({'probabilities': broken['probabilities']})


def test_a_state_of_another_artifact_is_refused(artifact, tmp_path):
    other = shutil.copytree(artifact, tmp_path / 'other')
    write_reference(reference_of(*outputs_of(300, 5), num_classes=5), other)
    Alarm(other).save(tmp_path / 'state.json')
    with pytest.raises(ValueError, match='expected a state of this artifact'):
        Alarm(artifact).restore(tmp_path / 'state.json')
    for text in ('{', '[]', '{"format": "else"}'):
        (tmp_path / 'state.json').write_text(text)
        with pytest.raises(ValueError, match=r'expected a state that save\(\) of this version wrote'):
            Alarm(artifact).restore(tmp_path / 'state.json')


@pytest.mark.parametrize('damage', [
    lambda state: state.pop('counts'), lambda state: state.update(counts=[[[0, -5]]]),
    lambda state: state.update(counts=[[[BINS, 1]]]), lambda state: state.update(wealth=[[1.0]]),
    lambda state: state.update(wealth=(np.array(state['wealth']) * math.nan).tolist()),
    lambda state: state.update(random={}), lambda state: state.update(images='many'),
])  # fmt: skip
def test_a_damaged_state_changes_nothing(artifact, tmp_path, damage):
    path, alarm = tmp_path / 'state.json', Alarm(artifact, seed=0)
    alarm.update(outputs_of(20, 0)[0])
    alarm.save(path)
    state = json.loads(path.read_text())
    damage(state)
    path.write_text(json.dumps(state))
    before = alarm.report()
    with pytest.raises(ValueError, match=r'alarm: .*state.json is damaged'):
        alarm.restore(path)
    assert alarm.report() == before
    expected = Alarm(artifact, seed=0)
    expected.update(outputs_of(20, 0)[0])
    assert alarm.update(outputs_of(9, 1)[0]) == expected.update(outputs_of(9, 1)[0])


def test_a_batch_without_images_says_what_was_said(artifact):
    alarm = Alarm(artifact)
    nothing = {name: values[:0] for name, values in outputs_of(2, 0)[0].items()}
    assert alarm.update(nothing, np.zeros((0, 8, 8, 3), np.uint8)) == alarm.report()


def test_a_changed_reference_is_refused(artifact, tmp_path):
    other = shutil.copytree(artifact, tmp_path / 'other')
    sidecar = json.loads((other / 'model.json').read_text())
    sidecar['files'] = {REFERENCE: dict(sha256='0' * 64)}
    (other / 'model.json').write_text(json.dumps(sidecar))
    with pytest.raises(ValueError, match=r'reference.npz in .* was changed after the export'):
        Alarm(other)
