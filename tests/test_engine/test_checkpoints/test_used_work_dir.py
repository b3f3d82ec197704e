"""What a training has left in a work dir is found, and moved as one."""

import pytest

from hybridcls.engine.checkpoints.used_work_dir import check_unused, files_of_training, set_aside

OF_A_TRAINING = [
    'best_accuracy_top1_epoch_2.pth', 'epoch_10.pth', 'epoch_10.pth.calibration.json', 'iter_3.pth', 'last_checkpoint',
    'sample_record.npz', 'split.csv',
]  # fmt: skip
OTHERS = ['teacher.pth', 'my_epoch.pth', 'config.py']


def fill(folder, names):
    for name in names:
        (folder / name).write_text(name)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_checkpoints_and_their_notes_are_found(tmp_path):
    assert files_of_training(tmp_path / 'none') == []
    fill(tmp_path, [*OTHERS, 'split.csv'])
    assert files_of_training(tmp_path) == [], 'a training that saved nothing is none'
    check_unused(tmp_path)
    fill(tmp_path, OF_A_TRAINING)
    assert sorted(path.name for path in files_of_training(tmp_path)) == OF_A_TRAINING
    with pytest.raises(
        FileExistsError, match=rf'got {tmp_path}, which holds best_.*\.pth, epoch_10\.pth, iter_3\.pth \('
    ):
        check_unused(tmp_path)


def test_a_note_alone_is_of_checkpoints_elsewhere(tmp_path):
    fill(tmp_path, ['last_checkpoint'])
    assert len(files_of_training(tmp_path)) == 1


def test_one_earlier_training_is_kept(tmp_path):
    fill(tmp_path, [*OTHERS, *OF_A_TRAINING])
    assert set_aside(tmp_path, files_of_training(tmp_path)) == tmp_path / 'previous'
    assert names(tmp_path) == sorted([*OTHERS, 'previous'])
    assert names(tmp_path / 'previous') == OF_A_TRAINING
    fill(tmp_path, ['epoch_1.pth'])
    set_aside(tmp_path, files_of_training(tmp_path))
    assert names(tmp_path / 'previous') == ['epoch_1.pth']
