"""What torch.compile has done, and what it needs."""

import sysconfig

import torch

from hybridcls.compat.torch_compiler import compiler_counts, is_compiled, missing_for_inductor, uncompile


def test_graphs_and_breaks_are_counted():
    torch.compiler.reset()

    def broken(x):
        x = x + 1
        torch._dynamo.graph_break()
        return x * 2

    before = compiler_counts()
    torch.compile(broken, backend='eager')(torch.ones(2))
    after = compiler_counts()
    assert after.graphs - before.graphs == 2
    assert sum(after.breaks.values()) - sum(before.breaks.values()) == 1


def test_a_module_is_compiled_and_is_not_any_more():
    layer = torch.nn.Linear(2, 2)
    layer.compile(backend='eager')
    assert is_compiled(layer)
    uncompile(layer)
    assert not is_compiled(layer)


def test_what_inductor_needs(monkeypatch, tmp_path):
    monkeypatch.setattr('torch.utils._triton.has_triton', lambda: False)
    assert missing_for_inductor('cuda').startswith('Triton')
    monkeypatch.setattr(sysconfig, 'get_path', lambda name: str(tmp_path))
    assert missing_for_inductor('cpu').startswith('the headers of Python')
    (tmp_path / 'Python.h').touch()
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'Python.h' / 'cache'))  # a file, in which is no room
    assert missing_for_inductor('cpu').startswith(f'a folder to write to ({tmp_path}/Python.h/cache: ')
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'cache'))
    assert missing_for_inductor('cpu') == ''

    monkeypatch.setattr('torch._inductor.cpp_builder.get_cpp_compiler', _none_found)
    assert missing_for_inductor('cpu').startswith('a C++ compiler')


def _none_found():
    from torch._inductor.exc import InvalidCxxCompiler

    raise InvalidCxxCompiler
