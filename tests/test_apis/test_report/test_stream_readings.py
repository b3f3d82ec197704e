"""Each stream is read from the features that were kept, as the neck uses them."""

import numpy as np
import pytest
import torch
from trained_checkpoints import LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.image_inputs import read_inputs
from hybridcls.apis.report.evaluated_images import evaluate_images
from hybridcls.apis.report.stream_readings import read_streams

PAIR = dict(type='HybridBackbone', cnn=dict(model_name='test_resnet'), vit=dict(model_name='test_vit'), img_size=64)


@pytest.mark.parametrize('neck', ['DHAFusion', 'ConcatFusion', 'SumFusion'])
@torch.no_grad()
def test_what_moves_the_embedding(tmp_path, digit_folder, neck):
    cfg = config_of(PAIR, LINEAR, digit_folder / 'train')
    cfg['model']['neck'] = dict(type=neck, fusion_dim=16)
    loaded = hybridcls.load(write_checkpoint(tmp_path / 'epoch_1.pth', cfg)[0], 'cpu')
    images = evaluate_images(loaded, list(read_inputs(str(digit_folder / 'val')).items)[:6])
    readings = read_streams(loaded, images.streams, (64, 64))
    assert readings.names == ('cnn', 'vit')
    network = loaded.model.neck
    of = {name: vectors[0] for name, vectors in images.streams.of.items()}
    parts, gates = [], dict.fromkeys(of, torch.ones(1))
    if neck == 'DHAFusion':
        gates = dict(zip(of, network.gates(tuple(of.values())), strict=True))
        assert readings.gates == pytest.approx({name: float(gate.mean()) for name, gate in gates.items()})
    for name, vectors in of.items():  # the embedding with the other stream's part taken out, by the neck's own forward
        if neck == 'SumFusion':
            own = network.project[list(of).index(name)](vectors)
        else:
            gated = [value * gates[key] * (key == name) for key, value in of.items()]
            own = network.project(torch.cat(gated, 1))
        parts.append((own - own.mean(0)).norm(dim=1))
    np.testing.assert_allclose(readings.share, parts[0] / (parts[0] + parts[1]), atol=1e-5)
    alone = network((of['cnn'], of['vit'].mean(0).expand(6, -1)))
    top = loaded.model.head(alone).softmax(1).max(1)
    assert readings.alone['cnn'][0].tolist() == top.indices.tolist()
    np.testing.assert_allclose(readings.alone['cnn'][1], top.values, atol=1e-6)
    assert set(readings.costs) == {'cnn', 'vit', 'rest'}
