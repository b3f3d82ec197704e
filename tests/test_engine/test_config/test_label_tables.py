"""What a table decides is a fact of the config, whatever else the table says."""

from mmengine.config import Config

from hybridcls.engine.config.facts import config_facts
from hybridcls.engine.config.label_tables import label_tables


def test_a_decision_that_changes_is_another_config(tmp_path):
    table = tmp_path / 'audit.csv'

    def facts(decision, note='', **more):
        table.write_text(f'path,decision,note\n1.png,{decision},{note}\n0.png,drop,\n')
        dataset = dict(type='ImageFolder', data_root=str(tmp_path), drop=dict(file=str(table), **more))
        (change,) = label_tables(Config(dict(train_dataloader=dict(dataset=dataset))))
        assert change.path == ('train_dataloader', 'dataset', 'drop')
        return config_facts(dict(drop=change.new))

    assert facts('keep') == facts('', 'looked at')
    assert facts('drop') != facts('keep')
    assert facts('keep')['drop.file'] == repr(str(table))


def test_other_data_sets_are_left_alone():
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='Digits'))))
    assert not list(label_tables(cfg))
