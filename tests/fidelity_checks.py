"""Cases of ``hybridcls fidelity`` in a test: the numbers of the official codes stand there."""

import torch

from hybridcls.apis.fidelity import Place, case_of, compare

CPU = torch.device('cpu')


def assert_faithful(name, *dtypes):
    """Compare a case on the CPU, in both precisions unless told."""
    for dtype in dtypes or (torch.float64, torch.float32):
        found = compare(case_of(name), Place(CPU, dtype))
        assert found.ok, f'{name} in {dtype}: {found.deviation} where {found.tolerance} is allowed. {found.problem}'
