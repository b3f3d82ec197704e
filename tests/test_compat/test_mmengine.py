"""What we need of mmengine beyond its public names."""

import pytest
import torch
from mmengine.dataset import BaseDataset, RepeatDataset
from mmengine.optim import OptimWrapper
from mmengine.runner.runner import _SlicedDataset
from torch import nn

from hybridcls.compat.mmengine import (
    AccumulationCounts,
    accumulation_counts,
    bare_model,
    clip_and_log_gradient,
    count_micro_batch,
    read_source,
    rewrite_data,
    set_accumulation_counts,
    shipped_config,
    update_metainfo,
    whole_dataset,
)
from hybridcls.models.classifiers import MixtureTTA


class Numbers(BaseDataset):
    """Three images of the classes 0, 1, 2."""

    METAINFO = dict(classes=('a', 'b', 'c'))

    def load_data_list(self):
        return [dict(gt_label=number, img_path=f'{number}.png') for number in range(3)]


@pytest.mark.parametrize('serialize', [True, False])
@pytest.mark.parametrize('lazy', [True, False])
def test_data_are_rewritten_for_all_who_read_them(serialize, lazy):
    dataset = Numbers(serialize_data=serialize, lazy_init=lazy, pipeline=[], indices=[2, 0])
    rewrite_data(dataset, lambda info: {**info, 'gt_label': info['gt_label'] + 5})
    assert [dataset.get_data_info(index)['gt_label'] for index in range(2)] == [7, 5]
    assert [dataset[index]['gt_label'] for index in range(2)] == [7, 5]
    assert [dataset[index]['sample_idx'] for index in range(2)] == [0, 1]
    part = dataset.get_subset([1])
    assert (len(part), part[0]['gt_label'], part[0]['img_path']) == (1, 5, '0.png')


def test_entries_of_metainfo_come_and_go():
    dataset = RepeatDataset(Numbers(), 2)
    update_metainfo(dataset, dict(classes=('x',), more=1))
    assert dataset.metainfo == dict(classes=('x',), more=1)
    update_metainfo(dataset, dict(more=None, never=None))
    assert dataset.metainfo == dict(classes=('x',))
    assert dataset.dataset.metainfo == Numbers.METAINFO
    update_metainfo([1, 2], dict(classes=('x',)))  # a dataset of another kind


def test_a_dataset_that_is_cut_short():
    dataset = Numbers()
    assert whole_dataset(_SlicedDataset(dataset, 1)) is dataset
    assert whole_dataset(dataset) is dataset


def test_the_model_inside_all_wrappers():
    model = nn.Linear(1, 1)
    model.test_step = None  # mmengine asks for it
    wrapped = nn.DataParallel(MixtureTTA(module=model))
    assert bare_model(wrapped) is bare_model(model) is model


def test_our_own_configs_are_found_in_a_clone_without_mim(tmp_path, monkeypatch):
    (tmp_path / 'hybridcls').mkdir()
    (tmp_path / 'configs/digits').mkdir(parents=True)
    (tmp_path / 'configs/digits/mine.py').write_text('img_size = 48\n')
    (tmp_path / 'child.py').write_text("_base_ = 'hybridcls::digits/mine.py'\n")
    monkeypatch.setattr('hybridcls.__file__', str(tmp_path / 'hybridcls/__init__.py'))
    assert shipped_config('hybridcls::digits/mine.py') == str(tmp_path / 'configs/digits/mine.py')
    source = read_source(str(tmp_path / 'child.py'))
    assert source.bases == [(str(tmp_path / 'configs/digits/mine.py'), 'hybridcls')]
    with pytest.raises(FileNotFoundError, match=r"no config 'digits/nine.py'\. Did you mean .*mine.py"):
        shipped_config('hybridcls::digits/nine.py')


def make_wrapper(**kwargs):
    param = nn.Parameter(torch.ones(2))
    return param, OptimWrapper(torch.optim.SGD([param], lr=0.1), **kwargs)


def test_counts_of_an_accumulation_are_those_that_mmengine_goes_by():
    """A training of eight micro-batches, three an update: the last update has two."""
    param, wrapper = make_wrapper(accumulative_counts=3)
    assert accumulation_counts(wrapper) == AccumulationCounts(done=0, per_update=3, total=-1)
    _, expected = make_wrapper(accumulative_counts=3)
    expected.initialize_count_status(nn.Linear(1, 1), 3, 8)
    set_accumulation_counts(wrapper, 3, 8)
    for done in range(3, 8):
        assert accumulation_counts(wrapper) == (done, 3, 8)
        assert accumulation_counts(wrapper).is_between_updates == (done % 3 == 0)
        assert wrapper.scale_loss(1.0) == expected.scale_loss(1.0) == (1 / 3 if done < 6 else 1 / 2)
        count_micro_batch(wrapper)
        expected.backward(param.sum())
        assert wrapper.should_update() == expected.should_update()


def test_a_gradient_is_clipped_by_the_settings_and_its_norm_logged():
    param, wrapper = make_wrapper(clip_grad=dict(max_norm=1.0))
    param.grad = torch.tensor([3.0, 4.0])
    clip_and_log_gradient(wrapper)
    torch.testing.assert_close(param.grad, torch.tensor([0.6, 0.8]), atol=1e-5, rtol=0)
    assert wrapper.message_hub.get_scalar('train/grad_norm').current() == 5
