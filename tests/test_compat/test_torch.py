import torch

from hybridcls.compat.torch import call_compiled_by, compiler_in_use


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
