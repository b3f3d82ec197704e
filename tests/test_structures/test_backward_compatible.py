"""What a checkpoint says of the old weights."""

from hybridcls.structures import record_compatible, recorded_compatible


def test_what_is_recorded_is_read_and_others_have_none():
    checkpoint = dict(state_dict={})
    assert recorded_compatible(checkpoint) == recorded_compatible(dict(meta=None)) == []
    record_compatible(checkpoint, [dict(digest='a', checkpoint='a.pth', width=3)])
    assert recorded_compatible(checkpoint) == [dict(digest='a', checkpoint='a.pth', width=3)]
