"""Phases are told apart."""

from hybridcls.apis.report.training_facts import TrainingFacts
from hybridcls.apis.report.training_section import training_section


def facts(phase='', recipe=None):
    curves = {'loss': ([1, 2], [3.0, 2.0])}
    return TrainingFacts(
        phase,
        [('model', 'm')],
        [['lr', '1', 'my.py']],
        [('lr', '1', '2')],
        recipe,
        [f'train {phase}'],
        'cfg',
        curves,
        {},
    )


def test_each_phase_has_its_tables_and_commands():
    section = training_section([facts('1, supcon', 'finetune/supcon'), facts('2, adaface')])
    assert [table.title for table in section.tables] == [
        'What was trained: phase 1, supcon',
        'Config of phase 1, supcon: differences from the shipped finetune/supcon',
        'What was trained: phase 2, adaface',
        'Config of phase 2, adaface: what it and the options set on top of its bases',
    ]
    assert [chart['caption'] for chart in section.charts] == ['Losses of phase 1, supcon', 'Losses of phase 2, adaface']
    assert section.details[0] == dict(
        title='How to repeat the training', text='train 1, supcon\ntrain 2, adaface', open=True
    )


def test_one_training_has_no_phase():
    assert training_section([facts()]).tables[0].title == 'What was trained'
