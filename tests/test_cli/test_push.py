"""`hybridcls push` and `pull` as they are typed."""

import json

import cv2
import numpy as np
import pytest
import torch
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

from hybridcls.cli.main import SUBCOMMANDS, parse_args
from hybridcls.models.adapters import save_adapters


def run(*arguments):
    args = parse_args([*map(str, arguments)])
    return SUBCOMMANDS[args.command].run(args)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp('work') / 'epoch_1.pth', config_of(CNN, LINEAR))[0]


def test_json_is_one_object(checkpoint, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run('push', checkpoint, './pushed', '--json') == 0
    out, err = capfd.readouterr()
    report = json.loads(out)
    assert (report['place'], report['kind'], report['commit']) == ('./pushed', 'checkpoint', None)
    assert sorted(report['files']) == ['README.md', 'model.json', 'model.safetensors']
    assert err.startswith(f'Checkpoint {checkpoint}')
    assert run('pull', 'pushed', '--out', 'model', '--json') == 0
    report = json.loads(capfd.readouterr().out)
    assert (report['out'], report['kind']) == ('model', 'checkpoint')
    cv2.imwrite('a.png', np.zeros((9, 9, 3), np.uint8))
    assert run('predict', 'model', 'a.png', '--device', 'cpu') == 0


def test_adapters_travel_as_they_are(tmp_path):
    pytest.importorskip('peft', reason='the extra lora is not installed')
    cfg = config_of(dict(type='HybridBackbone', vit=dict(model_name='test_vit'), lora_rank=2, img_size=64), LINEAR)
    path, model = write_checkpoint(tmp_path / 'a.pth', cfg)
    save_adapters(model, tmp_path / 'adapters', torch.load(path, weights_only=False)['meta'])
    assert run('push', tmp_path / 'adapters', tmp_path / 'pushed') == 0
    assert run('pull', tmp_path / 'pushed', '--out', tmp_path / 'pulled') == 0
    for file in (tmp_path / 'adapters').rglob('*.safetensors'):
        assert (tmp_path / 'pulled' / file.relative_to(tmp_path / 'adapters')).read_bytes() == file.read_bytes()


def test_mistakes_are_sentences(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"push: the checkpoint '.*nothing' does not exist"):
        run('push', tmp_path / 'nothing', tmp_path / 'out')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match='expected a checkpoint or a work dir with one'):
        run('push', tmp_path / 'empty', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_what_is_advised_is_an_option_of_push(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr('hybridcls.checkpoint_reading._trusted', False)
    content = torch.load(checkpoint, weights_only=False)
    torch.save(content['state_dict'], tmp_path / 'bare.pth')
    with pytest.raises(ValueError, match=r'expected the config .* got none\. Push a checkpoint of hybridcls train'):
        run('push', tmp_path / 'bare.pth', tmp_path / 'out')
    torch.save(dict(content, state_dict=torch.nn.Linear(2, 2)), tmp_path / 'module.pth')
    with pytest.raises(ValueError, match='add --trust-checkpoint'):
        run('push', tmp_path / 'module.pth', tmp_path / 'out')
    torch.save(content, tmp_path / 'whole.pth')
    monkeypatch.setattr('hybridcls.checkpoint_reading.trust_checkpoints', lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run('push', tmp_path / 'whole.pth', tmp_path / 'out', '--trust-checkpoint')
