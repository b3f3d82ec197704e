"""An accelerator that is not there: its tensors lie in the CPU's memory, and refuse to meet the CPU's, as on CUDA.

It is torch's device for backends from elsewhere (``PrivateUse1``), so autograd, optimizers, autocast, views, copies and
checkpoints treat its tensors as they treat those of a GPU; each kernel is the CPU's. What CUDA refuses is refused:
tensors of two devices in one operation, but for numbers without dimension and indices on the CPU, generators of the
other device, operations that have no kernel for CUDA. Its random numbers are its own. What waits for a device (a number
read on the host, a shape that depends on values, a copy to the CPU) is noted in :data:`waits`.

A process that has it cannot be rid of it, and torch takes it for the machine's accelerator: use it in a process of its
own. Private names of torch that nothing else knows are here (torch 2.14).
"""

import contextlib
import functools
import traceback
import weakref
from collections import Counter

import torch
from torch._C import DispatchKey, DispatchKeySet
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = 'pretend'
DEVICE = torch.device('cpu')  # until it is set up
refused_dtypes = set()  # MPS has no float64
waits = Counter()  # lines of hybridcls that waited for the device, and for what

_aten = torch.ops.aten
_CPU = DispatchKeySet(DispatchKey.CPU)
_LIBRARIES = []  # torch forgets what is registered with a library that is gone
# Operations besides those tagged as pointwise that take a number without dimension from the CPU.
_NUMBER_WELCOME = {'copy_', '_copy_from', 'fill_', 'index_put_', '_index_put_impl_', 'index_fill_', 'masked_fill_'}
# They take indices from the CPU.
_INDEXING = {'index', 'index_put_', '_index_put_impl_', '_unsafe_index', '_unsafe_index_put', 'index_put'}
# Their results have a shape that the host has to know.
_WAITING = {'_local_scalar_dense', 'nonzero', 'masked_select', '_unique2', 'unique_dim', 'equal', 'unique_consecutive'}


class _AnyGenerator(type(torch.Generator)):
    def __call__(cls, device='cpu'):
        kind = Generator if torch.device(device).type == NAME else _CPU_GENERATOR
        return type.__call__(kind)

    def __instancecheck__(cls, value):
        return isinstance(value, _CPU_GENERATOR)


class Generator(torch.Generator):
    """A generator of the device; one of the CPU underneath."""

    device = property(lambda self: DEVICE)
    known = weakref.WeakValueDictionary()  # C++ hands on a plain one, by its address

    def __init__(self):
        self.known[self._cdata] = self


_CPU_GENERATOR = torch.Generator


class _Module:
    """What ``torch.cuda`` is for CUDA."""

    def __init__(self):
        self.generator = Generator()
        self.allocated, self.peak = 0, 0

    is_available = is_initialized = is_bf16_supported = staticmethod(lambda *args, **kwargs: True)
    _is_in_bad_fork = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    set_device = synchronize = empty_cache = _lazy_init = staticmethod(lambda *args, **kwargs: None)
    device = staticmethod(lambda *args: contextlib.nullcontext())
    get_amp_supported_dtype = staticmethod(lambda: [torch.float16, torch.bfloat16])

    def manual_seed(self, seed):
        self.generator.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_rng_state(self, device=None):
        return self.generator.get_state()

    def set_rng_state(self, state, device=None):
        if state.device.type != 'cpu':
            raise TypeError(f'set_rng_state: expected a state on the CPU, got one on {state.device}.')
        self.generator.set_state(state)


def set_up():
    """Give this process the device, and return it."""
    global DEVICE
    if DEVICE.type == 'cpu':
        _setup_privateuseone_for_python_backend(NAME, _Module())
        DEVICE = torch.device(NAME, 0)
        _LIBRARIES.extend(torch.library.Library(namespace, 'IMPL') for namespace in ('_', 'aten'))
        fallback, kernels = _LIBRARIES
        fallback.fallback(_run_what_cuda_has, 'PrivateUse1')
        fallback.fallback(torch.library.fallthrough_kernel, 'AutocastPrivateUse1')
        for name, kernel in _KERNELS.items():
            kernels.impl(name, kernel, 'PrivateUse1')
        for name, kind in _CASTS.items():
            kernels.impl(name, functools.partial(_cast, _operator(name), kind), 'AutocastPrivateUse1')
        if torch.distributed.is_available():
            _LIBRARIES.append(torch.library.Library('c10d', 'IMPL'))
            for name in _COLLECTIVES:
                operator = getattr(torch.ops.c10d, name).default
                _LIBRARIES[-1].impl(name, functools.partial(_run, operator), 'PrivateUse1', allow_override=True)
        for name, method in _storage_methods(torch.UntypedStorage).items():
            setattr(torch.UntypedStorage, name, method)
        torch.Generator = _AnyGenerator('Generator', (torch.Generator,), {})
    return DEVICE


