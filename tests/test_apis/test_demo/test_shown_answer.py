"""What is shown of an answer, for every kind of model."""

import pytest
from tiny_artifact import calibration_of

from hybridcls.apis.demo.shown_answer import Described, percent, shown_answer

TOP = [['dress', 0.62], ['pants', 0.24], ['hat', 0.09], ['shoes', 0.05]]
NAMES = [name for name, _ in TOP]


def answer(**more):
    return {'class': 'dress', 'probability': 0.62, 'top': TOP, **more}


def test_the_most_probable_class_without_a_threshold():
    shown = shown_answer(answer(), Described(NAMES), top_k=2)
    assert (shown.title, shown.is_unknown) == ('dress', False)
    assert shown.classes == (('dress', 0.62, True), ('pants', 0.24, False))
    count, share = shown.others
    assert (count, pytest.approx(0.14)) == (2, share)
    assert 'There is no threshold, so the model answers for every image' in shown.why
    ((name, value, meaning),) = shown.uncertainties
    assert name == 'entropy'
    assert value == pytest.approx(1.00544, abs=1e-4)  # -sum p ln p, by hand
    assert 'of 1.39 at most' in meaning


def test_unknown_says_the_threshold_and_what_it_promises():
    of = Described(NAMES, calibration=calibration_of(0.8311))
    shown = shown_answer(answer(**{'class': 'unknown'}, answered=False, prediction_set=['dress', 'pants']), of)
    assert (shown.title, shown.is_unknown) == ('unknown', True)
    assert shown.why == (
        'The most probable class, dress, has 62.0 %, which is below the threshold 83.1 %. The model only answers from '
        'there on: at most 5 % of such answers are wrong (with confidence 95 %, for images like those of the '
        'calibration).'
    )
    assert not any(is_chosen for _, _, is_chosen in shown.classes)
    assert shown.prediction_set == ('dress', 'pants')
    assert shown.set_why.startswith('The right class is among these with a probability of 90 %')


def test_answered_says_the_threshold_too():
    shown = shown_answer(answer(answered=True), Described(NAMES, calibration=calibration_of(0.5)))
    assert shown.title == 'dress'
    assert shown.why.startswith('Its probability, 62.0 %, is not below the threshold 50.0 %: at most 5 % of such')


@pytest.mark.parametrize(
    ('thresholds', 'title', 'why'),
    [
        ([0.5] * 4, 'dress', 'at or above their thresholds (50.0 %)'),
        ([0.7, 0.2, 0.05, 0.5], 'pants, hat', '(5.0 % to 70.0 %, by class)'),
        ([0.9] * 4, 'none of the classes', 'No class is at or above its threshold (90.0 %).'),
    ],
)
def test_several_labels(thresholds, title, why):
    shown = shown_answer(answer(), Described(NAMES, True, thresholds), top_k=3)
    assert shown.title == title
    assert why in shown.why
    assert shown.others == (1, 0.05)
    assert shown.others_are_most
    assert not shown.uncertainties


def test_many_labels_are_counted():
    top = [[str(number), 0.9] for number in range(12)]
    shown = shown_answer({'class': '', 'probability': 0.9, 'top': top}, Described([name for name, _ in top], True))
    assert shown.title.endswith('7 and 4 more')


def test_one_class_tells_nothing():
    shown = shown_answer({'class': 'only', 'probability': 1.0, 'top': [['only', 1.0]]}, Described(['only']))
    assert shown.title == 'only'
    assert 'this tells nothing' in shown.why
    assert shown.uncertainties == ()


def test_embeddings_without_classes():
    shown = shown_answer(dict(embedding=[1.0, 2.0]), Described(()))
    assert (shown.title, shown.classes, shown.uncertainties) == ('an embedding', (), ())


def test_uncertainties_of_the_head_and_other_heads():
    said = answer(
        vacuity=0.4, heads=dict(color=dict(top=[['red', 0.7], ['blue', 0.3]], probability=0.7, epistemic=0.2))
    )
    shown = shown_answer(said, Described(NAMES))
    assert [(name, value) for name, value, _ in shown.uncertainties] == [('vacuity', 0.4)]
    ((name, head),) = shown.heads
    assert (name, head.title) == ('color', 'red')
    assert [one[0] for one in head.uncertainties] == ['epistemic']


def test_shares_are_never_rounded_to_certainty():
    assert [percent(one) for one in (0.0004, 0.0005, 0.9994, 0.9995)] == ['< 0.1 %', '0.1 %', '99.9 %', '> 99.9 %']
