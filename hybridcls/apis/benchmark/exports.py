"""Export a checkpoint for a benchmark: ONNX in float32, and in int8."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional

from hybridcls.checks import verb_of

from ..artifact import export
from ..artifact.quantized_artifact import check_images, quantize_graph
from ..artifact.shipped.runtime import Model, with_digests
from ..image_inputs import Item

__all__ = ['EXPORTS', 'Exports']

EXPORTS = dict(onnxruntime='float32', onnxruntime_int8='int8')


class Exports:
    """Export on demand: float32 once, and int8 from it.

    Args:
        checkpoint (str): The file.
        root (Path): The folder to write to.
        config (str, optional): For a checkpoint that holds none.
        items (Sequence[Item]): Held-out images. A quarter of those with labels sets the ranges of int8, without a look
            at the labels.
        max_loss (float): Points of accuracy that int8 may lose: products stay in float32 by it. It is never refused.
        tell (Callable): Takes sentences while it works.

    Attributes:
        notes (list[str]): What was done, in sentences.
    """

    def __init__(
        self,
        checkpoint: str,
        root: Path,
        config: Optional[str],
        items: Sequence[Item],
        max_loss: float,
        tell: Callable[[str], Any],
    ) -> None:
        self._checkpoint, self._root, self._config = checkpoint, root, config
        self._items, self._max_loss, self._tell = items, max_loss, tell
        self._made: dict[str, Path] = {}
        self.notes: list[str] = []

    def folder_of(self, name: str) -> Path:
        """Return the folder of one of :data:`EXPORTS`; it is exported at the first call.

        Raises:
            Exception: If it cannot be exported.
        """
        dtype = EXPORTS[name]
        if dtype not in self._made:
            self._made[dtype] = self._in_float32() if dtype == 'float32' else self._in_int8()
        return self._made[dtype]

    def _in_float32(self) -> Path:
        self._tell('Exporting to ONNX.')
        folder = self._root / 'float32'
        export(self._checkpoint, folder, 'onnx', config=self._config, calibration=False)
        return folder

    def _in_int8(self) -> Path:
        if not self._items:
            raise ValueError('int8 is fitted to held-out images: pass --data')
        check_images(sum(item.label is not None for item in self._items))
        model = Model(self.folder_of('onnxruntime'), check_files=False)
        folder = self._root / 'int8'
        folder.mkdir()
        done, images, others = quantize_graph(
            model, folder / 'int8.onnx', self._items, self._max_loss, tell=self._tell, notes=self.notes
        )
        about = model.sidecar['model'] | dict(file='int8.onnx', dtype='int8')
        sidecar = with_digests(model.sidecar | dict(model=about))
        (folder / 'model.json').write_text(json.dumps(sidecar), encoding='utf8')
        self.notes += [
            f'onnxruntime_int8: {done}. {len(images)} of {len(images) + len(others)} images '
            f'{verb_of(len(images), "has", "have")} set the ranges, without labels, and count in its accuracy too.',
            *done.notes,
        ]
        return folder
