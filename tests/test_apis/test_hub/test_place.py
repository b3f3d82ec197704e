"""A place is on the Hub if it says so, or looks like OWNER/NAME and is nothing here."""

import pytest

from hybridcls.apis.hub.place import Place, read_place


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('hf://owner/name', Place('owner/name', True)),
        ('hf-hub:owner/name@v1', Place('owner/name', True, 'v1')),
        ('owner/name', Place('owner/name', True)),
        ('owner/name.x-1@main', Place('owner/name.x-1', True, 'main')),
        ('./owner/name', Place('./owner/name', False)),
        ('here/name', Place('here/name', False)),  # its parent is a folder
        ('name', Place('name', False)),
        ('a/b/c', Place('a/b/c', False)),
        ('/tmp/a', Place('/tmp/a', False)),
        ('Модель/a b', Place('Модель/a b', False)),
        ('at@home', Place('at@home', False)),
    ],
)
def test_where_a_place_is(text, expected, tmp_path, monkeypatch):
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_place('pull', text) == expected


def test_a_revision():
    assert read_place('pull', 'hf://a/b', 'v2').revision == 'v2'
    assert str(read_place('pull', 'hf://a/b@v2')) == 'hf://a/b@v2'
    with pytest.raises(ValueError, match='expected one revision'):
        read_place('pull', 'hf://a/b@v1', 'v2')
    with pytest.raises(ValueError, match='--revision is for the Hub'):
        read_place('pull', './a', 'v2')
    with pytest.raises(ValueError, match='expected hf://OWNER/NAME'):
        read_place('pull', 'hf://a')
