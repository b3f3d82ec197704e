"""A corrected FSDPStrategy of mmengine, which can resume with the present torch."""

from torch.distributed.fsdp import FullyShardedDataParallel

from hybridcls.compat.mmengine.strategy import FSDPStrategy as _FSDPStrategy
from hybridcls.registry import STRATEGIES

__all__ = ['FSDPStrategy']


@STRATEGIES.register_module()
class FSDPStrategy(_FSDPStrategy):
    """Train with FullyShardedDataParallel through FlexibleRunner: ``strategy=dict(type='FSDPStrategy', ...)``.

    The state of a ComposedOptimWrapper (slow weights, directions) is sharded like the weights, gathered into
    checkpoints (``state_dict_cfg='full'``) and sharded again on resume. mmengine's own strategy gives torch >= 2.1 its
    arguments in another order and cannot resume. Arguments are those of mmengine's; give ``model_wrapper`` the key
    ``use_orig_params=True``, so that parameters keep their names and groups.
    """

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Shard a gathered state, and load it."""
        self.optim_wrapper.load_state_dict(
            FullyShardedDataParallel.optim_state_dict_to_load(self.model, self.optim_wrapper.optimizer, state_dict)
        )
