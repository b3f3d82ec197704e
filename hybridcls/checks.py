"""Check arguments and files, and raise errors of the form ``{caller}: expected {what}, got {value}. {advice}``."""

import ast
import codecs
import difflib
import importlib.util
import itertools
import math
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, Optional

__all__ = [
    'UnknownNameError', 'did_you_mean', 'explain_unknown_name', 'listed', 'counted', 'is_or_are', 'check_number',
    'check_choice', 'check_known_keys', 'check_installed', 'check_file', 'decode_text', 'has_raw_bytes', 'in_one_line',
    'near_files', 'verb_of', 'without_type',
]  # fmt: skip

# Folders without plugins of the user, at any depth.
_NOT_SEARCHED = {'.git', '.venv', 'venv', 'node_modules', '__pycache__', 'work_dirs', 'build', 'dist', 'data'}
_MOST_FILES_SEARCHED = 5000
_MOST_FILES_SEEN = 100_000  # of any kind: of a path without a folder that exists, the disk is what is searched
# That of UTF-32 (LE) begins as that of UTF-16 does.
_MARKS = {
    codecs.BOM_UTF8: 'utf-8-sig', codecs.BOM_UTF32_LE: 'utf-32', codecs.BOM_UTF32_BE: 'utf-32',
    codecs.BOM_UTF16_LE: 'utf-16', codecs.BOM_UTF16_BE: 'utf-16',
}  # fmt: skip


class UnknownNameError(KeyError):
    """A name is in no registry. Prints its message as it is, where ``KeyError`` would print it quoted."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ''


def did_you_mean(name: str, options: Iterable[str], most: int = 3) -> str:
    """Return `` Did you mean 'x'?`` for the options that are close to ``name``, or an empty string.

    Example:
        >>> did_you_mean('AdaFaceHaed', ['AdaFaceHead', 'LinearHead'])
        " Did you mean 'AdaFaceHead'?"
        >>> did_you_mean('AdaFaceHaed', ['ResNet'])
        ''
    """
    by_lower_case = {option.lower(): option for option in options}
    near = difflib.get_close_matches(str(name).lower(), by_lower_case, n=most, cutoff=0.6)
    if not near:
        return ''
    return ' Did you mean ' + ' or '.join(repr(by_lower_case[key]) for key in near) + '?'


def listed(names: Iterable[str], most: int = 20, between: str = ', ') -> str:
    """Join the first names, and count the others.

    Example:
        >>> listed('abcd', most=2)
        'a, b and 2 more'
    """
    names = list(names)
    return between.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')


def counted(number: int, word: str, more: str = '', of: Optional[int] = None) -> str:
    """Return a number with its noun in the singular or the plural.

    Args:
        number (int): How many.
        word (str): The singular.
        more (str): The plural. Defaults to ``''``: with an s.
        of (int, optional): Out of how many. Defaults to None: not said.

    Example:
        >>> counted(1, 'class', 'classes'), counted(2000, 'image'), counted(1, 'image', of=1)
        ('1 class', '2,000 images', '1 of 1 image')
    """
    if of is not None:
        return f'{number:,} of {counted(of, word, more)}'
    return f'{number} {word}' if number == 1 else f'{number:,} {more or word + "s"}'


def is_or_are(number: int) -> str:
    """Return ``'is'`` or ``'are'`` for a count."""
    return verb_of(number, 'is', 'are')


def verb_of(number: int, one: str, many: str) -> str:
    """Return the form of a verb for a count: '1 of 3 images has', '2 of 3 images have'."""
    return one if number == 1 else many


def check_number(
    caller: str,
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    low_open: bool = False,
    high_open: bool = False,
    integer: bool = False,
    advice: str = '',
) -> None:
    """Raise unless ``value`` is a finite number between ``low`` and ``high``.

    Args:
        caller (str): Name used as the error prefix: the class or function that the user configured.
        name (str): The key.
        value: Its value.
        low (float): The smallest allowed value.
        high (float): The largest allowed value.
        low_open (bool): Exclude ``low`` itself.
        high_open (bool): Exclude ``high`` itself.
        integer (bool): Accept integers only.
        advice (str): A sentence to add: what to type instead.

    Raises:
        TypeError: If ``value`` is not a number, or not an integer although ``integer`` is set.
        ValueError: If ``value`` is outside the interval or not finite.

    Example:
        >>> check_number('SAM', 'k', 2.5, integer=True)
        Traceback (most recent call last):
            ...
        TypeError: SAM: expected k to be an integer, got 2.5 (float).
    """
    advice = f' {advice}' if advice else ''
    if isinstance(value, bool) or not isinstance(value, int if integer else (int, float)):
        kind = 'an integer' if integer else 'a number'
        raise TypeError(f'{caller}: expected {name} to be {kind}, got {value!r} ({type(value).__name__}).{advice}')
    too_low = value < low or (low_open and value == low)
    too_high = value > high or (high_open and value == high)
    if too_low or too_high or not math.isfinite(value):
        left, right = '(' if low_open or low == -math.inf else '[', ')' if high_open or high == math.inf else ']'
        raise ValueError(f'{caller}: expected {name} in {left}{low:g}, {high:g}{right}, got {value}.{advice}')


def check_choice(caller: str, name: str, value: Any, choices: Iterable[Any]) -> None:
    """Raise a ValueError with the choices unless ``value`` is one of them."""
    choices = list(choices)
    if value not in choices:
        hint = did_you_mean(value, [c for c in choices if isinstance(c, str)]) if isinstance(value, str) else ''
        raise ValueError(f'{caller}: expected {name} to be one of {choices}, got {value!r}.{hint}')


def check_known_keys(caller: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise a TypeError that names the unknown key and the known ones."""
    known = list(known)
    for key in given:
        if key not in known:
            raise TypeError(f'{caller}: unknown key {key!r}.{did_you_mean(key, known)} Known keys: {", ".join(known)}.')


