"""The model behind a page: an artifact, run by its shipped runtime, or a checkpoint."""

import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from .shown_answer import Described

if TYPE_CHECKING:
    from ..answer import Answer
    from ..inferencer import HybridInferencer

__all__ = ['Artifact', 'AskedModel', 'Checkpoint', 'Said', 'is_artifact']

_RUNTIME = Path(__file__).resolve().parents[1] / 'artifact' / 'shipped' / 'runtime.py'
_FORMAT = 'hybridcls artifact'


class Said(NamedTuple):
    """The prediction for an image, with the image itself.

    Args:
        answer (dict): As the runtime of an artifact gives it, with all classes in ``top``.
        embedding (np.ndarray, optional): ``(D,)`` float32.
        read (np.ndarray, optional): The image as it was read, uint8 (H, W, 3) RGB.
        seen (np.ndarray, optional): The image as the network sees it, uint8 (h, w, 3) RGB.
    """

    answer: dict[str, Any]
    embedding: Optional[np.ndarray]
    read: Optional[np.ndarray]
    seen: Optional[np.ndarray]


class AskedModel:
    """Base of the models behind a page.

    Attributes:
        name (str): Its title.
        described (Described): Its classes, thresholds and calibration.
        about (dict): What an index of embeddings is compared with: ``digest`` of the weights and, if known, more.
        why (str): A sentence: which model it is.
    """

    name: str
    described: Described
    about: dict[str, Any]
    why: str

    def ask(self, content: bytes) -> Said:
        """Predict the image in the bytes of a file.

        Raises:
            ValueError, OSError: If it cannot be read.
        """
        raise NotImplementedError

    def read(self, path: str) -> np.ndarray:
        """Decode the image in the bytes of a file, uint8 (H, W, 3) RGB."""
        raise NotImplementedError


def is_artifact(path: Path) -> bool:
    """Return whether a folder was written by ``hybridcls export``."""
    try:
        sidecar = json.loads((path / 'model.json').read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(sidecar, Mapping) and sidecar.get('format') == _FORMAT


class Artifact(AskedModel):
    """An exported model; torch is not needed.

    Its own ``runtime.py`` is not run, which whoever made the artifact may have written: that of hybridcls reads it.

    Args:
        folder (Path): The artifact.
        trust (bool): Whether an archive of torch.export may be read, which may run code in it. Defaults to False.

    Raises:
        ValueError: If a file is missing or changed, or reading it might run code.
    """

    def __init__(self, folder: Path, trust: bool = False) -> None:
        runtime = _runtime()
        sidecar = runtime.read_sidecar(folder)
        if sidecar['model']['format'] == 'torch_export' and not trust:
            raise ValueError(
                f'demo: {folder} is an archive of torch.export, which may run code when it is read. If you trust who '
                'made it, add --trust-checkpoint: then it may run any command with your rights.'
            )
        self._model = runtime.Model(folder, check_files=False)
        self.name = folder.resolve().name
        self.described = Described(
            sidecar['classes'] or (), bool(sidecar.get('multi_label')), sidecar.get('class_thresholds'),
            sidecar.get('calibration'),
        )  # fmt: skip
        provenance = sidecar.get('provenance') or {}
        self.about = dict(digest=provenance.get('weights_sha256'), checkpoint=str(folder))
        self.why = f'Artifact {folder}, of {provenance.get("checkpoint", "an unknown checkpoint")}.'

    def ask(self, content: bytes) -> Said:
        """Predict the image in the bytes of a file."""
        image = self._model.read(content)
        seen = self._model.prepare(image)
        outputs = self._model.run(seen[None])
        answer = self._model.decide(outputs, top_k=max(1, len(self.described.classes)))[0]
        embedding = outputs.get('embedding')
        return Said(answer, None if embedding is None else embedding[0], image, seen)

    def read(self, path: str) -> np.ndarray:
        """Decode the image in the bytes of a file, uint8 (H, W, 3) RGB."""
        return self._model.read(path)


class Checkpoint(AskedModel):
    """A checkpoint, or several as an ensemble, which predicts as ``hybridcls predict`` does."""

    def __init__(self, model: 'HybridInferencer') -> None:
        from ..embedding_index import about_model

        self._model = model
        path = Path(model.checkpoint_path)
        self.name = f'{path.resolve().parent.name}/{path.name}'
        found = model.calibration
        self.described = Described(
            model.classes, model.multi_label, model.label_thresholds(),
            None if found is None else found.calibration.to_json(),
        )  # fmt: skip
        self.about = about_model(model)
        self.why = model.why

    def ask(self, content: bytes) -> Said:
        """Predict the image in the bytes of a file."""
        from hybridcls.visualization.prediction_image import to_rgb_image

        from ..image_inputs import Item

        item = Item(None, content)
        ((read, failed),) = self._model.preprocess([item])
        for _, error in failed:
            raise error
        samples = [sample for _, sample in read]
        seen = samples[0]['inputs']
        (answer,) = self._model.postprocess(
            self._model.forward(samples), [item], max(1, len(self.described.classes)), True
        )
        image = to_rgb_image(seen if not isinstance(seen, (list, tuple)) else seen[0], is_bgr=True)
        return Said(_as_dict(answer), answer.embedding, self._as_read(item.as_sample()), image)

    def read(self, path: str) -> np.ndarray:
        """Decode the image in the bytes of a file, uint8 (H, W, 3) RGB."""
        image = self._as_read(dict(img_path=path))
        if image is None:
            raise ValueError(f'{path} cannot be read.')
        return image

    def _as_read(self, sample: dict[str, Any]) -> Optional[np.ndarray]:
        from hybridcls.datasets.dataset_parts import loaders_of

        loader: Any = next(iter(loaders_of(self._model.pipeline)))
        image = loader(sample)['img']
        is_color = isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        return np.ascontiguousarray(image[..., ::-1]) if is_color else None


def _as_dict(answer: 'Answer') -> dict[str, Any]:
    said: dict[str, Any] = dict(answer.uncertainties)
    if answer.class_name is not None:
        said.update({'class': answer.class_name, 'probability': answer.probability, 'top': list(answer.top)})
    if answer.answered is not None:
        said['answered'] = answer.answered
    if answer.prediction_set is not None:
        said['prediction_set'] = list(answer.prediction_set)
    if answer.heads:
        said['heads'] = {name: _as_dict(one) for name, one in answer.heads.items()}
    return said


def _runtime() -> ModuleType:
    """Import the shipped runtime by its path, since its package needs torch."""
    name = 'hybridcls_shipped_runtime'
    if name not in sys.modules:
        spec: Any = importlib.util.spec_from_file_location(name, _RUNTIME)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
