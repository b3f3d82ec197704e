"""The subject of an examination: a config and its data."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Optional

from mmengine.config import Config

from hybridcls.engine.config.change import layer_of
from hybridcls.engine.config.origins import FILLED
from hybridcls.engine.config.tree import ABSENT, Path, split, value_at

if TYPE_CHECKING:
    from .data_parts import DataPart
    from .image_scan import ImageScan

__all__ = ['Subject']


@dataclass
class Subject:
    """A config and its data, as far as they could be read.

    Args:
        cfg (Config): Completed for a training as far as possible.
        work_dir (str): A temporary folder.
        is_complete (bool): Whether the config could be completed, so that a Runner can be built.
        parts (dict[str, DataPart]): The datasets that could be built: of ``'train'``, ``'val'`` and ``'test'``.
        scan (ImageScan, optional): What their images look like.
        facts (dict[str, Any]): Numbers for ``--json``.
    """

    cfg: Config
    work_dir: str
    is_complete: bool = False
    parts: dict[str, 'DataPart'] = field(default_factory=dict)
    scan: Optional['ImageScan'] = None
    facts: dict[str, Any] = field(default_factory=dict)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value at a dotted key."""
        value = value_at(self.cfg, split(key))
        return default if value is ABSENT or value is None else value

    def is_written(self, path: Path) -> bool:
        """Return whether the user set the value at a path, in their own file or as an option."""
        from hybridcls.engine.config.mixed_precision import is_shipped

        layer = layer_of(self.cfg, path)
        return layer != FILLED and not is_shipped(layer.name)

    def written(self, *keys: str) -> Iterator[str]:
        """Yield those of the dotted keys whose value the user set."""
        yield from (key for key in keys if value_at(self.cfg, split(key)) is not ABSENT and self.is_written(split(key)))
