"""One timm model, or two streams, a CNN and a vision transformer, over the same image."""

from collections.abc import Iterable, Sequence
from typing import Any, Optional, Union

from mmengine.model import BaseModule
from timm.models import VisionTransformer
from torch import Tensor, cat, compiler, nn

from hybridcls.checks import check_installed, check_number
from hybridcls.compat.torch import AnyBatchNorm
from hybridcls.functional import pool_feature
from hybridcls.registry import MODELS

from ..adapters import MergingRatio, add_lora, add_token_merging, frozen_batchnorms
from ..adapters.adapters_without_gradient import check_adapters_act
from ..data_preprocessors.image_range import check_unit_range, range_of
from ..modules import CBAM, TokenLearner
from .backbone_levers import BackboneLevers
from .stream import Stream
from .stream_config import build_stream


@MODELS.register_module()
class HybridBackbone(BaseModule):
    """One timm model without its classifier, or two streams, a CNN and a vision transformer, over the same images.

    A stream alone needs no neck: without one, ``HybridClassifier`` asks for ``pooled`` features, so that its head gets
    what timm's own model gives with ``num_classes=0``.

    Args:
        cnn (dict, optional): The CNN stream: ``model_name=`` for timm (see :class:`TimmStream` for its other keys),
            or ``type=`` for any registered backbone (with ``mean``, ``std`` and ``output`` of
            :class:`RegisteredStream`). None leaves the stream out. Defaults to None. What a stream leaves open of
            ``img_size`` and ``with_cp`` is filled in where its class takes it.
        vit (dict, optional): The transformer stream, the same; ``drop_path_rate`` defaults to 0.2 here.
        img_size (int | Sequence[int], optional): Size (h, w) of the images, for both streams. Defaults to None: what
            each timm model was pretrained with.
        use_cbam (bool | dict): CBAM on the CNN's map; a dict sets keys of :class:`CBAM`, such as ``reduction``.
            Defaults to False.
        token_learner_tokens (int | dict): K summary tokens of the transformer's tokens; 0 is off. A dict sets
            ``num_tokens``, ``after_block`` (after that many blocks of a plain ViT, so that the other blocks see only
            K tokens) and the other keys of :class:`TokenLearner`. Defaults to 0.
        token_merging_ratio (float | Sequence[float] | dict): Share in [0, 0.5] of its tokens that each block of a plain
            vision transformer merges, or one share a block, or ``dict(r=13)`` tokens a block; the other forms are those
            of :class:`MergingSchedule`. Blocks after a TokenLearner merge nothing. 0 is off. Defaults to 0.
        lora_rank (int | dict): Rank r of LoRA on the linear layers and 1 x 1 convolutions in the blocks of both
            streams, whose own weights are frozen then; CBAM and TokenLearner stay trainable. A dict sets ``rank`` and
            the other keys of :class:`LoRASettings` (``targets``, ``dropout``, ``use_dora``, ...), and under ``cnn`` or
            ``vit`` those of one stream; ``cnn=None`` leaves that stream as it is. 0 is off. Defaults to 0.
        lora_alpha (float, optional): The update is scaled by alpha / r. Defaults to None: alpha = r.
        with_cp (bool): Activation checkpointing in both streams. Defaults to False.
        pooled (bool, optional): Return one vector a feature: of a stream whose ``output`` is open timm's pooled vector
            (CBAM then works on the last map, before timm's own pooling), of other maps and tokens, a TokenLearner's
            summaries among them, the mean over the positions. Defaults to None: False, which ``HybridClassifier``
            changes where a head has no neck before it.
        norm_eval (bool, optional): BatchNorm of the streams keeps its running statistics, in eval mode, while its
            weights train: for few images, whose batches tell less than the pretraining. In a config None leaves it to
            the number of images. Defaults to False.
        init_cfg (dict, optional): mmengine's initialisation config.

    Attributes:
        out_channels (tuple[int, ...]): Channels of each feature; a list of them is the ``in_channels`` of mmdet's and
            mmseg's necks.
        out_indices (tuple[int, ...]): The number of each feature: those of a lone timm stream with ``out_indices``,
            else counted from 0.
        strides (tuple[int, ...]): Strides of the maps, of streams with ``out_indices``.
        stream_names (tuple[str, ...]): ``('cnn', 'vit')``, or the one that is there.

    Shape:
        - x: float ``(B, 3, H, W)``, RGB in [0, 1]: each stream normalises it as it was pretrained.
        - returns: one feature a stream, the CNN first: its map ``(B, Cc, h, w)`` (``pooled``, or ``output='vector'``
          in the stream: timm's pooled vector), and of the transformer timm's pooled vector ``(B, Cv)``, or with
          TokenLearner after the last block the K tokens ``(B, K, Cv)``. A timm stream with ``out_indices`` gives its
          maps ``(B, C, h, w)`` one after the other instead (CBAM on the last of them).

    Raises:
        ValueError: If no stream is given, or a module cannot sit where it is asked for.
        TypeError: If a stream is no dict, or has neither ``model_name`` nor ``type``.
        ImportError: If ``lora_rank`` is on and PEFT is not installed (the extra ``lora``).

    Example:
        >>> import torch
        >>> backbone = HybridBackbone(cnn=dict(model_name='test_resnet'), vit=dict(model_name='test_vit'), img_size=64)
        >>> [tuple(feature.shape) for feature in backbone(torch.rand(2, 3, 64, 64))]
        [(2, 96, 2, 2), (2, 64)]
        >>> HybridBackbone(cnn=dict(model_name='test_resnet'), pooled=True)(torch.rand(2, 3, 64, 64))[0].shape
        torch.Size([2, 96])
    """

    cnn: Any  # TimmStream or RegisteredStream
    vit: Any

    def __init__(
        self,
        cnn: Optional[dict] = None,
        vit: Optional[dict] = None,
        img_size: Union[int, Sequence[int], None] = None,
        use_cbam: Union[bool, dict] = False,
        token_learner_tokens: Union[int, dict] = 0,
        token_merging_ratio: MergingRatio = 0.0,
        lora_rank: Union[int, dict] = 0,
        lora_alpha: Optional[float] = None,
        with_cp: bool = False,
        pooled: Optional[bool] = None,
        norm_eval: Optional[bool] = False,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(init_cfg)
        streams = {name: cfg for name, cfg in (('cnn', cnn), ('vit', vit)) if cfg is not None}
        _check_streams(streams)
        levers = BackboneLevers.read(
            streams, use_cbam, token_learner_tokens, token_merging_ratio, lora_rank, lora_alpha
        )
        self.stream_names = tuple(streams)
        self.img_size = _check_img_size(img_size)
        self.pooled = bool(pooled)
        self.cbam: Any = None
        self.token_learner: Any = None
        self._summarized_after: Optional[int] = None  # a block of the vit; None: after the last one, or not at all
        if cnn is not None:
            self._build_cnn(cnn, levers, with_cp)
        if vit is not None:
            self._build_vit(vit, levers, with_cp)
        self._count_features()
        self._check_next_images = False
        # Names, since SyncBatchNorm and other conversions put new modules in the place of these.
        self._frozen_batchnorms: set[str] = set()
        if norm_eval:
            modules = (module for stream in self._streams() for module in stream.modules())
            self._freeze_batchnorms(module for module in modules if isinstance(module, AnyBatchNorm))
        self._add_lora(levers)

    def _streams(self) -> list[Stream]:
        return [getattr(self, name) for name in self.stream_names]

    def _count_features(self) -> None:
        features = [(c if isinstance(c, tuple) else (c,)) for c in (stream.out_channels for stream in self._streams())]
        self.out_channels = sum(features, ())
        self.strides = sum((getattr(stream, 'strides', ()) for stream in self._streams()), ())
        lone = getattr(self._streams()[0], 'out_indices', None) if len(self.stream_names) == 1 else None
        self.out_indices = lone or tuple(range(len(self.out_channels)))

    def _build_cnn(self, cfg: dict, levers: BackboneLevers, with_cp: bool) -> None:
        output = 'vector' if self.pooled and cfg.get('out_indices') is None else 'map'
        self.cnn = build_stream('cnn', dict(output=output) | cfg, self.img_size, 0.0, with_cp)
        if levers.cbam is not None:
            self.cbam = CBAM(self.cnn.map_channels(), **levers.cbam)

    def _build_vit(self, cfg: dict, levers: BackboneLevers, with_cp: bool) -> None:
        output = 'tokens' if levers.summarizes_all else 'map' if cfg.get('out_indices') is not None else 'vector'
        self.vit = build_stream('vit', dict(output=output) | cfg, self.img_size, 0.2, with_cp)
        if levers.token_learner is not None:
            self.token_learner = TokenLearner(self.vit.out_channels, **levers.token_learner)
        if levers.after_block is not None:
            self._place_token_learner(levers.after_block)
        if levers.token_merging != 0:
            add_token_merging(self.vit, levers.token_merging, last_block=levers.after_block)

    def _add_lora(self, levers: BackboneLevers) -> None:
        """Add LoRA to the streams; last, to see the changes of the other levers."""
        if not levers.lora:
            return
        for name, settings in levers.lora.items():
            check_installed('HybridBackbone', 'peft', f'lora_rank={settings.rank}', 'lora')
            stream = getattr(self, name)
            if settings.checkpoint == 'adapters' and not getattr(stream, 'has_weights', False):
                raise ValueError(
                    f"HybridBackbone: lora_rank.checkpoint='adapters' leaves the weights of the {name} "
                    'stream out of checkpoints, and it starts from random ones, which would be lost. Set '
                    f"{name}.pretrained=True or {name}.checkpoint_path, or checkpoint='all'."
                )
            add_lora(stream.model, settings, f'the {name} stream')
            self._freeze_batchnorms(frozen_batchnorms(stream.model))
        streams = self._streams()
        size = self.img_size or next((stream.img_size for stream in streams if stream.img_size), 224)
        height, width = (size, size) if isinstance(size, int) else size
        check_adapters_act('HybridBackbone: lora_rank', self, (len(streams[0].mean), height, width))

    @property
    def takes_unit_range(self) -> bool:
        """Whether images must be RGB in [0, 1], since a stream normalizes them."""
        return any(stream.takes_unit_range for stream in self._streams())

    def init_weights(self) -> None:
        """Initialize parts that have an ``init_cfg``; the first training images are then checked to be in [0, 1]."""
        super().init_weights()
        self._check_next_images = self.takes_unit_range

    def train(self, mode: bool = True) -> 'HybridBackbone':
        """Set the mode; BatchNorm layers frozen by LoRA or ``norm_eval`` stay in eval mode."""
        super().train(mode)
        for name, module in self.named_modules():
            if name in self._frozen_batchnorms:
                module.eval()
        return self

    def _freeze_batchnorms(self, batchnorms: Iterable[nn.Module]) -> None:
        frozen = set(batchnorms)
        self._frozen_batchnorms |= {name for name, module in self.named_modules() if module in frozen}

    def _place_token_learner(self, after_block: int) -> None:
        """Make the blocks after ``after_block`` see the prefix tokens and K summaries instead of all patch tokens."""
        model = self.vit.model
        if not isinstance(model, VisionTransformer) or getattr(model, 'rope', None) is not None:
            raise ValueError(
                'HybridBackbone: token_learner_tokens with after_block needs a plain ViT without relative '
                "positions (timm's VisionTransformer: vit_*, deit*), and the vit stream is a "
                f'{type(model).__name__}. Without after_block, TokenLearner works on any stream.'
            )
        depth = len(model.blocks)
        check_number(
            'HybridBackbone',
            'token_learner_tokens.after_block',
            after_block,
            1,
            depth - 1,
            integer=True,
            advice=f'The stream has {depth} blocks; to summarise after the last one leave after_block out.',
        )
        self._summarized_after = after_block
        # A hook keeps the names of timm's parameters, so that its weights load, and works inside checkpointing; a
        # method, not a closure, so that a deep copy of the model (EMA) calls its own TokenLearner.
        model.blocks[after_block - 1].register_forward_hook(self._summarise, with_kwargs=True)

    def _summarise(self, block: nn.Module, inputs: Any, keywords: dict[str, Any], tokens: Tensor) -> Tensor:
        if keywords.get('merging') is not None:
            tokens = keywords['merging'].undo(tokens)  # a token of many patches counts as often as it has patches
        prefix = self.vit.model.num_prefix_tokens
        summaries = self.token_learner(tokens[:, prefix:])
        return cat([tokens[:, :prefix], summaries], dim=1)

    @property
    def merging_blocks(self) -> dict[nn.Module, int]:
        """In how many of its blocks the transformer may merge tokens: summaries of a TokenLearner are not merged."""
        return {} if self._summarized_after is None else {self.vit.model: self._summarized_after}

    def stream_parts(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each stream's submodules: the model, and the modules attached to it."""
        sits_on = dict(cnn='cbam', vit='token_learner')
        return {
            name: tuple(part for part in (name, sits_on[name]) if getattr(self, part) is not None)
            for name in self.stream_names
        }

    def get_layer_depth(self, param_name: str, prefix: str = 'backbone.') -> tuple[int, int]:
        """Return (depth, number of depths) of a parameter within its own stream, for layer-wise learning rates.

        It is what mmpretrain's and our constructors of parameter groups ask for: they scale a learning rate by
        ``rate ** (number - depth - 1)``.

        Args:
            param_name (str): Full name of the parameter.
            prefix (str): What stands before this backbone's own names. Defaults to ``'backbone.'``.

        Returns:
            tuple[int, int]: 0 is the stem. What follows the streams (neck, head), and what is new on them (CBAM,
            TokenLearner), is at the last depth.

        Raises:
            ValueError: If a stream does not tell the order, or has no such parameter.
        """
        for stream_name, parts in self.stream_parts().items():
            stream = getattr(self, stream_name)
            if param_name.startswith(f'{prefix}{stream_name}.'):
                return stream.get_layer_depth(param_name, f'{prefix}{stream_name}.')
            if any(param_name.startswith(f'{prefix}{part}.') for part in parts):
                return self._after(stream)
        if param_name.startswith(prefix) and prefix:
            raise ValueError(f'HybridBackbone: it has no parameter {param_name!r}.')
        return max(self._after(stream) for stream in self._streams())

    @staticmethod
    def _after(stream: Any) -> tuple[int, int]:
        """Return the last depth of a stream."""
        first = next(name for name, _ in stream.named_parameters())
        count = stream.get_layer_depth(first, '')[1]
        return count - 1, count

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the features of the streams, the CNN's first."""
        if self._check_next_images and not compiler.is_compiling():
            self._check_next_images = False  # one look costs a wait for the device; every step would be too many
            check_unit_range('HybridBackbone', *range_of(x))
        return tuple(feature for name in self.stream_names for feature in self.stream_features(name, x))

    def stream_features(self, name: str, x: Tensor) -> tuple[Tensor, ...]:
        """Return the features of one stream, in the same form as in :meth:`forward`.

        Args:
            name (str): One of ``stream_names``.
            x (Tensor): As for :meth:`forward`.
        """
        feature = self.cnn(x, self.cbam) if name == 'cnn' else self.vit(x)
        if name == 'vit' and self.token_learner is not None and self._summarized_after is None:
            feature = self.token_learner(feature)
        return tuple(pool_feature(one) if self.pooled else one for one in _as_tuple(feature))


def _as_tuple(feature: Union[Tensor, tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return feature if isinstance(feature, tuple) else (feature,)


def _check_streams(streams: dict[str, Any]) -> None:
    """Raise unless there is at least one stream, and each is a dict."""
    if not streams:
        raise ValueError(
            'HybridBackbone: neither cnn nor vit is given. Name at least one stream, for example '
            "cnn=dict(model_name='convnextv2_tiny'), or set model_name='...' at the top level of the config."
        )
    for name, stream in streams.items():
        if not isinstance(stream, dict):
            raise TypeError(
                f"HybridBackbone: expected {name}=dict(model_name='...'), got {name}={stream!r} "
                f'({type(stream).__name__}).'
            )


def _check_img_size(img_size: Union[int, Sequence[int], None]) -> Union[int, tuple[int, int], None]:
    sizes = [] if img_size is None else [img_size] if isinstance(img_size, int) else list(img_size)
    if img_size is not None and len(sizes) not in (1, 2):
        raise ValueError(f'HybridBackbone: img_size={img_size} is neither one number nor (height, width).')
    for size in sizes:
        check_number('HybridBackbone', 'img_size', size, 1, integer=True)
    return None if not sizes else sizes[0] if len(sizes) == 1 else (sizes[0], sizes[1])
