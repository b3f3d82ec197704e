"""What is compiled, errors of workers, and reading what torch wrote without running it."""

import argparse
import io
import pathlib
import pickle
import tarfile
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import worker

import hybridcls.datasets  # noqa: F401  (it lets sentences out of workers)
from hybridcls.checks import check_number
from hybridcls.command_line import explain_error, run_tool
from hybridcls.compat.torch import (
    Placeholder,
    RunsCodeError,
    buffers_in,
    call_compiled_by,
    compiler_in_use,
    exclude_names_from_ddp,
    is_dtensor,
    is_view,
    left_by_overflow,
    parameters_in,
    placeholders_in,
    read_torch_file,
    version_of,
)


class PickyError(ValueError):
    """Cannot be made from a text."""

    def __init__(self, one, two):
        super().__init__(f'{one} {two}')


def ours():
    check_number('Me', 'rho', -1, low=0)


def gone():
    open('/nothing/here.jpg').close()


def theirs():
    return {}['x']


def picky():
    raise PickyError(1, 2)


def sent_by(fail):
    """What arrives of an error, by the way that torch goes with it."""
    try:
        fail()
    except Exception:
        wrapper = pickle.loads(pickle.dumps(worker.ExceptionWrapper(where='in worker 0')))
    try:
        wrapper.reraise()
    except Exception as error:
        return error


def test_what_we_can_explain_arrives_with_its_own_text():
    error = sent_by(ours)
    assert type(error) is ValueError
    assert str(error) == explain_error(error) == 'Me: expected rho in [0, inf), got -1.'
    assert 'in worker 0' in str(error.__cause__), 'where it was raised'
    assert 'check_number' in str(error.__cause__), 'where it was raised'
    error = sent_by(gone)
    assert type(error) is FileNotFoundError
    assert explain_error(error) == "[Errno 2] No such file or directory: '/nothing/here.jpg'"


@pytest.mark.parametrize(('fail', 'kind'), [(theirs, KeyError), (picky, RuntimeError)])
def test_a_fault_of_the_program_comes_with_its_traceback(fail, kind):
    error = sent_by(fail)
    assert type(error) is kind
    assert 'Traceback' in str(error)
    assert explain_error(error) is None


def test_an_error_of_ours_that_no_text_makes(monkeypatch):
    monkeypatch.setattr(worker.ExceptionWrapper, 'explain', staticmethod(lambda error: f'It is {error}.'))
    error = sent_by(picky)
    assert (type(error), str(error)) == (RuntimeError, 'It is 1 2.')


