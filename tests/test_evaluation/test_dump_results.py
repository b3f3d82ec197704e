"""DumpResults: its prefix (its rows are tested in test_own_storage)."""

from mmengine.logging import MMLogger

from hybridcls.evaluation import DumpResults


def test_no_warning_about_a_prefix(tmp_path, monkeypatch):
    warned = []
    monkeypatch.setattr(MMLogger, 'callHandlers', lambda self, record: warned.append(record.getMessage()))
    metric = DumpResults(out_file_path=str(tmp_path / 'o.pkl'))
    metric.process(None, [dict(pred_label=1)])
    assert metric.evaluate(size=1) == {}
    assert not [text for text in warned if 'prefix is not set' in text]
