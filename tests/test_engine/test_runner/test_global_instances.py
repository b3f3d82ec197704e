"""What mmengine keeps by name is forgotten after a block."""

import logging

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

from hybridcls.engine.runner.global_instances import isolated_globals


def test_what_was_made_inside_is_gone_and_its_files_are_closed(tmp_path):
    with isolated_globals():
        hub = MessageHub.get_instance('inside')
        logger = MMLogger.get_instance('inside', log_file=str(tmp_path / 'x.log'))
        files = [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
        assert files
        assert files[0].stream is not None
    assert files[0].stream is None or files[0].stream.closed
    assert not MessageHub.check_instance_created('inside')
    assert not MMLogger.check_instance_created('inside')
    assert MessageHub.get_instance('inside') is not hub


def test_what_was_there_before_stays():
    hub = MessageHub.get_instance('before')
    visualizer = Visualizer.get_instance('visualizer')
    with isolated_globals():
        assert MessageHub.get_instance('before') is hub
        assert Visualizer.get_instance('visualizer') is not visualizer, 'its folder is that of the run before'
    assert Visualizer.get_instance('visualizer') is visualizer


def test_an_error_inside_does_the_same():
    @isolated_globals()
    def fail():
        MessageHub.get_instance('failing')
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not MessageHub.check_instance_created('failing')
