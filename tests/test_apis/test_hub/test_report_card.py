"""A card made from a report says its numbers, in words and for the Hub; a report of other weights is refused."""

import json
import shutil

import pytest
from command_runs import run_command
from huggingface_hub import ModelCard
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

from hybridcls.apis.hub.model_card import model_card
from hybridcls.apis.hub.pushing import push
from hybridcls.apis.hub.report_card import metrics_of, model_index, read_report

HEADLINE = [
    dict(key='accuracy/top1', name='Accuracy', value=91.25, low=90.0, high=92.5, unit='%', better='higher', what='r'),
    dict(key='calibration/nll', name='NLL', value=0.5, low=None, high=None, unit='nats', better='lower', what='nats'),
]  # fmt: skip
REPORT = dict(
    headline=HEADLINE, data='/home/me/secret/flowers/test', images=1200, date='2026-01-02', weights_sha256='ab',
    checkpoint='/home/me/secret/w/a.pth', training=[dict(data='/home/me/secret/flowers')],
    classes=[
        dict(**{'class': 'a|b'}, images=3, recall_percent=0.0, recall_percent_low=0.0, recall_percent_high=70.8),
        dict(**{'class': 'c'}, images=300, recall_percent=20.0, recall_percent_low=15.6, recall_percent_high=25.0),
    ],
    confusions=[dict(**{'class': 'c', 'predicted_as': 'a|b'}, images=200, percent=66.7)],
    ood=[dict(score='least_confidence', auroc=88.0, fpr95=40.0)],
    robustness=[dict(kind=None, severity=0, accuracy=91.25), dict(kind='blur', severity=5, accuracy=50.0),
                dict(kind='noise', severity=5, accuracy=30.0)],
    norm=dict(severity=[dict(score='norm', kind='blur', value=-0.5, low=-0.6, high=-0.4)]),
    calibration=dict(kind='applied', overlap=0.5, rows=[dict(
        name='ECE', unit='%', before=dict(value=9.0, low=8.0, high=10.0), after=dict(value=2.0, low=None, high=None))]),
)  # fmt: skip


@pytest.fixture(scope='module')
def work(tmp_path_factory, digit_folder):
    """A work dir with a report of its checkpoint."""
    folder = tmp_path_factory.mktemp('work')
    path, _ = write_checkpoint(folder / 'epoch_1.pth', config_of(CNN, LINEAR, digit_folder / 'train'))
    assert run_command('report', path, '--data', digit_folder / 'val', '--device', 'cpu') == 0
    return folder


def test_a_card_says_the_numbers_and_the_limits():
    card = model_card(dict(meta={}, classes=['a|b', 'c']), 'flowers', './x', report=REPORT)
    assert '| Accuracy | 91.2 % | 90.0 to 92.5 | r; higher is better |' in card
    assert 'report of 2026-01-02' in card
    assert card.index('| c | 300 | 20 % | 16 to 25 |') < card.index('| a\\|b | 3 | 0 % | 0 to 71 |')  # surer to be weak
    assert '| c | a\\|b | 200 | 67 % |' in card
    assert 'least confidence tells most' in card
    assert 'most severe noise that was tried, 30.0 % are right, of 91.2 %' in card
    assert 'falls with blur' in card
    assert '| ECE, % | 9.0 (8.0 to 10.0) | 2.0 |' in card
    assert 'Some of these images fitted it' in card
    assert 'flowers/test: 1,200 images of 2 classes, 3 to 300 of each' in card
    assert 'secret' not in card
    assert card.index('## Intended use') < card.index('## Limits') < card.index('## Data')


def test_the_hub_reads_the_results():
    card = ModelCard(model_card(dict(meta={}, classes=['a', 'c']), 'flowers', './x', report=REPORT))
    first, second = card.data.eval_results
    assert (first.metric_type, first.metric_value, first.dataset_name) == ('accuracy', 0.9125, 'flowers/test')
    assert first.metric_args == {'low_95': 0.9, 'high_95': 0.925}
    assert (second.metric_type, second.metric_value) == ('nll', 0.5)
    card.data.to_yaml()
    assert model_index(dict(REPORT, headline=[]), 'x') == []
    assert metrics_of(REPORT)['accuracy/top1'] == dict(value=91.25, low=90.0, high=92.5, unit='%')


