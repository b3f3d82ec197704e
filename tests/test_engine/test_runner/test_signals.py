"""What a process does with the signals that ask it to end."""

import os
import signal
import threading
import time

import pytest
from processes import run_process

from hybridcls.engine.runner.signals import SignalFlag


def two_signals(seconds):
    flag = SignalFlag(['SIGTERM'])
    assert flag.install()
    os.kill(os.getpid(), signal.SIGTERM)
    flag._since -= seconds
    os.kill(os.getpid(), signal.SIGTERM)
    assert flag.received == signal.SIGTERM


def test_a_second_signal_ends_at_once_but_an_echo_does_not():
    assert run_process(two_signals, 6).status == -signal.SIGTERM
    assert run_process(two_signals, 1).status == 0


def test_a_second_ctrl_c_is_a_keyboard_interrupt(capfd):
    flag = SignalFlag(['SIGINT'])
    assert flag.install()
    try:
        os.kill(os.getpid(), signal.SIGINT)
        assert flag.received == signal.SIGINT
        assert 'Ctrl-C: this update is finished, then saved.' in capfd.readouterr().err
        flag._since -= 6
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        flag.restore()


def forked():
    flag = SignalFlag(['SIGTERM'])
    flag.install()
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(there, b'.')
        time.sleep(60)
        os._exit(0)
    os.read(here, 1)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_a_forked_process_ends_as_ever():
    assert run_process(forked).status == 0


def test_another_thread_leaves_the_signals_alone():
    before, answers = signal.getsignal(signal.SIGTERM), []
    thread = threading.Thread(target=lambda: answers.append(SignalFlag(['SIGTERM']).install()))
    thread.start()
    thread.join()
    assert answers == [False]
    assert signal.getsignal(signal.SIGTERM) is before
