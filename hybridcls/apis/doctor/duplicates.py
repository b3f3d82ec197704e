"""Find duplicate images: in two splits, under two labels, or several times in one split."""

from collections.abc import Iterator

from hybridcls.checks import counted, is_or_are
from hybridcls.datasets.near_duplicates import groups_of_near_duplicates

from .data_parts import SPLITS, DataPart
from .finding import NOTE, PROBLEM, WARNING, Finding, named
from .image_scan import ImageScan
from .subject import Subject

__all__ = ['check_duplicates']

_MANY = 0.05  # of the images of a split
_ADVICE = dict(
    val='val_dataloader.dataset: data_prefix, ann_file or data_root of images that are not trained on',
    test='test_dataloader.dataset: data_prefix, ann_file or data_root of images that are not trained on',
)


def check_duplicates(subject: Subject) -> Iterator[Finding]:
    """Compare the files of all splits by path, by content and by appearance."""
    if subject.scan is None:
        return
    parts = [subject.parts[split] for split in SPLITS if split in subject.parts and subject.parts[split].paths]
    near = _near(subject.scan, parts)
    for number, part in enumerate(parts):
        if number and part.paths == parts[number - 1].paths and part.split == 'test':
            yield Finding(
                NOTE, part.key, 'the test images are the validation images, which also choose the best checkpoint.',
                'test_dataloader.dataset: use other images',
            )  # fmt: skip
            continue
        for other in parts[:number]:
            yield from _between(part, other, subject.scan, near)
        yield from _inside(part, subject.scan, near)


def _near(scan: ImageScan, parts: list[DataPart]) -> dict[str, int]:
    """Return the group number of the near-duplicates of each scanned image."""
    wanted = {path for part in parts for path in part.paths}
    paths = [path for path in scan.looks if path in wanted and not scan.looks[path].problem]
    return dict(zip(paths, groups_of_near_duplicates(paths), strict=True))


def _between(part: DataPart, other: DataPart, scan: ImageScan, near: dict[str, int]) -> Iterator[Finding]:
    what = f'{part.split} and {other.split}'
    advice = _ADVICE.get(part.split, part.key)
    shared = set(part.paths) & set(other.paths)
    if shared:
        all_of = 'all ' if len(shared) == len(set(part.paths)) else ''
        yield Finding(
            PROBLEM, part.key,
            f'{what} share {all_of}{len(shared):,} of the {counted(len(set(part.paths)), "file")} of {part.split}: '
            f'{named(sorted(shared))}.', advice,
        )  # fmt: skip
        return
    digests = {look.digest: path for path, _, look in scan.of(other)}
    looks = scan.of(part)
    copies = [(path, digests[look.digest], look) for path, _, look in looks if look.digest in digests]
    told = [(path, twin) for path, twin, look in copies if not look.is_flat or len(copies) == len(looks)]
    if told:
        yield Finding(
            PROBLEM, part.key,
            f'{counted(len(told), "image", of=len(looks))} of {part.split} {is_or_are(len(told))} in '
            f'{other.split} too: {named(f"{path} = {twin}" for path, twin in told)}.', advice,
        )  # fmt: skip
    groups = {near[path]: path for path, _, _ in scan.of(other) if path in near}
    known = {path for path, _, _ in copies}
    alike = [path for path, _, _ in looks if path not in known and near.get(path) in groups]
    if alike:
        pairs = (f'{path} ~ {groups[near[path]]}' for path in alike)
        yield Finding(
            WARNING, part.key,
            f'{counted(len(alike), "image", of=len(looks))} of {part.split}, nearly equal to some of {other.split}: '
            f'{named(pairs)}.',
            advice,
        )  # fmt: skip


def _inside(part: DataPart, scan: ImageScan, near: dict[str, int]) -> Iterator[Finding]:
    looks = [one for one in scan.of(part) if not one[2].is_flat]
    by_content: dict[str, list[tuple[str, tuple[int, ...]]]] = {}
    by_group: dict[int, list[tuple[str, tuple[int, ...]]]] = {}
    for path, labels, look in looks:
        by_content.setdefault(look.digest, []).append((path, labels))
        by_group.setdefault(near.get(path, -1), []).append((path, labels))
    contradicting = [group for group in by_content.values() if len({labels for _, labels in group}) > 1]
    if contradicting:
        yield Finding(
            PROBLEM, part.key,
            f'several labels: copies of {len(contradicting)} image{"s" * (len(contradicting) > 1)} lie in several '
            'classes: '
            f'{_listed(part, contradicting)}.', f'{_remove(contradicting)} with the wrong label',
        )  # fmt: skip
    told = {path for group in contradicting for path, _ in group}
    alike = [
        group
        for group in by_group.values()
        if len({labels for path, labels in group if path not in told}) > 1 and len(group) <= _MANY * len(looks) + 4
    ]
    if alike:
        yield Finding(
            WARNING, part.key, f'nearly equal images have several labels, {counted(len(alike), "time")}: '
            f'{_listed(part, alike)}.', 'check them, and correct their labels',
        )  # fmt: skip
    groups = [group for group in by_content.values() if len(group) > 1]
    copies = sum(len(group) - 1 for group in groups)
    if copies and not contradicting:
        examples = named(f'{group[0][0]} = {group[1][0]}' for group in groups)
        level = WARNING if copies > _MANY * len(looks) and part.split == 'train' else NOTE
        yield Finding(level, part.key, f'{counted(copies, "image", of=len(looks))} {is_or_are(copies)} there twice: '
        f'{examples}.',
                      _remove(groups))  # fmt: skip


def _remove(groups: list[list[tuple[str, tuple[int, ...]]]]) -> str:
    """Return what to remove: the copies, or, for one file listed twice in a table, the repeated lines."""
    repeated = [len({path for path, _ in group}) < len(group) for group in groups]
    lines = 'remove the lines of the table that repeat a file'
    return lines if all(repeated) else f'delete the copies, and {lines}' if any(repeated) else 'delete the copies'


def _listed(part: DataPart, groups: list[list[tuple[str, tuple[int, ...]]]]) -> str:
    return named(
        ' = '.join(f'{path} ({"|".join(map(part.name_of, labels))})' for path, labels in group[:3]) for group in groups
    )