def check_installed(caller: str, package: str, setting: str, extra: str) -> None:
    """Raise an ImportError that says what to install if a setting needs a missing package.

    Args:
        caller (str): Name that errors start with.
        package (str): The name to import.
        setting (str): What the user wrote, ``'lora_rank=8'``.
        extra (str): The extra of hybridcls that brings the package.
    """
    if importlib.util.find_spec(package) is None:
        raise ImportError(
            f'{caller}: expected the package {package} for {setting}, and it is not installed. '
            f"Type: pip install 'hybridcls[{extra}]'"
        )


def without_type(caller: str, cfg: Mapping[str, Any], siblings: Iterable[str] = ()) -> str:
    """Return the message for a part's dict without the key ``type``.

    Args:
        caller (str): Where the dict stands.
        cfg (Mapping): The dict.
        siblings (Iterable[str]): Keys beside it, of which its own may be a mistyped one.
    """
    near = did_you_mean(caller.rpartition('.')[2], siblings)
    return f"{caller} = {dict(cfg)} has no 'type', so nothing can be built from it.{near}"


def check_file(caller: str, name: str, path: str, advice: str = '') -> None:
    """Raise a FileNotFoundError with the absolute path and near file names unless ``path`` is a file."""
    if not os.path.isfile(path):
        what = 'is a folder, not a file' if os.path.isdir(path) else 'does not exist'
        advice = f' {advice}' if advice else ''
        raise FileNotFoundError(
            f'{caller}: {name}={path!r} {what} (looked for {os.path.abspath(path)}).{near_files(path)}{advice}'
        )


