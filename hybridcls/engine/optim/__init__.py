"""The update: stages around any optimizer, for any training of mmengine's Runner."""

from .bad_loss import BadLossError
from .composed_optim_wrapper import ComposedOptimWrapper
from .hybrid_optim_wrapper_constructor import HybridOptimWrapperConstructor
from .lion import Lion
from .precision import Precision
from .single_stage_wrappers import GCOptimWrapper, LookaheadOptimWrapper, SAMOptimWrapper
from .stages import SAM, GradientCentralization, Lookahead, Update, UpdateStage

__all__ = [
    'SAM', 'BadLossError', 'ComposedOptimWrapper', 'GCOptimWrapper', 'GradientCentralization',
    'HybridOptimWrapperConstructor', 'Lion', 'Lookahead', 'LookaheadOptimWrapper', 'Precision', 'SAMOptimWrapper',
    'Update', 'UpdateStage',
]  # fmt: skip
