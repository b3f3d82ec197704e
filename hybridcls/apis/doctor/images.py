"""Findings about image files: missing, unreadable, damaged, tiny, of a single colour, of unusual modes."""

from collections import Counter
from collections.abc import Iterator
from statistics import median
from typing import Any

from hybridcls.checks import counted, is_or_are
from hybridcls.datasets.dataset_parts import loaders_of
from hybridcls.datasets.image_look import ImageLook
from hybridcls.datasets.transforms.load_image import LoadImage

from .data_parts import DataPart
from .finding import NOTE, PROBLEM, WARNING, Finding, named
from .image_scan import ImageScan
from .subject import Subject

__all__ = ['check_images']

_LEAST_SIDE, _SMALL_SIDE = 8, 32  # pixels
_ENLARGED = 4  # times
_LONG = 10  # times
_MOST_READ = 200  # odd images that are read in full


def check_images(subject: Subject) -> Iterator[Finding]:
    """Report the scanned images and their problems."""
    scan = subject.scan
    if scan is None or not scan.found:
        return
    yield _looked_at(scan)
    for part in _distinct(subject):
        yield from _missing(part, scan)
        yield from _unreadable(part, scan)
        looks = scan.of(part)
        if looks:
            yield from _sizes(part, looks, subject.get('img_size'))
            yield from _modes(part, looks)
            yield from _flat(part, looks)
            yield from _frames(part, looks)


def _distinct(subject: Subject) -> Iterator[DataPart]:
    seen: list[list[str]] = []
    for part in subject.parts.values():
        if part.paths not in seen:
            seen.append(part.paths)
            yield part


def _looked_at(scan: ImageScan) -> Finding:
    read, found = len(scan.looks) + len(scan.missing), scan.found
    text = (
        f'{counted(found, "image")}, all checked'
        if read == found
        else f'{counted(read, "image", of=found)} checked, a sample'
    )
    more = 'more: --images N' if read < found else ''
    return Finding(NOTE, 'data', f'{text}{" (time limit)" * scan.stopped}.', more)


def _missing(part: DataPart, scan: ImageScan) -> Iterator[Finding]:
    gone = set(scan.missing)
    missing = [path for path in part.paths if path in gone]
    if missing:
        root = getattr(part.dataset, 'img_prefix', '')
        yield Finding(
            PROBLEM, part.key, f'{counted(len(missing), "file", of=len(part.paths))} {is_or_are(len(missing))} not '
            f'there: {named(missing)}.',
            f'{part.key}.data_prefix or data_root: paths of ann_file are below {root or "them"}',
        )  # fmt: skip


def _loader_of(part: DataPart) -> Any:
    return next(loaders_of(getattr(part.dataset, 'pipeline', None)), None) or LoadImage()


def _unreadable(part: DataPart, scan: ImageScan) -> Iterator[Finding]:
    """Report files that Pillow cannot read, after reading them as the training does, which may accept some."""
    broken = [path for path in part.paths if path in scan.looks and scan.looks[path].problem]
    odd = [path for path, _, look in scan.of(part) if look.header is not None and look.header.bits > 8]
    loader = _loader_of(part)
    unreadable, damaged = {}, []
    for path in [*broken, *odd[:_MOST_READ]]:
        try:
            loader.read(path)
            damaged += [path] if path in broken else []
        except Exception as error:  # each decoder has its own error types
            unreadable[path] = getattr(error, 'reason', '') or str(error)
    skips = getattr(part.dataset, 'on_unreadable', 'error') == 'skip'
    if unreadable:
        path, reason = next(iter(unreadable.items()))
        yield Finding(
            WARNING if skips else PROBLEM, part.key,
            f'{counted(len(unreadable), "image", of=len(part.paths))} cannot be read: {named(unreadable)} '
            f'({reason.rstrip(".")}).',
            f"delete or replace them, or {part.key}.on_unreadable='skip'",
        )  # fmt: skip
    if damaged:
        yield Finding(
            WARNING, part.key,
            f'{counted(len(damaged), "image")} {is_or_are(len(damaged))} damaged and read in part, with a grey rest: '
            f'{named(damaged)} '
            f'({scan.looks[damaged[0]].problem}).',
            'delete or replace them',
        )  # fmt: skip


