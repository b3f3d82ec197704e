"""`hybridcls demo`: ports, warnings, and the page in a browser, of which no request leaves this machine."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from tiny_artifact import write_tiny_artifact

from hybridcls.cli import demo
from hybridcls.cli.main import parse_args

CHROMIUM = next(
    (path for name in ('chromium', 'chromium-browser', 'google-chrome') if (path := shutil.which(name))), None
)


def test_a_port_that_is_taken():
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        expected = rf'demo: cannot listen on port {port} of 127.0.0.1 \(.*\). Choose another with'
        with pytest.raises(OSError, match=expected):
            demo._listen('127.0.0.1', port)
    with demo._listen('127.0.0.1', 0) as free:
        assert free.getsockname()[1] > 0


def test_the_next_port_is_said(monkeypatch, capsys):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        monkeypatch.setattr(demo, '_PORT', taken.getsockname()[1])
        with demo._listen('127.0.0.1', None) as free:
            assert f'listening on {free.getsockname()[1]}' in capsys.readouterr().err


def test_an_address_that_is_none():
    with pytest.raises(ValueError, match='expected --host to be an address of this machine'):
        demo._listen('no such host.invalid', None)


@pytest.mark.parametrize(
    ('options', 'error', 'match'),
    [
        (['--max-mb', '0'], ValueError, '--max-mb in'),
        (['--port', '70000'], ValueError, '--port in'),
        (['--top-k', '0'], ValueError, '--top-k in'),
        (['--index', 'nothing.npz'], FileNotFoundError, 'Type: hybridcls embed'),
    ],
)
def test_mistakes_are_sentences(tmp_path, options, error, match):
    with pytest.raises(error, match=match):
        demo._check(parse_args(['demo', str(tmp_path), *options]))


def test_an_artifact_has_its_own_calibration(tmp_path):
    pytest.importorskip('onnx', reason='the extra export is not installed')
    folder = write_tiny_artifact(tmp_path / 'a')
    with pytest.raises(ValueError, match='--calibration: an exported model has its own'):
        demo._opened(parse_args(['demo', str(folder), '--calibration', 'x.json']))


@pytest.fixture
def served(tmp_path):
    """The address of a page, and its process."""
    pytest.importorskip('gradio', reason='the extra demo is not installed')
    pytest.importorskip('onnx', reason='the extra export is not installed')
    folder = write_tiny_artifact(tmp_path / 'artifact')
    command = [sys.executable, '-m', 'hybridcls', 'demo', str(folder), '--port', '0', '--json']
    environment = {**os.environ, 'TMPDIR': str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        text = ''
        while not text.rstrip().endswith('}'):
            line = process.stdout.readline()
            assert line, 'the page did not start'
            text += line
        url = json.loads(text)['url']
        for _ in range(100):
            try:
                urllib.request.urlopen(url)
                break
            except OSError:
                time.sleep(0.1)
        yield url, process
        process.kill()


@pytest.mark.nightly
def test_the_page_in_a_browser(served, tmp_path):
    url, process = served
    if CHROMIUM is None:
        pytest.skip('there is no Chromium')
    log = tmp_path / 'net.json'
    command = [
        CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking',
        '--disable-component-update', f'--user-data-dir={tmp_path / "profile"}', f'--log-net-log={log}',
        '--virtual-time-budget=8000', '--dump-dom', url,
    ]  # fmt: skip
    page = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert 'Drop an image, or click to choose one.' in page
    assert '4 classes' in page
    asked = {*re.findall(r'"url":"(https?://[^/"]+)', log.read_text(errors='replace'))}
    of_page = {one for one in asked if not re.search(r'\.(google|googleapis|gvt1)\.com$', one)}  # the browser's own
    assert of_page == {url}
    assert not re.search(r'(src|href)="https?://(?!127)', page)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert not list(tmp_path.glob('hybridcls_demo_*'))
