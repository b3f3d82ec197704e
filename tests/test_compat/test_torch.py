"""What is compiled, and errors of workers."""

import pickle

import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import worker

import hybridcls.datasets  # noqa: F401  (it lets sentences out of workers)
from hybridcls.checks import check_number
from hybridcls.command_line import run_tool, sentence_for
from hybridcls.compat.torch import call_compiled_by, compiler_in_use


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
    assert str(error) == sentence_for(error) == 'Me: rho=-1 is outside [0, inf).'
    assert 'in worker 0' in str(error.__cause__), 'where it was raised'
    assert 'check_number' in str(error.__cause__), 'where it was raised'
    error = sent_by(gone)
    assert type(error) is FileNotFoundError
    assert sentence_for(error) == "[Errno 2] No such file or directory: '/nothing/here.jpg'"


@pytest.mark.parametrize(('fail', 'kind'), [(theirs, KeyError), (picky, RuntimeError)])
def test_a_fault_of_the_program_comes_with_its_traceback(fail, kind):
    error = sent_by(fail)
    assert type(error) is kind
    assert 'Traceback' in str(error)
    assert sentence_for(error) is None


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
    assert capsys.readouterr().err.startswith('\nerror: Me: rho=-1 is outside [0, inf).\n')


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
