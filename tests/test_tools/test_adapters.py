"""tools/adapters.py: saved adapters against PEFT, merged checkpoints against the adapted model."""

import importlib.util
import sys
from pathlib import Path

import pytest
import timm
import torch

from hybridcls.engine import WeightMismatchError, load_config
from hybridcls.engine.runner.global_instances import isolated_globals
from hybridcls.models.adapters import load_adapters
from hybridcls.registry import MODELS

peft = pytest.importorskip('peft', reason="needs PEFT: pip install 'hybridcls[lora]'")

ROOT = Path(__file__).resolve().parents[2]
VIT = dict(num_heads=1, depth=2, embed_dim=16)
CONFIG = f"""
img_size = 32
num_classes = 10
model = dict(type='HybridClassifier',
             backbone=dict(type='HybridBackbone', vit=dict(model_name='test_vit', **{VIT}), lora_rank=2),
             head=dict(type='LinearHead'))
"""


@pytest.fixture
def tool(monkeypatch):
    spec = importlib.util.spec_from_file_location('adapters', ROOT / 'tools' / 'adapters.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['adapters.py', *map(str, arguments)])
        with isolated_globals():
            module.main()

    return run


def build(config, **options):
    torch.manual_seed(0)
    return MODELS.build(load_config(config, options).model).eval()


@pytest.fixture
def trained(tmp_path):
    """Config, checkpoint, and the model that it is of."""
    (tmp_path / 'vit.py').write_text(CONFIG)
    model = build(tmp_path / 'vit.py')
    for param in model.parameters():
        if param.requires_grad:
            param.data += 0.1 * torch.randn_like(param)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(epoch=3)), tmp_path / 'epoch_3.pth')
    return tmp_path / 'vit.py', tmp_path / 'epoch_3.pth', model


def test_merged_checkpoint_loads_without_lora(tool, trained, tmp_path, capsys):
    config, checkpoint, model = trained
    tool('merge', config, checkpoint, tmp_path / 'out' / 'merged.pth')
    assert 'merged the adapters of 8 layers' in capsys.readouterr().out
    merged = torch.load(tmp_path / 'out' / 'merged.pth', weights_only=False)
    assert merged['meta']['epoch'] == 3
    plain = build(config, **{'model.backbone.lora_rank': 0})
    plain.load_state_dict(merged['state_dict'])
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(plain(x), model(x), rtol=0, atol=1e-5)
    exported = torch.export.export(plain, (x,)).module()
    torch.testing.assert_close(exported(x), model(x), rtol=0, atol=1e-5)


def test_the_command_of_version_0_1_still_merges(tool, trained, tmp_path, capsys):
    config, checkpoint, _ = trained
    tool('fold', config, checkpoint, tmp_path / 'merged.pth')
    assert 'merged the adapters of 8 layers' in capsys.readouterr().out


def test_saved_adapters_load_in_hybridcls_and_peft(tool, trained, tmp_path, capsys):
    config, checkpoint, model = trained
    tool('save', config, checkpoint, tmp_path / 'adapters')
    assert 'backbone.vit/adapter_model.safetensors: 0.0' in capsys.readouterr().out
    other, x = build(config), torch.rand(2, 3, 32, 32)
    load_adapters(other, tmp_path / 'adapters')
    assert torch.equal(other(x), model(x))
    plain = timm.create_model('test_vit', num_classes=0, img_size=32, **VIT)
    plain.load_state_dict(build(config, **{'model.backbone.lora_rank': 0}).backbone.vit.model.state_dict())
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / 'adapters' / 'backbone.vit').eval()
    torch.testing.assert_close(theirs(x), model.backbone.vit.model(x))


def test_invalid_input_is_an_error(tool, trained, tmp_path):
    config, checkpoint, _ = trained
    out = tmp_path / 'out.pth'
    with pytest.raises(FileNotFoundError, match=r'adapters: checkpoint=.*none\.pth'):
        tool('merge', config, tmp_path / 'none.pth', out)
    with pytest.raises(ValueError, match='adapters: expected a model with LoRA, got'):
        tool('merge', config, checkpoint, out, '--cfg-options', 'model.backbone.lora_rank=0')
    with pytest.raises(WeightMismatchError, match='does not fit the model'):
        tool('save', config, checkpoint, tmp_path / 'a', '--cfg-options', 'model.backbone.lora_rank=3')
    assert not out.exists()
