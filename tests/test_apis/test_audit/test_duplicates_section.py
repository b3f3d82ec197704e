"""Duplicates and leaks on the page and in the table."""

import csv
import io

import numpy as np

from hybridcls.apis.audit.decided_before import DecidedImage
from hybridcls.apis.audit.duplicate_groups import DuplicateGroup, Duplicates, leaks_of
from hybridcls.apis.audit.duplicates_section import duplicates_numbers, duplicates_section, duplicates_table
from hybridcls.apis.image_inputs import Item


def test_page_and_table(twice_found, twice_images):
    found, images = twice_found, twice_images
    training, held_out = ([Item(path, path) for path in paths] for paths in images)
    classes = ['a', 'b', 'c', 'd', 'e']
    leaks = leaks_of(found, np.array([True, True, False, True]))
    section = duplicates_section(found, leaks, training, held_out, classes)
    text = ' '.join(section.says)
    assert '2 training images, in 1 group, show the same under several labels.' in text
    assert 'Also among the training images: 3 of 4 held-out images.' in text
    assert len(section.groups) == 4
    assert all(one['image'] for one in section.groups[0]['pictures'])
    given = [classes[label] for label in (0, 1, 2, 3, 4, 0, 1, 2, 0, 4)]  # 9 was relabelled for the training
    lines = duplicates_table(found, *images, classes, given).decode().splitlines()
    assert f'{images[0][9]},e,' in '\n'.join(lines)
    assert lines[0] == 'path,label,advice,decision,split,group,kind,labels'
    advice = {line.split(',')[0]: line.split(',')[2] for line in lines[1:]}
    assert {path for path, what in advice.items() if what == 'drop'} == {images[0][row] for row in (2, 3, 4, 8)}
    decided = [DecidedImage('gone.png', 'a', 'drop'), DecidedImage(images[0][8], 'a', 'keep'),
               DecidedImage(images[0][9], 'e', 'relabel', 'c')]  # fmt: skip
    table = duplicates_table(found, *images, classes, given, decided)
    chain = {row['path']: row for row in csv.DictReader(io.StringIO(table.decode()))}
    assert {path: row['decision'] for path, row in chain.items() if row['decision']} == {
        'gone.png': 'drop', images[0][8]: 'keep'}  # fmt: skip
    assert chain['gone.png']['label'] == 'a'
    numbers = duplicates_numbers(found, leaks)
    assert (numbers['groups'], numbers['contradicting'], numbers['leaked'], numbers['copies']) == (5, 1, 3, 1)


def test_a_held_out_copy_with_another_label_is_told(twice_images):
    images = [Item(path, path) for path in twice_images[0][:2]]
    same, other = (DuplicateGroup('exact', [0], [0], [0, label]) for label in (0, 1))
    for group, said in ((same, False), (other, True)):
        found = Duplicates([group], 2, 2)
        section = duplicates_section(found, leaks_of(found, np.array([True, True])), images, images, ['a', 'b'])
        assert ('In 1 group, a held-out image has another label' in ' '.join(section.says)) is said
        assert section.groups[0]['title'].endswith('with different labels') is said
        assert duplicates_numbers(found, None)['leaked_with_other_label'] == said
