"""The text of a benchmark has what was measured, and a dash for what was not."""

from hybridcls.apis.benchmark.benchmark_text import benchmark_text
from hybridcls.apis.benchmark.measuring import Benchmark
from hybridcls.apis.benchmark.row import Accuracy, Row, Speed


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


def test_no_line_of_a_table_is_wider_than_the_terminal():
    speeds = {64: Speed(123.4, 1234.56, 1234.56, 0.5, 20, 45000.0, 1234.0, 123.0)}
    accuracy = Accuracy(713, 92.34, 1.2345, -0.42, -1.55, 1.32, 713, 28, 0.0123, 700, 20)
    rows = [Row(name, None, '', speeds, 1.5, accuracy) for name in ('eager', 'tome=0.04+compiled+bf16')]
    about = dict(cpu='A CPU', flags=[], threads=2, cores=4, torch='2.9', missing_to_compile='')
    wide, narrow = (benchmark_text(Benchmark(about, rows), columns).splitlines() for columns in (120, 80))
    assert max(map(len, wide)) <= 120
    assert max(map(len, narrow)) <= 80
    assert narrow[narrow.index('eager') + 1].split()[0] == '1.50'
    assert [line.split() for line in wide if line.startswith('eager')][1][-2:] == ['700', '20']
