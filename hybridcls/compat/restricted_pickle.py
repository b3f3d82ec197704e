"""An unpickler that calls no function named in a file. Run with Python 3.11; knows ``pickle._Unpickler``.

Given to ``torch.load(pickle_module=...)``, for torch's zip files and for its old format alike. A pickle is a program:
it names functions and classes, and has them called. Here a name stands for itself only if it is in one of the two
tables below. Every other one (``getattr``, ``os.system``, a class of any project) becomes a
:class:`Placeholder`, which notes what the file names and does nothing. What we know of them, numpy's arrays for
example, is built afterwards from these notes by code of ours (:mod:`hybridcls.compat.torch`).
"""

import pickle
from collections import OrderedDict
from typing import Any, BinaryIO

import torch

__all__ = ['Placeholder', 'RefusedError', 'Unpickler', 'load']


class RefusedError(pickle.UnpicklingError):
    """A pickle does more than build objects; the message says what."""


class Placeholder:
    """Stands for an object or a call that a file names; nothing is imported or run.

    Attributes:
        kind (str): The full name of the class or function, such as ``'posix.system'``; of the class, so that a
            file cannot change it.
        arguments (tuple): What it was to be given.
        state (Any): What was to be set on it; None if nothing was.
        entries (list): What was to be appended, or set as (key, value).
    """

    __slots__ = ('arguments', 'entries', 'state')
    kind = ''

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None
        self.entries: list[Any] = []

    def __repr__(self) -> str:
        return f'<not built: {self.kind}>'

    def __reduce__(self) -> tuple:  # copies and the comparison of pickled `dataset_meta` in mmengine's resume
        return _placeholder, (self.kind, self.arguments)


def _placeholder(kind: str, arguments: tuple) -> Placeholder:
    return placeholder_class(kind)(*arguments)


def placeholder_class(kind: str) -> type[Placeholder]:
    """Return a class whose instances stand for ``kind``."""
    return type('Placeholder', (Placeholder,), {'__slots__': (), 'kind': kind})


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False, *_: Any) -> torch.Tensor:
    """Build a tensor from a storage of the file, without the hooks and attributes that the file would set.

    torch checks that offset, size and stride stay within the storage.
    """
    if not isinstance(storage, torch.storage.TypedStorage):
        raise RefusedError(f'a tensor over a {type(storage).__name__}')
    untyped = storage._untyped_storage
    tensor = torch.empty((0,), dtype=storage.dtype, device=untyped.device)
    return tensor.set_(untyped, offset, size, stride).requires_grad_(requires_grad is True)  # type: ignore[call-overload]


def _tensor_of_dtype(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, dtype: Any, *_: Any
) -> torch.Tensor:
    """Build a tensor of a dtype that has no storage class of its own (``torch.uint16``)."""
    if not isinstance(storage, torch.storage.TypedStorage) or not isinstance(dtype, torch.dtype):
        raise RefusedError(f'a tensor over a {type(storage).__name__} as {type(dtype).__name__}')
    untyped = storage._untyped_storage
    return torch.empty((0,), dtype=dtype, device=untyped.device).set_(untyped, offset, size, stride)  # type: ignore[call-overload]


def _parameter(data: Any, requires_grad: Any = True, *_: Any) -> torch.nn.Parameter:
    if type(data) is not torch.Tensor:
        raise RefusedError(f'a parameter of a {type(data).__name__}')
    return torch.nn.Parameter(data.detach(), requires_grad is True)


def _tensor_with_attributes(build: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """Build a tensor from torch's format for tensors with attributes, which are dropped."""
    known = any(build is function for function in (_tensor, _tensor_of_dtype, _parameter))
    if not known or not any(kind is one for one in (torch.Tensor, torch.nn.Parameter)):
        raise RefusedError('a tensor of a class that is not known')
    return build(*arguments)


def _dict(*_: Any) -> dict:
    return {}  # of a defaultdict: without what makes its defaults


def _bytes(text: Any = '', encoding: Any = 'latin1') -> bytes:
    if not isinstance(text, str) or encoding != 'latin1':
        raise RefusedError(f'bytes from {type(text).__name__} in {encoding!r}')
    return text.encode('latin1')


def _no_bytes(*arguments: Any) -> bytes:
    if arguments:
        raise RefusedError('a call of bytes')
    return b''  # how protocol 2 writes none


def _size(values: Any = ()) -> torch.Size:
    return torch.Size(int(value) for value in values)


def _device(kind: Any, index: Any = None) -> torch.device:
    return torch.device(str(kind)) if index is None else torch.device(str(kind), int(index))


# What may be called. Each takes any arguments without running anything of theirs: plain containers, and tensors over
# the storages of the file.
_CALLED: dict[str, Any] = {
    'collections.OrderedDict': OrderedDict,
    'collections.defaultdict': _dict,
    'builtins.set': set,
    'builtins.frozenset': frozenset,
    'builtins.complex': complex,
    'builtins.bytearray': lambda *arguments: bytearray(_bytes(*arguments)),
    'builtins.slice': slice,
    'builtins.bytes': _no_bytes,
    '_codecs.encode': _bytes,
    'torch.Size': _size,
    'torch.device': _device,
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': _tensor_of_dtype,
    'torch._utils._rebuild_parameter': _parameter,
    'torch._utils._rebuild_parameter_with_state': _parameter,
    'torch._tensor._rebuild_from_type_v2': _tensor_with_attributes,
}
# Protocol 2 writes Python 2's names.
_CALLED |= {name.replace('builtins', '__builtin__'): value for name, value in _CALLED.items()}

# What may be named, and is never called.
_NAMED: dict[str, Any] = {
    'torch.Tensor': torch.Tensor,
    'torch._tensor.Tensor': torch.Tensor,
    'torch.nn.parameter.Parameter': torch.nn.Parameter,
    'torch.storage.UntypedStorage': torch.UntypedStorage,
    **{str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)},
}


