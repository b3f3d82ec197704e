"""A trained classifier as a teacher: frozen, in eval mode, with images preprocessed as in its training."""

import weakref
from collections.abc import Callable
from typing import Any, Optional, Union

import torch
import torch.nn.functional as F
from mmpretrain.models.classifiers import BaseClassifier
from torch import Tensor, nn

from hybridcls.functional.full_precision import at_least_float32, outside_autocast
from hybridcls.functional.tokens.feature_pooling import pool_feature

from ..building.shape_probe import probe_output

__all__ = ['Teacher']


class Teacher:
    """A frozen classifier that returns logits and embeddings of a student's images, RGB in [0, 1].

    It is no ``nn.Module``, so a student that holds one has nothing of it among its parameters, buffers, checkpoints or
    DDP buckets, and ``student.train()`` does not reach it. A copy of the student (EMA) shares it.

    Images are normalized as it was trained: our classifiers do it inside, mmpretrain's by the mean, standard deviation
    and channel order of their data preprocessor, timm's by their ``pretrained_cfg``. Images of another size than its
    own are resized (bicubic, antialiased).

    Args:
        model (nn.Module): A ``HybridClassifier``, mmpretrain's ``ImageClassifier`` (any ``BaseClassifier`` with
            ``extract_feat``, ``head`` and ``data_preprocessor``; one that has ``gives_logits = False`` is refused, and
            ``img_size`` is the only size it takes), or a timm model with its classifier. It is frozen and set to eval
            mode here.
        img_size (int | tuple[int, int], optional): Size (h, w) that it sees. Defaults to None: the only size it
            takes, if that is so, else that of the student's images.
        compile (bool | dict): Whether to compile it, or arguments of ``torch.compile``. Defaults to False.
        needs_logits (bool): False takes a model whose head gives none, too, and its logits are None then. Defaults to
            True.

    Raises:
        TypeError: If it is none of these.
    """

    def __init__(
        self,
        model: nn.Module,
        img_size: Union[int, tuple[int, int], None] = None,
        compile: Union[bool, dict] = False,
        needs_logits: bool = True,
    ) -> None:
        self.model = _TeacherNetwork(model.requires_grad_(False).eval(), needs_logits)
        self.img_size = (img_size, img_size) if isinstance(img_size, int) else img_size or self.model.only_size
        self._answer: Callable = (
            torch.compile(self.model, **(compile if isinstance(compile, dict) else {})) if compile else self.model
        )
        self._seen: Optional[weakref.ref] = None
        self._answers: Optional[tuple[Any, Tensor]] = None

    def __deepcopy__(self, memo: dict) -> 'Teacher':
        return self

    @property
    def num_classes(self) -> Optional[int]:
        """The number of classes C, if the model defines it."""
        return self.model.num_classes

    def embedding_width(self, height: int, width: int) -> int:
        """Return the width D of its embeddings, without computing any."""
        height, width = self.img_size or (height, width)
        return int(probe_output(self.model, height, width)[1].shape[1])

    def __call__(self, images: Tensor) -> tuple[Any, Tensor]:
        """Return logits ``(N, C)`` (for margin heads, scaled cosines without margin) and embeddings ``(N, D)``.

        The answers for the batch that was seen last are kept: a second pass over the *same tensor* (SAM's) costs
        nothing.

        Args:
            images (Tensor): RGB in [0, 1], ``(N, 3, H, W)``.
        """
        if self._seen is None or self._seen() is not images or self._answers is None:
            self._move(images.device)
            with torch.inference_mode():
                resized = images
                if self.img_size is not None and tuple(images.shape[-2:]) != tuple(self.img_size):
                    resized = F.interpolate(images, self.img_size, mode='bicubic', antialias=True).clamp(0, 1)
                logits, embedding = self._answer(resized)
            # Copies made outside of inference mode are ordinary tensors, which autograd may keep.
            self._answers = logits if logits is None else logits.clone(), embedding.clone()
            self._seen = weakref.ref(images)
        return self._answers

    def classify(self, embedding: Tensor) -> Tensor:
        """Return its head's logits ``(N, C)`` for embeddings ``(N, D)`` of another model, which get gradients."""
        self._move(embedding.device)
        with outside_autocast(embedding):
            return self.model.network.head((at_least_float32(embedding),))

    def _move(self, device: torch.device) -> None:
        if next(self.model.parameters()).device != device:
            self.model.to(device)


class _TeacherNetwork(nn.Module):
    """A network from RGB in [0, 1] to (logits, embedding)."""

    network: Any
    mean: Tensor  # a timm model's
    std: Tensor

    def __init__(self, model: nn.Module, needs_logits: bool = True) -> None:
        super().__init__()
        self.network = model
        self.gives_logits = getattr(model, 'gives_logits', True)
        self._needs_logits = needs_logits
        self.only_size: Optional[tuple[int, int]] = None
        self._forward = self._kind_of(model)
        head = getattr(model, 'head', None)
        self.num_classes: Optional[int] = getattr(model, 'num_classes', None) or getattr(head, 'num_classes', None)

    def _kind_of(self, model: Any) -> Callable[[Tensor], tuple[Any, Tensor]]:
        head = getattr(model, 'head', None)
        if isinstance(model, BaseClassifier) and hasattr(model, 'head'):
            if self._needs_logits and not self.gives_logits:
                raise TypeError(
                    f'Teacher: expected a classifier whose head has classes, got the head {type(head).__name__}, which '
                    'gives no logits. Set model.head to one with num_classes.'
                )
            size = getattr(model, 'img_size', None)
            self.only_size = (size, size) if isinstance(size, int) else size
            return self._with_preprocessor
        if hasattr(model, 'pretrained_cfg') and hasattr(model, 'forward_head'):
            for name in ('mean', 'std'):
                value = torch.tensor(model.pretrained_cfg[name])[:, None, None]
                self.register_buffer(name, value, persistent=False)
            embed: Any = getattr(model, 'patch_embed', None)
            if getattr(embed, 'strict_img_size', False):
                self.only_size = tuple(embed.img_size)
            return self._timms
        raise TypeError(
            f'Teacher: expected a HybridClassifier, an ImageClassifier of mmpretrain or a timm model, got '
            f'{type(model).__name__}.'
        )

    def forward(self, images: Tensor) -> tuple[Any, Tensor]:
        return self._forward(images)

    def _with_preprocessor(self, images: Tensor) -> tuple[Any, Tensor]:
        features = self.network.extract_feat(self._preprocessed(images))
        return self.network.head(features) if self.gives_logits else None, _embedding_of(features)

    def _preprocessed(self, images: Tensor) -> Tensor:
        """Preprocess the images as the network's own data preprocessor would."""
        preprocessor = self.network.data_preprocessor
        if getattr(preprocessor, 'gives_unit_range', False):
            return images
        images = images * 255
        if not preprocessor.to_rgb:  # it was trained on what mmcv reads: blue first
            images = images.flip(1)
        mean = getattr(preprocessor, 'mean', None)
        return images if mean is None else (images - mean) / preprocessor.std

    def _timms(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.network.forward_features((images - self.mean) / self.std)
        return self.network.forward_head(features), self.network.forward_head(features, pre_logits=True)


def _embedding_of(features: Any) -> Tensor:
    feature = features if isinstance(features, Tensor) else features[-1]
    if isinstance(feature, (tuple, list)):  # mmpretrain's vision transformers: (patch tokens, class token)
        feature = feature[-1]
    return pool_feature(feature)
