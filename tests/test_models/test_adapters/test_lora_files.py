"""Adapters as files: small, whole, and readable by PEFT alone."""

import os

import pytest
import safetensors.torch
import timm
import torch
from at_night import at_night

from hybridcls.models.adapters import load_adapters, lora_layers, merge_lora, save_adapters
from hybridcls.models.adapters.lora_files import adapters_meta, holds_adapters
from hybridcls.registry import MODELS

peft = pytest.importorskip('peft', reason="needs PEFT: pip install 'hybridcls[lora]'")

CFG = dict(
    type='hybridcls.HybridClassifier',
    backbone=dict(
        type='HybridBackbone',
        cnn=dict(model_name='test_convnext'),
        vit=dict(model_name='test_vit', img_size=32, dynamic_img_size=False),
        img_size=32,
        use_cbam=True,
    ),
    neck=dict(type='DHAFusion', fusion_dim=8),
    head=dict(type='LinearHead', num_classes=3),
)


def build(**lora):
    torch.manual_seed(0)
    return MODELS.build(dict(CFG, backbone=dict(CFG['backbone'], **lora)))


def trained(**lora):
    """A model whose every trained number differs from the start."""
    model = build(**lora)
    torch.manual_seed(1)
    for param in model.parameters():
        if param.requires_grad:
            param.data += 0.1 * torch.randn_like(param)
    return model.eval()


@pytest.mark.parametrize('use_dora', at_night([False, True], False))
def test_what_was_saved_is_read_back(tmp_path, use_dora):
    lora = dict(lora_rank=dict(rank=2, train_norms=True, use_dora=use_dora))
    model, other = trained(**lora), build(**lora).eval()
    save_adapters(model, tmp_path)
    load_adapters(other, tmp_path)
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(other(x), model(x))
    assert not torch.equal(build(**lora).eval()(x), model(x))
    whole = sum(value.numel() * 4 for value in model.state_dict().values())
    assert sum(path.stat().st_size for path in tmp_path.rglob('*.safetensors')) < whole / 2


@pytest.mark.parametrize('is_frozen', [False, True])
def test_statistics_of_trained_norms_are_saved(tmp_path, is_frozen):
    """Also of a model that is frozen whole, such as an average of the weights (EMA)."""
    keys = dict(cnn=dict(model_name='resnet10t'), lora_rank=dict(rank=2, train_norms=True))
    model, other, x = trained(**keys), build(**keys).eval(), torch.rand(4, 3, 32, 32)
    model.train()(x)
    save_adapters(model.eval().requires_grad_(not is_frozen), tmp_path)
    load_adapters(other, tmp_path)
    assert torch.equal(other(x), model(x))


def test_class_names_of_another_model_do_not_stay(tmp_path):
    model = trained(lora_rank=2)
    save_adapters(model, tmp_path, dict(dataset_meta=dict(classes=('old',))))
    assert adapters_meta(tmp_path)['dataset_meta']['classes'] == ['old']
    save_adapters(model, tmp_path)
    assert not adapters_meta(tmp_path)


@pytest.mark.parametrize('use_dora', at_night([False, True], False))
def test_peft_reads_the_adapters_without_us(tmp_path, use_dora):
    model = trained(lora_rank=dict(rank=2, use_dora=use_dora))
    save_adapters(model, tmp_path)
    plain = timm.create_model('test_vit', num_classes=0, img_size=32)
    plain.load_state_dict(build().backbone.vit.model.state_dict())
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / 'backbone.vit').eval()
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(theirs(x), model.backbone.vit.model(x))
    assert (build().backbone.vit.model.eval()(x) - theirs(x)).abs().max() > 1e-3


