"""The gate is read image by image."""

import numpy as np
import pytest
import torch
from trained_checkpoints import LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.image_inputs import read_inputs
from hybridcls.apis.report.gate import read_gates


def test_the_gate_is_read(tmp_path, digit_folder):
    pair = dict(type='HybridBackbone', cnn=dict(model_name='test_resnet'), vit=dict(model_name='test_vit'), img_size=64)
    cfg = config_of(pair, LINEAR, digit_folder / 'train')
    cfg['model']['neck'] = dict(type='DHAFusion', fusion_dim=16)
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', cfg)
    loaded = hybridcls.load(path, 'cpu')
    items = list(read_inputs(str(digit_folder / 'val')).items)[:5]
    gates = read_gates(loaded, items)
    assert gates.names == ('cnn', 'vit')
    np.testing.assert_allclose(gates.shares.sum(1), 1, atol=1e-6)
    with torch.no_grad():  # the same by the neck's own means, one image
        batch = loaded.batch_of([loaded.pipeline(items[2].as_sample())])
        features = loaded.model.extract_feat(batch['inputs'], stage='backbone')
        neck = loaded.model.neck
        norms = [
            float((one * gate).norm()) for one, gate in zip(neck.pool(features), neck.gates(features), strict=True)
        ]
    assert gates.shares[2, 0] == pytest.approx(norms[0] / sum(norms), abs=1e-5)
    assert {name: len(found) for name, found in gates.alone.items()} == {'cnn': 5, 'vit': 5}
