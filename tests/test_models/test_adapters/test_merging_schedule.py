import pytest

from hybridcls.models.adapters import MergingSchedule


def through(ratio, depth, patches):
    """Tokens that each block merges."""
    schedule, merged = MergingSchedule(ratio, depth), []
    for block in range(depth):
        merged.append(schedule.tokens(block, patches))
        patches -= merged[-1]
    return merged


@pytest.mark.parametrize(
    ('ratio', 'merged'),
    [
        (0, [0, 0, 0, 0]),
        (0.25, [9, 6, 5, 4]),
        (0.5, [18, 9, 4, 2]),
        ([0.0, 0.5, 0.0, 0.1], [0, 18, 0, 1]),
        (dict(r=5), [5, 5, 5, 5]),
        (dict(r=15), [15, 10, 5, 3]),
        (dict(r=[3, 0, 40, 1]), [3, 0, 16, 1]),
        (dict(r=6, inflection=-1), [12, 8, 4, 0]),
        (dict(r=6, inflection=1.0), [0, 4, 8, 12]),
        (dict(r=6, inflection=0.5), [3, 5, 7, 9]),
        (dict(r=0, inflection=1), [0, 0, 0, 0]),
    ],
)
def test_tokens_of_each_block(ratio, merged):
    assert through(ratio, 4, 36) == merged
    assert MergingSchedule(ratio, 4).merges == any(merged)


def test_the_mean_of_an_inflected_schedule_is_r():
    schedule = MergingSchedule(dict(r=8, inflection=-1), 12)
    assert sum(schedule.tokens(block, 1000) for block in range(12)) == pytest.approx(8 * 12, abs=12)
    assert through(dict(r=8, inflection=-1), 1, 100) == [16]  # one block: no division by zero


def test_stop_after():
    schedule = MergingSchedule(0.5, 4)
    schedule.stop_after(2)
    assert [schedule.tokens(block, 10) for block in range(4)] == [5, 5, 0, 0]


@pytest.mark.parametrize(
    ('ratio', 'error', 'says'),
    [
        (0.51, ValueError, r'expected token_merging_ratio in \[0, 0.5\], got 0.51'),
        (-0.1, ValueError, r'expected .* in'),
        (13, ValueError, r'dict\(r=13\)'),
        ('half', TypeError, r"got 'half' \(str\)"),
        (True, TypeError, 'bool'),
        ([0.1, 0.2], ValueError, 'has 2 values, and the transformer has 4 blocks'),
        ([0.1, 0.7, 0, 0], ValueError, r'\[1\]'),
        (dict(r=-1), ValueError, r'\.r in .* got -1'),
        (dict(r=2.5), TypeError, 'to be an integer'),
        (dict(inflection=1), ValueError, "'r'"),
        (dict(r=3, inflexion=1), TypeError, "'inflection'"),
        (dict(r=3, inflection=1.1), ValueError, r'\[-1, 1\]'),
        (dict(r=[1, 2, 3, 4], inflection=1), ValueError, 'nothing left for inflection'),
        (float('nan'), ValueError, 'nan'),
        (dict(r=[1, 2]), ValueError, r'\.r has 2 values'),
        (None, TypeError, 'NoneType'),
    ],
)
def test_what_is_impossible_is_answered(ratio, error, says):
    with pytest.raises(error, match=says):
        MergingSchedule(ratio, 4)
