"""The data preprocessor: ranges, channels, batch augmentation."""

import pytest
import torch
from mmengine.dataset import default_collate, pseudo_collate
from mmpretrain.structures import DataSample

from hybridcls.models.data_preprocessors import HybridDataPreprocessor


def image(seed, size=8):
    return torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def sample(label, **keys):
    return DataSample(metainfo=keys).set_gt_label(label)


def batch(*labels, views=1, size=8, collate=default_collate):
    """As a data loader gives it."""
    items = []
    for number, label in enumerate(labels):
        inputs = [image(10 * number + view, size) for view in range(views)]
        items.append(dict(inputs=inputs[0] if views == 1 else inputs, data_samples=sample(label)))
    return collate(items)


@pytest.mark.parametrize('collate', [default_collate, pseudo_collate])
def test_bgr_bytes_become_rgb_in_0_1(collate):
    out = HybridDataPreprocessor()(batch(0, 1, collate=collate))
    expected = torch.stack([image(0), image(10)]).flip(1).double() / 255
    assert out['inputs'].dtype == torch.float32
    torch.testing.assert_close(out['inputs'].double(), expected, rtol=0, atol=1e-7)
    assert [s.gt_label.item() for s in out['data_samples']] == [0, 1]
    plain = HybridDataPreprocessor(to_rgb=False)(batch(0, 1, collate=collate))['inputs']
    torch.testing.assert_close(plain, out['inputs'].flip(1), rtol=0, atol=0)


@pytest.mark.parametrize('collate', [default_collate, pseudo_collate])
@pytest.mark.parametrize('views', [2, 3])
def test_views_become_one_batch_view_by_view(collate, views):
    out = HybridDataPreprocessor()(batch(0, 1, views=views, collate=collate), training=True)
    expected = torch.stack([image(10 * number + view) for view in range(views) for number in range(2)])
    torch.testing.assert_close(out['inputs'], expected.flip(1) / 255.0)
    assert len(out['data_samples']) == 2


def test_the_loaders_tensors_stay_as_they_are():
    data = dict(inputs=torch.full((1, 3, 2, 2), 255.0), data_samples=[sample(0)])
    HybridDataPreprocessor(to_rgb=False)(data)
    assert (data['inputs'] == 255).all()


def test_a_batch_without_labels():
    out = HybridDataPreprocessor(num_classes=2)(dict(inputs=image(0)[None]))
    assert out['data_samples'] is None
    unlabelled = HybridDataPreprocessor(num_classes=2)(dict(inputs=image(0)[None], data_samples=[DataSample()]))
    assert 'gt_label' not in unlabelled['data_samples'][0]


@pytest.mark.parametrize('label', [-1, 3])
def test_a_label_out_of_range_names_the_image_when_it_trains(label):
    data = dict(inputs=image(0)[None], data_samples=[sample(label, img_path='folder/a.png')])
    with pytest.raises(
        ValueError,
        match=rf'folder/a.png has the label {label}, and the head has num_classes=3: labels '
        r'must lie in \[0, 2\]',
    ):
        HybridDataPreprocessor(num_classes=3)(data, training=True)
    assert HybridDataPreprocessor(num_classes=3, label_check=False)(data)['inputs'].shape == (1, 3, 8, 8)
    assert HybridDataPreprocessor()(data)['inputs'].shape == (1, 3, 8, 8)


def test_views_of_different_sizes():
    data = dict(inputs=[image(0, 8)[None], image(1, 6)[None]], data_samples=[sample(0)])
    with pytest.raises(ValueError, match=r'the views of a batch have different sizes, \[\(3, 6, 6\), \(3, 8, 8\)\]'):
        HybridDataPreprocessor()(data)
    within = dict(inputs=[[image(0, 8), image(1, 6)], [image(2, 8), image(3, 8)]], data_samples=[sample(0), sample(1)])
    with pytest.raises(ValueError, match='the views of a batch have different sizes'):
        HybridDataPreprocessor()(within)


