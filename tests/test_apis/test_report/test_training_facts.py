"""What a work dir tells of its training."""

import json

import hybridcls
from hybridcls.apis.report.training_facts import training_facts
from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training, run_training


def test_a_training_is_described(tmp_path):
    options = {
        'model.backbone': dict(_delete_=True, type='HybridBackbone', cnn=dict(model_name='test_resnet')),
        'model.neck': None,
        'train_dataloader.dataset.images_per_class': 4,
        'max_epochs': 2,
        'param_scheduler': [],
        'lr': 0.003,
    }
    cfg = load_config('hybridcls::digits/few_images.py', options)
    run_training(build_runner(prepare_training(cfg, TrainOptions(), str(tmp_path / 'w'))))
    (tmp_path / 'w' / 'learning_curves.json').write_text(json.dumps([dict(iter=2, metrics={'accuracy/top1': 50.0})]))
    found = training_facts(hybridcls.load(tmp_path / 'w', 'cpu'))
    facts = dict(found.facts)
    assert facts['trained'].startswith('2 epochs, 2 updates')
    assert facts['model'] == 'test_resnet, LinearHead'
    assert facts['classes'] == '10'
    assert found.recipe == 'digits/few_images'
    changed = {key for key, _, _ in found.differences}
    assert 'lr' in changed
    assert 'train_dataloader.dataset.images_per_class' in changed
    assert not {key for key in changed if 'num_workers' in key}  # what a machine fills in is no difference
    assert found.repeat.startswith('hybridcls train ')
    assert found.curves['accuracy/top1 (validation)'] == ([2], [50.0])
    assert len(found.curves['loss (training)'][0]) == 2