_InPython: Any = pickle._Unpickler  # type: ignore[attr-defined]  # C's cannot be told what to call


class Unpickler(_InPython):
    """Read a pickle, calling only the functions of ``_CALLED``.

    Raises:
        RefusedError: For a pickle that does anything else.
    """

    def __init__(self, file: BinaryIO, **_: Any) -> None:
        # latin1 reads every byte of Python 2's strings, which numpy's arrays in old files consist of.
        super().__init__(file, encoding='latin1')
        self._classes: dict[str, type[Placeholder]] = {}
        self._load_storage: Any = None

    def find_class(self, module: str, name: str) -> Any:
        """Return a known class or a placeholder for a name; nothing is imported."""
        kind = f'{module}.{name}'
        if not kind.isprintable():  # it will stand in messages, and could make up lines of its own there
            kind = ascii(kind)
        if kind in _CALLED:
            return _CALLED[kind]
        if kind in _NAMED:
            return _NAMED[kind]
        return self._classes.setdefault(kind, placeholder_class(kind))

    def get_extension(self, code: int) -> None:
        """Refuse extension codes of ``copyreg``, which name classes indirectly; torch writes none."""
        raise RefusedError(f'the extension code {code}')

    @property
    def persistent_load(self) -> Any:
        """The function, set by torch, that loads a storage; torch's check of source code in old files is skipped."""
        return self._load_checked_storage

    @persistent_load.setter
    def persistent_load(self, load_storage: Any) -> None:
        self._load_storage = load_storage

    def _load_checked_storage(self, identity: Any) -> Any:
        if not isinstance(identity, tuple) or len(identity) < 2:
            raise RefusedError('a persistent object that is no storage')
        what, kind = identity[:2]
        if what == 'module' and isinstance(kind, type) and issubclass(kind, Placeholder):
            return kind  # the class of a module, with its source code
        known = kind is torch.UntypedStorage or isinstance(kind, torch.serialization.StorageType)
        if what != 'storage' or not known or self._load_storage is None:
            raise RefusedError('a persistent object that is no storage')
        return self._load_storage(identity)

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(arguments, tuple):
            raise RefusedError(f'a call with a {type(arguments).__name__} for arguments')
        known = isinstance(function, type) and issubclass(function, Placeholder)
        if known or any(function is allowed for allowed in _CALLED.values()):
            return function(*arguments)
        raise RefusedError(f'a call of {function!r}')

    def load_reduce(self) -> None:
        """Handle REDUCE: call an allowed function."""
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        """Handle NEWOBJ: create an object of a class."""
        self.load_reduce()

    def load_newobj_ex(self) -> None:
        """Handle NEWOBJ_EX: create an object with keyword arguments, which placeholders store as one more argument."""
        keywords = self.stack.pop()
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], (*arguments, keywords) if keywords else arguments)

    def _instantiate(self, kind: Any, arguments: list) -> None:
        """Create an object of a class in protocols 0 and 1."""
        self.append(self._call(kind, tuple(arguments)))

    def load_build(self) -> None:
        """Handle BUILD: set the state of an object."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Placeholder):
            target.state = state
        elif type(target) is OrderedDict and isinstance(state, dict):
            metadata = state.get('_metadata')  # of a state dict: the versions of its modules
            if isinstance(metadata, dict) and all(isinstance(value, dict) for value in metadata.values()):
                target._metadata = metadata  # type: ignore[attr-defined]
        else:
            raise RefusedError(f'the state of a {type(target).__name__}')

    def load_setitem(self) -> None:
        """Handle SETITEM: set one entry."""
        value, key = self.stack.pop(), self.stack.pop()
        self._set(key, value)

    def load_setitems(self) -> None:
        """Handle SETITEMS: set several entries."""
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(key, value)

    def _set(self, key: Any, value: Any) -> None:
        target = self.stack[-1]
        if isinstance(target, Placeholder):
            target.entries.append((key, value))
        elif type(target) in (dict, OrderedDict):
            target[key] = value
        else:
            raise RefusedError(f'an entry of a {type(target).__name__}')

    def load_append(self) -> None:
        """Handle APPEND: append one object."""
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        """Handle APPENDS: append several objects."""
        self._extend(self.pop_mark())

    load_additems = load_appends

    def _extend(self, items: list) -> None:
        target = self.stack[-1]
        if isinstance(target, Placeholder):
            target.entries.extend(items)
        elif type(target) is list:
            target.extend(items)
        elif type(target) is set:
            target.update(items)
        else:
            raise RefusedError(f'an element of a {type(target).__name__}')

    dispatch = {
        **_InPython.dispatch,
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends,
        pickle.ADDITEMS[0]: load_additems,
    }


def load(file: BinaryIO, **arguments: Any) -> Any:
    """Read one pickle; the second function that ``torch.load`` expects of a pickle module."""
    return Unpickler(file, **arguments).load()