def decode_text(
    caller: str, path: str, content: bytes, encoding: str = 'utf-8', other: str = '', file_names: bool = False
) -> str:
    """Return the text of a file; a byte order mark (UTF-8, UTF-16, UTF-32) overrides ``encoding``.

    Excel writes UTF-16 with such a mark ("Unicode text"), or the code page of the machine, which no file names.

    Args:
        caller (str): Name used as the error prefix.
        path (str): The file, for the message.
        content (bytes): Its bytes.
        encoding (str): Its encoding.
        other (str): The setting that chooses another encoding, for the message.
        file_names (bool): Whether names of files may stand in it as bytes that are not UTF-8, as in the tables that
            are written here. These are kept as :func:`os.fsdecode` does. Whether they name a file, or the text has
            another encoding, is then to be found out by the caller, by :func:`has_raw_bytes`. Defaults to False.

    Raises:
        ValueError: If the bytes are not text in this encoding (with the line), or Python does not know the encoding.
    """
    marked = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    encoding = marked or encoding
    try:
        text = content.decode(encoding)
        zero = text.find('\0')
        if zero < 0:
            return text
        if marked:
            _refuse_marked(caller, path, encoding, 'the character U+0000', text.count('\n', 0, zero) + 1)
        place = content.index(b'\0')  # UTF-16 without a mark, or no text
    except LookupError:
        raise ValueError(f'{caller}: expected the name of an encoding, got {encoding!r}.') from None
    except UnicodeDecodeError as error:
        if marked:
            before = content[: len(content) - len(error.object) + error.start]  # without the mark, in UTF-8
            line = before.decode(encoding, 'ignore').count('\n') + 1
            _refuse_marked(caller, path, encoding, error.reason, line)
        place = error.start
        if file_names and codecs.lookup(encoding).name == 'utf-8' and b'\0' not in content:
            return content.decode(encoding, 'surrogateescape')
    line = content.count(b'\n', 0, place) + 1
    zero = content[:2].find(b'\0')  # UTF-16 of a Latin text has one in each character
    name = 'CP1252' if zero < 0 else ('UTF-16BE', 'UTF-16LE')[zero]
    raise ValueError(
        f'{caller}: expected {path} as {encoding} text, got the byte 0x{content[place]:02x} in line {line}. Save it as '
        f'UTF-8 (in Excel as "CSV UTF-8"; or, of {name}: iconv -f {name} -t UTF-8 {shlex.quote(path)} > NEW.csv)'
        f'{f", or set {other} if it has another encoding" if other and zero < 0 else ""}.'
    )


def _refuse_marked(caller: str, path: str, encoding: str, found: str, line: int) -> NoReturn:
    """Raise for a damaged file whose first bytes name its encoding."""
    raise ValueError(
        f'{caller}: expected {path} as {encoding.removesuffix("-sig")} text, as its first bytes say, got {found} in '
        f'line {line}. It is cut off or damaged: save it again, as UTF-8 (in Excel as "CSV UTF-8").'
    )


def has_raw_bytes(text: str) -> bool:
    """Return whether a text has bytes that are not UTF-8, as :func:`os.fsdecode` keeps them in the name of a file.

    Example:
        >>> has_raw_bytes(os.fsdecode(b'K\\xfcken.png')), has_raw_bytes('Küken.png')
        (True, False)
    """
    return any('\udc80' <= letter <= '\udcff' for letter in text)


def in_one_line(text: str) -> str:
    r"""Return a text with control characters as Python writes them: a file name may hold ends of lines, or colours.

    Example:
        >>> in_one_line('new\nline.png')
        'new\\nline.png'
    """
    return re.sub('[\0-\x1f\x7f-\x9f\u2028\u2029]', lambda found: repr(found[0])[1:-1], text)


def near_files(path: str) -> str:
    """Suggest files with a name similar to ``path``, in its folder or below the nearest existing one.

    Folders too, beside a ``path`` without an extension.
    """
    target = Path(path)
    folder = target if target.is_dir() else target.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    if folder == target.parent or folder == target:
        files = sorted(p for p in folder.iterdir() if not p.name.startswith('.') and (p.is_file() or not target.suffix))
    else:
        files = list(itertools.islice(_files_below(folder, target.suffix, _MOST_FILES_SEEN), _MOST_FILES_SEARCHED))
    names = {p.name: str(p) for p in reversed(files)}
    near = difflib.get_close_matches(target.name, names, n=3, cutoff=0.6)
    if near and folder != target:
        return ' Did you mean ' + ' or '.join(repr(names[name]) for name in near) + '?'
    listed = sorted(p.name for p in files if p.is_file() and p.suffix == (target.suffix or '.py'))[:10]
    if listed and folder in (target, target.parent):
        return f' In {folder} there are: {", ".join(listed)}.'
    return ''