def _sizes(part: DataPart, looks: list, img_size: Any) -> Iterator[Finding]:
    sides = {path: min(look.size) for path, _, look in looks}
    middle = median(sides.values())
    tiny = [path for path, side in sides.items() if side < _LEAST_SIDE or (side < _SMALL_SIDE and 4 * side < middle)]
    if tiny:
        yield Finding(
            WARNING, part.key,
            f'{counted(len(tiny), "image")} {is_or_are(len(tiny))} tiny, the smallest '
            f'{counted(min(sides.values()), "pixel")} (the middle one {middle:.0f}): '
            f'{named(tiny)}.',
            'delete them, or take them from a larger original',
        )  # fmt: skip
    long = [path for path, _, look in looks if max(look.size) > _LONG * min(look.size)]
    if long:
        yield Finding(
            WARNING, part.key,
            f'{counted(len(long), "image", of=len(looks))} {is_or_are(len(long))} more than {_LONG} times as long as '
            f'wide, of which a square shows little: {named(long)}.', 'cut them, or take them out',
        )  # fmt: skip
    target = min(img_size) if isinstance(img_size, (list, tuple)) else img_size
    if isinstance(target, int) and middle * _ENLARGED <= target:
        yield Finding(
            NOTE, part.key, f'half of the images have {counted(round(middle), "pixel")} or fewer and are enlarged to '
            f'{target}.',
            'img_size',
        )  # fmt: skip


def _modes(part: DataPart, looks: list) -> Iterator[Finding]:
    kinds: dict[str, list[str]] = {}
    for path, _, look in looks:
        for kind in _kinds(look):
            kinds.setdefault(kind, []).append(path)
    advice = dict(
        transparency="LoadImage.transparency: 'white' (the default), 'black', (B, G, R) or 'drop'",
        deep='LoadImage.depth: the number of significant bits of 16-bit images',
        CMYK='convert them to RGB, if their colours look wrong in the contact sheet (--out sheet.png)',
        rotated='LoadImage.color_type',
    )
    texts = dict(
        transparency='partly transparent, which get a background', deep='with 16 bits or more a channel',
        CMYK='in CMYK, converted without a profile', rotated='turned by their EXIF data',
    )  # fmt: skip
    for kind, paths in kinds.items():
        level, change = NOTE if 2 * len(paths) > len(looks) else WARNING, advice[kind]
        if kind == 'rotated':
            upright = not str(getattr(_loader_of(part), 'color_type', '')).endswith('_ignore_orientation')
            level = NOTE if upright else PROBLEM
            change = (
                'nothing: LoadImage does it' if upright else "LoadImage.color_type='color', which turns them upright"
            )
        text = f'{counted(len(paths), "image", of=len(looks))} {texts[kind]}: {named(paths)}.'
        yield Finding(level, part.key, text, change)
    yield from _told_by_the_file(part, looks)


def _kinds(look: ImageLook) -> Iterator[str]:
    header = look.header
    if header is not None and header.transparent:
        yield 'transparency'
    if header is not None and header.bits > 8:
        yield 'deep'
    if header is not None and header.colors == 'CMYK':
        yield 'CMYK'
    if look.is_rotated:
        yield 'rotated'


def _told_by_the_file(part: DataPart, looks: list) -> Iterator[Finding]:
    """Report classes that the format or the colour mode of a file gives away, which a model learns first."""
    of_class: dict[int, Counter] = {}
    for _, labels, look in looks:
        if len(labels) == 1 and look.header is not None:
            kind = f'{look.header.colors}{" with transparency" * look.header.transparent}'
            of_class.setdefault(labels[0], Counter())[kind] += 1
    kinds = {number: next(iter(counts)) for number, counts in of_class.items() if len(counts) == 1}
    if len(of_class) > 1 and len(kinds) == len(of_class) and len(set(kinds.values())) > 1:
        rare = Counter(kinds.values()).most_common()[-1][0]
        names = [part.name_of(number) for number, kind in kinds.items() if kind == rare]
        yield Finding(
            WARNING, part.key, f'the colour mode of a file reveals its class: only {named(names)} is {rare} '
            'throughout.',
            'save all images in one mode (RGB)',
        )  # fmt: skip


def _frames(part: DataPart, looks: list) -> Iterator[Finding]:
    several = [path for path, _, look in looks if look.frames > 1]
    if several:
        yield Finding(
            NOTE, part.key, f'{counted(len(several), "image", of=len(looks))} with several frames (or pages), of which '
            f'the first is read: {named(several)}.', 'save the frames that you mean as files of their own',
        )  # fmt: skip


def _flat(part: DataPart, looks: list) -> Iterator[Finding]:
    flat = [path for path, _, look in looks if look.is_flat]
    if flat:
        yield Finding(
            NOTE if len(flat) == len(looks) else WARNING, part.key,
            f'{counted(len(flat), "image", of=len(looks))} {is_or_are(len(flat))} of one colour: '
            f'{named(flat)}.', 'delete them, if they are blank',
        )  # fmt: skip