class Failing(Dataset):
    """Has no image."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        ours()


def test_a_tool_ends_with_status_2_and_one_sentence(capsys):
    loader = DataLoader(Failing(), num_workers=1, prefetch_factor=1)
    with pytest.raises(SystemExit) as end:
        run_tool(lambda: next(iter(loader)))
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith('\nerror: Me: expected rho in [0, inf), got -1.\n')


def test_code_is_compiled_as_it_was_elsewhere():
    compiled, compilers = [], []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph

    @torch.compiler.disable(recursive=False)
    def note(x):
        compilers.append(compiler_in_use())
        return x

    def double(x):
        return x * 2

    torch.compile(note, backend=backend)(torch.ones(2))
    compilers.append(compiler_in_use())
    for compiler, count in zip(compilers[::-1], (0, 1), strict=True):
        assert torch.equal(call_compiled_by(compiler, double, torch.ones(2)), torch.full((2,), 2.0))
        assert len(compiled) == count
    double(torch.ones(2))
    assert compiler_in_use() is None
    assert len(compiled) == 1


class Strange:
    """A class of another project."""


def through(value, zipped=True, protocol=2):
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    file.seek(0)
    return read_torch_file(file)


FORMS = [(True, 2), (False, 2), (True, 4), (False, 4)]


@pytest.mark.parametrize(('zipped', 'protocol'), FORMS)
def test_tensors(zipped, protocol):
    base = torch.arange(12.0).reshape(3, 4)
    values = dict(
        base=base,
        view=base[1:, ::2],
        half=torch.ones(2, dtype=torch.bfloat16),
        whole=torch.tensor([2**62]),
        flag=torch.tensor(True),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.ones(2)),
        complex=torch.tensor([1 + 2j]),
    )
    if zipped:  # torch cannot read this one back from its old format either
        values['unsigned'] = torch.tensor([65535], dtype=torch.uint16)
    found = through(values, zipped, protocol)
    for name, value in values.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)
        assert type(found[name]) is type(value)
    assert found['view'].untyped_storage().data_ptr() == found['base'].untyped_storage().data_ptr()


@pytest.mark.parametrize(('zipped', 'protocol'), FORMS)
def test_plain_content_and_what_we_know(zipped, protocol):
    history = HistoryBuffer([1.5, 2.5], [1, 2], 7)
    values = dict(
        plain=[
            None,
            True,
            3,
            2**80,
            -1.5,
            'a\u00e4',
            b'\x00\xff',
            (1, (2,)),
            {3},
            frozenset([4]),
            OrderedDict(a=1),
            1j,
        ],
        default=defaultdict(list, a=[1]),
        scalars=[np.float64(0.5), np.float32(0.25), np.int64(7), np.bool_(True), np.str_('x')],
        arrays=[
            np.arange(6).reshape(2, 3),
            np.asfortranarray(np.ones((2, 3))),
            np.array(['a', 'bc']),
            np.zeros((0, 2)),
        ],
        big_endian=np.array([1, 2], '>i4'),
        args=argparse.Namespace(lr=0.1, inner=argparse.Namespace(a=np.float64(1))),
        history=history,
        config=ConfigDict(a=dict(b=1)),
        path=pathlib.Path('a/b.txt'),
        kinds=[torch.float32, torch.Size([1, 2]), torch.device('cpu')],
        key={np.int64(3): 'three'},
    )
    found = through(values, zipped, protocol)
    assert not list(placeholders_in(found))
    assert found['plain'] == values['plain']
    assert found['default'] == {'a': [1]}
    assert [(type(a), a) for a in found['scalars'][:4]] == [(type(a), a) for a in values['scalars'][:4]]
    for new, old in zip(
        [*found['arrays'], found['big_endian']], [*values['arrays'], values['big_endian']], strict=True
    ):
        np.testing.assert_array_equal(new, old)
        assert new.dtype == old.dtype
        new[...] = old  # writable
    assert found['args'] == values['args']
    assert [part.tolist() for part in found['history'].data] == [[1.5, 2.5], [1, 2]]
    assert found['history'].max_length == 7
    assert found['history'].mean() == history.mean()
    assert found['config'] == {'a': {'b': 1}}
    assert found['path'] == str(values['path'])
    assert found['kinds'] == values['kinds']
    assert found['key'] == {3: 'three'}


def test_a_file_cannot_change_what_histories_compute():
    """mmengine keeps the functions in the class, and takes them from the file, as ``getattr(HistoryBuffer, 'min')``."""
    history = HistoryBuffer([1.0, 3.0], [1, 1])
    before = dict(HistoryBuffer._statistics_methods)
    data = through(dict(h=history))
    assert HistoryBuffer._statistics_methods == before
    assert data['h'].statistics('max') == 3


def test_unknown_objects_are_placeholders_and_cycles_end():
    loop = [Strange()]
    loop.append(loop)
    found = through(dict(loop=loop, objects=np.array([Strange()], dtype=object), when=np.datetime64('2020')))
    assert found['loop'][1] is found['loop']
    wanted = {value.kind.rpartition('.')[2] for value in placeholders_in(found)}
    assert wanted == {'Strange', '_reconstruct', 'scalar'}
    assert isinstance(found['objects'], Placeholder)


def test_whole_modules_are_not_built():
    for zipped in (True, False):
        found = through(dict(model=torch.nn.Linear(2, 2)), zipped)
        assert found['model'].kind == 'torch.nn.modules.linear.Linear'


def test_programs_and_tar_files_are_refused(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / 'program.pt')
    with tarfile.open(tmp_path / 'old.tar', 'w') as archive:
        archive.add(tmp_path / 'program.pt', 'pickle')
    for name, what in [('program.pt', 'TorchScript'), ('old.tar', 'tar file')]:
        with open(tmp_path / name, 'rb') as file, pytest.raises(RunsCodeError, match=what):
            read_torch_file(file)


def test_tensors_stay_within_their_storage():
    file = io.BytesIO()
    torch.save(torch.zeros(4), file)
    data = file.getvalue().replace(b'K\x04\x85', b'K\x7f\x85', 1)  # the size (4,) in the pickle becomes (127,)
    with pytest.raises(RuntimeError):
        read_torch_file(io.BytesIO(data))


def test_changes_in_place_are_counted():
    tensor = torch.zeros(3)
    before = version_of(tensor)
    tensor[0] += 1
    assert version_of(tensor) > before
    assert version_of(tensor.clone()) == 0


def test_views_are_told_from_tensors_of_their_own():
    tensor = torch.zeros(4)
    assert not is_view(tensor)
    assert is_view(tensor[:2])
    assert not is_view(tensor[:2].clone())


def test_what_is_set_in_the_dicts_of_a_module_is_what_it_has():
    module = torch.nn.BatchNorm1d(2)
    buffers_in(module)['running_mean'] = torch.ones(2)
    parameters_in(module)['bias'] = torch.nn.Parameter(torch.ones(2))
    assert module.running_mean.tolist() == module.bias.tolist() == [1, 1]


def test_tensors_over_processes_are_known_by_their_class():
    class DTensor:  # as torch's; the real one is in tests of two processes
        pass

    assert is_dtensor(DTensor())
    assert not is_dtensor(torch.zeros(1))
    assert not is_dtensor(torch.nn.Parameter(torch.zeros(1)))
    assert not is_dtensor(3)


@pytest.mark.parametrize('fused', [True, False])
@pytest.mark.parametrize('grad', [1.0, float('inf')])
def test_a_fused_optimizer_leaves_the_weights_after_an_overflow(fused, grad):
    param = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.AdamW([param], lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler('cpu')
    scaler.scale(torch.ones(1))  # starts it
    param.grad = torch.full((1,), grad)
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    is_left = param.item() == 1
    assert is_left == (grad != 1)
    if fused:  # others are not called then, which the caller sees by itself
        assert left_by_overflow(scaler, optimizer) == is_left
    else:
        assert not left_by_overflow(scaler, optimizer)


def test_excluded_names_add_up_where_ddp_looks():
    """Against torch's own setter."""
    model, expected = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    exclude_names_from_ddp(model, ['weight'])
    exclude_names_from_ddp(model, ['bias'])
    torch.nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(expected, ['weight', 'bias'])
    place = '_ddp_params_and_buffers_to_ignore'
    assert getattr(model, place) == list(getattr(expected, place))
