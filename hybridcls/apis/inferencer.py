"""Predict images with a trained model, as a test does."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmpretrain.apis import BaseInferencer

from hybridcls.checks import check_choice, check_number
from hybridcls.compat.mmpretrain import note_config
from hybridcls.datasets.dataset_parts import loaders_of, version_of
from hybridcls.datasets.transforms.decoding import ImageDepthError
from hybridcls.datasets.transforms.load_image import UnreadableImageError
from hybridcls.engine.checkpoints.calibration_file import FoundCalibration, find_calibration
from hybridcls.functional.full_precision import tf32_convolutions, tf32_products
from hybridcls.models.classifiers.calibrated_predictions import attach_calibration
from hybridcls.models.classifiers.stream_skipping import skip_streams
from hybridcls.models.heads.head import is_multi_label, label_thresholds
from hybridcls.processor import cpu_flags

from .accuracy_report import AccuracyReport
from .answer import Answer, answers_of, checked_embedding
from .compile_plan import CompilePlan, fast_settings
from .image_inputs import ImageInputs, Item, is_one_image, read_inputs
from .inference_settings import InferenceSettings
from .mapped_ahead import mapped_ahead
from .multi_label_report import MultiLabelReport
from .prepared_network import PreparedNetwork
from .trained_model import Source, class_names_of, read_trained_model

__all__ = ['Answers', 'HybridInferencer', 'Unreadable', 'load']

_MOST_WORKERS = 8
_BATCHES_AHEAD = 2
_ONE_SIZE = (
    'a compiled stream takes batches of one size, but the number of images that need both streams varies. Leave out '
    'one of the two.'
)
ON_UNREADABLE = ('error', 'skip')


class Unreadable(NamedTuple):
    """An image that could not be read: its path (None in memory), and why."""

    path: Optional[str]
    reason: str


class HybridInferencer(BaseInferencer):
    """A trained model that predicts images.

    The scores are those of ``hybridcls test``: the same pipeline, batches, preprocessing version, precision and model,
    so they are equal to the bit with the same batch size, device and number of threads, and within 1e-5 otherwise.

    Args:
        checkpoint: A checkpoint or a work dir; several, as an ensemble; a folder of saved LoRA adapters; or the config
            of an ensemble. See :func:`~hybridcls.apis.trained_model.read_trained_model`.
        device (str | torch.device): ``'auto'``: a GPU if there is one. Defaults to ``'auto'``.
        config (str | Path, optional): The config for a checkpoint that holds none. Defaults to None.
        amp (bool, optional): Mixed precision, as ``hybridcls test --amp``. Defaults to None: as ``test_cfg.fp16`` says.
        calibration (str | Path | bool, optional): A file of ``hybridcls calibrate``; False: none. Defaults to None:
            that beside the checkpoint, if there is one.
        skip_sure (bool): Of a model of two streams, do not compute one for images whose answer is sure without it, as
            ``hybridcls calibrate --skip-sure`` has found out. Defaults to False.
        fast (bool): Compile the streams and compute in bfloat16, once the images of a call pay for it
            (:class:`~hybridcls.apis.compile_plan.CompilePlan`), on a CPU or GPU that multiplies bfloat16; elsewhere
            nothing changes. Answers may then differ by what bfloat16 rounds. Defaults to False: as the key
            ``inference`` of the config says.
        tell (Callable, optional): Takes a sentence about what was decided. Defaults to None: the log.

    Attributes:
        classes (tuple[str, ...]): The names of the classes; numbers where no names are known; empty if the head has no
            classes (SupCon).
        why (str): A sentence: which checkpoint this is, and why it was chosen.
        checkpoint_path (str): Its path.
        calibration (FoundCalibration, optional): What calibrates its probabilities, and where that stands.
        batch_size (int): That of a test.
        wanted_settings (InferenceSettings): How it computes, or will where compiling pays.

    Example::

        model = hybridcls.load('work_dirs/full')
        for answer in model('photos/'):
            print(answer.path, answer.class_name, answer.probability)
        model.predict('photos/cat.jpg').top          # one image, one answer
        model.embed(['a.jpg', 'b.jpg'])              # (2, D)
    """

    _visualizer: Any

    def __init__(
        self,
        checkpoint: Source,
        device: Union[str, torch.device] = 'auto',
        config: Union[str, Path, None] = None,
        amp: Optional[bool] = None,
        calibration: Union[str, Path, bool, None] = None,
        skip_sure: bool = False,
        fast: bool = False,
        tell: Optional[Callable[[str], Any]] = None,
    ) -> None:
        if fast and skip_sure:
            raise ValueError(f'predict: expected fast or skip_sure, got both: {_ONE_SIZE}')
        trained = read_trained_model(checkpoint, config)
        self.calibration: Optional[FoundCalibration] = find_calibration(trained.found.path, calibration)
        self._trained, self._visualizer = trained, None
        note_config(trained.model, trained.cfg)
        chosen = get_device() if str(device) == 'auto' else device
        super().__init__(trained.model, pretrained=False, device=_checked(chosen))
        self.device = torch.device(chosen)
        self.amp = bool((trained.cfg.get('test_cfg') or {}).get('fp16')) if amp is None else amp
        self.batch_size = trained.batch_size
        self.checkpoint_path, self.why = trained.found
        self.class_names = trained.classes
        self.classes = class_names_of(trained)
        if skip_sure:
            skip_streams(self.model, self.calibration.calibration if self.calibration is not None else None)
        self._tell = tell or (lambda text: print_log(text, 'current'))
        self.network = PreparedNetwork(self.model, trained.collate)
        first, self.wanted_settings = self._settings(fast)
        if self.calibration is not None:
            ratio = self.wanted_settings.token_merging_ratio
            attach_calibration(self.model, self.calibration.calibration, self.preprocessing_version, ratio)
        if skip_sure and self.wanted_settings.compile:
            raise ValueError(f'predict: expected compile=False in the key inference beside skip_sure: {_ONE_SIZE}')
        self.network.use(first.uncompiled)
        folders = self.class_names.folders if self.class_names is not None else ()
        self._class_of = {**dict(zip(folders, self.classes, strict=False)), **{name: name for name in self.classes}}

    def _settings(self, fast: bool) -> tuple[InferenceSettings, InferenceSettings]:
        """Return the initial settings and those after compiling; log why faster ones are not available."""
        written = InferenceSettings.of_config(self._trained.cfg)
        if not fast:
            return written, written
        found, why = fast_settings(self.device, cpu_flags())
        if found is None:
            self._tell(f'fast: no change, still {written.name}: {why}.')
            return written, written
        wanted = replace(written, **found.as_key())
        # What is calibrated for the fast settings is computed by them from the first batch on.
        is_made_for = self.calibration is not None and self.calibration.calibration.precision == wanted.precision
        return wanted if is_made_for else written, wanted

    def _init_pipeline(self, cfg: Any) -> Any:
        return self._trained.pipeline

    @property
    def preprocessing_version(self) -> int:
        """The preprocessing version that images are read with."""
        return version_of(loaders_of(self.pipeline))

    @property
    def skips(self) -> bool:
        """Whether a stream is skipped for images that the other one predicts with confidence."""
        return getattr(self.model, 'skipping', None) is not None

    @property
    def compatible_with(self) -> list[dict[str, Any]]:
        """The old models whose index its embeddings can search: ``digest``, ``checkpoint`` and ``width`` of each."""
        return self._trained.compatible_with

    @property
    def head_name(self) -> str:
        """The class of the head, for messages."""
        return type(getattr(self.model, 'head', self.model)).__name__

    def __call__(  # type: ignore[override]
        self,
        inputs: Any,
        batch_size: Optional[int] = None,
        workers: Optional[int] = None,
        top_k: int = 5,
        embeddings: bool = False,
        on_unreadable: str = 'error',
        skip: int = 0,
        show_dir: Optional[str] = None,
    ) -> 'Answers':
        """Predict images in order, lazily.

        Args:
            inputs: A path, folder, pattern, table, image, list or iterable of them; see
                :func:`~hybridcls.apis.image_inputs.read_inputs`. Arrays and tensors are RGB.
            batch_size (int, optional): Images at once. Defaults to None: as in a test.
            workers (int, optional): Threads that read images ahead; 0: none. Defaults to None: as many as processors,
                8 at most.
            top_k (int): Number of classes in ``answer.top``. Defaults to 5.
            embeddings (bool): Whether answers have the ``embedding``. Defaults to False.
            on_unreadable (str): ``'error'``: an image that cannot be read raises. ``'skip'``: it has no answer, and
                is in ``unreadable`` of what is returned. The other images of its batch stay in that batch. Defaults to
                ``'error'``.
            skip (int): Leave out so many images at the beginning, a multiple of the batch size. Defaults to 0.
            show_dir (str, optional): Write what the model sees of each image, with its answer, to this folder. Defaults
                to None.

        Returns:
            Answers: An iterator over :class:`~hybridcls.apis.answer.Answer`.

        Raises:
            FileNotFoundError: If there is no image.
            UnreadableImageError: While iterating, if an image cannot be read.
        """
        batch_size = self.batch_size if batch_size is None else batch_size
        check_number('predict', 'batch_size', batch_size, 1, integer=True)
        check_number('predict', 'top_k', top_k, 1, integer=True)
        check_choice('predict', 'on_unreadable', on_unreadable, ON_UNREADABLE)
        if embeddings and self.skips:
            raise ValueError(
                'predict: embeddings need both streams, but skip_sure skips one. Leave embeddings or skip_sure out.'
            )
        found = inputs if isinstance(inputs, ImageInputs) else read_inputs(inputs)
        if workers is None:
            workers = 0 if found.total == 1 else min(_MOST_WORKERS, os.cpu_count() or 1)
        check_number('predict', 'workers', workers, 0, integer=True)
        return Answers(self, found, batch_size, workers, top_k, embeddings, on_unreadable, skip, show_dir)

    def predict(self, inputs: Any, **options: Any) -> Union[Answer, list[Answer]]:
        """Return the prediction for one image, or the list of predictions for a folder, pattern, table or list.

        Args:
            inputs: As for a call.
            **options: As for a call.
        """
        answers = list(self(inputs, **options))
        return answers[0] if len(answers) == 1 and is_one_image(inputs) else answers

    def embed(self, inputs: Any, **options: Any) -> np.ndarray:
        """Return the embeddings of all images, ``(N, D)`` float32, not normalized.

        Raises:
            ValueError: If the head writes none.
        """
        answers = self(inputs, embeddings=True, **options)
        return np.stack([checked_embedding('embed', answer, self.head_name) for answer in answers])

    def preprocess(self, inputs: Iterable[Item], batch_size: int = 1, workers: int = 0) -> Iterator[tuple[list, list]]:
        """Yield batches: pairs of an item with its packed sample, and pairs of an item with its error."""
        read = mapped_ahead(self._read, inputs, workers, _BATCHES_AHEAD * batch_size)
        try:
            while chunk := list(itertools.islice(read, batch_size)):
                yield (
                    [(item, sample) for item, sample, error in chunk if error is None],
                    [(item, error) for item, _, error in chunk if error is not None],
                )
        finally:
            read.close()

    def _read(self, item: Item) -> Any:
        return self.pipeline(item.as_sample())

    @torch.no_grad()
    def forward(self, inputs: Sequence[Any], plan: Optional[CompilePlan] = None, **kwargs: Any) -> list[Any]:
        """Predict a batch of packed samples, as a test does; a plan may decide to compile."""
        with torch.autocast(self.device.type, enabled=self.amp), self._convolutions():
            return (plan or self.network.predict)(inputs)

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Compute in the block with the precision of predictions: that of ``amp`` and the key ``inference``."""
        with torch.autocast(self.device.type, enabled=self.amp), self.network.precision(), self._convolutions():
            yield

    def plan(self, batch_size: int, left: Optional[int]) -> Optional[CompilePlan]:
        """Return the plan that decides when to compile for so many images (None: unknown); None without compilation."""
        if not self.wanted_settings.compile:
            return None
        made_for = None if self.calibration is None else self.calibration.calibration.precision
        caution = ''
        if made_for not in (None, self.wanted_settings.precision):
            caution = (
                f'fast: the calibration was made in {made_for}. In {self.wanted_settings.precision}, its '
                'probabilities may be slightly off, and its thresholds guarantee nothing.'
            )
        return CompilePlan(self.network, self.wanted_settings, batch_size, left, self._tell, caution)

    @contextmanager
    def uncompiled(self) -> Iterator[None]:
        """Run the block without compiled code, for hooks.

        A compiled batch may be filled up, or answered twice; and each hook and gradient would compile again.
        """
        wanted = self.wanted_settings
        if wanted.compile:
            self.wanted_settings = wanted.uncompiled
            self.network.use(self.network.settings.uncompiled)
        try:
            yield
        finally:
            self.wanted_settings = wanted

    def batch_of(self, inputs: Sequence[Any]) -> dict[str, Any]:
        """Return the inputs of the model, ``inputs`` (B, 3, H, W) and ``data_samples``, for packed samples."""
        return self.model.data_preprocessor(self._trained.collate(inputs), False)

    def _convolutions(self) -> AbstractContextManager:
        """Select CUDA's algorithms in the block as a test does (``env_cfg.cudnn_benchmark`` and ``tf32``)."""
        if self.device.type != 'cuda':
            return nullcontext()
        wanted, now = self.config.get('env_cfg') or {}, torch.backends.cudnn
        tf32 = wanted.get('tf32')
        blocks = ExitStack()
        blocks.callback(setattr, now, 'benchmark', now.benchmark)
        now.benchmark = bool(wanted.get('cudnn_benchmark'))
        if tf32 is not None:
            blocks.enter_context(tf32_products(tf32, 'cuda'))
            blocks.enter_context(tf32_convolutions(tf32, 'cuda'))
        return blocks

    def visualize(  # type: ignore[override]
        self, inputs: Sequence[Any], preds: Sequence[Any], items: Sequence[Item], out_dir: str, first: int
    ) -> None:
        """Draw predictions onto images, and save them below ``out_dir`` under their relative paths or numbers."""
        from mmpretrain.visualization import UniversalVisualizer

        from hybridcls.engine.hooks.visualization_hook import picture_name
        from hybridcls.visualization.prediction_image import enlarge, fitting_text, to_rgb_image

        self._visualizer = self._visualizer or UniversalVisualizer()
        for number, (packed, sample, item) in enumerate(zip(inputs, preds, items, strict=True), first):
            seen = packed['inputs']
            image = enlarge(to_rgb_image(seen if isinstance(seen, torch.Tensor) else seen[0], is_bgr=True))
            name = str(number) if item.path is None else picture_name(item.path, os.getcwd())
            self._visualizer.visualize_cls(
                image=image,
                data_sample=sample,
                classes=self.classes,
                text_cfg=fitting_text(image.shape[1], sample, self.classes),
                out_file=os.path.join(out_dir, f'{name}.png'),
            )

    def postprocess(  # type: ignore[override]
        self, preds: Sequence[Any], items: Sequence[Item], top_k: int, embeddings: bool
    ) -> list[Answer]:
        """Convert predictions to answers."""
        labels = [self.class_of(item.label) for item in items]
        return answers_of(preds, items, self.classes, labels, top_k, embeddings)

    def class_of(self, label: Optional[str]) -> Optional[str]:
        """Return the class that a label or a folder name denotes; None if the model has no such class.

        With several labels an image (``a|b``): those that the model has a class for; ``''`` if it has none at all.
        """
        if label is None or not self.multi_label:
            return None if label is None else self._class_of.get(label)
        known = [self._class_of[name] for name in label.split('|') if name in self._class_of]
        return '|'.join(known) if known or not label else None

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several classes, or none."""
        return bool(self.classes) and is_multi_label(self._heads()[0])

    def label_thresholds(self) -> Optional[list[float]]:
        """Return the probability from which on each class is given, of several labels an image; else None.

        The mean over the members of an ensemble; None also for a head of mmpretrain's that gives the ``topk`` best.
        """
        found = [label_thresholds(head, len(self.classes)) for head in self._heads()]
        known = [one for one in found if one is not None]
        return np.mean(known, 0).tolist() if len(known) == len(found) else None

    def _heads(self) -> list[Any]:
        return [getattr(part, 'head', None) for part in getattr(self.model, 'members', [self.model])]


class Answers(Iterator[Answer]):
    """The predictions for a stream of images, computed batch by batch on iteration.

    Attributes:
        total (int, optional): Number of images, if that is known before.
        done (int): Number of images, read or not, of the batches that were computed.
        unreadable (list[Unreadable]): Images without an answer, so far.
        skipped (int): Answers for which a stream was not computed, so far.
        plan (CompilePlan, optional): What decides whether to compile, and says what it measured.
        accuracy (AccuracyReport | MultiLabelReport): Of the answers so far, where images have labels.
    """

    def __init__(
        self,
        model: HybridInferencer,
        inputs: ImageInputs,
        batch_size: int,
        workers: int,
        top_k: int,
        embeddings: bool,
        on_unreadable: str,
        skip: int,
        show_dir: Optional[str] = None,
    ) -> None:
        if show_dir is not None and not model.classes:
            raise ValueError(f'predict: show_dir shows classes, but the head ({model.head_name}) has none.')
        self._show_dir = show_dir
        self._model = model
        self._top_k, self._embeddings = top_k, embeddings
        self._on_unreadable = on_unreadable
        self.total = inputs.total
        self.done = skip
        self.unreadable: list[Unreadable] = []
        self.skipped = 0
        self.plan = model.plan(batch_size, None if inputs.total is None else inputs.total - skip)
        self.accuracy = (MultiLabelReport if model.multi_label else AccuracyReport)(model.classes)
        items = itertools.islice(inputs.items, skip, None)
        self._batches = self._computed(model.preprocess(items, batch_size, workers))
        self._ready: Iterator[Answer] = iter(())

    def __iter__(self) -> 'Answers':
        return self

    def __next__(self) -> Answer:
        while True:
            for answer in self._ready:
                return answer
            self._ready = iter(next(self._batches))

    def batches(self) -> Iterator[list[Answer]]:
        """Return an iterator over batches of answers, for writers; ``done`` is the position to resume from."""
        return self._batches

    def _computed(self, batches: Iterator[tuple[list, list]]) -> Iterator[list[Answer]]:
        for read, failed in batches:
            for item, error in failed:
                self._note(item, error)
            items = [item for item, _ in read]
            packed = [sample for _, sample in read]
            plan = () if self.plan is None else (self.plan,)
            if self.plan is not None:
                self.plan.leave_out(len(failed))
            samples = self._model.forward(packed, *plan) if packed else []
            answers = self._model.postprocess(samples, items, self._top_k, self._embeddings)
            for answer in answers:
                self.accuracy.add(answer)
                self.skipped += answer.streams is not None and len(answer.streams) == 1
            if self._show_dir is not None and read:
                self._model.visualize([sample for _, sample in read], samples, items, self._show_dir, self.done)
            self.done += len(read) + len(failed)
            yield answers

    @property
    def inference(self) -> dict[str, Any]:
        """The settings of the last batch, and the measured effect of compiling."""
        return dict(settings=self._model.network.settings.name) if self.plan is None else self.plan.facts

    def state(self) -> dict[str, Any]:
        """Return the counts for :meth:`restore`, in JSON's types."""
        unreadable = [list(one) for one in self.unreadable]
        return dict(unreadable=unreadable, skipped=self.skipped, accuracy=self.accuracy.state())

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the :meth:`state` of an interrupted run."""
        if state:
            self.unreadable = [Unreadable(*one) for one in state['unreadable']]
            self.skipped = state.get('skipped', 0)
            self.accuracy.restore(state['accuracy'])

    def _note(self, item: Item, error: BaseException) -> None:
        known = isinstance(error, (UnreadableImageError, ImageDepthError, OSError))
        if self._on_unreadable == 'error' or not known:
            raise error
        self.unreadable.append(Unreadable(item.path, getattr(error, 'reason', '') or str(error)))

    def __repr__(self) -> str:
        return f'<Answers: {self.done} of {"?" if self.total is None else self.total} images>'


def load(
    checkpoint: Source,
    device: Union[str, torch.device] = 'auto',
    config: Union[str, Path, None] = None,
    amp: Optional[bool] = None,
    calibration: Union[str, Path, bool, None] = None,
    skip_sure: bool = False,
    fast: bool = False,
) -> HybridInferencer:
    """Load a trained model from its checkpoint or work dir; see :class:`HybridInferencer`."""
    return HybridInferencer(checkpoint, device, config, amp, calibration, skip_sure, fast)


def _checked(device: Union[str, torch.device]) -> torch.device:
    """Return the device; raise an error in one sentence if it is not available."""
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device: expected 'auto', 'cpu', 'mps' or 'cuda:N' of this machine, got {str(device)!r} "
            f'({str(error).splitlines()[0]}).'
        ) from error
    return found
