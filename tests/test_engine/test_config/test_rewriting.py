"""Old spellings in the text of a config: what is rewritten, byte by byte, and what stays."""

import pytest

from hybridcls.engine.config.change import Renamed
from hybridcls.engine.config.origins import Layer
from hybridcls.engine.config.rewriting import rewritten

KEY = Renamed(('model', 'head', 'sub_centres'), ('model', 'head', 'num_subcenters'), 3, 3, Layer(0, 'x.py'))
VALUE = Renamed(('optim_wrapper', 'bad_loss'), ('optim_wrapper', 'nonfinite_loss'), 'stop', 'raise', Layer(0, 'x.py'))


def rewrite(text, *ones):
    return rewritten(text.encode(), [((one.path,), one) for one in ones]).decode()


@pytest.mark.parametrize(
    ('old', 'new'),
    [
        ("x = dict(type='ArcFaceHead', sub_centres = 3)  # sub_centres", "num_subcenters = 3)  # sub_centres"),
        ("x = {'type': 'ProjectionMLP', \"out\": 3, 'in_channels': 4}", "\"out_channels\": 3"),
        ("x = [dict(type='Resize', scale=(0.1, 1.0)), dict(type='ResNet', out=3)]", None),
        ("x = dict(type='RandomCropToSize', scale=224)", None),  # refused when it is built
        ("x = dict(type='OODMetric', scores=('entropy', 'max_softmax'))", "('entropy', 'least_confidence')"),
        ("y = 'stop'\nx = dict(type='ComposedOptimWrapper', bad_loss=y)", "nonfinite_loss=y"),
        ("x = \"ood/auroc_max_softmax\"", '"ood/auroc_least_confidence"'),
        ("x = 'max_softmax'", None),
        ("x = 'Of ood/auroc_max_softmax nobody says more.'", None),
        ("x = dict(type='hybridcls.models.modules.cosface_margin.CosFaceMargin')", 'models.margins.cosface_margin.'),
        ('from hybridcls.functional.gather import (\n    gather_rows,  # all\n)', 'hybridcls.distributed.gather'),
        ('from hybridcls.functional import unit_rows, auroc', 'import l2_normalize as unit_rows, auroc'),
        ('from hybridcls.functional import unit_rows as u', 'from hybridcls.functional import l2_normalize as u'),
        ('import hybridcls.engine.signals as s', 'import hybridcls.engine.runner.signals as s'),
        ('from hybridcls.models.heads import ArcFaceHead as A\nx = dict(type=A, sub_centres=2)', 'num_subcenters=2'),
    ],
)  # fmt: skip
def test_what_the_text_shows(old, new):
    found = rewrite(old)
    assert found == old if new is None else new in found
    assert new is None or rewrite(found) == found
    if '#' in old:
        assert old.split('#')[1] == found.split('#')[1]


def test_names_that_have_parted_are_imported_in_two_lines():
    text = 'if True:\n    from hybridcls.models.modules import CBAM, AdaFaceMargin  \n'
    assert rewrite(text) == (
        'if True:\n    from hybridcls.models.modules import CBAM\n'
        '    from hybridcls.models.margins import AdaFaceMargin  \n'
    )


def test_an_import_whose_comments_would_be_lost_stays():
    text = 'from hybridcls.models.modules import (\n    CBAM,\n    AdaFaceMargin,  # a margin\n)\n'
    assert rewrite(text) == text


@pytest.mark.parametrize(
    ('text', 'new'),
    [
        ('model = dict(head=dict(sub_centres=3))', 'model = dict(head=dict(num_subcenters=3))'),
        ("model = dict(head={'sub_centres': 3})", "model = dict(head={'num_subcenters': 3})"),
        ('h = dict(sub_centres=3)\nmodel = dict(head=h)', 'h = dict(num_subcenters=3)\nmodel = dict(head=h)'),
        ("model['head']['sub_centres'] = 3", "model['head']['num_subcenters'] = 3"),
        ('model.head.sub_centres = 3', 'model.head.num_subcenters = 3'),
        ('model.head.update(sub_centres=3)', 'model.head.update(num_subcenters=3)'),
        ('model.update(dict(head=dict(sub_centres=3)))', 'model.update(dict(head=dict(num_subcenters=3)))'),
        ("options = {'model.head.sub_centres': 3}", None),
        ('neck = dict(sub_centres=3)', None),
    ],
)
def test_what_only_the_readers_of_a_place_know(text, new):
    assert rewrite(text) == text
    assert rewrite(text, KEY) == (text if new is None else new)


def test_options_of_a_phase_with_dots_and_without():
    path = ('phases', 0, 'cfg_options')
    places = [(((*path, *one.path), ('cfg_options', *one.path)), one) for one in (KEY, VALUE)]
    text = "cfg_options = {'optim_wrapper.bad_loss': 'stop'}\n"
    text += "phases = [dict(cfg_options=dict(model={'head.sub_centres': 3}))]"
    assert rewritten(text.encode(), places).decode() == text.replace('bad_loss', 'nonfinite_loss').replace(
        'stop', 'raise'
    ).replace('sub_centres', 'num_subcenters')


@pytest.mark.parametrize(
    'line', ["# é, ü and 漢字: '\N{GRINNING FACE}'", "x = 'é漢字'; ", '\N{ZERO WIDTH NO-BREAK SPACE}']
)
@pytest.mark.parametrize('end', ['\n', '\r\n'])
def test_bytes_that_are_not_ascii_and_ends_of_lines_stay(line, end):
    start = line if line.endswith((' ', '\N{ZERO WIDTH NO-BREAK SPACE}')) else line + end
    text = f"{start}y = 'é', dict(type='ArcFaceHead', sub_centres=3){end}z = 1{end}"
    assert rewrite(text) == text.replace('sub_centres', 'num_subcenters')
