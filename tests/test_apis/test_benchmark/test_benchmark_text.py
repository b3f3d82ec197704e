"""The text of a benchmark has what was measured, and a dash for what was not."""

from hybridcls.apis.benchmark.benchmark_text import benchmark_text
from hybridcls.apis.benchmark.measuring import Benchmark
from hybridcls.apis.benchmark.row import Row, Speed


def test_each_number_stands_in_its_place():
    about = dict(cpu='A CPU', flags=['avx2'], threads=2, cores=4, torch='2.9', gpu='A GPU', missing_to_compile='Triton')
    rows = [
        Row('eager', None, '', {8: Speed(80.0, 100.0, 123.0, 1.0, 20, 2500.0, 900.0, 50.0)}, 1.5),
        Row('other', None, '', {8: Speed(160.0, 50.0, None, 0.5, 3, 50.0)}),
        Row('third', None, 'it has none'),
    ]
    lines = benchmark_text(Benchmark(about, rows, 2.5, None, ['A note.'])).splitlines()
    assert lines[0] == 'A CPU (avx2), 2 threads of 4 processors; A GPU; torch 2.9'
    assert lines[1] == 'torch.compile needs Triton.'
    assert '2.5 ms' in lines[2]
    table = [line.split() for line in lines]
    assert ['eager', '80.0', '100.00', '123.00', '1.00', '900', '50', '2.5'] in table
    assert ['other', '160.0', '50.00', '-', '0.50', '-', '-', '0.1'] in table
    assert ['eager', '1.50'] in table
    assert lines[-2:] == ['third: it has none', 'A note.']