def on_device(tensor):
    """Return the CPU's tensor as one of the device, in the same memory."""
    if tensor.dtype in refused_dtypes:
        raise TypeError(f"Cannot convert a tensor to {tensor.dtype}, which the device doesn't support (like MPS).")
    memory = tensor.untyped_storage()
    storage = torch._C._construct_storage_from_data_pointer(memory.data_ptr(), DEVICE, memory.nbytes())
    storage.memory = memory
    empty = torch._C._acc.create_empty_tensor((0,), tensor.dtype)
    return _set(empty, storage, tensor)


def on_cpu(tensor):
    """Return the device's tensor as one of the CPU, in the same memory."""
    storage = tensor.untyped_storage()
    memory = storage.memory if hasattr(storage, 'memory') else torch.UntypedStorage(0)
    alias = torch.empty(0, dtype=tensor.dtype)
    alias = alias.set_(memory, tensor.storage_offset(), tensor.size(), tensor.stride())
    if tensor.is_conj() or tensor.is_neg():
        raise NotImplementedError('pretend_device: lazily conjugated or negated tensors.')
    return alias


def _set(tensor, storage, like):
    overload = _aten.set_.source_Storage_storage_offset
    return overload.redispatch(_CPU, tensor, storage, like.storage_offset(), like.size(), like.stride())


def _run_what_cuda_has(operator, *args, **kwargs):
    _check_kernel(operator)
    return _run(operator, *args, **kwargs)


def _run(operator, *args, **kwargs):
    """Run any operation of the device: check what it gets, and let the CPU do it in the same memory."""
    schema, name = operator._schema, operator._schema.name.partition('::')[2]
    tensors = []
    _mapped(tensors.append, [*args, *kwargs.values()])
    _check_devices(operator, name, tensors, args)
    if name in _WAITING or (name in _INDEXING and _has_mask(args[1])):
        _note_wait(name)
    if isinstance(kwargs.get('device'), torch.device):
        kwargs['device'] = torch.device('cpu')
    args, kwargs, draws = _with_generator(operator, args, kwargs)
    aliases = {id(value): on_cpu(value) for value in tensors if value.device.type == NAME}
    originals = {id(aliases[id(value)]): value for value in tensors if id(value) in aliases}
    args = [_as_tensor(one.type, value, tensors) for one, value in zip(schema.arguments, args, strict=False)]
    before = {key: _layout(one) for key, one in aliases.items()} if schema.is_mutable else {}
    with _own_random_numbers() if draws else contextlib.nullcontext():
        results = operator(
            *_mapped(lambda one: aliases.get(id(one), one), args),
            **{key: _mapped(lambda one: aliases.get(id(one), one), value) for key, value in kwargs.items()},
        )
    for value in originals.values() if before else ():  # an output that was resized has got other memory
        found = aliases[id(value)]
        if _layout(found) != before[id(value)]:
            _set(value, on_device(found).untyped_storage(), found)
    storages = {one.untyped_storage()._cdata for one in aliases.values()}

    def back(value):
        if id(value) in originals:
            return originals[id(value)]
        if value.device.type == 'cpu' and value.untyped_storage()._cdata in storages and value.numel():
            raise NotImplementedError(f'pretend_device: {operator} returns a view.')
        return on_device(value)

    return _mapped(back, results)


def _mapped(function, value):
    """Apply a function to a tensor, or to those of a list, as operations take and return them."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_mapped(function, one) for one in value)
    return value


def _with_generator(operator, args, kwargs):
    """Return the arguments with the device's generator where none is given, and whether numbers are drawn without."""
    places = [place for place, one in enumerate(operator._schema.arguments) if one.name == 'generator']
    if not places:
        return args, kwargs, torch.Tag.nondeterministic_seeded in operator.tags
    given = kwargs.get('generator') or (args[places[0]] if places[0] < len(args) else None)
    _check_generator(given)
    if given is None:
        args, kwargs = args[: places[0]], {**kwargs, 'generator': torch.pretend.generator}
    return args, kwargs, False


