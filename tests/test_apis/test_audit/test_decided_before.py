"""What a training was told is read from beside its checkpoint, from the table, or missed in a sentence."""

import pytest

from hybridcls.apis.audit.decided_before import DecidedImage, decided_before
from hybridcls.datasets.label_decisions import read_decisions


@pytest.fixture
def told(tmp_path):
    """Write a table, and return the config of a training with it."""
    table = tmp_path / 'audit.csv'
    table.write_text(
        'path,label,suggested,decision\n/old/a.png,x,y,relabel\nb.png,x,,drop\nc.png,x,y,keep\na.png,x,,\n'
    )
    noted = {
        what: dict(file=str(table), digest=read_decisions('me', str(table), what).digest)
        for what in ('drop', 'relabel')
    }
    return table, dict(train_dataloader=dict(dataset=dict(type='ImageFolder', **noted)))


FOUND = [
    DecidedImage('c.png', 'x', 'keep'),
    DecidedImage('a.png', 'x', 'relabel', 'y'),
    DecidedImage('b.png', 'x', 'drop'),
]


def test_a_table_that_has_not_changed_and_one_that_has(told, tmp_path):
    table, cfg = told
    assert decided_before(cfg, str(tmp_path / 'w' / 'a.pth'), '/old') == (FOUND, [])
    assert decided_before(dict(val_dataloader=cfg['train_dataloader']), 'a.pth') == ([], [])
    table.write_text('path,decision\nb.png,drop\n')  # the label is part of a decision
    found, notes = decided_before(cfg, str(tmp_path / 'w' / 'a.pth'), '/old')
    assert found == []
    assert [note.split(' that the training used are lost')[0] for note in notes] == [
        f'The decisions to {what}' for what in ('relabel', 'drop')
    ]


def test_the_copy_beside_the_checkpoint_comes_first(told, tmp_path):
    table, cfg = told
    (tmp_path / 'w').mkdir()
    table.rename(tmp_path / 'w' / 'audit.csv')
    assert decided_before(cfg, str(tmp_path / 'w' / 'a.pth'), '/old') == (FOUND, [])
    table.write_text('path,decision\nz.png,drop\n')
    assert decided_before(cfg, str(tmp_path / 'w' / 'phase' / 'a.pth'), '/old') == (FOUND, [])  # of a chain


def test_an_image_in_both_tables_is_dropped(tmp_path):
    tables = tmp_path / 'drop.csv', tmp_path / 'relabel.csv'
    tables[0].write_text('path,decision\na.png,drop\nb.png,keep\n')
    tables[1].write_text('path,suggested,decision\na.png,y,relabel\nb.png,y,relabel\n')
    cfg = dict(train_dataloader=dict(dataset=dict(type='X', drop=str(tables[0]), relabel=str(tables[1]))))
    found, _ = decided_before(cfg, 'a.pth')
    assert {one.name: one.decision for one in found} == {'a.png': 'drop', 'b.png': 'relabel'}
