"""Stages: what may happen to an update between the loss and the next one."""
from .update_stage import Update, UpdateStage

__all__ = ['Update', 'UpdateStage']
