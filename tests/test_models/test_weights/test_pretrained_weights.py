"""Pretrained weights come from the local cache, from a server that answers, or end in a sentence, soon."""

import socket
import threading
import time

import pytest
from huggingface_hub import constants

from hybridcls import hub_cache
from hybridcls.models.weights import pretrained_weights as module
from hybridcls.models.weights.pretrained_weights import hub_config, pretrained_weights

REPO = 'timm/some.tag'


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', False)
    return tmp_path


def put(cache, *names):
    """Lay files as the Hub's own library does, by its documented layout."""
    folder = cache / 'models--timm--some.tag'
    for name in names:
        (folder / 'snapshots' / 'abc').mkdir(parents=True, exist_ok=True)
        (folder / 'snapshots' / 'abc' / name).write_bytes(b'')
    (folder / 'refs').mkdir(exist_ok=True)
    (folder / 'refs' / 'main').write_text('abc')
    return folder / 'snapshots' / 'abc'


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(hub_cache, 'get_session', lambda: pytest.fail('the network was asked'))


def test_the_cache_is_used_without_a_network(cache, no_network):
    folder = put(cache, 'pytorch_model.bin', 'config.json')
    assert pretrained_weights('x', 'some', dict(hf_hub_id=REPO), cache) == str(folder / 'pytorch_model.bin')
    put(cache, 'model.safetensors')
    assert pretrained_weights('x', 'some', dict(hf_hub_id=REPO), cache) == str(folder / 'model.safetensors')
    put(cache, 'other.safetensors')
    named = dict(hf_hub_id=REPO, hf_hub_filename='other.bin')
    assert pretrained_weights('x', 'some', named, cache) == str(folder / 'other.safetensors')
    assert hub_config('x', f'hf-hub:{REPO}', cache) == str(folder)
    assert hub_config('x', 'resnet18', cache) is None


@pytest.mark.parametrize('what', ['refused', 'silent', 'offline'])
def test_without_a_network_a_sentence_comes_soon(cache, monkeypatch, what):
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        if what == 'silent':
            server.listen()  # takes the connection, and never answers
        address = f'http://127.0.0.1:{server.getsockname()[1]}'
        monkeypatch.setattr(constants, 'ENDPOINT', address)
        monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', what == 'offline')
        why = 'HF_HUB_OFFLINE is set' if what == 'offline' else f'{address} cannot be reached'
        start = time.monotonic()
        with pytest.raises(
            FileNotFoundError, match=rf'x: .* of some are not .* \(.*models--timm--some\.tag\), and {why}'
        ):
            pretrained_weights('x', 'some', dict(hf_hub_id=REPO), cache)
        with pytest.raises(FileNotFoundError, match=why):
            hub_config('x', f'hf-hub:{REPO}', cache)
        assert time.monotonic() - start < 15  # two times 1.2 s, and not most of a minute


def test_a_server_that_answers_is_asked_for_the_file(cache, monkeypatch):
    def answer(server):
        connection, _ = server.accept()
        connection.recv(1000)
        connection.sendall(b'HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n')
        connection.close()

    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        server.listen()
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        monkeypatch.setattr(constants, 'ENDPOINT', f'http://127.0.0.1:{server.getsockname()[1]}')
        monkeypatch.setattr(module, 'hf_hub_download', lambda repo, name, **_: f'{repo}/{name}')
        assert pretrained_weights('x', 'some', dict(hf_hub_id=REPO), cache) == f'{REPO}/model.safetensors'
        thread.join()


def test_other_sources(cache, no_network, monkeypatch):
    (cache / 'w.pth').write_bytes(b'')
    assert pretrained_weights('x', 'some', dict(file=str(cache / 'w.pth'))) == str(cache / 'w.pth')
    monkeypatch.setattr(module.torch.hub, 'get_dir', lambda: str(cache))
    (cache / 'checkpoints').mkdir()
    (cache / 'checkpoints' / 'w.pth').write_bytes(b'')
    assert pretrained_weights('x', 'some', dict(url='https://host/w.pth')) == 'https://host/w.pth'
    with pytest.raises(ValueError, match='timm has no pretrained weights for some'):
        pretrained_weights('x', 'some', {})
