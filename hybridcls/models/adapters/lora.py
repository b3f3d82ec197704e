"""Low-rank adaptation (LoRA) of a built model, through PEFT."""

from dataclasses import dataclass
from typing import Any, Optional, Union, cast

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from hybridcls.checks import check_choice, check_installed, check_known_keys, check_number
from hybridcls.compat.torch import AnyBatchNorm

from .lora_names import keep_plain_names, trained_names
from .lora_targets import QKV_SLICES, Targets, choose_layers

__all__ = ['LoRA', 'LoRAReport', 'LoRASettings', 'add_lora', 'frozen_batchnorms', 'lora_layers']

_ADAPTER = 'default'  # PEFT's own name for the only adapter
CHECKPOINTS = ('all', 'adapters')


@dataclass
class LoRASettings:
    """Settings of LoRA on one stream.

    Args:
        rank (int): r, from 1 to the smaller side of each layer.
        alpha (float, optional): The update is scaled by alpha / r. Defaults to None: alpha = r, a scale of 1.
        dropout (float): Dropout before A, in [0, 1). Defaults to 0.
        targets (str | Sequence[str], optional): Which layers; see :func:`choose_layers`. Defaults to None: all linear
            layers and 1 x 1 convolutions of the blocks.
        use_dora (bool): Weight-decomposed adaptation (`Liu et al. <https://arxiv.org/abs/2402.09353>`_).
            Defaults to False.
        use_rslora (bool): Scale by alpha / sqrt(r) instead (`Kalajdzievski <https://arxiv.org/abs/2312.03732>`_).
            Defaults to False.
        train_norms (bool): Leave the normalisation layers trainable. Defaults to False.
        checkpoint (str): ``'all'``: the weights of the stream are in checkpoints too. ``'adapters'``: only what is
            trained, so that a checkpoint has megabytes; the stream then must start from the same weights again, so it
            needs ``pretrained=True`` or ``checkpoint_path``. Defaults to ``'all'``.
    """

    rank: int
    alpha: Optional[float] = None
    dropout: float = 0.0
    targets: Targets = None
    use_dora: bool = False
    use_rslora: bool = False
    train_norms: bool = False
    checkpoint: str = 'all'

    def __post_init__(self) -> None:
        check_number('LoRA', 'lora_rank', self.rank, 1, integer=True, advice='0 switches LoRA off.')
        if self.alpha is not None:
            check_number('LoRA', 'lora_alpha', self.alpha, 0, low_open=True)
        check_number('LoRA', 'dropout', self.dropout, 0, 1, high_open=True)
        check_choice('LoRA', 'checkpoint', self.checkpoint, CHECKPOINTS)

    @classmethod
    def read(cls, rank: Union[int, dict], alpha: Optional[float], stream: str) -> Optional['LoRASettings']:
        """Read ``lora_rank`` (a number or a dict) and ``lora_alpha`` for one stream; None if LoRA is off."""
        if not isinstance(rank, dict):
            check_number('LoRA', 'lora_rank', rank, 0, integer=True, advice='0 switches LoRA off.')
            return cls(rank, alpha) if rank else None
        known = (*cls.__dataclass_fields__, 'cnn', 'vit')
        check_known_keys('LoRA: lora_rank', rank, known)
        settings = {key: value for key, value in rank.items() if key not in ('cnn', 'vit')}
        own = rank.get(stream, {})
        if own is None:  # this stream is left as it is
            return None
        check_known_keys(f'LoRA: lora_rank.{stream}', own, cls.__dataclass_fields__)
        settings.update(own)
        if 'rank' not in settings:
            raise ValueError(
                f'LoRA: lora_rank={dict(rank)} lacks the key rank for the stream {stream}. '
                f'To leave that stream as it is, add {stream}=None.'
            )
        settings.setdefault('alpha', alpha)
        return cls(**settings) if settings['rank'] else None


class LoRAReport:
    """The report of :func:`add_lora`; prints PEFT's line of trainable parameters.

    Attributes:
        names (tuple[str, ...]): The adapted layers, by their names in the model.
        trained (int): Number of trainable parameters of the model.
        total (int): Number of all its parameters, those of the adapters included.
        settings (LoRASettings): Rank and the like.
    """

    def __init__(self, names: tuple[str, ...], trained: int, total: int, settings: LoRASettings) -> None:
        self.names = names
        self.trained = trained
        self.total = total
        self.settings = settings

    def __str__(self) -> str:
        kind = 'DoRA' if self.settings.use_dora else 'LoRA'
        ends: dict[str, int] = {}
        for name in self.names:
            end = name.rsplit('.', 1)[-1]
            ends[end] = ends.get(end, 0) + 1
        layers = ', '.join(f'{count} {end}' for end, count in ends.items())
        return (
            f'{kind} of rank {self.settings.rank} on {len(self.names)} layers ({layers}). trainable params: '
            f'{self.trained:,} || all params: {self.total:,} || trainable%: {100 * self.trained / self.total:.2f}'
        )


LoRA = LoRAReport  # its name in 0.1


