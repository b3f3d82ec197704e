"""Compare the same training with and without each lever, on paired seeds."""

from .arm_check import check_arms
from .arms import Arm, arms_of, write_arms
from .effects import ArmEffect, Metric, effects_of, to_json
from .figure import draw_gain_and_cost
from .lever_switches import LEVERS, Lever, lever_of
from .table import table_of
from .trainings import Training, TrainingError, run_trainings

__all__ = [
    'LEVERS', 'Arm', 'ArmEffect', 'Lever', 'Metric', 'Training', 'TrainingError', 'arms_of', 'check_arms',
    'draw_gain_and_cost', 'effects_of', 'lever_of', 'run_trainings', 'table_of', 'to_json', 'write_arms',
]  # fmt: skip
