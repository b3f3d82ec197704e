"""Verdicts on made results whose truth is known."""

import math

import numpy as np
import pytest

from hybridcls.apis.ablation import Arm, Metric, Training, effects_of

ACCURACY = Metric('accuracy/top1', 'accuracy', 'points', True)
NLL = Metric('calibration/nll', 'NLL', 'nats', False)
LEVERS = ('useless', 'good', 'bad')


def trained(arm, seed, accuracy, nll, seconds=1.0, **more):
    cost = dict(seconds=seconds, steps=10, memory=100 * seconds, clock='processor')
    metrics = {'accuracy/top1': accuracy, 'calibration/nll': nll}
    return Training(arm, seed, '', {}, metrics=metrics, costs=[cost], **more)


def made(gains, seeds=5, noise=0.1, rng=0):
    """Trainings whose arms differ from the base by (accuracy, nll), beside noise and what a seed does to all."""
    rng = np.random.default_rng(rng)
    arms = [Arm('base', ())] + [Arm(name, (name,), 'base', name) for name in gains]
    trainings = []
    for seed in range(seeds):
        of_seed = rng.normal(0, 5)
        for arm in arms:
            accuracy, nll = gains.get(arm.name, (0, 0))
            trainings.append(
                trained(
                    arm.name,
                    seed,
                    80 + of_seed + accuracy + rng.normal(0, noise),
                    1 + of_seed / 50 + nll + rng.normal(0, noise / 50),
                    2.0 if arm.name == 'good' else 1.0,
                )
            )
    return arms, trainings


def judged(arms, trainings):
    return {one.arm.name: one for one in effects_of(arms, trainings, [ACCURACY, NLL])}


def test_planted_levers_come_out_as_what_they_are():
    found = judged(*made(dict(useless=(0, 0), good=(3, -0.1), bad=(-3, 0.1), odd=(3, 0.1))))
    assert {name: one.verdict for name, one in found.items()} == dict(
        useless='within the noise', good='worth it', bad='harmful', odd='mixed'
    )
    assert found['good'].gains['calibration/nll'].mean == pytest.approx(0.1, abs=0.01)  # less NLL is a gain
    assert found['good'].step_ratio == 2
    assert found['good'].memory == 100
    assert 'could have shown' in found['useless'].sentence
    assert found['bad'].sentence.startswith('bad is harmful here: accuracy ')


def test_useless_levers_are_called_something_as_seldom_as_the_level_says():
    gains = {f'useless{k}': (0, 0) for k in range(6)}
    wrong = sum(
        any(one.verdict != 'within the noise' for one in judged(*made(gains, rng=rng)).values()) for rng in range(200)
    )
    assert wrong <= 18  # the 99 % bound of 200 trials at 5 %


def test_all_but_one_shows_the_gain_of_that_one():
    arms = [Arm('base', ()), Arm('all', LEVERS, 'base'), Arm('all_but_good', ('useless',), 'all', 'good', is_loss=True)]
    rng = np.random.default_rng(0)
    trainings = [
        trained(name, seed, value + rng.normal(0, 0.05), 1.0, seconds)
        for seed in range(5)
        for name, value, seconds in (('base', 80, 1.0), ('all', 84, 2.0), ('all_but_good', 81, 1.0))
    ]
    found = judged(arms, trainings)
    assert found['all_but_good'].gains['accuracy/top1'].mean == pytest.approx(3, abs=0.1)
    assert found['all_but_good'].step_ratio == 2
    assert found['all_but_good'].sentence.startswith('good, with all others, is worth it here')
    assert found['all'].sentence.startswith('All levers together are worth it here')


def test_an_arm_that_fails_is_harmful_and_its_seed_is_in_no_mean():
    arms, trainings = made(dict(good=(3, -0.1)))
    trainings[3].failed = 'loss is nan'
    trainings[3].metrics = {}
    found = judged(arms, trainings)['good']
    assert trainings[3].arm == 'good'
    assert (found.verdict, found.gains['accuracy/top1'].pairs) == ('harmful', 4)
    assert 'seed 1: loss is nan' in found.sentence
    for one in trainings:
        one.failed = 'broken' if one.arm == 'good' else ''
    found = judged(arms, trainings)['good']
    assert (found.verdict, found.gains) == ('harmful', {})


def test_rounding_makes_no_lever_sure():
    """One image of 288 more with each seed: two differences that are equal but for float32, which scipy is sure of."""
    right = dict(base=(205, 201), one=(206, 202))
    arms = [Arm('base', ()), Arm('one', ('one',), 'base', 'one')]
    percent = np.float32(100 / 288)
    found = judged(
        arms, [trained(name, s, float(np.float32(right[name][s]) * percent), 0.5) for s in range(2) for name in right]
    )['one']
    assert (found.verdict, found.gains['accuracy/top1'].sd) == ('within the noise', 0)


