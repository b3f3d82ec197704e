"""``--amp``: mixed precision for whichever optimizer wrapper a config has, on CUDA and on the CPU."""

from mmengine.config import Config

__all__ = ['use_mixed_precision']

# These take `amp=` themselves.
_WITH_AMP = ('ComposedOptimWrapper', 'SAMOptimWrapper', 'LookaheadOptimWrapper', 'GCOptimWrapper')


def use_mixed_precision(cfg: Config) -> None:
    """Switch mixed precision on in ``cfg.optim_wrapper``, in place.

    float16 with a loss scaler on CUDA; bfloat16, which needs no scaler, on the CPU. A wrapper that already says which
    type it wants keeps it. mmengine's plain OptimWrapper becomes our ComposedOptimWrapper, which without stages does
    the same; its AmpOptimWrapper, which is made for CUDA, becomes it on the CPU.

    Raises:
        ValueError: If the config does not train, or its wrapper is one whose precision we do not know how to set.
    """
    import torch

    wrapper = cfg.get('optim_wrapper')
    if wrapper is None:
        raise ValueError('--amp: the config has no optim_wrapper, so there is nothing to train in mixed precision.')
    amp = 'float16' if torch.cuda.is_available() else 'bfloat16'
    kind = wrapper.get('type', 'OptimWrapper')
    name = kind.rsplit('.', 1)[-1] if isinstance(kind, str) else kind.__name__
    if name == 'AmpOptimWrapper' and torch.cuda.is_available():
        wrapper.setdefault('loss_scale', 'dynamic')
    elif name in _WITH_AMP:
        if wrapper.get('amp') is None:
            wrapper['amp'] = amp
    elif name in ('OptimWrapper', 'AmpOptimWrapper'):
        for key in ('loss_scale', 'dtype', 'use_fsdp'):  # AmpOptimWrapper's own
            wrapper.pop(key, None)
        wrapper['type'] = 'ComposedOptimWrapper'
        wrapper['amp'] = amp
    else:
        raise ValueError(
            f'--amp: optim_wrapper.type={name!r} is not one whose precision this option can set. '
            f'It knows OptimWrapper, AmpOptimWrapper and {", ".join(_WITH_AMP)}.'
        )
