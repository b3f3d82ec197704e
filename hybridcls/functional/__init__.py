"""Pure maths: tensors in, tensors out; no state, no registry."""
from .adaptive_margin import adaptive_margin_on_target, move_norm_statistics, norm_scaler
from .angular_margin import additive_angular_margin, angular_margin_on_target
from .gather import gather_rows, num_processes
from .margin_softmax import cosine_logits, margin_cross_entropy
from .nearest_neighbours import nearest_neighbours, vote_ranks
from .supervised_contrast import supervised_contrast
from .unit_vectors import unit_rows

__all__ = [
    'adaptive_margin_on_target', 'additive_angular_margin', 'angular_margin_on_target', 'cosine_logits', 'gather_rows',
    'margin_cross_entropy', 'move_norm_statistics', 'nearest_neighbours', 'norm_scaler', 'num_processes',
    'supervised_contrast', 'unit_rows', 'vote_ranks'
]
