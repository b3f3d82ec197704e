"""The kernels compile for GPUs; what they compute is in test_kernel_softmax.py."""

import pytest
import torch

from hybridcls.functional.margins import kernel_softmax


@pytest.mark.parametrize(
    ('precision', 'capability'),
    [
        ('bfloat16', 90),
        pytest.param('bfloat16', 80, marks=pytest.mark.nightly),
        pytest.param('tf32', 80, marks=pytest.mark.nightly),
        pytest.param('tf32', 90, marks=pytest.mark.nightly),
        pytest.param('float32', 80, marks=pytest.mark.nightly),
    ],
)
def test_kernels_compile_for_gpus(precision, capability):
    """To machine code, without a GPU, as they are launched: shared memory must fit."""
    triton = pytest.importorskip('triton', reason='Triton is not installed')
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from hybridcls.functional.margins import softmax_kernels

    operand = '*bf16' if precision == 'bfloat16' else '*fp32'
    dtype = torch.bfloat16 if precision == 'bfloat16' else torch.float32
    whole = dict(WHOLE=True, CLIP=True, BIAS=True, SUM=True, INPUT_PRECISION=kernel_softmax._INPUT_PRECISION[precision])
    for name in softmax_kernels.__all__:
        kernel = getattr(softmax_kernels, name)
        for by_triton in (True, False):
            tiles = kernel_softmax._TILES_OF_WEIGHTS if 'weights' in name else kernel_softmax._TILES_OF_LOGITS
            constants = dict(whole, MULTIPLY=by_triton, WIDTH=512)
            constants.update(tiles[dtype] if by_triton else kernel_softmax._TILES_OF_READS)
            if name == 'round_rows':
                constants['ROWS'] = kernel_softmax._ROUNDED_ROWS
            options = dict(num_warps=constants.pop('num_warps'), num_stages=constants.pop('num_stages'))
            kinds = {
                **dict.fromkeys(kernel.arg_names, '*fp32'),
                **dict.fromkeys(('first', 'count', 'num', 'width'), 'i32'),
                **dict.fromkeys(('limit', 'scale', 'shortest'), 'fp32'),
                **dict.fromkeys(('labels', 'best_class'), '*i64'),
                **dict.fromkeys(('units', 'grad', 'operand'), operand),
                'source': operand if by_triton else '*fp32',
                **dict.fromkeys(constants, 'constexpr'),
            }
            source = ASTSource(
                fn=kernel,
                signature={argument: kinds[argument] for argument in kernel.arg_names},
                constexprs={
                    (number,): constants[argument]
                    for number, argument in enumerate(kernel.arg_names)
                    if argument in constants
                },
            )
            compiled = triton.compile(source, target=GPUTarget('cuda', capability, 32), options=options)
            assert compiled.metadata.shared <= 163 * 1024  # of an A100