def test_images_of_different_sizes_are_padded_as_in_mmpretrain():
    items = [dict(inputs=image(0, 8), data_samples=sample(0)), dict(inputs=image(1, 6), data_samples=sample(1))]
    out = HybridDataPreprocessor(pad_value=7)(pseudo_collate(items))['inputs']
    assert out.shape == (2, 3, 8, 8)
    assert (out[1, :, 6:] == 7 / 255).all()
    assert HybridDataPreprocessor(pad_size_divisor=16)(batch(0))['inputs'].shape == (1, 3, 16, 16)


def test_mixup_gives_soft_labels_and_only_while_training():
    torch.manual_seed(0)
    preprocessor = HybridDataPreprocessor(
        num_classes=3, batch_augments=dict(augments=dict(type='Mixup', alpha=1.0), probs=1.0)
    )
    plain = HybridDataPreprocessor()(batch(0, 2))['inputs']
    mixed = preprocessor(batch(0, 2), training=True)
    first, second = (s.gt_score for s in mixed['data_samples'])
    share = first[0].item()
    assert share + first[2].item() == pytest.approx(1)
    if share < 1:
        torch.testing.assert_close(mixed['inputs'][0], share * plain[0] + (1 - share) * plain[1], rtol=1e-4, atol=1e-4)
    assert second.sum().item() == pytest.approx(1)
    torch.testing.assert_close(preprocessor(batch(0, 2), training=False)['inputs'], plain)


def test_mixup_of_views_is_refused():
    preprocessor = HybridDataPreprocessor(num_classes=3, batch_augments=dict(augments='Mixup'))
    with pytest.raises(ValueError, match=r'mix one view .* with another image, and this pipeline gives 2 views'):
        preprocessor(batch(0, 1, views=2), training=True)
    assert preprocessor(batch(0, 1, views=2))['inputs'].shape == (4, 3, 8, 8)  # validation mixes nothing


@pytest.mark.parametrize(
    ('images', 'says'),
    [
        (
            (torch.rand(2, 3, 8, 8) - 0.45) / 0.225,
            r'from -\d.* to \d.*, which are already normalized. Remove Normalize',
        ),
        (torch.rand(2, 3, 8, 8), r'which look like images in \[0, 1\]. Give uint8 images'),
    ],
)
def test_values_that_are_surely_not_in_0_255(images, says):
    for inputs in (images, [*images]):
        with pytest.raises(ValueError, match=f'HybridDataPreprocessor: expected images .*{says}'):
            HybridDataPreprocessor()(dict(inputs=inputs))
    left_alone = HybridDataPreprocessor(to_rgb=False, mean=[0.0] * 3, std=[1.0] * 3)
    assert torch.equal(left_alone(dict(inputs=images))['inputs'], images)


@pytest.mark.parametrize(
    'images',
    [
        torch.rand(2, 3, 8, 8) * 255,
        torch.rand(2, 3, 8, 8) * 255 + torch.randn(2, 3, 8, 8) * 20,  # noise, not clipped
        torch.zeros(2, 3, 8, 8),
        torch.ones(2, 1, 8, 8),  # a mask of grey levels 0 and 1
        torch.rand(2, 1, 8, 8) * 255,
    ],
)
def test_floats_that_may_be_in_0_255(images):
    out = HybridDataPreprocessor(to_rgb=False)(dict(inputs=images))['inputs']
    torch.testing.assert_close(out, images / 255)


def test_only_the_first_batch_is_looked_at():
    preprocessor = HybridDataPreprocessor()
    preprocessor(dict(inputs=torch.rand(2, 3, 8, 8) * 255))
    assert preprocessor(dict(inputs=torch.rand(2, 3, 8, 8)))['inputs'].max() < 1 / 255


def test_mean_without_std():
    with pytest.raises(ValueError, match=r'expected mean and std, got mean=.* and std=None'):
        HybridDataPreprocessor(mean=[1.0] * 3)


@pytest.mark.parametrize('unknown', [-1, 3, 7])
def test_an_image_of_an_unknown_class_has_no_share_of_any_class(unknown):
    preprocessor = HybridDataPreprocessor(num_classes=3, to_onehot=True)
    known, stranger = preprocessor(batch(2, unknown))['data_samples']
    assert known.gt_score.tolist() == [0, 0, 1]
    assert stranger.gt_score.tolist() == [0, 0, 0]
    assert stranger.gt_label.tolist() == [unknown]
