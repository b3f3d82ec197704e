"""Stages: what may happen to an update between the loss and the next one."""

from ..update.update import Update
from .gradient_centralization import GradientCentralization
from .lookahead import Lookahead
from .sam import SAM
from .update_stage import UpdateStage

__all__ = ['SAM', 'GradientCentralization', 'Lookahead', 'Update', 'UpdateStage']