def test_what_was_not_tried_is_said():
    report = {key: value for key, value in REPORT.items() if key not in ('ood', 'robustness', 'norm', 'calibration')}
    card = model_card(dict(meta={}, classes=['a', 'c']), 'x', './x', report=report)
    assert 'none of its classes were not tried' in card
    assert 'Corrupted images (blur, noise, compression) were not tried' in card


def test_a_push_takes_the_report_of_the_work_dir(work, tmp_path):
    pushed = push(work, str(tmp_path / 'pushed'), figures=True)
    assert any('report.json' in note for note in pushed.notes)
    card = (tmp_path / 'pushed' / 'README.md').read_text()
    shown = json.loads((work / 'report.json').read_text())['headline'][0]
    assert f'| Accuracy | {shown["value"]:.1f} % |' in card
    assert 'figures/reliability_before.png' in card
    assert pushed.files['figures/reliability_before.png'] > 1000
    assert not [name for name in pushed.files if name.endswith(('.jpg', '.jpeg', '.html'))]
    sidecar = json.loads((tmp_path / 'pushed' / 'model.json').read_text())
    assert sidecar['metrics']['accuracy/top1']['value'] == shown['value']
    assert not [name for name in sidecar['files'] if name.startswith('figures')]
    push(work, str(tmp_path / 'plain'), report=False)
    assert '## Intended use' not in (tmp_path / 'plain' / 'README.md').read_text()


def test_a_calibration_that_the_report_does_not_know_is_told(work, tmp_path, digit_folder):
    shutil.copytree(work, tmp_path / 'w')
    arguments = ('--data', digit_folder / 'train', '--device', 'cpu', '--scale', 'none', '--sets', '0.2')
    assert run_command('calibrate', tmp_path / 'w', *arguments) == 0
    pushed = push(tmp_path / 'w', str(tmp_path / 'pushed'))
    assert any('calibration of the model has changed since the report' in note for note in pushed.notes)
    card = (tmp_path / 'pushed' / 'README.md').read_text()
    assert 'report was made without that calibration' in card
    assert 'comes without' not in card
    assert 'which the model does not come with' in model_card(dict(meta={}, classes=['a']), 'x', './x', report=REPORT)


def test_a_report_of_other_weights_is_refused(work, tmp_path):
    other, _ = write_checkpoint(tmp_path / 'w' / 'other.pth', config_of(CNN, LINEAR), seed=1)
    (tmp_path / 'w' / 'report.json').write_bytes((work / 'report.json').read_bytes())
    with pytest.raises(ValueError, match=r'expected a report of the weights that are pushed, got .* --no-report'):
        push(other, str(tmp_path / 'pushed'))
    assert not (tmp_path / 'pushed').exists()
    with pytest.raises(ValueError, match='and there is no report'):
        push(write_checkpoint(tmp_path / 'v' / 'x.pth', config_of(CNN, LINEAR))[0], str(tmp_path / 'p'), figures=True)
    (tmp_path / 'r.json').write_text('[1]')
    with pytest.raises(ValueError, match='expected the JSON of hybridcls report'):
        read_report(tmp_path / 'r.json', 'ab')
    with pytest.raises(FileNotFoundError, match=r'push: report=.* does not exist'):
        read_report(tmp_path / 'none.json', 'ab')


def test_a_norm_that_falls_a_little_or_rises_is_no_sign_of_quality():
    little = dict(score='norm', kind='resolution', value=-0.09, low=-0.17, high=-0.02)
    rising = dict(score='norm', kind='noise', value=0.14, low=0.06, high=0.22)
    card = model_card(
        dict(meta={}, classes=['a|b', 'c']),
        'flowers',
        './x',
        report={**REPORT, 'norm': dict(severity=[little, rising])},
    )
    assert 'is no sign of the quality of an image; it rises with noise.' in card
    assert 'falls with' not in card