def _files_below(folder: Path, suffix: str, most: Optional[int] = None) -> Iterator[Path]:
    """Yield the files with this suffix; until ``most`` entries of any kind were seen."""
    seen = 0
    for here, subfolders, files in os.walk(folder):
        seen += len(subfolders) + len(files)
        if most is not None and seen > most:
            return
        subfolders[:] = sorted(s for s in subfolders if s not in _NOT_SEARCHED and not s.startswith('.'))
        yield from (Path(here, file) for file in sorted(files) if os.path.splitext(file)[1] == suffix)


def explain_unknown_name(key: str, registry: Any, registries: Iterable[Any], places: Iterable[Path]) -> str:
    """Explain why ``key`` was not found in ``registry``, and suggest alternatives.

    Args:
        key (str): The name, with or without a scope (``hybridcls.X``).
        registry (Registry): The registry that does not have it.
        registries (Iterable[Registry]): All registries, one of which may have the name.
        places (Iterable[Path]): Folders whose Python files may define a class of that name.

    Returns:
        str: Sentences: the missing name, a package that is not installed, near names, and the file that defines such a
        class with the import to add.
    """
    name = key.rsplit('.', 1)[-1]
    parts = [f'{key} is not in the {registry.scope}::{registry.name} registry.']
    known: set[str] = set()
    root = registry
    node: Optional[Any] = registry
    while node is not None:
        known.update(node.module_dict)
        root, node = node, node.parent
    scope = key.partition('.')[0] if '.' in key else registry.scope
    scopes = [root.scope, *root.children]
    if scope and scope not in scopes and importlib.util.find_spec(scope) is None:
        near = did_you_mean(scope, scopes) or f' Try pip install {scope}; without a scope, {name} is looked up here.'
        return f'{parts[0]} Its package {scope!r} is not installed.{near}'
    hint = did_you_mean(name, known)
    if hint:
        parts.append(hint.strip())
    for other in registries:
        if other is not registry and name in other.module_dict:
            parts.append(f'{name} is a {other.name}, not a {registry.name}: is it under the right key of the config?')
    for path, line in _definitions_of(name, places):
        module = _module_name(path)
        advice = (
            f"add custom_imports = dict(imports=['{module}'], allow_failed_imports=False) to the config"
            if module
            else 'put it where Python can import it'
        )
        parts.append(
            f'{path}:{line} defines {name}, but it is not registered here: {advice}, and decorate it with '
            'register_module() of this registry.'
        )
    if len(parts) == 1:
        parts.append(
            f'The registry has {len(known)} names; to add your own, set custom_imports = '
            "dict(imports=['my_package.my_file'], allow_failed_imports=False) in the config."
        )
    return ' '.join(parts)


def _definitions_of(name: str, places: Iterable[Path]) -> Iterator[tuple[Path, int]]:
    """Yield the file and line of each class or function ``name`` in the Python files of ``places``."""
    if not name.isidentifier():
        return
    pattern = re.compile(rf'^\s*(?:class|def)\s+{name}\b', re.MULTILINE)
    seen: set[Path] = set()
    for place in places:
        for path in _files_below(place, '.py'):
            path = path.resolve()
            if path in seen:
                continue
            seen.add(path)
            if len(seen) > _MOST_FILES_SEARCHED:
                return
            try:
                text = path.read_text(encoding='utf8')
            except (OSError, UnicodeDecodeError):
                continue
            match = pattern.search(text)
            if match and _parses(text):
                yield path, text.count('\n', 0, match.start() + len(match.group()) - len(match.group().lstrip())) + 1


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _module_name(path: Path) -> Optional[str]:
    """Return the dotted name that imports ``path`` from the working folder, or None."""
    try:
        relative = path.relative_to(Path.cwd().resolve())
    except ValueError:
        package = Path(__file__).resolve().parent
        if package not in path.parents:
            return None
        relative = path.relative_to(package.parent)
    parts = [*relative.parts[:-1], relative.stem]
    return '.'.join(parts) if all(part.isidentifier() for part in parts) else None
