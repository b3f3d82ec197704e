"""Calibrations are fitted on some images and their thresholds tested on others; what cannot be is a sentence."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import binom
from trained_checkpoints import CLASSES, CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.calibration_fit import LabelledScores, calibrate, fit_calibration
from hybridcls.functional.calibration import apply_scaling

NAMES = ('a', 'b', 'c', 'd', 'e')


def drawn(count, seed=0, sure=3.0, unknown=0.0, spread=2.5):
    """Scores of an overconfident model, and labels that follow the true probabilities."""
    rng = np.random.default_rng(seed)
    truth = softmax(rng.normal(0, spread, (count, 5)), 1)
    labels = (truth.cumsum(1) < rng.random((count, 1))).sum(1).clip(max=4)
    labels[rng.random(count) < unknown] = -1
    return LabelledScores(torch.from_numpy(softmax(sure * np.log(truth), 1)).float(), torch.from_numpy(labels))


def realised(calibration, given):
    """The error among answered images."""
    scores = apply_scaling(calibration.scaling, given.scores)
    top, predicted = scores.max(1)
    answered = top.double() >= calibration.risk['threshold']
    return (predicted != given.labels)[answered].double().mean().item()


@pytest.mark.parametrize('unknown', [0.0, 0.04])
def test_guarantees_hold_over_resamplings(unknown):
    """At most 11 of 100 thresholds at 5 % exceed the risk, unknown images included; sets hold the class on average."""
    everything = drawn(40_000, unknown=unknown)
    rng = np.random.default_rng(1)
    risks, held = [], []
    for seed in range(100):
        rows = torch.from_numpy(rng.integers(0, 40_000, 600))
        given = LabelledScores(everything.scores[rows], everything.labels[rows])
        found = fit_calibration(given, NAMES, risk=0.15, sets=0.1, seed=seed, measure=False).calibration
        assert found.scaling['temperature'] == pytest.approx(3, rel=0.5)
        if found.risk is not None:
            risks.append(realised(found, everything))
        known = everything.labels >= 0
        scores = apply_scaling(found.scaling, everything.scores[known])
        right = scores.gather(1, everything.labels[known].unsqueeze(1))
        held.append((right.double() >= found.sets['threshold']).double().mean().item())
    assert len(risks) > 30
    assert sum(risk > 0.15 for risk in risks) <= binom.ppf(0.99, 100, 0.05)
    assert 0.9 - 3 * np.std(held) / 10 < np.mean(held) < 0.92


def test_a_threshold_from_the_images_that_fitted_it_fails(monkeypatch):
    """The wrong rule: an isotonic scaling fitted on the images that test the threshold."""
    everything, rng = drawn(40_000), np.random.default_rng(1)
    monkeypatch.setattr('hybridcls.apis.calibration_fit._FITS', dict(isotonic=0.5))

    def exceeded(cheat):
        count = 0
        for seed in range(40):
            rows = torch.from_numpy(rng.integers(0, 40_000, 200))
            given = LabelledScores(everything.scores[rows], everything.labels[rows])
            if cheat:  # each image twice, once in either part: they are no longer apart
                order = torch.randperm(400, generator=torch.Generator().manual_seed(seed))
                place = torch.empty(400, dtype=torch.int64)
                place[order] = torch.arange(200).repeat(2)
                given = LabelledScores(given.scores[place], given.labels[place])
            found = fit_calibration(given, NAMES, 'isotonic', risk=0.15, seed=seed, measure=False).calibration
            count += found.risk is not None and realised(found, everything) > 0.15
        return count

    assert exceeded(cheat=False) <= binom.ppf(0.99, 40, 0.05) < exceeded(cheat=True)


@pytest.mark.parametrize(('settings', 'fitting'), [(dict(risk=0.5), 20), (dict(sets=0.2), 20), ({}, 80)])
def test_images_that_test_a_threshold_fit_nothing(settings, fitting):
    """A quarter of the images decides on the scaling where there is a threshold, and all do where there is none."""
    given = drawn(80, spread=1.0)

    def scaling(labels):
        return fit_calibration(
            LabelledScores(given.scores, labels), NAMES, measure=False, **settings
        ).calibration.scaling

    changed = 0
    for row in range(80):
        labels = given.labels.clone()
        labels[row] = (labels[row] + 1) % 5
        changed += scaling(labels) != scaling(given.labels)
    assert changed == fitting


def test_what_it_brings_is_measured_on_other_images():
    given, other = drawn(3000), drawn(20_000, seed=1)
    report = fit_calibration(given, NAMES)
    before, after = report.calibration.measured['nll']

    def nll(scores):
        return -scores.double().gather(1, other.labels.unsqueeze(1)).log().mean().item()

    assert before == pytest.approx(nll(other.scores), rel=0.05)
    assert after == pytest.approx(nll(apply_scaling(report.calibration.scaling, other.scores)), rel=0.05)
    assert report.notes[-1].startswith('On held-out images (3000, each half scaled by the fit to the other): NLL ')
    assert 'not better' not in report.notes[-1]
    worse = fit_calibration(drawn(40, sure=1.0), NAMES, 'isotonic')
    assert worse.notes[-1].endswith(
        'The likelihood is not better. The scaling is kept because --scale isotonic asks for it: use more images, '
        'another --scale, or --scale none.'
    )
    assert fit_calibration(given, NAMES, 'none').calibration.measured == {}


@pytest.mark.parametrize('asked', [{}, dict(sets=0.2), dict(risk=0.4)])
def test_a_temperature_that_brings_nothing_is_taken_back_unless_it_is_asked_for(asked):
    for seed in range(20):  # of a model that is right about itself: in about half of the draws nothing is gained
        given = drawn(200, sure=1.0, seed=seed)
        found = fit_calibration(given, NAMES, **asked)
        if found.calibration.scaling['kind'] == 'none':
            break
    assert found.notes[-1].startswith('No scaling: a temperature does not make the likelihood better (on ')
    assert found.calibration.measured == {}
    same = fit_calibration(given, NAMES, 'none', **asked)
    assert (found.calibration.sets, found.calibration.risk) == (same.calibration.sets, same.calibration.risk)
    kept = fit_calibration(given, NAMES, 'temperature', **asked)
    assert kept.calibration.scaling['kind'] == 'temperature'
    if not asked:
        assert 'kept because --scale temperature asks for it' in kept.notes[-1]
    assert fit_calibration(drawn(2000, seed=1), NAMES, **asked).calibration.scaling['kind'] == 'temperature'


def test_the_images_that_are_missing_are_counted():
    few = drawn(40)
    report = fit_calibration(few, NAMES, risk=0.02, sets=0.01)
    assert (report.calibration.risk, report.calibration.sets) == (None, None)
    assert 'with confidence 0.95 cannot be shown with these images: about ' in report.missing[0]
    assert report.missing[1] == 'Sets that lack the right class with at most 0.01 need about 92 more images.'
    assert fit_calibration(drawn(132), NAMES, sets=0.01).calibration.sets['images'] == 99
    assert fit_calibration(drawn(131), NAMES, sets=0.01).calibration.sets is None
    poor = fit_calibration(drawn(1000, spread=0.1, sure=30), NAMES, risk=0.01)
    assert 'is not reached at any threshold' in poor.missing[0]


def test_the_same_images_give_the_same_calibration():
    given = drawn(400)
    assert fit_calibration(given, NAMES, risk=0.2) == fit_calibration(given, NAMES, risk=0.2)


@pytest.mark.parametrize(
    ('given', 'settings', 'said'),
    [
        (drawn(12), {}, 'expected at least 20 images of classes of the model, got 12'),
        (drawn(60, unknown=0.9), {}, 'expected at least 20 images of classes'),
        (drawn(60), dict(scale='platt'), 'expected scale to be one of'),
        (drawn(60), dict(risk=1.0), r'expected risk in \(0, 1\), got 1.0'),
        (drawn(60), dict(sets=0.0), r'expected sets in \(0, 1\), got 0.0'),
        (drawn(60), dict(risk=0.1, confidence=1.5), 'expected confidence in'),
        (LabelledScores(drawn(60).scores, torch.arange(60) % 4), dict(scale='vector'), 'got none of e. Add some'),
        (LabelledScores(torch.eye(5).repeat(8, 1), torch.arange(40) % 5), {}, 'got 40 right ones'),
    ],
)
def test_bad_input_is_a_sentence(given, settings, said):
    with pytest.raises(ValueError, match=said):
        fit_calibration(given, NAMES, **settings)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, digit_folder):
    """A model that a logistic regression makes useful, so that it is right now and then."""
    cfg = config_of(CNN, LINEAR, digit_folder / 'val')
    path, model = write_checkpoint(tmp_path_factory.mktemp('w') / 'epoch_1.pth', cfg)
    embeddings = torch.from_numpy(hybridcls.load(path, 'cpu').embed(digit_folder / 'train'))
    labels = torch.arange(4).repeat_interleave(12)
    content = torch.load(path)
    model.head.fit(embeddings[::2], labels[::2])
    content['state_dict'].update({f'head.{name}': value for name, value in model.head.state_dict().items()})
    torch.save(content, path)
    return path


def test_a_checkpoint_is_calibrated_as_a_test_runs_it(trained, digit_folder):
    model = hybridcls.load(trained, 'cpu', calibration=False)
    report = calibrate(model, str(digit_folder / 'train'))
    found = report.calibration
    assert (found.checkpoint, found.classes, found.images) == ('epoch_1.pth', list(CLASSES), 48)
    assert (found.precision, found.img_size, found.preprocessing_version) == ('float32', [64, 64], 2)
    answers = list(model(digit_folder / 'train'))
    scores = torch.stack([torch.from_numpy(answer.scores) for answer in answers])
    labels = torch.tensor([CLASSES.index(answer.label) for answer in answers])
    again = fit_calibration(LabelledScores(scores, labels), CLASSES).calibration
    assert again.scaling == found.scaling
    half = calibrate(hybridcls.load(trained, 'cpu', amp=True, calibration=False), str(digit_folder / 'train'))
    assert half.calibration.precision == 'bfloat16'


def test_labels_are_those_of_the_model(trained, digit_folder, tmp_path):
    model = hybridcls.load(trained, 'cpu', calibration=False)
    files = sorted((digit_folder / 'train').rglob('*.png'))
    with pytest.raises(ValueError, match=r'expected images with labels, got 12 without'):
        calibrate(model, str(digit_folder / 'train' / 'one'))
    wrong = (
        (['cow', 'yak'], 'got those of cow, yak in .*none is a class of the model'),
        (['one', 'one'], 'expected images of at least two classes of the model, got one only'),
    )
    for table, said in wrong:
        lines = [f'{file},{table[number % 2]}' for number, file in enumerate(files)]
        (tmp_path / 'list.csv').write_text('path,label\n' + '\n'.join(lines))
        with pytest.raises(ValueError, match=said):
            calibrate(model, str(tmp_path / 'list.csv'))
    lines = [f'{file},{"cow" if file.stem == "3" else file.parent.name}' for file in files]
    (tmp_path / 'list.csv').write_text('path,label\n' + '\n'.join(lines) + f'\n{tmp_path}/no.png,one')
    (tmp_path / 'no.png').write_bytes(b'no image')
    report = calibrate(model, str(tmp_path / 'list.csv'), scale='none')
    assert report.notes[0].startswith('4 images of classes that the model does not have (cow): they count as wrong')
    assert report.notes[1].startswith(f'1 image cannot be read, the first: {tmp_path}/no.png')
    assert report.calibration.images == 48
    lines = [line for line in lines if not line.endswith((',two', ',zero'))]
    (tmp_path / 'list.csv').write_text('path,label\n' + '\n'.join(lines))
    notes = calibrate(model, str(tmp_path / 'list.csv'), scale='none').notes
    assert notes[0].startswith('2 of 4 classes of the model have no image here (two, zero): nothing is measured or')


def test_what_has_no_calibration_says_so(trained, digit_folder, tmp_path):
    heads = (
        (dict(type='SupConHead'), r'got one whose head \(SupConHead\) has only embeddings.'),
        (dict(type='MultiLabelHead', num_classes=4), 'got MultiLabelHead, which gives each'),
    )
    for head, said in heads:
        path = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, head))[0]
        with pytest.raises(ValueError, match=said):
            calibrate(hybridcls.load(path, 'cpu', calibration=False), str(digit_folder / 'train'))
    with pytest.raises(ValueError, match='expected one checkpoint, got an ensemble'):
        calibrate(hybridcls.load([trained, trained], 'cpu'), str(digit_folder / 'train'))


def test_other_heads_are_said_to_keep_their_scores(digit_folder, tmp_path):
    heads = dict(a=dict(type='LinearHead'), b=dict(type='CosFaceHead'))
    head = dict(type='MultiHead', main='b', num_classes=4, heads=heads)
    path = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, head))[0]
    model = hybridcls.load(path, 'cpu', calibration=False)
    report = calibrate(model, str(digit_folder / 'train'), scale='none')
    assert report.notes == ['Only the main head, b, is calibrated; the others keep their scores.']


def test_scores_that_are_nan_are_named(trained, digit_folder, tmp_path):
    content = torch.load(trained)
    content['state_dict']['head.fc.bias'][0] = torch.nan
    torch.save(content, tmp_path / 'nan.pth')
    with pytest.raises(ValueError, match=r'got NaN for 48 of 48 images, the first: .*Are the weights finite'):
        calibrate(hybridcls.load(tmp_path / 'nan.pth', 'cpu', calibration=False), str(digit_folder / 'train'))
