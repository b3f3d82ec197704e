"""checks.py: arguments and files that pass, and the message of each error."""

import math
import os
import re

import pytest

from hybridcls.checks import (
    UnknownNameError,
    check_choice,
    check_file,
    check_known_keys,
    check_number,
    decode_text,
    did_you_mean,
    explain_unknown_name,
    has_raw_bytes,
    near_files,
)
from hybridcls.registry import MODELS


@pytest.mark.parametrize(
    ('value', 'keys'),
    [(0.5, dict(low=0, high=1)), (0, dict(low=0)), (1, dict(high=1)), (3, dict(integer=True)), (-1e9, {})],
)
def test_numbers_that_pass(value, keys):
    check_number('Who', 'key', value, **keys)


@pytest.mark.parametrize(
    ('value', 'keys', 'error', 'message'),
    [
        (1.5, dict(low=0, high=1), ValueError, r'Who: expected key in \[0, 1\], got 1.5\.'),
        (0, dict(low=0, low_open=True), ValueError, r'expected key in \(0, inf\), got 0'),
        (1, dict(low=0, high=1, high_open=True), ValueError, r'expected key in \[0, 1\), got 1'),
        (math.nan, {}, ValueError, r'expected key in \(-inf, inf\), got nan'),
        (math.inf, dict(low=0), ValueError, r'expected key in \[0, inf\), got inf'),
        ('3', {}, TypeError, r"Who: expected key to be a number, got '3' \(str\)"),
        (True, dict(integer=True), TypeError, r'expected key to be an integer, got True \(bool\)'),
        (2.0, dict(integer=True), TypeError, r'expected key to be an integer, got 2.0 \(float\)'),
        (None, {}, TypeError, 'NoneType'),
        (9, dict(high=1, advice='Type 1.'), ValueError, r'got 9\. Type 1\.$'),
    ],
)
def test_invalid_numbers_are_errors(value, keys, error, message):
    with pytest.raises(error, match=message):
        check_number('Who', 'key', value, **keys)


def test_check_choice():
    check_choice('Who', 'form', 'out', ['out', 'in'])
    with pytest.raises(
        ValueError, match=r"Who: expected form to be one of \['out', 'in'\], got 'outt'. Did you mean 'out'\?"
    ):
        check_choice('Who', 'form', 'outt', ['out', 'in'])
    with pytest.raises(ValueError, match=r'expected form to be one of \[1, 2\], got 3\.$'):
        check_choice('Who', 'form', 3, [1, 2])


def test_check_known_keys():
    check_known_keys('Who', ['rho'], ['rho', 'eta'])
    with pytest.raises(TypeError, match=r"Who: unknown key 'rhoo'. Did you mean 'rho'\? Known keys: rho, eta\."):
        check_known_keys('Who', ['rho', 'rhoo'], iter(['rho', 'eta']))


def test_did_you_mean():
    assert did_you_mean('adafacehead', ['AdaFaceHead']) == " Did you mean 'AdaFaceHead'?"
    assert did_you_mean('resnet51', ['resnet50', 'resnet18', 'vit']) == " Did you mean 'resnet50' or 'resnet18'?"
    assert len(did_you_mean('ab1', [f'ab{n}' for n in range(9)]).split(' or ')) == 3
    assert did_you_mean('x', []) == ''


def test_check_file(tmp_path):
    (tmp_path / 'weights.pth').touch()
    (tmp_path / 'other.pth').touch()
    check_file('Who', 'path', str(tmp_path / 'weights.pth'))
    with pytest.raises(
        FileNotFoundError,
        match=r"Who: path='.*weight.pth' does not exist \(looked for /.*\)\. Did you "
        r"mean '.*weights.pth'\? Set path\.",
    ):
        check_file('Who', 'path', str(tmp_path / 'weight.pth'), 'Set path.')
    with pytest.raises(FileNotFoundError, match='is a folder, not a file'):
        check_file('Who', 'path', str(tmp_path))


def test_near_files(tmp_path):
    (tmp_path / 'configs' / 'digits').mkdir(parents=True)
    (tmp_path / 'configs' / 'digits' / 'two_phase.py').touch()
    (tmp_path / 'configs' / '.hidden.py').touch()
    assert near_files(str(tmp_path / 'configs/hybrid/two_phase.py')).endswith("digits/two_phase.py'?")  # another folder
    assert near_files(str(tmp_path / 'configs/digits/abc.py')).endswith('there are: two_phase.py.')
    assert near_files(str(tmp_path / 'configs/digits/abc.yml')) == ''
    assert near_files(str(tmp_path / 'config')) == f" Did you mean '{tmp_path / 'configs'}'?"  # a folder
    assert near_files(str(tmp_path / 'configs.py')) == ''


def test_the_disk_is_not_searched_to_its_end(tmp_path, monkeypatch):
    for number in range(9):
        (tmp_path / 'a').mkdir(exist_ok=True)
        (tmp_path / 'a' / f'{number}.jpg').touch()
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / 'weights.pth').touch()
    wrong = str(tmp_path / 'no' / 'such' / 'weight.pth')
    assert 'weights.pth' in near_files(wrong)
    monkeypatch.setattr('hybridcls.checks._MOST_FILES_SEEN', 8)
    assert near_files(wrong) == ''


