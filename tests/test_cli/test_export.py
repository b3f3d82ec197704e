"""`hybridcls export`: what it writes is what a test predicts, what it says, and sentences for what cannot be."""

import io
import json
import os
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from command_runs import run_command
from exportable_models import BOTH, CASES, DHA, MULTI, Case, classifier, write_case

import hybridcls

RECIPES = ('full', 'linear_probe', 'lora', 'arcface', 'supcon_adaface', 'evidential', 'multilabel', 'hybrid', 'distill')
needs_onnx = pytest.mark.skipif(
    find_spec('onnxscript') is None, reason="needs the extra export: pip install 'hybridcls[export]'"
)


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    """Two streams with CBAM, TokenLearner, token merging and two heads."""
    levers = dict(use_cbam=True, token_learner_tokens=dict(num_tokens=4, after_block=1), token_merging_ratio=0.2)
    folder = tmp_path_factory.mktemp('w')
    write_case(folder, Case(classifier(dict(BOTH, vit=dict(model_name='test_vit', depth=2), **levers), MULTI, DHA)))
    (folder / 'last_checkpoint').write_text(str(folder / 'epoch_1.pth'))
    return folder


@pytest.fixture(scope='module')
def exported(work_dir, tmp_path_factory):
    """The folder, and what the command says."""
    folder, out, said = tmp_path_factory.mktemp('a') / 'a', io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(said):
        assert run_command('export', work_dir, '--out', folder, '--json') == 0, said.getvalue()
    return folder, json.loads(out.getvalue()), said.getvalue()


@needs_onnx
def test_it_says_what_it_did(exported, work_dir):
    folder, result, said = exported
    assert said.startswith(f'Checkpoint {work_dir}/epoch_1.pth, the last of {work_dir}')
    for sentence in ('Weights: the only ones', 'Token merging (0.2) is kept', 'TokenLearner is kept'):
        assert any(note.startswith(sentence) for note in result['notes'])
        assert sentence in said
    levers = dict(weights='raw', token_merging='kept, 0.2', lora=None, token_learner='kept, 4 tokens', cbam='kept')
    assert result['model']['levers'] == levers
    assert result['model']['input']['shape'] == ['N', 64, 64, 3]
    assert max(result['model']['difference'].values()) < 1e-4
    assert set(result['model']['difference']) == set(result['model']['outputs'])
    written = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob('*') if path.is_file()}
    assert result['files'] == written
    assert os.listdir(folder.parent) == ['a']


@needs_onnx
def test_the_file_holds_the_model_and_nothing_of_this_machine(exported):
    import onnx

    folder, result, _ = exported
    model = onnx.load(folder / 'model.onnx')
    assert [one.version for one in model.opset_import] == [result['model']['opset']]
    assert [out.name for out in model.graph.output] == list(result['model']['outputs'])
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == 'N'
    assert str(Path(hybridcls.__file__).parent).encode() not in (folder / 'model.onnx').read_bytes()


@needs_onnx
def test_it_computes_what_predict_does(exported, work_dir, digit_folder):
    import onnxruntime

    folder, result, _ = exported
    model = hybridcls.load(work_dir, 'cpu')
    paths = sorted(map(str, digit_folder.rglob('*.png')))[:7]
    inputs = torch.stack([model.pipeline(dict(img_path=path))['inputs'] for path in paths])
    batch = np.ascontiguousarray(inputs.permute(0, 2, 3, 1).numpy()[..., ::-1])
    session = onnxruntime.InferenceSession(folder / 'model.onnx')
    got = dict(zip(result['model']['outputs'], session.run(None, {'images': batch}), strict=True))
    for row, answer in enumerate(model(paths, batch_size=7, embeddings=True)):
        np.testing.assert_allclose(got['probabilities'][row], answer.scores, atol=1e-4)
        np.testing.assert_allclose(got['embedding'][row], answer.embedding, atol=1e-4)
        for name, value in answer.heads['evidence'].uncertainties.items():
            assert got[f'evidence.{name}'][row] == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['nowhere.pth', '--out', 'a'], "checkpoint='nowhere.pth' does not exist"),
        (['{checkpoint}', '--out', '{folder}'], 'exists and is no hybridcls artifact'),
        (['{checkpoint}', '--out', 'a', '--tta'], 'an exported model sees one'),
        (['{checkpoint}', '--out', 'a', '--weights', 'ema', '--format', 'torch_export'], 'expected --weights of the'),
        (['{checkpoint}', '--out', 'a', '--golden', 'no_photos', '--format', 'torch_export'], 'no_photos'),
        (['{checkpoint}', '--out', 'a', '--data', 'no_photos'], "--data 'no_photos' does not exist"),
        (['{checkpoint}', '--out', 'a', '--format', 'torch_export', '--calibration', 'no.json'], 'no.json'),
    ],
)
def test_what_cannot_be_is_a_sentence(arguments, sentence, work_dir, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    known = dict(checkpoint=work_dir / 'epoch_1.pth', folder=work_dir)
    assert run_command('export', *(one.format(**known) for one in arguments)) == 2
    said = capfd.readouterr().err
    assert sentence in said
    assert 'Traceback' not in said
    assert not os.listdir(tmp_path)


@pytest.mark.usefixtures('whole_trainings')  # the text of the config is looked at
def test_an_image_size_that_the_model_does_not_take_is_named(tmp_path, capfd):
    path = write_case(tmp_path / 'w', CASES['LinearHead'])
    content = torch.load(path)
    pipeline = "dict(img_size={}, type='CenterCropToSize')"
    assert pipeline.format(64) in content['meta']['cfg']
    content['meta']['cfg'] = content['meta']['cfg'].replace(pipeline.format(64), pipeline.format(72))
    torch.save(content, path)
    assert run_command('export', path, '--out', tmp_path / 'a', '--format', 'torch_export') == 2
    assert 'a test fails on images of 72 x 72: Input height (72) should be divisible by' in capfd.readouterr().err


@pytest.mark.nightly
@needs_onnx
@pytest.mark.parametrize('recipe', RECIPES)
def test_checkpoints_of_the_recipes_are_exported(recipe, digit_folder, tmp_path):
    from test_configs import multi_label_table
    from test_finetune_recipes import HERE, typed
    from toy_runs import train

    from hybridcls.apis.artifact import export
    from hybridcls.engine import TrainOptions, load_config, run_chain
    from hybridcls.engine.runner.global_instances import isolated_globals

    if recipe == 'lora':
        pytest.importorskip('peft', reason="needs PEFT: pip install 'hybridcls[lora]'")
    data = multi_label_table(digit_folder) if recipe == 'multilabel' else digit_folder
    options = typed(recipe, data)
    if recipe == 'distill':
        train(HERE / 'full.py', tmp_path / 'teacher', **typed('full', data))
        options = {**options, 'model_name': 'test_vit', 'teacher': str(tmp_path / 'teacher')}
    if recipe == 'supcon_adaface':
        options['model_name'] = 'test_resnet'
        with isolated_globals():
            run_chain(load_config(HERE / 'supcon_adaface.py', options), TrainOptions(), str(tmp_path / recipe))
    else:
        train(HERE / f'{recipe}.py', tmp_path / recipe, **options)
    done = export(tmp_path / recipe, tmp_path / 'a')
    assert max(done.difference.values()) < 1e-3  # of logits up to 64
    assert max(done.difference[name] for name in ('probabilities', 'embedding')) < 1e-4
    print(recipe, done.why, done.difference)