def add_lora(model: nn.Module, settings: LoRASettings, name: str = 'the model') -> LoRAReport:
    r"""Adapt layers of ``model`` by low-rank updates, in place, and freeze everything else in it.

    A layer :math:`W x` becomes :math:`W x + \frac{\alpha}{r} B A x` (`Hu et al. <https://arxiv.org/abs/2106.09685>`_),
    with B = 0 at the start, so the model computes what it computed before. PEFT's layers do it. What differs from a
    plain use of PEFT:

    - timm's Swin V2, BEiT and EVA multiply by ``qkv.weight`` without calling the layer, so an adapter there would do
      nothing, in silence. They have a switch for that (``qkv_bias_separate``), which is set here.
    - ``'q'``, ``'k'`` and ``'v'`` adapt a slice of a fused ``qkv``: the rows of B that belong to the others stay 0. A
      is shared by the slices of a layer.
    - State dicts keep the names that the weights had before (``qkv.weight``), with ``qkv.lora_A.weight`` beside them:
      checkpoints of a model with and without LoRA fit each other.
    - BatchNorm that is frozen stays in eval mode.

    Args:
        model (nn.Module): With its pretrained weights.
        settings (LoRASettings): How.
        name (str): What the log calls it.

    Returns:
        LoRAReport: The adapted layers, and how many parameters are trained.

    Raises:
        ImportError: If PEFT is not installed (the extra ``lora``).
        ValueError: If no layer matches, or a rank exceeds a layer.
        TypeError: If a layer that matches cannot be adapted.
    """
    caller = f'LoRA on {name}'
    check_installed(caller, 'peft', f'lora_rank={settings.rank}', 'lora')
    chosen = choose_layers(caller, model, settings.targets)
    layers = dict(model.named_modules())
    for layer_name, slices in chosen.items():
        layer = layers[layer_name]
        sides = (
            (layer.in_features, layer.out_features)
            if isinstance(layer, nn.Linear)
            else (layer.in_channels, layer.out_channels)
        )
        if settings.rank > min(sides):
            raise ValueError(
                f'{caller}: lora_rank={settings.rank} exceeds the smaller side of {layer_name} ({sides[0]} '
                f'to {sides[1]}). Use at most {min(sides)}, or other targets.'
            )
        if slices and settings.use_dora:
            raise ValueError(
                f'{caller}: use_dora learns the norm of each row of {layer_name}, which weight decay would '
                "shrink for the rows of slices that are left out. Give targets=['qkv'], or drop use_dora."
            )
        if slices and sides[1] % 3:
            raise ValueError(
                f'{caller}: {layer_name} has {sides[1]} outputs, which are no three equal slices of q, k '
                "and v. Give targets=['qkv']."
            )
    for module in layers.values():
        if hasattr(module, 'qkv_bias_separate'):
            module.qkv_bias_separate = True
    _inject(model, settings, list(chosen))
    adapted = lora_layers(model)
    untrained = sum(_keep_slices(adapted[name], slices) for name, slices in chosen.items() if slices)
    if settings.train_norms:
        for module in model.modules():
            if _is_norm(module):
                module.requires_grad_(True)
    keep_plain_names(model, only_trained=settings.checkpoint == 'adapters')
    # As they are now: an average of the model (EMA) and a model for inference are frozen whole.
    cast(Any, model).trained_beside_lora = frozenset(name for name in trained_names(model) if '.lora_' not in name)
    params = list(model.parameters())
    trained = sum(param.numel() for param in params if param.requires_grad) - untrained
    done = LoRAReport(tuple(chosen), trained, sum(param.numel() for param in params), settings)
    print_log(f'{name}: {done}', logger='current')
    return done


def lora_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the adapted layers of a model, by name."""
    return {name: layer for name, layer in model.named_modules() if hasattr(layer, 'lora_A')}


def frozen_batchnorms(model: nn.Module) -> list[nn.Module]:
    """Return the BatchNorm layers that are not trained; in training mode their running statistics would still move."""
    return [
        module
        for module in model.modules()
        if isinstance(module, AnyBatchNorm) and not any(param.requires_grad for param in module.parameters())
    ]


def _inject(model: nn.Module, settings: LoRASettings, names: list[str]) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(
        LoraConfig(
            r=settings.rank,
            lora_alpha=settings.rank if settings.alpha is None else settings.alpha,  # type: ignore[arg-type]
            lora_dropout=settings.dropout,
            target_modules=names,
            use_dora=settings.use_dora,
            use_rslora=settings.use_rslora,
        ),
        model,
        adapter_name=_ADAPTER,
    )


def _keep_slices(layer: Any, slices: tuple[str, ...]) -> int:
    """Train only some of q, k and v of an adapted qkv; return the number of parameters that stay untrained."""
    up = layer.lora_B[_ADAPTER]
    # B is 0 at the start, and rows without gradient stay 0: weight decay, momentum and SAM's ascent leave 0 at 0. A
    # hook of the module, not of the tensor, so that a deep copy of the model has it too.
    up.register_forward_hook(_LearnSlices(slices, 1 if isinstance(up, nn.Conv2d) else -1))
    return up.weight.numel() // 3 * (3 - len(slices))


class _LearnSlices:
    """Pass the output unchanged, and gradients only through some of its thirds."""

    def __init__(self, slices: tuple[str, ...], dim: int) -> None:
        self.learn = [part in slices for part in QKV_SLICES]
        self.dim = dim

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        parts = zip(output.chunk(3, self.dim), self.learn, strict=True)
        return torch.cat([part if learn else part.detach() for part, learn in parts], self.dim)


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, (nn.LayerNorm, nn.GroupNorm, AnyBatchNorm)) or type(module).__name__.endswith(
        ('Norm', 'Norm2d', 'NormAct', 'NormAct2d')
    )
