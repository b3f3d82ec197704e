"""The update: stages around any optimizer, for trainings with mmengine's Runner."""

from hybridcls.old_modules import answer_old_names

from .composed_optim_wrapper import ComposedOptimWrapper
from .groups.hybrid_optim_wrapper_constructor import HybridOptimWrapperConstructor
from .lion import Lion
from .single_stage_wrappers import (
    FriendlySAMOptimWrapper,
    GCOptimWrapper,
    LookaheadOptimWrapper,
    MSAMOptimWrapper,
    SAMOptimWrapper,
)
from .stages import MSAM, SAM, FriendlySAM, GradientCentralization, Lookahead, Update, UpdateStage
from .update.nonfinite_loss import NonFiniteLossError
from .update.precision import Precision

__all__ = [
    'MSAM', 'SAM', 'NonFiniteLossError', 'ComposedOptimWrapper', 'FriendlySAM', 'FriendlySAMOptimWrapper',
    'GCOptimWrapper', 'GradientCentralization', 'HybridOptimWrapperConstructor', 'Lion', 'Lookahead',
    'LookaheadOptimWrapper', 'MSAMOptimWrapper', 'Precision', 'SAMOptimWrapper', 'Update', 'UpdateStage',
]  # fmt: skip

answer_old_names(globals())
