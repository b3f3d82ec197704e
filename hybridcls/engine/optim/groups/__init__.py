"""Parameter groups: the learning rate and weight decay of each parameter."""

from .decay_rules import DecayRules
from .depth_reader import DepthReader
from .group_table import group_table
from .model_parts import ModelParts

__all__ = ['DecayRules', 'DepthReader', 'ModelParts', 'group_table']
