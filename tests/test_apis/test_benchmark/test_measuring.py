"""The benchmark end to end in one process: same images, judged losses, a choice; an artifact; what cannot be run."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_artifact import write_tiny_artifact
from trained_checkpoints import CLASSES, LINEAR, VIT, config_of, write_checkpoint

from hybridcls.apis.artifact.shipped.runtime import Model
from hybridcls.apis.benchmark import BenchmarkOptions, benchmark, measuring
from hybridcls.apis.benchmark.benchmark_text import benchmark_text
from hybridcls.apis.benchmark.candidate import peak_of_process
from hybridcls.apis.benchmark.child import ChildError
from hybridcls.apis.inferencer import HybridInferencer
from hybridcls.engine.checkpoints.calibration_file import calibration_path, digest_of_weights, write_calibration
from hybridcls.structures import PREPROCESSING_VERSION, Calibration


class InProcess:
    """What a Child does, here."""

    def __init__(self, candidate):
        self.candidate, self.state = candidate, {}

    def wait(self):
        try:
            self.runner = self.candidate.open()
        except (ValueError, ImportError) as error:
            raise ChildError(str(error)) from error

    def ask(self, name, *arguments):
        if name == 'prepare':
            self.state['run'] = self.runner.prepare(*arguments)
        if name in ('prepare', 'run'):
            self.state['run']()
            return 0.001 if self.candidate.name == 'eager' else 0.0005
        if name == 'memory':
            return peak_of_process(self.state['run'], self.runner.device)
        return getattr(self.runner, name)(*arguments)

    def close(self):
        pass


@pytest.fixture(scope='module')
def found(tmp_path_factory, digit_folder):
    path, _ = write_checkpoint(tmp_path_factory.mktemp('work') / 'epoch_1.pth', config_of(VIT, LINEAR))
    calibration = Calibration(
        'epoch_1.pth', digest_of_weights(path), list(CLASSES), dict(kind='temperature', temperature=0.5),
        risk=dict(risk=0.3, confidence=0.95, threshold=0.3), preprocessing_version=PREPROCESSING_VERSION,
    )  # fmt: skip
    write_calibration(calibration, calibration_path(path))
    model = HybridInferencer(path, 'cpu')
    options = BenchmarkOptions((1, 4), ('bf16', 'channels_last', 'tome=0.4', 'onnxruntime_int8'), 0.5, rounds=20)
    said = []
    result = benchmark(
        path, options, model, dict(device='cpu'), str(digit_folder / 'val'), said.append, child=InProcess
    )
    return result, said, model, digit_folder


def row_of(result, name):
    return next(row for row in result.rows if row.name == name)


def test_eager_is_first_and_accuracy_is_that_of_a_prediction(found):
    result, _, model, folder = found
    answers = list(model(folder / 'val'))
    expected = 100 * np.mean([one.class_name == one.label for one in answers])
    nll = -np.mean([np.log(np.float64(one.scores[CLASSES.index(one.label)])) for one in answers])
    eager = result.rows[0]
    assert eager.name == 'eager'
    assert (eager.accuracy.accuracy, eager.accuracy.images) == (pytest.approx(expected), 16)
    assert eager.accuracy.nll == pytest.approx(nll, rel=1e-5)
    assert eager.accuracy.largest_change == 0
    assert eager.accuracy.answered == sum(one.answered for one in answers)
    assert eager.accuracy.wrong == sum(one.answered and one.class_name != one.label for one in answers)


def test_thresholds_of_float32_refuse_no_other_setting_and_a_note_says_what_they_are_worth(found):
    assert row_of(found[0], 'bf16').accuracy.answered is not None
    assert any('thresholds were calibrated in float32' in note for note in found[0].notes)
    assert 'answered wrong' in benchmark_text(found[0])


def test_changes_are_measured_against_eager(found):
    result = found[0]
    assert 0 < row_of(result, 'bf16').accuracy.largest_change < 0.05
    assert row_of(result, 'channels_last').accuracy.largest_change < 1e-5


def test_few_images_show_nothing_of_what_rounds_and_float32_needs_none(found):
    result = found[0]
    assert row_of(result, 'channels_last').verdict == 'within'
    assert row_of(result, 'bf16').verdict in ('not shown', 'worse')
    assert result.chosen == 'channels_last'
    assert any(note.startswith('bf16 is faster') or note.startswith('tome') for note in result.notes)


def test_numbers_of_speed_memory_and_operations(found):
    result = found[0]
    speed = row_of(result, 'channels_last').speeds[4]
    assert (speed.images_per_second, speed.p50_ms, speed.ratio, speed.calls) == (8000.0, 0.5, 0.5, 20)
    assert speed.p95_ms == 0.5
    assert speed.peak_mib is None or speed.peak_mib > speed.beyond_mib >= 0
    assert row_of(result, 'tome=0.4').gflops < 0.9 * row_of(result, 'eager').gflops
    json.dumps(result.as_dict())


def test_what_cannot_be_run_has_a_reason(found):
    missing = row_of(found[0], 'onnxruntime_int8').missing
    assert missing
    assert not row_of(found[0], 'onnxruntime_int8').speeds
    assert f'onnxruntime_int8: {missing}' in benchmark_text(found[0])


def test_tables_have_all_rows_and_the_machine(found):
    text = benchmark_text(found[0])
    assert f', {torch.get_num_threads()} thread' in text
    assert 'batch 4' in text
    assert len([line for line in text.splitlines() if line.startswith('bf16 ')]) >= 3


class Dying(InProcess):
    """Of bf16: it ends in its third call."""

    def ask(self, name, *arguments):
        if self.candidate.name == 'bf16' and name == 'run':
            self.state['calls'] = self.state.get('calls', 0) + 1
            if self.state['calls'] > 2:
                raise ChildError('its process has ended')
        return super().ask(name, *arguments)


def test_a_process_that_ends_takes_nothing_along(found):
    _, _, model, folder = found
    options = BenchmarkOptions((1, 2), ('bf16', 'channels_last'), rounds=3)
    result = benchmark(model.checkpoint_path, options, model, dict(device='cpu'), str(folder / 'val'), child=Dying)
    assert row_of(result, 'bf16').missing == 'its process has ended'
    assert [sorted(row.speeds) for row in result.rows] == [[1, 2], [], [1, 2]]
    assert row_of(result, 'channels_last').accuracy.images == 16
    assert result.chosen == 'channels_last'


def test_the_choice_is_by_the_time_of_the_same_round_and_a_busy_machine_is_named(found, monkeypatch):
    _, _, model, folder = found
    monkeypatch.setattr(measuring, 'busy_processors', lambda: 1e4)
    drifting = dict(eager=[4.0, 1, 1, 1, 1], bf16=[1.0, 1, 9, 1, 1], channels_last=[2.0, 0.5, 2, 1, 1])  # from the end

    class Drifting(InProcess):
        def ask(self, name, *arguments):
            return drifting[self.candidate.name].pop() if name == 'run' else super().ask(name, *arguments)

    options = BenchmarkOptions((2,), ('bf16', 'channels_last'), 100, 'estimate', rounds=3)
    result = benchmark(model.checkpoint_path, options, model, dict(device='cpu'), str(folder / 'val'), child=Drifting)
    assert result.chosen == 'channels_last'  # 0.5 of eager in the same round, median; bf16 has the smaller median
    assert any('The machine was busy before (load 10000.0' in note for note in result.notes)


def test_by_default_what_is_compiled_is_timed_at_the_largest_batch_alone_and_that_is_said(found, monkeypatch):
    _, _, model, _ = found
    monkeypatch.setattr(measuring, '_CPU', ('eager', 'compiled', 'channels_last'))
    said = []

    class Uncompiled(InProcess):
        def wait(self):
            self.candidate = replace(self.candidate, settings=self.candidate.settings.uncompiled)
            super().wait()

    def sizes_of(settings):
        options = BenchmarkOptions((1, 2, 4), settings, rounds=1)
        result = benchmark(model.checkpoint_path, options, model, dict(device='cpu'), None, said.append, Uncompiled)
        return [sorted(row.speeds) for row in result.rows]

    assert sizes_of(None) == [[1, 2, 4], [4], [1, 2, 4]]
    assert 'Compilations: 1,' in said[0]
    assert 'at batch 4 only' in said[0]
    said.clear()
    assert sizes_of(('compiled',)) == [[1, 2, 4], [1, 2, 4]]
    assert 'Compilations: 3,' in said[0]
    assert 'only' not in said[0]


def test_images_of_unknown_classes_are_counted_and_named(found, tmp_path):
    _, _, model, folder = found
    paths = sorted((folder / 'val').rglob('*.png'))
    options = BenchmarkOptions((2,), ('eager',), rounds=1)
    for names, note in (
        (
            ('zero', 'zebra'),
            'Not in the accuracy: 1 of 2 images without a label that is a class of the model (such as zebra).',
        ),
        (
            ('zebra', ''),
            'No image has a label that is a class of the model (such as zebra), so no accuracy is measured.',
        ),
    ):
        table = tmp_path / 'images.csv'
        table.write_text(
            '\n'.join(['path,label', *(f'{path},{name}' for path, name in zip(paths, names, strict=False))])
        )
        result = benchmark(model.checkpoint_path, options, model, dict(device='cpu'), str(table), child=InProcess)
        assert [one for one in result.notes if note in one]
    options = BenchmarkOptions((2,), ('eager', 'tome=0.01'), rounds=1)
    broken = tmp_path / 'zero' / 'broken.png'
    broken.parent.mkdir()
    broken.write_bytes(paths[0].read_bytes()[:40])
    result = benchmark(model.checkpoint_path, options, model, dict(device='cpu'), str(tmp_path), child=InProcess)
    assert 'tome=0.01 merges no token: an image has too few for this ratio.' in result.notes
    assert '1 image cannot be read' in result.notes[-1]
    assert result.rows[0].accuracy is None


def test_an_artifact(tmp_path):
    folder = write_tiny_artifact(tmp_path / 'artifact')
    result = benchmark(str(folder), BenchmarkOptions((2,), rounds=3), child=InProcess)
    assert [row.name for row in result.rows] == ['artifact']
    assert result.rows[0].speeds[2].calls == 3
    assert result.chosen is None


def test_an_artifact_has_the_accuracy_of_its_own_runtime(tmp_path, digit_folder):
    folder = write_tiny_artifact(tmp_path / 'artifact', classes=CLASSES)
    data = str(digit_folder / 'val')
    result = benchmark(str(folder), BenchmarkOptions((2, 5), rounds=1), data=data, child=InProcess)
    paths = sorted((digit_folder / 'val').rglob('*.png'))
    answers = Model(str(folder)).predict([str(path) for path in paths])
    right = [one['top'][0][0] == path.parent.name for one, path in zip(answers, paths, strict=True)]
    assert result.rows[0].accuracy.accuracy == pytest.approx(100 * np.mean(right))
    assert result.preprocess_ms > 0
    assert not [note for note in result.notes if 'is faster' in note]  # than what?


class FailingFrom(InProcess):
    """Its first setting fails in batches of this size and more."""

    size = 1

    def ask(self, name, *arguments):
        if name == 'prepare' and self.candidate.name == 'eager' and arguments[0] >= self.size:
            raise ChildError('RuntimeError: expected 1 channel')
        return super().ask(name, *arguments)


def test_without_a_first_row_there_is_nothing_to_compare_with(found, monkeypatch):
    _, _, model, _ = found
    options = BenchmarkOptions((1, 2), ('bf16',), rounds=1)
    arguments = (model.checkpoint_path, options, model, dict(device='cpu'))
    with pytest.raises(ValueError, match='benchmark: eager cannot be run: RuntimeError: expected 1 channel'):
        benchmark(*arguments, child=FailingFrom)
    monkeypatch.setattr(FailingFrom, 'size', 2)
    assert [sorted(row.speeds) for row in benchmark(*arguments, child=FailingFrom).rows] == [[1], [1]]


def test_a_setting_that_the_model_does_not_have(tmp_path, monkeypatch):
    from trained_checkpoints import CNN

    path, _ = write_checkpoint(tmp_path / 'a.pth', config_of(CNN, LINEAR))
    options = BenchmarkOptions((1,), ('tome=0.1',), rounds=1)
    result = benchmark(path, options, HybridInferencer(path, 'cpu'), dict(device='cpu'), child=InProcess)
    assert 'token_merging_ratio' in result.rows[1].missing
    monkeypatch.setattr(measuring, '_CPU', ('eager', 'tome=0.1', 'tome=0.1+channels_last'))
    options = BenchmarkOptions((1,), rounds=1)
    result = benchmark(path, options, HybridInferencer(path, 'cpu'), dict(device='cpu'), child=InProcess)
    assert [row.name for row in result.rows] == ['eager']  # by default nothing is tried that it cannot do
    with pytest.raises(ValueError, match="Did you mean 'compiled'"):
        BenchmarkOptions(settings=('compild',))
