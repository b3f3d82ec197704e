"""Save and load LoRA adapters in files that PEFT can read without hybridcls."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Optional, Union

from torch import Tensor, nn

from hybridcls.checks import listed
from hybridcls.safetensors_folder import write_safetensors

from .lora import lora_layers

__all__ = ['adapters_meta', 'holds_adapters', 'load_adapters', 'save_adapters']

_ADAPTERS, _CONFIG, _REST = 'adapter_model.safetensors', 'adapter_config.json', 'trained_beside_adapters.safetensors'
_META = 'checkpoint_meta.json'
_UNFINISHED = '.unfinished'
_KEPT = ('cfg', 'dataset_meta', 'preprocessing_version')  # what a prediction needs of a checkpoint's meta
_PEFT_PREFIX = 'base_model.model.'


def save_adapters(model: nn.Module, folder: Union[str, Path], meta: Optional[dict[str, Any]] = None) -> list[Path]:
    """Write the trained weights of a model with LoRA, without the frozen ones.

    Args:
        model (nn.Module): A classifier or backbone whose streams are adapted.
        folder (str | Path): One folder a stream in it, named as in the model (``backbone.vit``), in PEFT's form:
            ``PeftModel.from_pretrained(timm.create_model(name, pretrained=True, num_classes=0), folder)`` reads it. (Of
            Swin V2, BEiT and EVA set ``qkv_bias_separate = True`` in the attentions first.) Beside them
            ``trained_beside_adapters.safetensors``: everything outside the adapted streams, and norms that were
            trained in them, with their statistics. What an earlier call wrote there is replaced once everything is
            written: a write that was interrupted leaves it as it was.
        meta (dict, optional): ``meta`` of the checkpoint; its config and class names are written to
            ``checkpoint_meta.json``, so that ``hybridcls predict`` can ask the folder. Defaults to None.

    Returns:
        list[Path]: The files.

    Raises:
        ValueError: If nothing is adapted.
    """
    folder = Path(folder)
    streams: dict[str, Any] = _adapted_streams(model)
    if not streams:
        raise ValueError('save_adapters: no layer of the model is adapted; set lora_rank in its backbone.')
    rest = {name: value.detach().contiguous().cpu() for name, value in model.state_dict().items()}
    unfinished = folder / _UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)  # of a write that was interrupted
    unfinished.mkdir(parents=True)
    names: list[Path] = []
    for stream_name, stream in streams.items():
        adapters = _taken_from(rest, stream_name, stream)
        below = Path(stream_name or 'backbone')
        (unfinished / below).mkdir()
        write_safetensors(adapters, unfinished / below / _ADAPTERS)
        config = next(iter(stream.peft_config.values())).to_dict()
        config = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
        (unfinished / below / _CONFIG).write_text(json.dumps(config, indent=1, default=str))
        names += [below / _ADAPTERS, below / _CONFIG]
    if meta:
        kept = {key: meta[key] for key in _KEPT if key in meta}
        (unfinished / _META).write_text(json.dumps(kept, indent=1, default=str))
        names.append(Path(_META))
    write_safetensors(rest, unfinished / _REST)
    (folder / _REST).unlink(missing_ok=True)  # until the last file is there, the folder is none of adapters
    if not meta:
        (folder / _META).unlink(missing_ok=True)  # of another model, whose class names it would give to this one
    for name in (*names, Path(_REST)):
        (folder / name).parent.mkdir(exist_ok=True)
        os.replace(unfinished / name, folder / name)
    shutil.rmtree(unfinished)
    return [folder / name for name in (*names, Path(_REST))]


def _taken_from(state: dict[str, Tensor], stream_name: str, stream: Any) -> dict[str, Tensor]:
    """Take the weights of an adapted stream out of a state, but those trained beside the adapters; return these."""
    prefix = f'{stream_name}.model.' if stream_name else 'model.'
    adapters: dict[str, Tensor] = {}
    for name in [name for name in state if name.startswith(prefix)]:
        short = name[len(prefix) :]
        if '.lora_' in short:
            # DoRA's magnitude is a parameter of a module in the layer, and a bare one in PEFT's files.
            plain = short.replace('lora_magnitude_vector.weight', 'lora_magnitude_vector')
            adapters[_PEFT_PREFIX + plain] = state.pop(name)
        elif short not in stream.trained_beside_lora:
            del state[name]
    return adapters


def holds_adapters(folder: Union[str, Path]) -> bool:
    """Return whether a folder was written by :func:`save_adapters`."""
    return Path(folder, _REST).is_file()


def adapters_meta(folder: Union[str, Path]) -> dict[str, Any]:
    """Read the config and the class names beside saved adapters; empty if they were not saved."""
    path = Path(folder, _META)
    return json.loads(path.read_text(encoding='utf8')) if path.is_file() else {}


def load_adapters(model: nn.Module, folder: Union[str, Path]) -> None:
    """Load saved adapters, in place, into a model with the same adapters and the same frozen weights.

    Raises:
        FileNotFoundError: If the folder is no such folder, or is one that was not written to the end.
        ValueError: If the adapters are not those of this model, or if the folder lacks a weight of it that the frozen
            ones are not: that of the head, where a backbone alone was saved.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    if not (folder / _REST).is_file():
        raise FileNotFoundError(
            f'load_adapters: {folder} holds no {_REST}, so save_adapters did not write it, or not to the end.'
        )
    state = dict(load_file(folder / _REST))
    frozen: set[str] = set()
    for stream_name, stream in _adapted_streams(model).items():
        prefix = f'{stream_name}.model.' if stream_name else 'model.'
        trained: Any = stream.trained_beside_lora
        frozen.update(prefix + name for name, _ in stream.named_parameters() if name not in trained)
        path = folder / (stream_name or 'backbone') / _ADAPTERS
        if not path.is_file():
            raise FileNotFoundError(f'load_adapters: {path} does not exist; the saved model had no adapters there.')
        for name, value in load_file(path).items():
            short = name.removeprefix(_PEFT_PREFIX)
            if short.endswith('lora_magnitude_vector'):
                short += '.weight'
            state[prefix + short] = value
    own = model.state_dict()
    wrong = [name for name, value in state.items() if name not in own or own[name].shape != value.shape]
    lacking = [name for name in own if '.lora_' in name and name not in state]
    if wrong or lacking:
        what = f'{wrong[0]} is not in it, or has another shape' if wrong else f'{lacking[0]} is missing'
        raise ValueError(
            f'load_adapters: {folder} is not of this model: {what}. Build it with the lora_rank and '
            'targets of the saved one.'
        )
    absent = [name for name, _ in model.named_parameters() if name not in state and name not in frozen]
    if absent:
        raise ValueError(
            f'load_adapters: expected all weights beside the frozen ones in {folder}, got none for '
            f'{listed(absent, 3)}. Build the model that was saved (its head, its lora_rank), or load into the part of '
            'this one that it is of: load_adapters(model.backbone, ...).'
        )
    model.load_state_dict({**own, **state})


def _adapted_streams(model: nn.Module) -> dict[str, nn.Module]:
    """Return the models (timm's or others) that contain adapters, by the names of their streams."""
    return {
        name.removesuffix('model').removesuffix('.'): part
        for name, part in model.named_modules()
        if name.rpartition('.')[2] == 'model' and hasattr(part, 'peft_config') and lora_layers(part)
    }
