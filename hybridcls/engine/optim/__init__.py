"""The update: stages around any optimizer, for any training of mmengine's Runner."""
from .bad_loss import BadLossError
from .composed_optim_wrapper import ComposedOptimWrapper
from .hybrid_optim_wrapper_constructor import HybridOptimWrapperConstructor
from .precision import Precision
from .stages import Update, UpdateStage

__all__ = [
    'BadLossError', 'ComposedOptimWrapper', 'HybridOptimWrapperConstructor', 'Precision', 'Update', 'UpdateStage'
]
