"""A work dir stands for its best checkpoint, else its last; a chain's for that of its last phase."""

import os
import shutil

import pytest
import torch

from hybridcls.engine.checkpoints.files import latest_valid_checkpoint
from hybridcls.engine.checkpoints.find_checkpoint import find_checkpoint


def save(path, age=0, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(state_dict=dict(weight=torch.zeros(1000)), **more), path)
    os.utime(path, (1e9 - age, 1e9 - age))
    return str(path)


def test_a_file_is_taken_as_it_is(tmp_path):
    path = save(tmp_path / 'epoch_1.pth', meta=dict(cfg='# of ema_state_dict'))
    assert find_checkpoint(path) == (path, f'Checkpoint {path}.')
    with pytest.raises(FileNotFoundError, match=r"'.*epoch_2.pth' does not exist. In .* there are: epoch_1.pth"):
        find_checkpoint(tmp_path / 'epoch_2.pth')
    (tmp_path / 'epoch_3.pth').write_bytes(b'none')
    with pytest.raises(ValueError, match='is not a valid checkpoint: it is damaged or incomplete'):
        find_checkpoint(tmp_path / 'epoch_3.pth')


def test_the_best_is_taken_before_the_last(tmp_path):
    last = save(tmp_path / 'epoch_3.pth')
    (tmp_path / 'last_checkpoint').write_text(last)
    assert find_checkpoint(tmp_path).path == last
    assert f'the last of {tmp_path}, which has no best one (save_best).' in find_checkpoint(tmp_path).why
    save(tmp_path / 'best_accuracy_top1_epoch_1.pth', age=2)
    best = save(tmp_path / 'best_accuracy_top1_epoch_2.pth', age=1)
    assert find_checkpoint(str(tmp_path)) == (best, f'Checkpoint {best}, the best of {tmp_path} by accuracy_top1.')


def test_a_damaged_best_one_gives_way_to_the_last(tmp_path):
    last = save(tmp_path / 'epoch_3.pth')
    (tmp_path / 'best_accuracy_top1_epoch_2.pth').write_bytes(b'PK')
    assert find_checkpoint(tmp_path).path == last
    assert 'best_accuracy_top1_epoch_2.pth is damaged' in find_checkpoint(tmp_path).why


def test_of_several_metrics_the_first_of_save_best_counts(tmp_path):
    meta = dict(cfg="default_hooks = dict(checkpoint=dict(type='CheckpointHook', save_best=['b/x', 'a/y']))")
    first = save(tmp_path / 'best_b_x_epoch_1.pth', age=9, meta=meta)
    other = save(tmp_path / 'best_a_y_epoch_3.pth', meta=meta)
    found = find_checkpoint(tmp_path)
    assert found.path == first
    assert f'(the best by other metrics: {other})' in found.why


def test_a_chain_stands_for_its_last_phase_that_has_a_checkpoint(tmp_path):
    save(tmp_path / '1_supcon' / 'epoch_9.pth')
    (tmp_path / '1_supcon' / 'phase.json').touch()
    (tmp_path / '2_adaface').mkdir()
    (tmp_path / '2_adaface' / 'phase.running.json').touch()
    save(tmp_path / '3_other' / 'epoch_9.pth')  # is no phase
    assert find_checkpoint(tmp_path).path == str(tmp_path / '1_supcon' / 'epoch_9.pth')
    assert 'of phase supcon (1 of 2) of' in find_checkpoint(tmp_path).why
    best = save(tmp_path / '2_adaface' / 'best_accuracy_top1_epoch_2.pth')
    assert find_checkpoint(tmp_path).path == best


@pytest.mark.parametrize(
    ('key', 'said'), [('ema_state_dict', 'with the EMA weights'), ('fast_state_dict', 'with the slow weights')]
)
def test_averaged_weights_are_said(tmp_path, key, said):
    assert said in find_checkpoint(save(tmp_path / 'epoch_1.pth', **{key: dict(weight=torch.ones(2))})).why


def test_an_unsaid_out_dir_is_found_by_the_note(tmp_path):
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    (work_dir / 'last_checkpoint').write_text(save(tmp_path / 'out' / 'work' / 'epoch_1.pth'))
    best = save(tmp_path / 'out' / 'work' / 'best_accuracy_top1_epoch_1.pth')
    assert find_checkpoint(work_dir).path == best


def test_a_copied_work_dir_has_its_own_checkpoints(tmp_path):
    """The note names a file of the original, whose training went on since."""
    first = tmp_path / 'first'
    (last := first / 'last_checkpoint').parent.mkdir()
    last.write_text(save(first / 'epoch_1.pth', age=9))
    save(first / 'best_accuracy_top1_epoch_1.pth', age=9)
    copy = tmp_path / 'copy'
    shutil.copytree(first, copy)
    last.write_text(save(first / 'epoch_2.pth', age=1))
    save(first / 'best_accuracy_top1_epoch_2.pth', age=1)
    assert find_checkpoint(copy).path == str(copy / 'best_accuracy_top1_epoch_1.pth')
    (copy / 'best_accuracy_top1_epoch_1.pth').unlink()
    assert find_checkpoint(copy).path == latest_valid_checkpoint(copy) == str(copy / 'epoch_1.pth')


def test_an_artifact_says_how_it_answers(tmp_path):
    (tmp_path / 'runtime.py').touch()
    with pytest.raises(FileNotFoundError, match=rf'predicts with its own script: python {tmp_path}/runtime\.py IMAGES'):
        find_checkpoint(tmp_path)


def test_a_folder_of_runs_names_them(tmp_path):
    save(tmp_path / 'full' / 'epoch_1.pth')
    with pytest.raises(
        FileNotFoundError, match=rf'has no valid one. Below it there are checkpoints in {tmp_path}/full'
    ):
        find_checkpoint(tmp_path)
