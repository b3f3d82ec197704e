"""Errors become findings: one sentence, the key, the advice."""

import pytest
from mmengine.config import Config

from hybridcls.apis.doctor.finding import NOTE, PROBLEM, WARNING, Finding, counts_of, of_error

CFG = Config(
    dict(
        data_root='/data/cats',
        model=dict(head=dict(type='LinearHead')),
        train_dataloader=dict(dataset=dict(type='ImageFolder', data_root='/data/cats', ann_file='a')),
    )
)


@pytest.mark.parametrize(
    ('error', 'where', 'change'),
    [
        (ValueError('model.head: LinearHead: unknown key. Did you mean this?'), 'model.head', 'Did you mean this?'),
        (ValueError('train_dataloader: too large. Set batch_size to 3.'), 'train_dataloader', 'Set batch_size to 3.'),
        (FileNotFoundError('ImageFolder: /data/cats/train is not there.'), 'data_root', 'data_root'),
        (ValueError('LinearHead: no such loss.'), 'model.head', 'model.head'),
        (ValueError("ImageFolder: 'a' is no list."), 'train_dataloader.dataset.ann_file', None),
        (KeyError('x'), 'here', 'here'),
    ],
)
def test_an_error_names_its_key(error, where, change):
    found = of_error(error, 'here', CFG)
    assert (found.level, found.where) == (PROBLEM, where)
    assert found.change == (change or where)


def test_an_error_of_another_package_tells_its_type():
    assert of_error(ZeroDivisionError('division by zero'), 'model').what == 'ZeroDivisionError: division by zero'


def test_counts_have_every_level():
    findings = [Finding(NOTE, 'a', 'b'), Finding(WARNING, 'a', 'b'), Finding(NOTE, 'a', 'c')]
    assert counts_of(findings) == dict(problem=0, warning=1, note=2)
