"""The Hub's library against a Hub on this machine: a model is pushed and pulled; refusals are sentences."""

import pytest
from fake_hub import TOKEN, fake_hub, sha_of  # noqa: F401 - a fixture
from huggingface_hub import constants
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.hub.pulling import pull
from hybridcls.apis.hub.pushing import push
from hybridcls.engine.checkpoints.calibration_file import digest_of_weights

HUB = 'hf://owner/digits'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp('work') / 'epoch_1.pth', config_of(CNN, LINEAR))[0]


def test_a_round_trip_and_an_older_revision(fake_hub, checkpoint, tmp_path):  # noqa: F811
    pushed = push(checkpoint, HUB, private=True)
    files = fake_hub.files('owner/digits')
    assert sorted(files) == ['README.md', 'model.json', 'model.safetensors']
    assert fake_hub.repos['owner/digits']['private']
    assert pushed.commit == f'{fake_hub.address}/owner/digits/commit/{sha_of(files)}'
    assert 'hybridcls pull hf://owner/digits --out model' in files['README.md'].decode()
    other = write_checkpoint(tmp_path / 'other.pth', config_of(CNN, LINEAR), seed=1)[0]
    push(other, HUB)
    pull(HUB, str(tmp_path / 'new'))
    pull(HUB, str(tmp_path / 'old'), revision=sha_of(files))
    assert digest_of_weights(tmp_path / 'new' / 'model.safetensors') == digest_of_weights(other)
    assert digest_of_weights(tmp_path / 'old' / 'model.safetensors') == digest_of_weights(checkpoint)
    assert sorted(path.name for path in (tmp_path / 'old').iterdir()) == sorted(files)
    assert hybridcls.load(tmp_path / 'old', 'cpu').classes == hybridcls.load(checkpoint, 'cpu').classes


def test_only_what_is_listed_is_fetched(fake_hub, checkpoint, tmp_path):  # noqa: F811
    push(checkpoint, HUB)
    fake_hub.files('owner/digits')['pytorch_model.bin'] = b'a pickle'
    fake_hub.asked.clear()
    pull(HUB, str(tmp_path / 'new'))
    assert not [one for one in fake_hub.asked if 'pytorch_model' in one]


def test_the_cache_does_without_a_network(fake_hub, checkpoint, tmp_path, monkeypatch):  # noqa: F811
    push(checkpoint, HUB)
    pull(HUB, str(tmp_path / 'a'))
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    pull(HUB, str(tmp_path / 'b'))
    assert digest_of_weights(tmp_path / 'b' / 'model.safetensors') == digest_of_weights(checkpoint)
    with pytest.raises(ConnectionError, match=r'owner/other is on .* not in the cache, and HF_HUB_OFFLINE is set'):
        pull('hf://owner/other', str(tmp_path / 'c'))


def test_refusals_are_sentences(fake_hub, checkpoint, tmp_path, monkeypatch):  # noqa: F811
    out = str(tmp_path / 'out')
    with pytest.raises(ConnectionError, match=r'the Hub refuses hf://others/model: .* as someone who may write'):
        push(checkpoint, 'hf://others/model')
    with pytest.raises(FileNotFoundError, match='is not on the Hub, or private and not yours'):
        pull('hf://owner/nothing', out)
    push(checkpoint, HUB, private=True)
    with pytest.raises(FileNotFoundError, match="owner/digits has no revision 'v9'"):
        pull(HUB, out, revision='v9')
    fake_hub.files('owner/digits').pop('model.safetensors')
    with pytest.raises(FileNotFoundError, match='lacks a file'):
        pull(HUB, out)
    monkeypatch.delenv('HF_TOKEN')
    with pytest.raises(PermissionError, match=r'no one is logged in. Type: hf auth login'):
        push(checkpoint, HUB)
    with pytest.raises(FileNotFoundError, match='private and not yours'):
        pull(HUB, out)
    monkeypatch.setenv('HF_TOKEN', TOKEN)
    monkeypatch.setattr(constants, 'ENDPOINT', 'http://127.0.0.1:9')
    with pytest.raises(ConnectionError, match=r'127.0.0.1:9 cannot be reached .*type \./owner/digits'):
        push(checkpoint, HUB)
    assert not list(tmp_path.glob('*out*'))
