"""`hybridcls train --record`, `hybridcls audit`, and the training that its table changes."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from toy_runs import train
from trained_checkpoints import CNN, config_of, write_checkpoint

from hybridcls.apis.audit import audit_data
from hybridcls.apis.audit.audited_images import training_images
from hybridcls.apis.inferencer import HybridInferencer
from hybridcls.cli.main import SUBCOMMANDS, parse_args
from hybridcls.command_line import run_tool
from hybridcls.registry import DATASETS
from hybridcls.structures.sample_record import SampleRecord

PIPELINE = [dict(type='LoadImage'), dict(type='PackInputs')]


def run(*arguments):
    args = parse_args(list(map(str, arguments)))
    return SUBCOMMANDS[args.command].run(args)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A recorded training on 48 images of three colours, of which two have a wrong label."""
    folder, rng = tmp_path_factory.mktemp('audit'), np.random.default_rng(0)
    lines = ['path,label']
    for row in range(48):
        image = rng.integers(0, 60, (32, 32, 3)).astype(np.uint8)
        image[..., row % 3] += 150
        Image.fromarray(image).save(folder / f'{row}.png')
        label = ('red', 'green', 'blue')[(row + (row in (5, 30))) % 3]
        lines.append(f'{row}.png,{label}')
    (folder / 'labels.csv').write_text('\n'.join(lines))
    dataset = dict(type='ImageFolder', data_root=str(folder), ann_file='labels.csv', pipeline=PIPELINE)
    loader = dict(batch_size=8, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True), dataset=dataset)
    plain = dict(loader, sampler=dict(type='DefaultSampler', shuffle=False))
    head = dict(type='LinearHead', num_classes=3)
    backbone = dict(type='TimmStream', model_name='test_vit', img_size=32, drop_path_rate=0.0)
    Config(dict(
        default_scope='hybridcls', randomness=dict(seed=0), custom_hooks=[dict(type='SampleRecordHook')],
        model=dict(type='HybridClassifier', backbone=backbone, head=head), train_dataloader=loader,
        test_dataloader=plain, test_cfg=dict(), test_evaluator=[dict(type='Accuracy')],
        train_cfg=dict(by_epoch=True, max_epochs=6),
        optim_wrapper=dict(type='ComposedOptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
    )).dump(folder / 'config.py')  # fmt: skip
    train(str(folder / 'config.py'), folder / 'w')
    return folder


@pytest.fixture(scope='module')
def audited(trained):
    assert run('audit', trained / 'w', '--out', trained / 'audit.html', '--top', 4, '--device', 'cpu') == 0
    return trained


def rows_of(file):
    """The rows of a table, but those of images that are there twice: the training images here are held out, too."""
    rows = csv.DictReader(file.open(encoding='utf8'))
    return [row for row in rows if row.get('against') not in ('copy', 'held out, too')]


def test_the_page_and_the_table(audited):
    rows = rows_of(audited / 'audit.csv')
    assert {row['path'] for row in rows[:2]} == {'5.png', '30.png'}  # relative to the folder of the images
    assert [row['suggested'] for row in rows[:2]] == [
        ('red', 'green', 'blue')[int(row['path'][:-4]) % 3] for row in rows[:2]
    ]
    assert rows[0]['against'] == 'training|cross_validated|neighbours'
    assert {row['decision'] for row in rows} == {''}
    page = (audited / 'audit.html').read_text(encoding='utf8')
    assert 'recorded in 6 epochs' in page
    assert page.count('data:image/jpeg') >= 4


def test_decisions_go_into_the_next_training(audited, capsys):
    rows = rows_of(audited / 'audit.csv')
    for row, decision in zip(rows, ('relabel', 'drop', 'keep', ''), strict=True):
        row['decision'] = decision
    table = audited / 'decided.csv'
    with table.open('w', newline='', encoding='utf8') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    arguments = ['train', audited / 'config.py', '--drop', table, '--relabel', table, '--json']
    run(*arguments, '--work-dir', audited / 'next', '--device', 'cpu', '--cfg-options', 'train_cfg.max_epochs=1')
    out = capsys.readouterr()
    assert 'dropped by decision (1)' in out.err
    assert 'Relabelled by decision: 1' in out.err
    work_dir = json.loads(out.out)['work_dir']
    record = training_images(HybridInferencer(work_dir, 'cpu')).record
    names = [path.rsplit('/', 1)[1] for path in record.paths]
    assert len(record) == 47
    assert rows[1]['path'] not in names
    assert record.classes[record.labels[names.index(rows[0]['path'])]] == rows[0]['suggested']


def test_a_second_round_writes_a_table_that_is_used_alone(audited, tmp_path, capsys):
    first = tmp_path / 'first.csv'
    row_of = {row['path']: row for row in rows_of(audited / 'audit.csv')}
    wrong = [dict(row_of[name], decision='relabel') for name in ('5.png', '30.png')]
    wrong[1]['suggested'] = wrong[1]['label']  # relabelled as it was: wrong again
    others = [dict(path='2.png', label='blue', decision='drop'), dict(path='8.png', label='blue', decision='keep')]
    with first.open('w', newline='', encoding='utf8') as file:
        writer = csv.DictWriter(file, wrong[0])
        writer.writeheader()
        writer.writerows([*wrong, *others])
    options = ['--device', 'cpu', '--cfg-options', 'train_cfg.max_epochs=3']
    run('train', audited / 'config.py', '--drop', first, '--relabel', first, '--work-dir', tmp_path / 'w', *options)
    first.unlink()  # the work dir knows
    (tmp_path / 'w').rename(tmp_path / 'moved')
    capsys.readouterr()
    run('audit', tmp_path / 'moved', '--top', 1, '--decide', 'drop', '--device', 'cpu')
    second = tmp_path / 'moved' / 'audit.csv'
    assert f', and 4 earlier decisions. Next: hybridcls train CONFIG --drop {second} --relabel {second}' in (
        capsys.readouterr().out
    )
    new, *before = rows_of(second)
    assert (new['decision'], new['before']) == ('drop', '')
    assert new['path'] not in row_of or new['path'] not in ('5.png', '30.png')
    found = {row['path']: (row['label'], row['suggested'], row['decision'], row['before']) for row in before}
    assert found == {
        row['path']: (row['label'], row.get('suggested') or found[row['path']][1], row['decision'], row['decision'])
        for row in [*wrong, *others]
    }
    assert (found['2.png'][1], found['8.png'][1] in ('red', 'green')) == ('', True)
    assert [row['decision'] for row in rows_of(tmp_path / 'moved' / 'audit_duplicates.csv')].count('drop') == 1
    page = (tmp_path / 'moved' / 'audit.html').read_text(encoding='utf8')
    assert 'Decided before this training: 1 dropped, 2 relabelled, 1 kept.' in page
    assert 'Contradicted with the new label, too: 1 image.' in page
    (tmp_path / 'moved' / 'sample_record.npz').unlink()
    for data in (None, str(audited / 'labels.csv')):  # both have the labels of the data
        images = training_images(HybridInferencer(tmp_path / 'moved', 'cpu'), data)
        names = images.names()
        assert (len(names), '2.png' in names) == (47, False)
        assert images.classes[images.labels[names.index('5.png')]] == wrong[0]['suggested']
        assert images.given_labels()[names.index('5.png')] == wrong[0]['label']
    dataset = dict(type='ImageFolder', data_root=str(audited), ann_file='labels.csv', pipeline=PIPELINE)
    labels = DATASETS.build(dataset).get_gt_labels()
    decided = DATASETS.build({**dataset, 'drop': str(second), 'relabel': str(second)})
    paths = {decided.get_data_info(row)['img_path'].rsplit('/', 1)[1] for row in range(len(decided))}
    assert {f'{row}.png' for row in range(48)} - paths == {'2.png', new['path']}
    text = second.read_text(encoding='utf8').replace('relabel,relabel', ',relabel')  # taken back
    second.write_text(text, encoding='utf8')
    back = DATASETS.build({**dataset, 'drop': str(second)})
    for row in range(len(back)):
        info = back.get_data_info(row)
        assert info['gt_label'] == labels[int(info['img_path'].rsplit('/', 1)[1][:-4])]


def test_decide_fills_the_table_for_the_next_training(audited, capsys):
    out, table = audited / 'all.html', audited / 'all.csv'
    run('audit', audited / 'w', '--out', out, '--top', 2, '--decide', 'relabel', '--device', 'cpu')
    said, progress = capsys.readouterr()
    assert '48 training images in ' in progress
    assert progress.index('recorded in 6 epochs') < progress.index('48 training images in ')  # before it takes time
    assert f'{table} has the decision relabel for 2 of 2 images. Next: hybridcls train CONFIG --relabel {table}' in said
    assert '--drop' not in said
    assert [row['decision'] for row in rows_of(table)] == ['relabel', 'relabel']
    settings = dict(type='ImageFolder', data_root=str(audited), ann_file='labels.csv', pipeline=PIPELINE)
    labels = [DATASETS.build({**settings, **more}).get_gt_labels() for more in ({}, dict(relabel=str(table)))]
    assert np.flatnonzero(labels[0] != labels[1]).tolist() == [5, 30]
    assert (labels[1] == np.resize(labels[1][:3], 48)).all()  # as they were planted


def test_without_a_record(audited, tmp_path):
    work_dir = tmp_path / 'w'
    work_dir.mkdir()
    (work_dir / 'epoch_6.pth').symlink_to(audited / 'w' / 'epoch_6.pth')
    model = HybridInferencer(work_dir / 'epoch_6.pth', 'cpu')
    images = training_images(model)
    assert images.record is None
    assert 'a training with --record' in images.notes[0]
    assert images.names()[:2] == ['0.png', '1.png']
    of_table = training_images(model, str(audited / 'labels.csv'))
    assert of_table.labels.tolist() == images.labels.tolist()
    (tmp_path / 'other' / 'a').mkdir(parents=True)
    Image.open(audited / '0.png').save(tmp_path / 'other' / 'a' / '0.png')
    with pytest.raises(ValueError, match='expected images of the classes of the model'):
        training_images(model, str(tmp_path / 'other'))


def test_what_can_be_done_where_the_training_images_are_gone(audited, tmp_path):
    work_dir, held_out = tmp_path / 'w', tmp_path / 'held_out'
    work_dir.mkdir()
    (work_dir / 'epoch_6.pth').symlink_to(audited / 'w' / 'epoch_6.pth')
    model = HybridInferencer(work_dir / 'epoch_6.pth', 'cpu')
    model.config.train_dataloader.dataset.data_root = str(tmp_path / 'gone')
    for row in range(12):
        for name in [('red', 'green', 'blue')[row % 3], *(['blue'] if row == 0 else [])]:
            (held_out / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(audited / f'{row}.png', held_out / name)
    told = []
    found = audit_data(model, held_out=str(held_out), tell=told.append)
    assert told[0].startswith('The labels of the training images are not checked: the images of the training, ')
    assert found.numbers['slices']['images'] == 13
    assert (found.numbers['images'], found.numbers['duplicates']['contradicting']) == (0, 1)
    assert '2 held out images, in 1 group, show the same under several labels.' in found.html
    assert 'it is unknown whether held-out images are among them' in found.html
    assert len(found.table.splitlines()) == 1
    with pytest.raises(FileNotFoundError, match=r'/none. does not exist'):
        audit_data(model, str(tmp_path / 'none'))
    model.config.test_dataloader = None
    with pytest.raises(FileNotFoundError, match='are not there'):
        audit_data(model)

    record = SampleRecord.read(audited / 'w' / 'sample_record.npz')
    record.root, record.paths = '/gone', [path.replace(str(audited), '/gone') for path in record.paths]
    (work_dir / 'sample_record.npz').write_bytes(record.content())
    by_record = audit_data(model, top=2)
    rows = list(csv.DictReader(io.StringIO(by_record.table.decode())))
    assert {row['path'] for row in rows} == {'5.png', '30.png'}
    assert 'suspects come from the training record alone' in by_record.html
    assert audit_data(model, str(audited), top=2).table.count(b'neighbours') == 3  # they have moved there
    with pytest.raises(ValueError, match=r'48 recorded images below --data .*/gone: name the folder'):
        audit_data(model, str(held_out))


def test_a_folder_without_a_record_is_audited_without_its_held_out_images(audited, tmp_path):
    (tmp_path / 'epoch_6.pth').symlink_to(audited / 'w' / 'epoch_6.pth')
    for name, image in (('red', 0), ('green', 1), ('blue', 2)):
        (tmp_path / 'data' / name).mkdir(parents=True)
        shutil.copy(audited / f'{image}.png', tmp_path / 'data' / name / 'a.png')
    (tmp_path / 'split.csv').write_text('path,label,split,group\nred/a.png,red,train,\nblue/a.png,blue,val,\n')
    images = training_images(HybridInferencer(tmp_path / 'epoch_6.pth', 'cpu'), str(tmp_path / 'data'))
    assert images.names() == ['green/a.png', 'red/a.png']
    assert images.notes[1].endswith('split.csv): 1 of 3 images.')


@pytest.mark.parametrize(
    ('head', 'message'),
    [
        (dict(type='SupConHead'), 'got SupConHead, which has only embeddings. Audit the phase'),
        (dict(type='MultiLabelHead', num_classes=4), 'one class an image, got several by MultiLabelHead'),
    ],
)
def test_heads_without_one_class_an_image(tmp_path, head, message):
    model = HybridInferencer(write_checkpoint(tmp_path / 'a.pth', config_of(CNN, head))[0], 'cpu')
    with pytest.raises(ValueError, match=message):
        audit_data(model)


def test_user_errors(audited, tmp_path, capsys):
    for arguments, message in (
        (('audit', tmp_path / 'nothing.pth'), 'does not exist'),
        (('audit', audited / 'w', '--out', audited / 'audit.html'), 'Add --force'),
        (('audit', audited / 'w', '--top', -1), 'expected --top to be 0 or more'),
        (('train', audited / 'config.py', '--drop', tmp_path / 'no.csv'), '--drop'),
    ):
        with pytest.raises(SystemExit) as ended:
            run_tool(lambda arguments=arguments: run(*arguments))
        assert ended.value.code == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize('recorded', [True, False])
def test_two_folders_with_the_same_names(audited, tmp_path, recorded):
    rng = np.random.default_rng(0)
    for folder in ('a', 'b'):
        for row in range(8):
            image = rng.integers(0, 60, (32, 32, 3)).astype(np.uint8)
            image[..., row % 2] += 150
            path = tmp_path / folder / ('red', 'green')[row % 2] / f'{row}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    cfg = Config.fromfile(str(audited / 'config.py'))
    parts = [dict(type='ImageFolder', data_root=str(tmp_path / name), pipeline=PIPELINE) for name in 'ab']
    parts[1] = dict(type='RepeatDataset', times=2, dataset=parts[1])
    cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=parts)
    cfg.model.head.num_classes, cfg.train_cfg.max_epochs = 2, 1
    cfg.custom_hooks = cfg.custom_hooks if recorded else []
    cfg.dump(tmp_path / 'config.py')
    first = train(str(tmp_path / 'config.py'), tmp_path / 'first').work_dir
    table = tmp_path / 'audit.csv'
    run('audit', first, '--out', tmp_path / 'audit.html', '--top', 3, '--decide', 'drop', '--device', 'cpu')
    dropped = {row['path'] for row in rows_of(table) if row['decision'] == 'drop'}
    assert len(dropped) == 3
    assert all(path.startswith(f'{tmp_path}/') for path in dropped)
    second = tmp_path / 'second'
    run('train', tmp_path / 'config.py', '--work-dir', second, '--drop', table, '--record', '--device', 'cpu')
    left = SampleRecord.read(second / 'sample_record.npz').paths
    every = {str(path) for folder in 'ab' for path in (tmp_path / folder).rglob('*.png')}
    assert set(left) == every - dropped
    run('audit', second, '--out', tmp_path / 'again.html', '--top', 0, '--device', 'cpu')
    assert {row['path']: row['before'] for row in rows_of(tmp_path / 'again.csv')} == dict.fromkeys(dropped, 'drop')


def test_images_of_one_class_have_nothing_to_decide(audited, tmp_path, capsys):
    (tmp_path / 'w').mkdir()
    shutil.copy(audited / 'w' / 'epoch_6.pth', tmp_path / 'w')
    rng = np.random.default_rng(0)
    (tmp_path / 'images/red').mkdir(parents=True)
    for row in range(3):
        image = Image.fromarray(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8))
        image.save(tmp_path / f'images/red/{row}.png')
    images = ('--data', tmp_path / 'images', '--held-out', tmp_path / 'images')
    assert run('audit', tmp_path / 'w', *images, '--device', 'cpu') == 0
    shown = capsys.readouterr()
    assert "All images are of one class, 'red': a label looks wrong only beside images of another." in shown.err
    rows = list(csv.DictReader((tmp_path / 'w/audit.csv').open()))
    assert ('Fill the column decision' in shown.out) == bool(rows)
