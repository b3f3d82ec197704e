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
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

pytest.importorskip('litserve', reason='the server of demo/ needs litserve: pip install "hybridcls[serve]"')
pytest.importorskip('python_multipart', reason='forms need python-multipart: pip install "hybridcls[serve]"')
pytest.importorskip('onnxscript')

from hybridcls.apis.artifact import export  # noqa: E402
from hybridcls.apis.artifact.shipped.runtime import Model  # noqa: E402

SERVE = Path(__file__).resolve().parents[1] / 'demo' / 'serve.py'


@pytest.fixture(scope='module')
def artifact(tmp_path_factory):
    root = tmp_path_factory.mktemp('serve')
    path, _ = write_checkpoint(root / 'a.pth', config_of(CNN, LINEAR))
    export(path, root / 'artifact')
    return root / 'artifact'


@pytest.fixture(scope='module')
def url(artifact):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(SERVE), str(artifact), '--port', str(port), '--wait', '0.05', '--max-mb', '0.5']
    server = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
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
        yield f'{url}/predict'
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


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
        (dict(files=dict(image=b'0' * 600_000)), 413, 'too large'),
        (dict(files=dict(other=b'0')), 400, 'there is none'),
        (dict(data=dict(image='text')), 415, 'multipart/form-data'),
        (dict(data='{', headers={'content-type': 'application/json'}), 415, 'multipart/form-data'),
        (dict(data='x', headers={'content-type': 'multipart/form-data'}), 415, 'multipart/form-data'),
    ],
)
def test_what_is_no_image_is_refused(url, request_, status, sentence):
    answer = requests.post(url, timeout=60, **request_)
    assert answer.status_code == status
    assert sentence in answer.json()['detail']
