"""A checkpoint is enough: none of the files that its training started from has to be there."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from trained_checkpoints import CNN, LINEAR, VIT, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.trained_model import read_trained_model
from hybridcls.checkpoint_reading import trust_checkpoints
from hybridcls.engine.checkpoints.weight_transfer import WeightMismatchError
from hybridcls.engine.config.checkpoint_config import UnsafeConfigError
from hybridcls.models.adapters import save_adapters
from hybridcls.registry import MODELS


def rewritten(path, **meta):
    """Change the meta of a checkpoint."""
    content = torch.load(path, weights_only=True)
    content['meta'].update(meta)
    torch.save(content, path)
    return path


def same_weights(model, other):
    mine, others = model.state_dict(), other.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(mine[name], others[name]) for name in mine)


def test_no_file_of_the_training_is_needed(tmp_path):
    cfg = config_of(CNN, LINEAR)
    path, network = write_checkpoint(tmp_path / 'work' / 'epoch_1.pth', cfg)
    stream = "dict(model_name='test_resnet', output='vector', checkpoint_path='gone.pth', pretrained=True)"
    text = f"model = dict(type='HybridClassifier', backbone=dict(type='HybridBackbone', img_size=64, cnn={stream}), "
    text += (
        "neck=None, head=dict(type='LinearHead', num_classes=4), init_cfg=dict(type='Pretrained', checkpoint='g'))\n"
    )
    text += f"test_dataloader = {cfg['test_dataloader']!r}\nload_from = 'gone.pth'\n"
    text += "custom_hooks = [dict(type='DistillationHook', teacher='gone.py', teacher_checkpoint='gone.pth')]\n"
    rewritten(path, cfg=text)
    trained = read_trained_model(tmp_path / 'work')
    assert same_weights(trained.model, network)
    assert not trained.model.training
    assert (trained.found.path, trained.batch_size) == (path, 4)
    assert trained.classes.names == ('one', 'three', 'two', 'zero')


def test_code_in_the_config_is_not_run(tmp_path):
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, LINEAR))
    canary = tmp_path / 'canary'
    evil = f"model = dict(type='HybridClassifier', backbone=dict(type='os.system', command='touch {canary}'))\n"
    with pytest.raises(UnsafeConfigError, match=r"got type='os.system'"):
        read_trained_model(
            rewritten(path, cfg=evil + "test_dataloader = dict(dataset=dict(pipeline=[dict(type='PackInputs')]))")
        )
    assert not canary.exists()
    (tmp_path / 'evil_module.py').write_text(f"open({str(canary)!r}, 'w')")
    sys.path.insert(0, str(tmp_path))
    try:
        cfg = config_of(CNN, LINEAR, custom_imports=dict(imports=['evil_module']))
        path, _ = write_checkpoint(tmp_path / 'epoch_2.pth', cfg)
        read_trained_model(path)
    finally:
        sys.path.remove(str(tmp_path))
    assert not canary.exists()


def test_own_parts_are_imported_where_the_checkpoint_is_trusted(tmp_path, monkeypatch):
    (tmp_path / 'parts_of_a_plugin.py').write_text(
        'from hybridcls.models import LinearHead\nfrom hybridcls.registry import MODELS\n'
        "MODELS.register_module('HeadOfAPlugin', module=type('HeadOfAPlugin', (LinearHead,), {}))\n"
    )
    imports = dict(imports=['parts_of_a_plugin'], allow_failed_imports=False)
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, LINEAR))
    head = dict(LINEAR, type='HeadOfAPlugin')
    cfg = config_of(CNN, LINEAR, custom_imports=imports)
    cfg['model']['head'] = head
    rewritten(path, cfg=''.join(f'{key} = {value!r}\n' for key, value in cfg.items()))
    with pytest.raises(UnsafeConfigError, match=r"got type='HeadOfAPlugin'.*--trust-checkpoint.*--config FILE"):
        read_trained_model(path)
    trust_checkpoints()
    try:
        with pytest.raises(ValueError, match=r'epoch_1.pth: custom_imports=.* cannot be imported: .*PYTHONPATH'):
            read_trained_model(path)
        monkeypatch.syspath_prepend(tmp_path)
        assert type(read_trained_model(path).model.head).__name__ == 'HeadOfAPlugin'
    finally:
        trust_checkpoints(False)
        MODELS.module_dict.pop('HeadOfAPlugin', None)


def test_weights_of_another_model_are_a_sentence(tmp_path):
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, LINEAR))
    content = torch.load(path, weights_only=True)
    content['state_dict']['head.fc.weight'] = torch.zeros(7, 3)
    torch.save(content, path)
    with pytest.raises(WeightMismatchError, match=r'1 have another shape \(first: head.fc.weight, \(7, 3\)'):
        read_trained_model(path)


def test_images_are_read_as_the_model_was_trained(tmp_path):
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, LINEAR))
    assert read_trained_model(path).pipeline.transforms[0].version is None
    assert read_trained_model(rewritten(path, preprocessing_version=1)).pipeline.transforms[0].version == 1
    with pytest.raises(ValueError, match='expected preprocessing version 2 or earlier'):
        read_trained_model(rewritten(path, preprocessing_version=9))


def test_a_pipeline_without_a_reader_gets_one(tmp_path):
    cfg = config_of(CNN, LINEAR)
    cfg['test_dataloader'] = dict(
        dataset=dict(type='Digits', pipeline=[dict(type='ResizeToSize', img_size=64), dict(type='PackInputs')])
    )
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', cfg)
    trained = read_trained_model(path)
    assert type(trained.pipeline.transforms[0]).__name__ == 'LoadImage'
    assert trained.batch_size == 1
    cfg['test_dataloader'] = None
    path, _ = write_checkpoint(tmp_path / 'epoch_2.pth', cfg)
    with pytest.raises(ValueError, match='neither test_dataloader nor val_dataloader'):
        read_trained_model(path)


def test_tokens_merge_as_in_a_test(tmp_path):
    hooks = [dict(type='TokenMergingHook', token_merging_ratio=0.4)]
    plain, _ = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(VIT, LINEAR))
    merging, _ = write_checkpoint(tmp_path / 'epoch_2.pth', config_of(VIT, LINEAR, custom_hooks=hooks))
    for_val = [dict(type='TokenMergingHook', token_merging_ratio=0.4, when='val')]
    other, _ = write_checkpoint(tmp_path / 'epoch_3.pth', config_of(VIT, LINEAR, custom_hooks=for_val))
    inside, _ = write_checkpoint(tmp_path / 'epoch_4.pth', config_of(dict(VIT, token_merging_ratio=0.4), LINEAR))
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    scores = [hybridcls.load(path, 'cpu').predict(image).scores for path in (plain, merging, other, inside)]
    assert (scores[0] != scores[1]).any()
    assert (scores[0] == scores[2]).all()
    assert (scores[1] == scores[3]).all()


def test_bare_weights_need_a_config(tmp_path):
    cfg = config_of(CNN, LINEAR)
    _, network = write_checkpoint(tmp_path / 'epoch_1.pth', cfg)
    bare = tmp_path / 'bare.pth'
    torch.save(network.state_dict(), bare)
    with pytest.raises(ValueError, match='expected the config of the training in the checkpoint, got none'):
        read_trained_model(bare)
    config = tmp_path / 'config.py'
    config.write_text(''.join(f'{key} = {value!r}\n' for key, value in cfg.items()))
    assert same_weights(read_trained_model(bare, config).model, network)


def test_an_ensemble_of_a_config_and_of_checkpoints(tmp_path):
    cfg = config_of(CNN, LINEAR)
    paths = [write_checkpoint(tmp_path / f'epoch_{seed}.pth', cfg, seed=seed)[0] for seed in (1, 2)]
    config = tmp_path / 'ensemble.py'
    cfg['model'] = dict(cfg['model'], type='EnsembleClassifier', members=paths)
    config.write_text(''.join(f'{key} = {value!r}\n' for key, value in cfg.items()))
    by_config, by_list = read_trained_model(config), read_trained_model(paths)
    assert same_weights(by_config.model, by_list.model)
    assert by_config.classes == by_list.classes
    config.write_text(
        config.read_text().replace('EnsembleClassifier', 'HybridClassifier').replace("'members'", "'gone'")
    )
    with pytest.raises(ValueError, match='Only the config of an EnsembleClassifier'):
        read_trained_model(config)
    with pytest.raises(ValueError, match='Only the config of an EnsembleClassifier'):
        read_trained_model(Path(__file__).parents[2] / 'configs/finetune/full.py')


def test_adapters_come_with_their_config_and_find_the_weights(tmp_path):
    weights = tmp_path / 'vit.pth'
    torch.save(
        write_checkpoint(tmp_path / 'epoch_0.pth', config_of(VIT, LINEAR))[1].backbone.vit.model.state_dict(), weights
    )
    stream = dict(model_name='test_vit', checkpoint_path=str(weights))
    cfg = config_of(dict(VIT, vit=stream, lora_rank=dict(rank=2, checkpoint='adapters')), LINEAR)
    path, network = write_checkpoint(tmp_path / 'epoch_1.pth', cfg)
    meta = torch.load(path, weights_only=True)['meta']
    save_adapters(network, tmp_path / 'adapters', meta)
    for source in (path, tmp_path / 'adapters'):
        trained = read_trained_model(source)
        image = torch.rand(2, 3, 64, 64)
        torch.testing.assert_close(trained.model(image), network.eval()(image))
        assert trained.classes.names == ('one', 'three', 'two', 'zero')
    weights.rename(tmp_path / 'elsewhere.pth')
    with pytest.raises(FileNotFoundError, match=r'need the weights that their training started from.*vit.pth'):
        read_trained_model(tmp_path / 'adapters')
    (tmp_path / 'adapters' / 'checkpoint_meta.json').unlink()
    with pytest.raises(FileNotFoundError, match='expected the config and the class names beside the adapters'):
        read_trained_model(tmp_path / 'adapters')
    cfg = config_of(dict(VIT, lora_rank=2), LINEAR)
    path, network = write_checkpoint(tmp_path / 'epoch_2.pth', cfg)
    save_adapters(network, tmp_path / 'random', torch.load(path, weights_only=True)['meta'])
    with pytest.raises(ValueError, match='which started from random weights'):
        read_trained_model(tmp_path / 'random')
