"""Features are kept while a model answers, and one stream alone answers from them."""

import pytest
import torch
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.image_inputs import read_inputs
from hybridcls.apis.inference_settings import InferenceSettings
from hybridcls.apis.stream_vectors import recorded_if_two, recorded_vectors, scores_without

PAIR = dict(type='HybridBackbone', cnn=dict(model_name='test_resnet'), vit=dict(model_name='test_vit'), img_size=64)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    cfg = config_of(PAIR, LINEAR)
    cfg['model']['neck'] = dict(type='DHAFusion', fusion_dim=16)
    return hybridcls.load(write_checkpoint(tmp_path_factory.mktemp('pair') / 'epoch_1.pth', cfg)[0], 'cpu')


@torch.no_grad()
def test_rows_are_those_of_the_images(model, digit_folder):
    items = list(read_inputs(str(digit_folder / 'val')).items)[:6]
    with recorded_vectors(model) as found:
        assert found == []
        model.predict([item.path for item in items], batch_size=4)
    (vectors,) = found
    assert vectors.names == ('cnn', 'vit')
    batch = model.batch_of([model.pipeline(items[4].as_sample())])
    cnn, vit = model.model.neck.pool(model.model.extract_feat(batch['inputs'], 'backbone'))
    torch.testing.assert_close(vectors.of['cnn'][0][4:5], cnn)
    torch.testing.assert_close(vectors.of['vit'][0][4:5], vit)
    rows = torch.tensor([True, False, True, False, False, False])
    mean = vectors.mean('vit', rows)
    torch.testing.assert_close(torch.tensor(mean[0]), vectors.of['vit'][0][[0, 2]].mean(0))
    scores = scores_without(model, vectors, 'vit', mean)
    expected = model.model.head(model.model.neck((cnn, torch.tensor(mean)))).softmax(1)
    torch.testing.assert_close(scores[4:5], expected)
    assert vectors.part(rows).of['cnn'][0].shape == (2, 96)


def test_one_stream_alone_answers_as_precisely_as_both(model, digit_folder):
    items = list(read_inputs(str(digit_folder / 'val')).items)[:6]
    exact = {}
    for settings in (InferenceSettings(), InferenceSettings(precision='bfloat16')):
        model.network.use(settings)
        with recorded_vectors(model) as found:
            answers = model.predict([item.path for item in items])
        own = [feature.double().tolist() for feature in found[0].of['vit']]  # the first image with its own features
        alone = scores_without(model, found[0], 'vit', [feature[0] for feature in own])
        exact[settings.precision] = torch.from_numpy(answers[0].scores)
        torch.testing.assert_close(alone[0], exact[settings.precision], rtol=0, atol=1e-6)
    model.network.restore()
    assert (exact['float32'] - exact['bfloat16']).abs().max() > 1e-5


def test_each_image_has_one_row_where_the_config_compiles(model, digit_folder, monkeypatch):
    """A compiled batch is filled up, and the one that compiles is answered twice."""
    monkeypatch.setattr('hybridcls.apis.compile_plan.estimated_compile_seconds', lambda network: 0.0)
    monkeypatch.setattr(model, 'wanted_settings', InferenceSettings(compile='eager'))
    paths = [item.path for item in read_inputs(str(digit_folder / 'val')).items][:14]
    with recorded_vectors(model) as found:
        model.predict(paths, batch_size=4)
    assert len(found[0].of['cnn'][0]) == 14
    assert model.wanted_settings.compile == 'eager'


def test_of_one_stream_nothing_is_kept(tmp_path):
    alone = hybridcls.load(write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, LINEAR))[0], 'cpu')
    with recorded_if_two(alone) as found:
        pass
    assert found == []
    with pytest.raises(ValueError, match='expected a model of two streams'), recorded_vectors(alone):
        pass
