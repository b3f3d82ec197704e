"""What a work dir tells of its training."""

import json
import shlex

import torch
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.report.training_facts import training_facts
from hybridcls.engine import TrainOptions, build_runner, load_config, prepare_training, run_training
from hybridcls.engine.phases.record import PhaseRecord


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
    (found,) = training_facts(hybridcls.load(tmp_path / 'w', 'cpu'))
    assert found.phase == ''
    facts = dict(found.facts)
    assert facts['trained'].startswith('2 of 2 epochs, 2 updates')
    assert facts['model'] == 'test_resnet, LinearHead'
    assert facts['classes'] == '10'
    assert found.recipe == 'digits/few_images'
    changed = {key for key, _, _ in found.differences}
    assert 'lr' in changed
    assert 'train_dataloader.dataset.images_per_class' in changed
    assert not {key for key in changed if 'num_workers' in key}  # what a machine fills in is no difference
    (command,) = found.repeat
    again = load_config(shlex.split(command)[2])  # what the command trains is what was trained
    run_training(build_runner(prepare_training(again, TrainOptions(), str(tmp_path / 'again'))))
    weights = [torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False)['state_dict'] for name in ('w', 'again')]
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    assert found.percents == {'accuracy/top1 (validation)': ([2], [50.0])}
    assert len(found.losses['loss (training)'][0]) == 2
    assert facts['seed'] == '0'
    assert found.unfinished == ''
    (tmp_path / 'w' / 'epoch_2.pth').rename(tmp_path / 'later.pth')
    stopped = torch.load(tmp_path / 'later.pth', weights_only=False)
    stopped['meta'].update(epoch=1, iter=1)
    torch.save(stopped, tmp_path / 'w' / 'epoch_1.pth')
    (tmp_path / 'w' / 'learning_curves.json').write_text('[{"iter": 2, "metr')  # the disk was full
    (early,) = training_facts(hybridcls.load(tmp_path / 'w' / 'epoch_1.pth', 'cpu'))
    assert early.unfinished.endswith('its last checkpoint is after 1 of 2 epochs.')  # the top-level max_epochs
    assert dict(early.facts)['trained'].startswith('1 of 2 epochs, 1 update, until')
    assert early.percents == {}
    assert dict(early.facts)['validation curves'] == 'none, because learning_curves.json is damaged'
    assert 'validation curves' not in facts
    assert facts['time it took'].endswith(' s')
    assert facts['on'].startswith('1 x ')
    assert 'torch' in facts['versions then']


def test_a_head_that_was_fitted_before_the_first_update_is_told(tmp_path):
    cfg = config_of(CNN, LINEAR, train_cfg=dict(max_epochs=3), custom_hooks=[dict(type='hybridcls.HeadFirstHook')])
    path = write_checkpoint(tmp_path / 'epoch_0.pth', cfg, epoch=0, iter=0)[0]
    trained = dict(training_facts(hybridcls.load(path, 'cpu'))[0].facts)['trained']
    assert trained.startswith('0 of 3 epochs, 0 updates (before the first one only the head was fitted')


def test_phases_before_are_described_and_what_is_not_recorded_is_said(tmp_path):
    for number, name in enumerate(('supcon', 'adaface'), 1):
        folder = tmp_path / 'chain' / f'{number}_{name}'
        write_checkpoint(folder / 'epoch_1.pth', config_of(CNN, LINEAR), epoch=number, iter=5)
        record = PhaseRecord(name, '', {}, dict(last='epoch_1.pth'), seconds=3700.0)
        record.write(folder, finished=True)
    (tmp_path / 'chain' / '3_other').mkdir()
    first, second = training_facts(hybridcls.load(tmp_path / 'chain', 'cpu'))
    assert (first.phase, second.phase) == ('1, supcon', '2, adaface')
    facts = dict(first.facts)
    assert facts['trained'] == '1 epoch, 5 updates, until ?'
    assert facts['time it took'] == '1 h 1 min'
    assert {facts[what] for what in ('git', 'command', 'on')} == {'not recorded'}
    assert second.repeat[0].startswith('python -c ')  # the work dir has no config
    (alone,) = training_facts(hybridcls.load(tmp_path / 'chain' / '1_supcon' / 'epoch_1.pth', 'cpu'))
    assert alone.phase == '1, supcon'
    (tmp_path / 'chain' / '1_supcon' / 'phase.json').write_text('{"name": "sup')  # cut: no reason for no report
    (alone,) = training_facts(hybridcls.load(tmp_path / 'chain' / '1_supcon' / 'epoch_1.pth', 'cpu'))
    assert dict(alone.facts)['time it took'] == 'not recorded'


def test_a_training_that_was_stopped_is_told(tmp_path):
    for planned, said in (
        (dict(max_epochs=2), 'The training was not finished: its last checkpoint is after 1 of 2 epochs.'),
        (
            dict(max_iters=9, by_epoch=False),
            'The training was not finished: its last checkpoint is after 5 of 9 updates.',
        ),
        (dict(max_epochs=1), ''),
    ):
        cfg = config_of(CNN, LINEAR, train_cfg=planned)
        path = write_checkpoint(tmp_path / 'epoch_1.pth', cfg, epoch=1, iter=5)[0]
        assert training_facts(hybridcls.load(path, 'cpu'))[0].unfinished == said
    cfg.update(train_cfg=dict(max_epochs=2), custom_hooks=[dict(type='EarlyStoppingHook', monitor='accuracy/top1')])
    path = write_checkpoint(tmp_path / 'epoch_1.pth', cfg, epoch=1, iter=5)[0]
    assert training_facts(hybridcls.load(path, 'cpu'))[0].unfinished == ''


def test_a_model_without_classes_says_so(tmp_path):
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, dict(type='SupConHead')))
    (own,) = training_facts(hybridcls.load(path, 'cpu'))
    assert dict(own.facts)['classes'] == 'none: the head gives embeddings'
