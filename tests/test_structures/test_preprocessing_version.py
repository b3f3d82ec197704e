"""The preprocessing version that checkpoints record."""

from hybridcls.structures import record_version, recorded_version


def test_recorded_version_is_read():
    for checkpoint in ({}, {'meta': {'epoch': 3}}):
        assert recorded_version(checkpoint) == 1, 'older than such records'
        record_version(checkpoint, 2)
        assert recorded_version(checkpoint) == 2
    assert checkpoint['meta']['epoch'] == 3
    assert recorded_version({'meta': None, 'state_dict': {}}) == 1