def test_a_checkpoint_of_adapters_alone(tmp_path):
    base = timm.create_model('test_vit', num_classes=0, img_size=32)
    torch.save(base.state_dict(), tmp_path / 'vit.pth')
    backbone = dict(
        CFG['backbone'],
        vit=dict(CFG['backbone']['vit'], checkpoint_path=str(tmp_path / 'vit.pth')),
        lora_rank=dict(rank=2, checkpoint='adapters', cnn=None),
    )
    torch.manual_seed(0)
    model, other = (MODELS.build(dict(CFG, backbone=backbone)).eval() for _ in range(2))
    for param in model.parameters():
        if param.requires_grad:
            param.data += 0.1 * torch.randn_like(param)
    state = model.state_dict()
    vit = [name for name in state if name.startswith('backbone.vit.')]
    assert len(vit) == 2 * len(lora_layers(model))
    assert all('.lora_' in name for name in vit)
    assert any(name.startswith('backbone.cnn.model.stages') for name in state)
    other.load_state_dict(state)  # strict: nothing is missing
    x = torch.rand(2, 3, 32, 32)
    expected = model(x)
    assert torch.equal(other(x), expected)
    merged = merge_lora(model)  # nothing is left out of the state dict any more: the weights are trained ones
    plain = build().eval()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(plain(x), expected)
    merged.undo()
    assert model.state_dict().keys() == state.keys()


def test_what_is_no_such_folder_or_of_another_model(tmp_path):
    with pytest.raises(ValueError, match='no layer of the model is adapted'):
        save_adapters(build(), tmp_path)
    with pytest.raises(FileNotFoundError, match='save_adapters did not write it'):
        load_adapters(build(lora_rank=2), tmp_path)
    save_adapters(build(lora_rank=2), tmp_path)
    with pytest.raises(ValueError, match=r'is not of this model: .*another shape'):
        load_adapters(build(lora_rank=4), tmp_path)
    save_adapters(build(lora_rank=dict(rank=2, targets=['qkv'], cnn=None)), tmp_path / 'b')
    with pytest.raises(ValueError, match=r'is not of this model: .* is missing'):
        load_adapters(build(lora_rank=dict(rank=2, targets=['qkv', 'fc1'], cnn=None)), tmp_path / 'b')


def test_weights_that_are_not_frozen_must_be_there(tmp_path):
    """Else those of the head, or of trained norms, would stay random in silence."""
    model, lora = build(lora_rank=2), dict(lora_rank=dict(rank=2, train_norms=True))
    save_adapters(model, tmp_path)
    with pytest.raises(ValueError, match=r'got none for backbone\.cnn\.model\.stem\.1\.weight, .* and \d+ more'):
        load_adapters(build(**lora), tmp_path)
    file = tmp_path / 'trained_beside_adapters.safetensors'
    rest = safetensors.torch.load_file(file)
    safetensors.torch.save_file({name: rest[name] for name in rest if not name.startswith('head.')}, file)
    with pytest.raises(ValueError, match=r'got none for head\.\S+, head\.\S+\. Build the model that was saved'):
        load_adapters(model, tmp_path)
    save_adapters(model.backbone, tmp_path)
    load_adapters(model.backbone, tmp_path)


@pytest.mark.parametrize('number', range(3))  # two streams, then the rest
def test_an_interrupted_write_leaves_what_was_there(tmp_path, monkeypatch, number):
    model, other, x = trained(lora_rank=2), build(lora_rank=2), torch.rand(2, 3, 32, 32)
    (tmp_path / 'README.md').write_text('mine')
    save_adapters(model, tmp_path)
    whole = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    written = []

    def save_file(state, path, metadata=None):
        if len(written) == number:
            raise OSError(28, 'No space left on device')
        written.append(path)
        original(state, path)

    original = safetensors.torch.save_file
    monkeypatch.setattr(safetensors.torch, 'save_file', save_file)
    with pytest.raises(OSError, match='No space'):
        save_adapters(other, tmp_path)
    left = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    assert {name: content for name, content in left.items() if name.parts[0] != '.unfinished'} == whole
    monkeypatch.undo()
    load_adapters(other, tmp_path)
    assert torch.equal(other.eval()(x), model(x))
    save_adapters(other, tmp_path)
    assert {path.relative_to(tmp_path) for path in tmp_path.rglob('*') if path.is_file()} == whole.keys()


def test_a_first_write_that_was_interrupted_is_no_folder_of_adapters(tmp_path, monkeypatch):
    moved = []

    def replace(source, target):
        if len(moved) == 3:
            raise KeyboardInterrupt
        moved.append(target)
        original(source, target)

    original = os.replace
    monkeypatch.setattr('os.replace', replace)
    with pytest.raises(KeyboardInterrupt):
        save_adapters(trained(lora_rank=2), tmp_path)
    assert not holds_adapters(tmp_path)
    with pytest.raises(FileNotFoundError, match='or not to the end'):
        load_adapters(build(lora_rank=2), tmp_path)
