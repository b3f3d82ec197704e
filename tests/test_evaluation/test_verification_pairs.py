"""Lists of verification pairs: LFW's and simple lines, against lists by hand."""

import pytest

from hybridcls.evaluation.verification_pairs import positions_of, read_pairs


def written(tmp_path, text):
    path = tmp_path / 'pairs.txt'
    path.write_text(text)
    return str(path)


def test_one_pair_a_line(tmp_path):
    pairs = read_pairs('Metric', written(tmp_path, 'a/1.png a/2.png 1\n\na/1.png,b/1.png,0\nb/1.png\ta/2.png\t0\n'))
    assert pairs.first == ['a/1.png', 'a/1.png', 'b/1.png']
    assert pairs.second == ['a/2.png', 'b/1.png', 'a/2.png']
    assert pairs.same.tolist() == [True, False, False]


@pytest.mark.parametrize('mark', ['\t', ',', ' , '])
def test_names_with_spaces(tmp_path, mark):
    lines = [('my a/1 1.png', 'b/2.png', '1'), ('b/2.png', 'my c.png', '0')]
    pairs = read_pairs('Metric', written(tmp_path, ''.join(f'{mark.join(line)}\n' for line in lines)))
    assert (pairs.first, pairs.second) == (['my a/1 1.png', 'b/2.png'], ['b/2.png', 'my c.png'])
    pairs = read_pairs('Metric', written(tmp_path, '1 1\nJean Luc\t1\t4\nJean Luc\t5\tDean\t11\n'))
    assert pairs.second == ['Jean Luc/Jean Luc_0004', 'Dean/Dean_0011']


def test_another_encoding_is_named(tmp_path):
    (tmp_path / 'pairs.txt').write_bytes('a b 1\njosé c 0\n'.encode('cp1252'))
    with pytest.raises(ValueError, match=r'as utf-8 text, got the byte 0xe9 in line 2\. Save it as UTF-8'):
        read_pairs('Metric', str(tmp_path / 'pairs.txt'))


def test_lfw_pairs_file(tmp_path):
    pairs = read_pairs('Metric', written(tmp_path, '10\t300\nAbel_Pacheco\t1\t4\nAbdel_Madi\t5\tDean_Barker\t11\n'))
    assert pairs.first == ['Abel_Pacheco/Abel_Pacheco_0001', 'Abdel_Madi/Abdel_Madi_0005']
    assert pairs.second == ['Abel_Pacheco/Abel_Pacheco_0004', 'Dean_Barker/Dean_Barker_0011']
    assert pairs.same.tolist() == [True, False]


def test_images_are_found_by_the_end_of_their_path():
    names = ['/data/a/1.png', '/data/b/1.png', '/data/b/b_0001.jpg', '/data/b/c\\2.png']
    queries = ['b/1.png', 'a/1.png', 'b_0001.jpg', 'b/b_0001', 'b/c/2.png', '/data/b/1.png']
    assert positions_of('Metric', queries, names).tolist() == [1, 0, 2, 2, 3, 1]
    assert positions_of('Metric', ['1', '0'], ['0', '1', '10']).tolist() == [1, 0]


def test_ambiguous_name_is_an_error():
    names = ['/data/a/1.png', '/data/b/1.png']
    with pytest.raises(ValueError, match=r"'1.png' of the pairs matches /data/a/1.png and /data/b/1.png; write"):
        positions_of('Metric', ['1.png'], names)
    with pytest.raises(ValueError, match=r"'c/1.png' of the pairs is not among the 2 evaluated .* '/data/a/1.png'"):
        positions_of('Metric', ['c/1.png'], names)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a b 1\na b\n', r"expected 'first second 1' or 'first second 0' in line 2 of pairs='.*', got 'a b'\."),
        ('a b 1\nc d 2\n', "line 2 of .* got 'c d 2'"),
        ('10 300\na 1 b\n', "expected 'name 1 4' or 'name 1 other 2' in line 2 of .* got 'a 1 b'"),
        ('a b 1\nc d 1\n', 'expected genuine and impostor pairs .*, got 2 and 0'),
        ('my a.png my b.png 1\n', r"got 'my a\.png my b\.png 1'\. Separate names with spaces by tabs or commas"),
        ('a.png,b.png,1\n,b.png,0\n', r"in line 2 of .*, got ',b\.png,0'"),
        ('', 'expected genuine and impostor pairs .*, got 0 and 0'),
    ],
)
def test_invalid_lines_are_errors(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_pairs('Metric', written(tmp_path, text))


def test_missing_file_is_an_error(tmp_path):
    written(tmp_path, '')
    with pytest.raises(FileNotFoundError, match=r"Did you mean '.*pairs.txt'"):
        read_pairs('Metric', str(tmp_path / 'pair.txt'))