def test_unregistered_definition_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package = tmp_path / 'mine'
    package.mkdir()
    (package / 'broken.py').write_text('class Wanted(:\n')  # no Python
    (package / 'latin.py').write_bytes(b'# \xe9\nclass Wanted: pass\n')  # no UTF-8
    (package / 'good.py').write_text('\n\nclass Wanted:\n    pass\n\n\nclass WantedToo:\n    pass\n')
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'found.py').write_text('class Wanted: pass\n')  # not searched: it may be large
    answer = explain_unknown_name('Wanted', MODELS, [], [tmp_path, package])
    assert answer.count('defines Wanted') == 1  # once, though the places overlap
    assert f'{package / "good.py"}:3' in answer
    assert "custom_imports = dict(imports=['mine.good']" in answer
    assert 'defines' not in explain_unknown_name('NotThere', MODELS, [], [tmp_path])
    assert 'defines' not in explain_unknown_name('no identifier', MODELS, [], [tmp_path])


@pytest.mark.parametrize(
    ('key', 'says'),
    [
        (
            'nosuchpackage.Wanted',
            r"Its package 'nosuchpackage' is not installed\. Try pip install nosuchpackage; "
            'without a scope, Wanted is looked up here',
        ),
        ('mmpretrian.ImageClassifier', r"Its package 'mmpretrian' is not installed\. Did you mean 'mmpretrain'\?"),
    ],
)
def test_a_scope_whose_package_is_not_installed(key, says, tmp_path):
    (tmp_path / 'mine.py').write_text('class Wanted: pass\n')
    answer = explain_unknown_name(key, MODELS, [], [tmp_path])
    assert re.search(says, answer)
    assert 'defines' not in answer


@pytest.mark.parametrize('key', ['mmpretrain.ImageClasifier', 'torch.nn.Linaer', '.Wanted'])
def test_known_or_installed_scope_is_not_reported(key):
    assert 'not installed' not in explain_unknown_name(key, MODELS, [], [])


def test_definition_that_cannot_be_imported(tmp_path, monkeypatch):
    elsewhere = tmp_path / 'else-where'
    elsewhere.mkdir()
    (elsewhere / 'part.py').write_text('class Wanted: pass\n')
    monkeypatch.chdir(tmp_path)
    assert 'put it where Python can import it' in explain_unknown_name('Wanted', MODELS, [], [elsewhere])


def test_unknown_name_error_is_not_quoted():
    assert str(UnknownNameError("it's\nhere")) == "it's\nhere"
    assert str(KeyError('a\nb')) == "'a\\nb'"  # what it would have been
    assert str(UnknownNameError()) == ''


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32'])
def test_text_of_several_encodings(encoding):
    assert decode_text('Me', 'a.txt', 'Küken\n'.encode(encoding)) == 'Küken\n'


def test_text_in_another_encoding_is_named_with_its_line():
    content = 'a\nKüken\n'.encode('cp1252')
    assert decode_text('Me', 'a.txt', content, 'cp1252') == 'a\nKüken\n'
    with pytest.raises(
        ValueError,
        match=r'^Me: expected a\.txt as utf-8 text, got the byte 0xfc in line 2\. .*iconv -f CP1252 .* a.txt.*\.$',
    ):
        decode_text('Me', 'a.txt', content)
    with pytest.raises(ValueError, match=r'Save it as UTF-8 .*, or set encoding=1 if it has another encoding\.$'):
        decode_text('Me', 'a.txt', content, other='encoding=1')
    with pytest.raises(ValueError, match=r"expected the name of an encoding, got 'utf9'\."):
        decode_text('Me', 'a.txt', content, 'utf9')
    for name in ('UTF-16LE', 'UTF-16BE'):  # without a mark; of these letters valid UTF-8
        with pytest.raises(ValueError, match=rf"got the byte 0x00 in line 1\. .*iconv -f {name} -t UTF-8 'a b.csv' "):
            decode_text('Me', 'a b.csv', 'path,label\n'.encode(name))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('a,b\nc,d\n'.encode('utf-16')[:-1], r'as utf-16 text, as its first bytes say, got truncated data in line 2'),
        ('a\nb\nc'.encode('utf-32')[:-2], r'as utf-32 text, as its first bytes say, got truncated data in line 3'),
        (b'\xef\xbb\xbfa\n\xfc', r'as utf-8 text, as its first bytes say, got invalid start byte in line 2'),
        ('a\nb\0'.encode('utf-16'), r'as utf-16 text, .* got the character U\+0000 in line 2'),
    ],
)
def test_a_file_with_a_mark_that_is_cut_off_is_said_to_be_so(content, message):
    for file_names in (False, True):
        with pytest.raises(ValueError, match=f'^Me: expected a.csv {message}. It is cut off or damaged: save it ') as e:
            decode_text('Me', 'a.csv', content, file_names=file_names)
        assert 'CP1252' not in str(e.value)


def test_names_of_files_keep_their_bytes():
    name = b'a,K\xfcken.png\n'
    text = decode_text('Me', 'a.csv', name, file_names=True)
    assert text == 'a,' + os.fsdecode(b'K\xfcken.png') + '\n'
    assert has_raw_bytes(text)
    assert not has_raw_bytes('Küken')
    with pytest.raises(ValueError, match='iconv -f UTF-16LE'):  # without a mark: no name
        decode_text('Me', 'a.csv', 'Küken\n'.encode('utf-16-le'), file_names=True)
