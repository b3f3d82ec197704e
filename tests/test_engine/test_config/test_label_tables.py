"""What a table decides is a fact of the config, whatever else the table says."""

from mmengine.config import Config

from hybridcls.datasets.label_decisions import read_decisions
from hybridcls.engine.config.change import apply, record_of
from hybridcls.engine.config.dumps import undo
from hybridcls.engine.config.facts import config_facts
from hybridcls.engine.config.label_tables import has_label_tables, label_tables


def test_a_decision_that_changes_is_another_config(tmp_path):
    table = tmp_path / 'audit.csv'

    def facts(decision, note='', **more):
        table.write_text(f'path,decision,note\n1.png,{decision},{note}\n0.png,drop,\n')
        dataset = dict(type='ImageFolder', data_root=str(tmp_path), drop=dict(file=str(table), **more))
        cfg = Config(dict(train_dataloader=dict(dataset=dataset), work_dir=str(tmp_path / 'w')))
        (change,) = label_tables(cfg)
        assert change.path == ('train_dataloader', 'dataset', 'drop')
        return config_facts(dict(drop=change.new))

    assert facts('keep') == facts('', 'looked at')
    assert facts('drop') != facts('keep')
    assert facts('keep')['drop.file'] == repr(str(tmp_path / 'w' / 'drop.csv'))


def test_a_dumped_config_needs_the_table_no_more(tmp_path):
    table = tmp_path / 'a.csv'
    table.write_text('path\n7.png\n')
    dataset = dict(type='ImageFolder', data_root=str(tmp_path), drop=str(table))
    cfg = Config(dict(drop=str(table), train_dataloader=dict(dataset=dataset), work_dir=str(tmp_path / 'w')))
    copy = dict(file=str(tmp_path / 'w' / 'drop.csv'), digest=read_decisions('me', str(table), 'drop').digest)
    apply(cfg, label_tables)
    assert cfg.drop == cfg.train_dataloader.dataset.drop == copy
    values = dict(cfg.to_dict(), filled=record_of(cfg))
    undo(values, {})
    assert values['drop'] == copy  # what fills the datasets of the dump
    assert values['train_dataloader']['dataset']['drop'] == str(table)  # which the key has filled


def test_the_work_dir_keeps_the_decisions(tmp_path):
    tables = [tmp_path / 'a.csv', tmp_path / 'b.csv']
    tables[0].write_text('path,label,suggested,decision\n"0, é.png",a,,drop\n1.png,a,b,relabel\n2.png,a,b,keep\n')
    tables[1].write_text('path\n7.png\n')
    datasets = [dict(type='ImageFolder', data_root=str(tmp_path), drop=str(table)) for table in tables]
    cfg = Config(dict(
        train_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=[*datasets, datasets[0]])),
        work_dir=str(tmp_path / 'w'),
    ))  # fmt: skip
    said = [one for one in label_tables(cfg) if isinstance(one, str)]
    assert said == [
        f'{tables[0]} also decides relabel for 1 image, which is not applied because --relabel is not given.'
    ]
    made = sorted(path.name for path in (tmp_path / 'w').iterdir())
    assert made == ['drop.csv', 'drop_2.csv']
    copy = read_decisions('me', str(tmp_path / 'w' / 'drop.csv'), 'drop')
    assert (copy.drop, copy.keep) == ({'0, é.png': 'a'}, {'2.png': 'a'})
    assert copy.digest == read_decisions('me', str(tables[0]), 'drop').digest


def test_other_data_sets_are_left_alone():
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='Digits'))))
    assert not list(label_tables(cfg))
    assert not has_label_tables(cfg)
