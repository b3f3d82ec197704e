"""MarkUnknown: labels of known and unknown images in one concatenated dataset."""

from mmpretrain.datasets.transforms import PackInputs

from hybridcls.registry import DATASETS, TRANSFORMS
from hybridcls.structures import known_rows


def test_known_and_unknown_images_in_one_set():
    pack = dict(type='PackInputs')
    with DATASETS.switch_scope_and_registry('hybridcls') as registry:  # as in a config's run
        dataset = registry.build(
            dict(
                type='ConcatDataset',
                ignore_keys=['classes'],
                datasets=[
                    dict(type='Digits', split='test', digits=range(8), pipeline=[pack]),
                    dict(type='Digits', split='test', digits=(8, 9), pipeline=[dict(type='MarkUnknown'), pack]),
                ],
            )
        )
    samples = [dataset[row]['data_samples'] for row in range(len(dataset))]
    assert len(samples) == 360
    first_unknown = len(known_rows(samples))
    assert known_rows(samples) == list(range(first_unknown))
    assert 280 < first_unknown < 300


def test_unlabelled_images_get_the_label():
    marked = TRANSFORMS.build(dict(type='MarkUnknown'))(dict(img=None))
    assert marked['gt_label'] == -1
    assert 'gt_label' in PackInputs().transform(dict(gt_label=marked['gt_label']))['data_samples']
