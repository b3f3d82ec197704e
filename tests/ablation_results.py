"""Effects of a made ablation: `sam` gains, `broken` fails."""

from hybridcls.apis.ablation import Arm, Metric, Training, effects_of

METRICS = [Metric('accuracy/top1', 'accuracy', 'points', True), Metric('calibration/nll', 'NLL', 'nats', False)]


def made_effects():
    """Of three seeds."""
    arms = [Arm('base', ()), Arm('sam', ('sam',), 'base', 'sam'), Arm('broken', ('broken',), 'base', 'broken')]
    trainings = []
    for seed in range(3):
        for arm in arms:
            gain = seed**2 * (arm.name == 'sam')
            trainings.append(
                Training(
                    arm.name, seed, '', {}, metrics={'accuracy/top1': 80.0 + gain, 'calibration/nll': 1.0},
                    costs=[dict(seconds=1.0 + (arm.name == 'sam'), steps=3, memory=5.0)],
                    failed='loss is nan' if arm.name == 'broken' else '',
                )
            )  # fmt: skip
    return effects_of(arms, trainings, METRICS)
