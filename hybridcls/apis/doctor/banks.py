"""Findings about the datasets that hooks embed: a bank, or a gallery, that has the evaluated images in it."""

import os
from collections.abc import Iterator

from hybridcls.checks import counted, is_or_are
from hybridcls.engine.config.tree import dotted, is_a, walk

from .data_parts import DataPart, build_part
from .finding import PROBLEM, Finding, named
from .subject import Subject

__all__ = ['check_banks']


def check_banks(subject: Subject) -> Iterator[Finding]:
    """Compare the files of each bank with those of validation and test: an image is its own nearest neighbour."""
    from hybridcls.engine.hooks import EmbeddingBankHook

    for path, hook in walk({key: subject.get(key) for key in ('default_hooks', 'custom_hooks')}):
        if not (isinstance(hook, dict) and is_a('HOOKS', hook, EmbeddingBankHook)):
            continue
        where = dotted((*path, 'dataloader', 'dataset'))
        cfg = (hook.get('dataloader') or {}).get('dataset')
        bank = build_part(cfg, 'train', subject.cfg)[0] if cfg else None
        train = subject.parts.get('train')
        if bank is None or (train is not None and _files(bank) == _files(train)):
            continue  # what training and validation share is told of these
        seen: list[set[str]] = []
        for split in ('val', 'test'):
            part = subject.parts.get(split)
            files = set() if part is None else _files(part)
            shared = files & _files(bank)
            if shared and files not in seen:
                seen.append(files)
                yield Finding(
                    PROBLEM, where,
                    f'{counted(len(shared), "image", of=len(files))} of {split} '
                    f'{is_or_are(len(shared))} in the bank too, and would find themselves: {named(sorted(shared))}.',
                    f"{where}: images of their own, such as split='train'",
                )  # fmt: skip


def _files(part: DataPart) -> set[str]:
    return {os.path.realpath(path) for path in part.paths}