def _as_tensor(kind, value, tensors):
    """Return the tensor that a number was, if an operation wants one."""
    if not isinstance(kind, torch.TensorType) or not isinstance(value, (bool, int, float)):
        return value
    made = torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
    if not tensors or tensors[0].dim():  # a number without dimension, of which only the kind counts
        return made
    like = tensors[0].dtype
    return made.to(like) if torch.promote_types(like, made.dtype) == like or like.is_floating_point else made


def _layout(tensor):
    return tensor.data_ptr(), tensor.size(), tensor.stride(), tensor.untyped_storage().nbytes()


def _check_devices(operator, name, tensors, args):
    here = [one for one in tensors if one.device.type == NAME]
    others = [one for one in tensors if one.device.type != NAME]
    if not here or not others:
        return
    if name in _INDEXING:
        if args[0].device.type != NAME:
            raise RuntimeError(
                f'indices should be either on cpu or on the same device as the indexed tensor ({args[0].device})'
            )
        indices = {id(one) for one in args[1] if one is not None}
        for one in others:
            if id(one) in indices:
                _note_wait('an index on the CPU')
        others = [one for one in others if id(one) not in indices]
    if torch.Tag.pointwise in operator.tags or name in _NUMBER_WELCOME | _INDEXING or name.startswith('_foreach'):
        others = [one for one in others if one.dim()]
    if others:
        raise RuntimeError(
            f'Expected all tensors to be on the same device, but found at least two devices, {DEVICE} and '
            f'{others[0].device}! (when checking {operator})'
        )


def _check_generator(generator):
    if generator is not None and generator._cdata not in Generator.known:
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found '{generator.device.type}'")


@functools.cache
def _check_kernel(operator):
    """Refuse what has no kernel for CUDA, if this torch is built with those."""
    if torch.version.cuda is None or operator.namespace != 'aten':
        return
    if not torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), 'CUDA'):
        raise NotImplementedError(f'{operator} has no kernel for CUDA.')


def _has_mask(indices):
    return any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in indices)


def _note_wait(what):
    for frame in reversed(traceback.extract_stack(limit=40)):
        if '/hybridcls/' in frame.filename:
            place = frame.filename.partition('/hybridcls/')[2]
            waits[f'{place}:{frame.lineno} {what}'] += 1
            return


@contextlib.contextmanager
def _own_random_numbers():
    """Let an operation that takes no generator draw from the device's."""
    kept = torch.get_rng_state()
    torch.set_rng_state(torch.pretend.generator.get_state())
    try:
        yield
    finally:
        torch.pretend.generator.set_state(torch.get_rng_state())
        torch.set_rng_state(kept)


