"""Slices of held-out images: from files to attributes, and to the page."""

import numpy as np

from hybridcls.apis.audit.audited_images import training_images
from hybridcls.apis.audit.held_out_slices import held_out_slices
from hybridcls.apis.report.evaluated_images import evaluate_images


def test_a_planted_column_is_found_and_named(audited_model, digit_folder, tmp_path):
    model = audited_model
    images = evaluate_images(model, training_images(model, str(digit_folder / 'train')).items)
    wrong = np.arange(len(images)) % 4 == 0
    said = np.where(wrong, (images.labels + 1) % len(model.classes), images.labels)
    images.scores = np.eye(len(model.classes), dtype=np.float32)[said]
    table = tmp_path / 'about.csv'
    names = ['/'.join(str(item.path).split('/')[-2:]) for item in images.items]
    cameras = ['B' if one or row % 10 == 1 else 'A' for row, one in enumerate(wrong)]
    lines = [f'{name},{camera}' for name, camera in zip(names, cameras, strict=True)]
    table.write_text('\n'.join(['path,camera', *lines]))
    search = held_out_slices(model, images, [str(table)])
    assert search.found[0].condition == 'camera B'
    assert search.found[0].outcome == 'wrong'
    assert all(cameras[row] == 'B' for row in search.found[0].members)
