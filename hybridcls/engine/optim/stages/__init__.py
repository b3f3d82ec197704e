"""Stages, which modify an update between the loss and the next update."""

from ..update.update import Update
from .friendly_sam import FriendlySAM
from .gradient_centralization import GradientCentralization
from .lookahead import Lookahead
from .msam import MSAM
from .sam import SAM
from .update_stage import UpdateStage

__all__ = ['MSAM', 'SAM', 'FriendlySAM', 'GradientCentralization', 'Lookahead', 'Update', 'UpdateStage']