def _empty(size, *, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
    kept = memory_format or torch.contiguous_format
    return on_device(torch.empty(size, dtype=dtype, device='cpu', memory_format=kept))


def _empty_strided(size, stride, *, dtype=None, layout=None, device=None, pin_memory=None):
    return on_device(torch.empty_strided(size, stride, dtype=dtype, device='cpu'))


def _copy_from(source, target, non_blocking=False):
    if target.device.type == 'cpu':
        _note_wait('a copy to the CPU')
    plain = [on_cpu(one) if one.device.type == NAME else one for one in (source, target)]
    plain[1].copy_(plain[0])
    return target


def _view_of(overload):
    """Return the CPU's own function for views, which looks at shapes alone."""
    return lambda *args, **kwargs: overload.redispatch(_CPU, *args, **kwargs)


def _convolution(inputs, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
    return _run(
        _aten.convolution.default, inputs, weight, bias, stride, padding, dilation, transposed, output_padding, groups
    )


def _convolution_backward(
    grad, inputs, weight, stride, padding, dilation, transposed, output_padding, groups, output_mask
):
    return _run(
        _aten.convolution_backward.default, grad, inputs, weight, None, stride, padding, dilation, transposed,
        output_padding, groups, output_mask,
    )  # fmt: skip


_KERNELS = {
    'empty.memory_format': _empty,
    'empty_strided': _empty_strided,
    '_copy_from': _copy_from,
    '_copy_from_and_resize': _copy_from,
    'convolution_overrideable': _convolution,
    'convolution_backward_overrideable': _convolution_backward,
    '_fused_sdp_choice': lambda *args, **kwargs: 0,  # the one in plain operations
    **{
        name: _view_of(functools.reduce(getattr, [*name.split('.'), *['default'] * ('.' not in name)], _aten))
        for name in (
            'as_strided', 'view', '_reshape_alias', 'unfold', 'set_.source_Storage_storage_offset',
            'set_.source_Tensor',
        )
    },
}  # fmt: skip

# Of a group whose backend is gloo for the device too: 'cpu:gloo,pretend:gloo'.
_COLLECTIVES = ('allgather_', 'allreduce_', 'broadcast_', 'alltoall_', 'alltoall_base_', 'send', 'recv_')

# What autocast does on CUDA.
_CASTS = {
    **dict.fromkeys(
        (
            'linear', 'conv1d', 'conv2d', 'conv3d', 'conv_transpose2d.input', 'matmul', 'mm', 'bmm', 'addmm', 'baddbmm',
            'addbmm', 'addmv', 'mv', 'einsum', 'prelu', 'scaled_dot_product_attention', '_convolution', 'linalg_vecdot',
        ),
        'low',
    ),
    **dict.fromkeys(
        (
            'layer_norm', 'group_norm', 'softmax.int', 'log_softmax.int', 'cross_entropy_loss', 'nll_loss', 'exp',
            'log', 'log1p', 'log2', 'log10', 'pow.Tensor_Scalar', 'pow.Tensor_Tensor', 'norm.Scalar',
            'norm.ScalarOpt_dim',
            'linalg_vector_norm', 'sum', 'sum.dim_IntList', 'prod', 'prod.dim_int', 'cumsum', 'softplus', 'acos',
            'asin', 'cosine_similarity', 'cdist', 'kl_div', 'l1_loss', 'mse_loss', 'smooth_l1_loss', 'rsqrt',
            'reciprocal',
            'expm1', 'erfinv', 'tan', 'cosh', 'sinh', 'binary_cross_entropy_with_logits', 'cosine_embedding_loss',
            'margin_ranking_loss', 'triplet_margin_loss', 'renorm', 'logsumexp', 'dist', 'pdist', 'poisson_nll_loss',
        ),
        'full',
    ),
    **dict.fromkeys(
        ('addcdiv', 'addcmul', 'atan2', 'bilinear', 'cross', 'dot', 'grid_sampler', 'index_put', 'scatter_add',
         'tensordot', 'cat', 'stack'),
        'widest',
    ),
}  # fmt: skip


def _operator(name):
    packet, _, overload = name.partition('.')
    return getattr(getattr(_aten, packet), overload or 'default')


def _cast(operator, kind, *args, **kwargs):
    """Run an operation under autocast, its tensors in the dtype that autocast gives them on CUDA."""
    dtypes = []
    _mapped(lambda one: dtypes.append(one.dtype), [*args, *kwargs.values()])
    wanted = torch.get_autocast_dtype(NAME) if kind == 'low' else torch.float32
    if kind == 'widest' and torch.float32 not in dtypes:
        wanted = None

    def cast(one):
        is_ours = one.is_floating_point() and one.device.type == NAME and one.dtype != torch.float64  # doubles stay
        return one.to(wanted) if wanted is not None and is_ours else one

    with torch._C._ExcludeDispatchKeyGuard(DispatchKeySet(DispatchKey.AutocastPrivateUse1)):
        return operator(*_mapped(cast, args), **{key: _mapped(cast, value) for key, value in kwargs.items()})


def _storage_methods(kind):
    """Return methods of storages; torch's own allocate in C++, where this device has no memory."""
    plain_clone, plain_cpu, plain_to = kind.clone, kind.cpu, kind.to

    def clone(storage):
        return _stored_here(storage.memory) if storage.device.type == NAME else plain_clone(storage)

    def cpu(storage):
        return storage.memory.clone() if storage.device.type == NAME else plain_cpu(storage)

    def to(storage, *, device, non_blocking=False):
        kinds = storage.device.type, torch.device(device).type
        if NAME not in kinds:
            return plain_to(storage, device=device, non_blocking=non_blocking)
        if kinds[0] == kinds[1]:
            return storage
        return cpu(storage) if kinds[0] == NAME else _stored_here(storage)

    return dict(clone=clone, cpu=cpu, to=to)


def _stored_here(memory):
    return on_device(torch.empty(0, dtype=torch.uint8).set_(memory.clone())).untyped_storage()
