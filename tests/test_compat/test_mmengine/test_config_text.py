"""A config is laid out as mmengine does it, once."""

import pytest
from mmengine.config import Config

from hybridcls.compat.mmengine.config_text import TextOnce
from hybridcls.engine import load_config

pytestmark = pytest.mark.usefixtures('whole_trainings')

VALUES = dict(model=dict(type='A', number=0.1, several=[dict(b=(1, 2)), None, 'x' * 90]), lr=1e-4, name="it's")


def test_the_text_is_mmengines():
    assert TextOnce(VALUES, format_python_code=False).pretty_text == Config(VALUES).pretty_text


def test_shipped_configs_and_their_copies(tmp_path):
    cfg = load_config('hybridcls::digits/ce_hybrid.py')
    plain = Config(cfg.to_dict(), filename=cfg.filename)
    assert cfg.pretty_text == plain.pretty_text == cfg.copy().dump()
    cfg.dump(tmp_path / 'a.py')
    assert (tmp_path / 'a.py').read_text() == plain.pretty_text


def test_a_text_is_laid_out_once(monkeypatch):
    calls = []
    monkeypatch.setattr(
        'yapf.yapflib.yapf_api.FormatCode', lambda text, style_config: calls.append(text) or (text, True)
    )
    cfg = TextOnce(dict(once=1), format_python_code=False)
    assert cfg.pretty_text == cfg.pretty_text == cfg.copy().pretty_text
    cfg.once = 2
    assert 'once=2' in cfg.pretty_text
    assert len(calls) == 2


def test_what_cannot_be_laid_out_is_told_as_by_mmengine():
    with pytest.raises(SyntaxError, match='Failed to format the config file'):
        TextOnce(dict(a=object()), format_python_code=False).pretty_text  # noqa: B018
