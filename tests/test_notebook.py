"""The notebook of demo/ runs from its first cell to its last."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch

NOTEBOOK = Path(__file__).resolve().parents[1] / 'demo' / 'from_folder_to_predictions.ipynb'


@pytest.mark.nightly
def test_every_cell_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MPLBACKEND', 'agg')
    draw = np.random.default_rng(0)
    for number, name in enumerate(('animals', 'food', 'town')):
        (tmp_path / 'stamps' / name).mkdir(parents=True)
        for index in range(12):
            image = draw.integers(0, 90, (48, 40, 3), np.uint8)
            image[..., number] += 120
            cv2.imwrite(str(tmp_path / 'stamps' / name / f'{index}.png'), image)
    torch.save(timm.create_model('tf_efficientnet_lite0').state_dict(), 'lite0.pth')
    names = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding='utf8'))['cells']:
        python = [line for line in cell['source'] if not line.startswith('!')]
        if cell['cell_type'] == 'code':
            exec(compile(''.join(python), 'cell', 'exec'), names)
            for line in set(cell['source']) - set(python):
                words = shlex.split(line.format(**names))[1:]
                subprocess.run([sys.executable, '-m', 'hybridcls', *words], check=True)
    assert ' are right' in capsys.readouterr().out
    assert len(names['answers']) == len(names['held_out']) > 0
