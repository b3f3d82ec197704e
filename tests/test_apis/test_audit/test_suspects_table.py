"""The table of the suspects is one that the next training reads."""

import csv
import io

import numpy as np
from made_suspects import made

from hybridcls.apis.audit.decided_before import DecidedImage
from hybridcls.apis.audit.suspects_table import decided_rows, suspects_table
from hybridcls.datasets.label_decisions import read_decisions


def test_what_is_written_can_be_decided_on_and_read(tmp_path):
    rows = list(csv.DictReader(io.StringIO(suspects_table(*made(), 2).decode())))
    assert [row['path'] for row in rows] == ['b, c.png', 'é.png']
    assert rows[0] == dict(
        path='b, c.png', label='<script>', suggested='日本', decision='', before='', now='', score='0.9000',
        probability='1.0000', against='training', training='-0.8000', loss='3.0000',
    )  # fmt: skip
    twice = list(csv.DictReader(io.StringIO(suspects_table(*made(), 1, duplicates={0: 'copy', 1: 'copy'}).decode())))
    assert [(row['path'], row['decision'], row['suggested'], row['against']) for row in twice] == [
        ('b, c.png', '', '日本', 'training'),  # each image once
        ('a.png', '', '', 'copy'),
    ]
    images, suspects = made()
    images.decided = [DecidedImage('a.png', 'ant, red', 'keep')]
    assert suspects_table(images, suspects, 1, duplicates={0: 'copy'}).count(b'a.png') == 1
    table = tmp_path / 'audit.csv'
    table.write_bytes(suspects_table(*made(), 2).replace('日本,,'.encode(), '日本,relabel,'.encode()))
    assert read_decisions('me', str(table), 'relabel').relabel == {'b, c.png': ('<script>', '日本')}


def test_one_decision_for_all_that_are_listed_leaves_no_class_empty(tmp_path):
    images, suspects = made()
    for decide in ('drop', 'relabel'):  # one image a class: nothing can be decided
        assert decided_rows(images, suspects, 3, decide) == []
        assert b',drop,' not in suspects_table(images, suspects, 3, decide)
    images.labels = np.array([0, 0, 2])  # order 1, 2, 0; suggested 1, 2, 0
    assert decided_rows(images, suspects, 3, 'drop') == [1]
    suspects.suggested[1] = 2  # its class comes to two, so that the next one may go, and so on
    assert decided_rows(images, suspects, 3, 'relabel') == [1, 2, 0]
    assert decided_rows(images, suspects, 1, 'relabel') == [1]
    table = tmp_path / 'audit.csv'
    table.write_bytes(suspects_table(images, suspects, 3, 'drop'))
    assert read_decisions('me', str(table), 'drop').drop == {'b, c.png': 'ant, red'}
