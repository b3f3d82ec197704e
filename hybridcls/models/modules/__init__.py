"""Modules used inside other parts: attention on maps, token summaries, projections."""

from hybridcls.old_modules import answer_old_names

from .cbam import CBAM
from .projection import ProjectionMLP
from .token_fuser import TokenFuser
from .token_learner import TokenLearner

__all__ = [
    'CBAM',
    'ProjectionMLP',
    'TokenFuser',
    'TokenLearner',
]

answer_old_names(globals())
