"""The table at the end of a chain: every result is there, the ones that matter first."""

from hybridcls.engine.phases.record import PhaseRecord
from hybridcls.engine.phases.report import phase_table

MANY = {f'val/retrieval/recall@{k}': float(k) for k in range(20)}


def table(metrics, facts=(), **fields):
    return phase_table('w', [PhaseRecord('one', '', dict(facts), {}, metrics, 1.0, **fields)]).splitlines()


def test_all_results_are_there_in_lines_below_each_other():
    lines = table(MANY)[1:-1]
    assert len(lines) > 2
    assert all(len(line) <= 120 for line in lines)
    start = lines[0].index('retrieval')
    assert all(line.index('retrieval') == start for line in lines)
    words = ' '.join(line[start:] for line in lines)
    assert words == ', '.join(f'retrieval/recall@{k} {k}.00' for k in range(20)) + ' (validation)'


def test_what_the_best_checkpoint_is_chosen_by_comes_first_and_losses_last():
    metrics = {'val/val/loss': 0.12345, 'val/a': 1.0, 'val/calibration/ece': 2.0, 'val/b': 3.0, 'val/time': 9.0}
    for facts in (
        {'default_hooks.checkpoint.save_best': "'calibration/ece'"},
        {'default_hooks.checkpoint.save_best.0': "'calibration/ece'", 'default_hooks.checkpoint.rule': "'less'"},
    ):
        assert table(metrics, facts)[1].endswith('calibration/ece 2.00, a 1.00, b 3.00, val/loss 0.1235 (validation)')


def test_a_test_wins_over_the_validation_and_none_is_said():
    assert table({'val/a': 1.0, 'test/a': 2.0})[1].endswith('a 2.00 (test)')
    assert table({})[1].endswith('not validated')
