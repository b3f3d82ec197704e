"""The table of the suspects is one that the next training reads."""

import csv
import io

from made_suspects import made

from hybridcls.apis.audit.suspects_table import suspects_table
from hybridcls.datasets.label_decisions import read_decisions


def test_what_is_written_can_be_decided_on_and_read(tmp_path):
    rows = list(csv.DictReader(io.StringIO(suspects_table(*made(), 2).decode())))
    assert [row['path'] for row in rows] == ['b, c.png', 'é.png']
    assert rows[0] == dict(
        path='b, c.png', label='<script>', suggested='日本', decision='', score='0.9000', probability='1.0000',
        against='training', training='-0.8000', loss='3.0000',
    )  # fmt: skip
    table = tmp_path / 'audit.csv'
    table.write_bytes(suspects_table(*made(), 2).replace('日本,,'.encode(), '日本,relabel,'.encode()))
    assert read_decisions('me', str(table), 'relabel').relabel == {'b, c.png': ('<script>', '日本')}