def test_a_lever_that_does_nothing_is_said_to_and_equal_gains_say_nothing():
    arms = [Arm('base', ()), Arm('idle', ('idle',), 'base', 'idle'), Arm('even', ('even',), 'base', 'even')]
    gains = dict(base=0, idle=0, even=1)
    found = judged(arms, [trained(name, s, 80 + s + gains[name], 0.5 + s) for s in range(3) for name in gains])
    assert found['idle'].sentence == 'idle is within the noise: the numbers are those of base, with every seed.'
    assert (found['even'].verdict, found['even'].gains['accuracy/top1'].sd) == ('within the noise', 0)
    assert found['even'].sentence.endswith('Equal differences do not show how much they vary: more seeds do.')
    assert math.isnan(found['even'].could_show['accuracy/top1'])


def test_a_metric_that_never_differs_has_no_interval_in_the_sentence():
    arms = [Arm('base', ()), Arm('half', ('half',), 'base', 'half')]
    found = judged(arms, [trained(name, s, 80 + s * s * (name == 'half'), 0.5 + s) for s in range(3) for name in
                          ('base', 'half')])['half']  # fmt: skip
    assert 'NLL the same with every seed)' in found.sentence


def test_two_seeds_say_that_they_show_nothing():
    values = dict(base=((50, 1.0), (50, 1.2)), wild=((60, 1.1), (20, 0.9)))
    arms = [Arm('base', ()), Arm('wild', ('wild',), 'base', 'wild')]
    found = judged(arms, [trained(name, s, *values[name][s]) for s in range(2) for name in values])['wild']
    assert 'no difference of accuracy (it would be more than 100 points)' in found.sentence
    assert 'e+' not in found.sentence


def test_a_lever_is_not_blamed_for_what_the_base_does_too():
    arms, trainings = made(dict(useless=(0, 0)))
    for one in trainings:
        if (one.arm, one.seed) in (('base', 1), ('useless', 3)):
            one.failed = 'Wrapper: iteration 6: loss = nan. Look at the learning rate.'
    found = judged(arms, trainings)['useless']
    assert (found.verdict, found.gains['accuracy/top1'].pairs) == ('within the noise', 3)
    assert found.sentence.endswith('base itself failed (seed 1: Wrapper: iteration 6: loss = nan).')


@pytest.mark.parametrize(('of_base', 'of_lever'), [((0, 1), (0, 1, 2)), ((0, 1, 2, 3), (1, 2, 3))])
def test_a_third_failure_that_was_running_beside_the_second_blames_nothing(of_base, of_lever):
    """With many jobs more than two seeds of an arm begin before its second failure."""
    arms, trainings = made(dict(useless=(0, 0)))
    for one in trainings:
        one.failed = 'loss = nan' if one.seed in dict(base=of_base, useless=of_lever)[one.arm] else ''
    assert judged(arms, trainings)['useless'].verdict == 'within the noise'


def test_a_lever_without_which_the_others_do_not_fail_is_harmful():
    bad, idle = (
        Arm(f'all_but_{name}', (other,), 'all', name, is_loss=True) for name, other in (('b', 'i'), ('i', 'b'))
    )
    arms = [Arm('base', ()), Arm('all', ('b', 'i'), 'base'), bad, idle]
    trainings = [trained(arm.name, seed, 80 + seed, 1.0 + seed) for seed in range(3) for arm in arms]
    for one in trainings:
        if one.arm in ('all', 'all_but_i') and one.seed == 1:
            one.failed = 'loss = nan. Look'
    found = judged(arms, trainings)
    assert found['all_but_b'].verdict == 'harmful'
    assert found['all_but_b'].sentence == (
        'b, with all others, is harmful here: all failed (seed 1: loss = nan), and without it none did.'
    )
    assert found['all_but_i'].verdict == 'within the noise'
    assert found['all_but_i'].sentence == (
        'i, with all others, is within the noise: the numbers are those of all, with every seed with which both ended '
        'well. all itself failed (seed 1: loss = nan). Without it all_but_i failed (seed 1: loss = nan).'
    )


def test_one_seed_shows_nothing():
    found = judged(*made(dict(good=(3, -0.1)), seeds=1))['good']
    assert found.verdict == 'within the noise'
    assert found.sentence.endswith('One seed cannot show whether there is a difference.')
    assert math.isnan(found.adjusted['accuracy/top1'])
