"""Buffers that a checkpoint may lack, or have although the model does not."""

from collections.abc import Sequence
from typing import Any, Union

import torch
from torch import Tensor, nn

__all__ = ['ClassCounts', 'OptionalBuffers']


class OptionalBuffers(nn.Module):
    """Mixin to load checkpoints that lack the buffers of this module, or have ones that this module does not keep.

    So a setting that a buffer belongs to can be changed between a training and what follows. A subclass registers the
    buffers by :meth:`keep`, and takes what follows from them in :meth:`loaded`.

    Attributes:
        optional (dict[str, bool]): The buffers by name, and whether they are in checkpoints.
    """

    def __init__(self) -> None:
        super().__init__()
        self.optional: dict[str, bool] = {}
        self.register_load_state_dict_pre_hook(_fit_state)
        self.register_load_state_dict_post_hook(_call_loaded)

    def keep(self, name: str, value: Tensor, in_checkpoint: bool) -> None:
        """Register a buffer; with ``in_checkpoint`` it is saved, and loaded if a checkpoint has it."""
        self.register_buffer(name, value, persistent=in_checkpoint)
        self.optional[name] = in_checkpoint

    def loaded(self) -> None:
        """Do nothing; called after a checkpoint, which may have lacked these buffers, was loaded."""


def _fit_state(module: Any, state_dict: dict, prefix: str, *_: Any) -> None:
    """Add missing optional buffers to a state dict, and remove those that are not kept."""
    for name, is_kept in module.optional.items():
        if is_kept:
            state_dict.setdefault(prefix + name, getattr(module, name))
        else:
            state_dict.pop(prefix + name, None)


def _call_loaded(module: Any, _: Any) -> None:  # no lambda: a model can be pickled
    module.loaded()


class ClassCounts(OptionalBuffers):
    """The number of training images of each class, for modules that depend on it.

    ``ClassCountsHook`` (in every run) sets them before a training begins: counted by each process, from the data of
    this run, in a resume and in each phase too. The checkpoint has them.

    Args:
        caller (str): Name of the head, used as the error prefix.
        num_classes (int): C.
        setting (str): The key of the head that needs them; '' for none.

    Attributes:
        counts (Tensor): Images of each class, and behind them of all: int64, shape (C + 1,); 0 until they are known,
            and empty without a setting.
        setting (str): See above.
    """

    counts: Tensor

    def __init__(self, caller: str, num_classes: int, setting: str) -> None:
        super().__init__()
        self.caller, self.setting = caller, setting
        self._is_known = False
        size = num_classes + 1 if setting else 0
        self.keep('counts', torch.zeros(size, dtype=torch.int64), in_checkpoint=bool(setting))

    def set_counts(self, counts: Union[Sequence[int], Tensor], num_images: int) -> str:
        """Set the training images of each class, C numbers, and in total; return a description of the effect."""
        if len(counts) != len(self.counts) - 1:
            raise ValueError(
                f'{self.caller}: expected counts of num_classes={len(self.counts) - 1} classes, got {len(counts)}.'
            )
        self.counts.copy_(torch.cat([torch.as_tensor(counts).long().cpu(), torch.tensor([num_images])]))
        self._is_known = True
        return self.follow(self.counts[:-1].cpu(), int(num_images))

    def follow(self, counts: Tensor, num_images: int) -> str:
        """Compute what depends on the counts, int64 (C,), on the CPU, and return a description of it."""
        raise NotImplementedError

    def check_known(self) -> None:
        """Raise a RuntimeError if the counts are needed but have not been set."""
        if self.setting and not self._is_known:
            raise RuntimeError(
                f'{self.caller}: expected the number of training images of each class for {self.setting}, got none. '
                'Every training of hybridcls counts them (ClassCountsHook), and its checkpoints have them; elsewhere '
                'call head.set_class_counts(counts, num_images).'
            )

    def loaded(self) -> None:
        """Use the counts of a checkpoint that has them."""
        if self.setting and not self.counts.is_meta and bool(self.counts.any()):
            self._is_known = True
            self.follow(self.counts[:-1].cpu(), int(self.counts[-1]))
