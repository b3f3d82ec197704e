"""One stream of a hybrid backbone: a timm model without its classifier."""

from collections.abc import Callable, Sequence
from typing import Any, Optional, Union

from timm.models import group_parameters
from torch import Tensor

from hybridcls.checks import check_number
from hybridcls.compat.timm import layer_depths
from hybridcls.old_modules import answer_old_names
from hybridcls.registry import MODELS

from ..building.shape_probe import channels_of, probe_output
from .stream import OnMap, Stream
from .timm_model import create_timm_model, fixed_size, map_indices, patch_size


@MODELS.register_module()
class TimmStream(Stream):
    """A timm model that returns a feature map, patch tokens or its pooled vector.

    Args:
        model_name (str): Any name of ``timm.list_models()``, old names included.
        output (str): ``'map'``: the last ``(B, C, h, w)`` map, with the final norm of the model (ConvNeXt's head norm
            is applied at each position, before any pooling; timm applies it after its own); ``'tokens'``: the
            normalised patch tokens, without class or register tokens; ``'vector'``: exactly what timm's model gives
            with ``num_classes=0``. Defaults to ``'vector'``.
        pretrained (bool): Load timm's weights (needs a network or a filled cache). Defaults to False.
        checkpoint_path (str): Load weights from this file instead: ``.pth`` or ``.safetensors``, a state dict or a
            dict with one; its classifier is dropped and position tables are resized.
        drop_path_rate (float, optional): Stochastic depth, in [0, 1). Defaults to None: ``default_drop_path_rate``,
            where the model has stochastic depth.
        img_size (int | tuple[int, int], optional): Size (h, w) of the images. Models of a fixed size (Swin, ViT) are
            built for it; others take any. Defaults to None, the size of timm's ``pretrained_cfg``.
        out_indices (int | Sequence[int], optional): With ``output='map'`` return several maps, of different strides, as
            a tuple: those that timm's ``features_only=True`` gives for the same numbers (0 is the first; negative ones
            count from the end), without a final norm. What comes after the last of them is taken off. ResNets,
            EfficientNets and MobileNets have maps 0 to 4 of strides 2, 4, 8, 16, 32; ConvNeXt and Swin 0 to 3 of
            strides 4, 8, 16, 32; plain transformers one a block, all of the stride of a patch. Defaults to None: the
            last map alone.
        frozen_stages (int): -1: nothing is frozen; 0: the stem; n: the stem and the first n stages of a CNN or Swin,
            or the first n blocks of a plain ViT. Frozen parts stay in eval mode. Defaults to -1.
        with_cp (bool): Activation checkpointing: less memory, one more forward pass. Defaults to False.
        mean (Sequence[float], optional): Mean of RGB in [0, 1]. Defaults to None, that of ``pretrained_cfg``.
        std (Sequence[float], optional): Standard deviation, the same.
        default_drop_path_rate (float): That of a stream that does not set its own. Defaults to 0.
        **timm_args: Any other argument of the timm model (``depths``, ``window_size``, ``in_chans``, ...).

    Attributes: those of :class:`Stream`, and
        strides (tuple[int, ...]): Those of the maps of ``out_indices``, nominal; empty without.
        has_weights (bool): It was given weights: timm's, or those of a file.

    Shape:
        - x: float ``(B, 3, H, W)``, RGB in [0, 1]; normalised here.
        - returns: ``(B, C, h, w)``, ``(B, N, C)`` or ``(B, C)``; with ``out_indices`` a tuple of ``(B, C, h, w)``.

    Raises:
        ValueError: For an unknown model or an impossible size, or weights that do not fit.
        TypeError: If the timm model does not take an argument.
        FileNotFoundError: If the weights are neither here nor to be had from the network.

    Example:
        >>> import torch
        >>> stream = TimmStream('test_resnet', output='map')
        >>> stream(torch.rand(2, 3, 64, 64)).shape, stream.out_channels
        (torch.Size([2, 96, 2, 2]), 96)
    """

    def __init__(
        self,
        model_name: str,
        output: str = 'vector',
        pretrained: bool = False,
        checkpoint_path: str = '',
        drop_path_rate: Optional[float] = None,
        img_size: Union[int, Sequence[int], None] = None,
        frozen_stages: int = -1,
        with_cp: bool = False,
        mean: Optional[Sequence[float]] = None,
        std: Optional[Sequence[float]] = None,
        default_drop_path_rate: float = 0.0,
        out_indices: Union[int, Sequence[int], None] = None,
        **timm_args: Any,
    ) -> None:
        super().__init__(output)
        if drop_path_rate is not None:
            check_number('TimmStream', 'drop_path_rate', drop_path_rate, 0, 1, high_open=True)
        check_number('TimmStream', 'frozen_stages', frozen_stages, -1, integer=True)
        if not isinstance(pretrained, bool):
            raise TypeError(
                f'TimmStream: pretrained={pretrained!r} must be True or False; for a file of your own use '
                'checkpoint_path=...'
            )
        if out_indices is not None and output != 'map':
            raise ValueError(
                f"TimmStream: out_indices gives maps, and output={output!r}. Set output='map', or drop one."
            )
        self.model_name = model_name
        self.frozen_stages = frozen_stages
        self._frozen_modules: set[str] = set()  # names: SyncBatchNorm puts new modules in the place of old ones
        self._depths: tuple[dict[str, int], int] = ({}, 0)
        self.model = create_timm_model(
            model_name,
            pretrained,
            checkpoint_path,
            drop_path_rate,
            img_size,
            timm_args,
            default_drop_path_rate,
            out_indices,
        )
        self.out_indices: Optional[tuple[int, ...]] = None
        self.strides: tuple[int, ...] = ()
        if out_indices is not None:
            self.out_indices = map_indices('TimmStream', self.model, model_name, out_indices)
            self.strides = tuple(self.model.feature_info[index]['reduction'] for index in self.out_indices)
        self.has_weights = bool(pretrained or checkpoint_path)
        self.img_size = fixed_size(self.model)
        if output != 'vector' and out_indices is None:
            # Take off what only pooling uses, so that no parameter is left without a gradient.
            self.model.reset_classifier(0, '')
        config = self.model.pretrained_cfg
        self._normalize_by(mean, std, config['mean'], config['std'])
        self.out_channels = self._find_channels(img_size)
        if with_cp:
            self._checkpoint_activations()
        if frozen_stages >= 0:
            self._freeze()

    def _model_name(self) -> str:
        return self.model_name

    def _find_channels(self, img_size: Union[int, Sequence[int], None]) -> Union[int, tuple[int, ...]]:
        """Run the model on the shape of an image, to find its channels and to reject an impossible size early."""
        size = img_size or self.img_size or self.model.pretrained_cfg['input_size'][1:]
        height, width = self._probed_size = (size, size) if isinstance(size, int) else tuple(size)
        patch = patch_size(self.model)
        if patch is not None and self.img_size is not None and (height % patch[0] or width % patch[1]):
            down, up = height // patch[0] * patch[0], -(-height // patch[0]) * patch[0]
            raise ValueError(
                f'TimmStream: {self.model_name} cuts images into patches of {patch[0]} x {patch[1]}, '
                f'which do not divide img_size={height} x {width}: the border would be lost. Use {down} '
                f'or {up}.'
            )
        try:
            feature = probe_output(self, height, width, channels=len(self.mean))
            if self.output == 'tokens':
                self._grid_of(feature.shape[1], height, width)  # that no class token is among them
            return channels_of(feature) if self.out_indices is None else tuple(map(channels_of, feature))
        except (AssertionError, RuntimeError) as error:
            raise ValueError(
                f'TimmStream: {self.model_name} cannot take images of {height} x {width} ({error}). '
                'Choose an img_size that its strides and windows divide.'
            ) from error

    def _checkpoint_activations(self) -> None:
        try:
            self.model.set_grad_checkpointing(True)
        except (AssertionError, AttributeError) as error:
            raise ValueError(
                f'TimmStream: with_cp=True, and {self.model_name} has no activation checkpointing in '
                'timm. Set with_cp=False for this stream.'
            ) from error

    def _grid_of(self, num_tokens: int, height: int, width: int) -> tuple[int, int]:
        """Return the grid (h, w) of so many patch tokens of an image."""
        stride = round((height * width / num_tokens) ** 0.5)  # of models in stages
        for step in (patch_size(self.model) or (stride, stride), (stride, stride)):
            down = (height // step[0], width // step[1])
            up = (-(-height // step[0]), -(-width // step[1]))  # models that pad the border
            for grid in (down, up):
                if grid[0] * grid[1] == num_tokens:
                    return grid
        raise ValueError(
            f'TimmStream: output={self.output!r}, and the {num_tokens} tokens of {self.model_name} for '
            f"{height} x {width} images form no grid. Use output='vector' with this model."
        )

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return (depth, number of depths) of a parameter, in timm's order; see :meth:`Stream.get_layer_depth`."""
        name = param_name.removeprefix(f'{prefix}model.')
        if name not in self._depths[0]:  # asked for the first time, or layers (LoRA) were added since
            self._depths = layer_depths(self.model)
        depths, count = self._depths
        if not param_name.startswith(f'{prefix}model.') or name not in depths:
            raise ValueError(f'TimmStream: {self.model_name} has no parameter {param_name!r}.')
        return depths[name], count

    def _freeze(self) -> None:
        if not hasattr(self.model, 'group_matcher'):
            raise ValueError(
                f'TimmStream: timm does not say in which order the parameters of {self.model_name} come '
                '(it has no group_matcher), so frozen_stages cannot be used with it.'
            )
        groups = list(group_parameters(self.model, self.model.group_matcher(coarse=True)).values())
        stages = len(groups) - 1
        if self.frozen_stages > stages:
            raise ValueError(
                f'TimmStream: frozen_stages={self.frozen_stages}, and {self.model_name} has {stages} '
                'stages after its stem.'
            )
        frozen = {name for names in groups[: self.frozen_stages + 1] for name in names}
        for name, param in self.model.named_parameters():
            if name in frozen:
                param.requires_grad_(False)
        for name, module in self.model.named_modules():
            params = list(module.parameters())
            if params and not any(p.requires_grad for p in params):
                self._frozen_modules.add(name)

    def train(self, mode: bool = True) -> 'TimmStream':
        """Set the mode; frozen parts stay in eval mode (running statistics, stochastic depth)."""
        super().train(mode)
        for name, module in self.model.named_modules():
            if name in self._frozen_modules:
                module.eval()
        return self

    def forward(self, x: Tensor, on_map: OnMap = None) -> Union[Tensor, tuple[Tensor, ...]]:
        """Normalize the images and return the feature; ``on_map`` changes the last map before pooling."""
        if self.img_size is not None and tuple(x.shape[-2:]) != self.img_size:
            expected, got = ' x '.join(map(str, self.img_size)), ' x '.join(map(str, x.shape[-2:]))
            raise ValueError(
                f'TimmStream: {self.model_name} expected images of {expected}, got {got}. Set img_size '
                'at the top level of the config, which reaches the pipeline and the streams.'
            )
        x = self.normalized(x)
        if self.output == 'vector':
            return self.model(x) if on_map is None else self._vector_after(on_map, x)
        if self.out_indices is not None:
            *maps, last = self.model.forward_intermediates(
                x, indices=list(self.out_indices), output_fmt='NCHW', intermediates_only=True
            )
            return (*maps, last if on_map is None else on_map(last))
        feature = self._feature(x)
        return feature if on_map is None else on_map(feature)

    def _vector_after(self, on_map: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Return the model's output with its last map changed, before its own norm and pooling."""
        feature = self.model.forward_features(x)
        if not isinstance(feature, Tensor) or feature.dim() != 4:
            raise ValueError(
                f'TimmStream: {self.model_name} pools no map, so CBAM has nothing to work on before it does. Drop '
                "use_cbam, or set output='map' for this stream: its tokens in their grid."
            )
        if getattr(self.model, 'output_fmt', 'NCHW') == 'NHWC':
            feature = on_map(feature.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        else:
            feature = on_map(feature)
        return self.model.forward_head(feature)

    def _feature(self, x: Tensor) -> Tensor:
        """Return the map or the tokens of normalized images."""
        feature = self.model.forward_features(x)
        if feature.dim() == 4:
            feature = self.model.forward_head(feature, pre_logits=True)  # the pooling is off: what is left is norms
            if getattr(self.model, 'output_fmt', 'NCHW') == 'NHWC':
                feature = feature.permute(0, 3, 1, 2)
            return feature if self.output == 'map' else feature.flatten(2).transpose(1, 2)
        prefix = getattr(self.model, 'num_prefix_tokens', 0)
        if hasattr(self.model, 'fc_norm'):
            # Models that pool by averaging norm after it; here tokens are normalised one by one instead.
            feature = self.model.fc_norm(feature)
        elif not prefix:
            feature = self.model.forward_head(feature, pre_logits=True)  # the same, where the norm is in the head
        tokens = feature[:, prefix:]
        if self.output == 'tokens':
            return tokens
        return tokens.transpose(1, 2).unflatten(2, self._grid_of(tokens.shape[1], *x.shape[-2:]))


answer_old_names(globals())
