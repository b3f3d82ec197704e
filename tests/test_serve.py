"""The server of demo/ under load: no answer is lost, all are those of runtime.py, and images are answered together."""

import io
import os
import random
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

pytest.importorskip('litserve', reason='the server of demo/ needs litserve: pip install "hybridcls[serve]"')
pytest.importorskip('python_multipart', reason='forms need python-multipart: pip install "hybridcls[serve]"')
pytest.importorskip('onnxscript')

from hybridcls.apis.artifact import export
from hybridcls.apis.artifact.shipped.runtime import Model

SERVE = Path(__file__).resolve().parents[1] / 'demo' / 'serve.py'


def group(number):
    """Return the commands of the processes of a group, those that have ended left out."""
    rows = subprocess.run(['ps', '-eo', 'pgid=,stat=,args='], capture_output=True, text=True, check=True).stdout
    rows = [row.split(None, 2) for row in rows.splitlines()]
    return [row[2] for row in rows if row[0] == str(number) and not row[1].startswith('Z')]


@pytest.fixture(scope='module')
def artifact(tmp_path_factory):
    root = tmp_path_factory.mktemp('serve')
    path, _ = write_checkpoint(root / 'a.pth', config_of(CNN, LINEAR))
    export(path, root / 'artifact')
    return root / 'artifact'


@contextmanager
def running(artifact, log):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(SERVE), str(artifact), '--port', str(port), '--wait', '0.05', '--max-mb', '0.5']
    with open(log, 'w') as file:
        server = subprocess.Popen(command, start_new_session=True, stdout=file, stderr=file)
    url = f'http://127.0.0.1:{port}'
    try:
        for _ in range(240):
            try:
                if requests.get(f'{url}/health', timeout=5).status_code == 200:
                    break
            except requests.ConnectionError:
                pass
            assert server.poll() is None, 'the server ended'
            time.sleep(0.5)
        yield server, f'{url}/predict'
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)


@pytest.fixture(scope='module')
def url(artifact, tmp_path_factory):
    with running(artifact, tmp_path_factory.mktemp('log') / 'log') as (_, url):
        yield url


def png(seed):
    draw = np.random.default_rng(seed)
    buffer = io.BytesIO()
    size = draw.integers(40, 90, 2)
    Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(buffer, 'PNG')
    return buffer.getvalue()


@pytest.mark.nightly
def test_all_answers_of_a_load_are_those_of_the_runtime(artifact, url):
    files = [png(seed) for seed in range(300)]
    is_broken = [number % 10 == 0 for number in range(len(files))]
    sent = [b'no image' if broken else content for broken, content in zip(is_broken, files, strict=True)]
    order = list(range(len(files)))
    random.Random(0).shuffle(order)
    with ThreadPoolExecutor(24) as threads:
        got = list(threads.map(lambda row: requests.post(url, files=dict(image=sent[row]), timeout=60), order))
    answers = dict(zip(order, got, strict=True))
    assert [answers[row].status_code for row in range(300)] == [400 if broken else 200 for broken in is_broken]
    batches = []
    for row, expected in enumerate(Model(artifact).predict(files, batch_size=1)):
        answer = answers[row].json()
        if is_broken[row]:
            assert answer['detail'].startswith('expected an image in the form field "image": cannot read')
            continue
        batches.append(answer.pop('batch'))
        assert answer['class'] == expected['class']
        assert answer['probability'] == pytest.approx(expected['probability'], abs=1e-5)
        assert set(answer) == set(expected)
    assert max(batches) > 1


@pytest.mark.nightly
@pytest.mark.parametrize(
    ('request_', 'status', 'sentence'),
    [
        (dict(files=dict(image=b'0' * 600_000)), 413, 'got more than 0.5 MB'),
        (dict(files=dict(other=b'0')), 400, 'there is none'),
        (dict(data=dict(image='text')), 415, 'multipart/form-data'),
        (dict(data='{', headers={'content-type': 'application/json'}), 415, 'multipart/form-data'),
        (dict(data='x', headers={'content-type': 'multipart/form-data'}), 415, 'multipart/form-data'),
        (dict(data='x', headers={'content-type': 'multipart/form-data; boundary=b'}), 400, 'got a broken form'),
    ],
)
def test_what_is_no_image_is_refused(url, request_, status, sentence):
    answer = requests.post(url, timeout=60, **request_)
    assert answer.status_code == status
    assert sentence in answer.json()['detail']


@pytest.mark.nightly
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_processes_without_a_traceback(artifact, tmp_path, number):
    """Ctrl+C reaches the whole group; SIGTERM of a supervisor reaches the first process alone."""
    log = tmp_path / 'log'
    with running(artifact, log) as (server, url):
        assert requests.post(url, files=dict(image=png(0)), timeout=60).status_code == 200
        (os.killpg if number == signal.SIGINT else os.kill)(server.pid, number)
        server.wait(30)
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=5)
        for _ in range(100):
            if not (left := group(server.pid)):
                break
            time.sleep(0.1)
        assert left == []
    assert 'Traceback' not in log.read_text()


@pytest.mark.nightly
@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['nowhere'], 'expected the folder of an artifact, got nowhere: '),
        (['artifact', '--batch-size', '0'], 'expected --batch-size above 0, got 0.'),
        (['artifact', '--port', '99999'], '--port from 1 to 65535, got 0.01 and 99999.'),
    ],
)
def test_what_cannot_be_served_is_a_sentence_before_any_process_starts(artifact, arguments, sentence):
    ended = subprocess.run(
        [sys.executable, str(SERVE), *arguments], cwd=artifact.parent, capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, sentence in ended.stderr, 'Traceback' in ended.stderr) == (2, True, False)
