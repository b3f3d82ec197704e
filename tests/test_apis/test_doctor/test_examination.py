"""Mistakes that people make are each caught, with the key to change; nothing is found where nothing is wrong."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import test_configs
import timm
import torch
from made_images import class_folders, picture, save
from PIL import Image

from hybridcls.apis.doctor import Wishes, counts_of, examine, examine_data
from hybridcls.apis.doctor.samples import check_batches_of_labels
from hybridcls.engine import load_config

BASE = """
_base_ = 'hybridcls::finetune/full.py'
model_name = 'test_resnet'
pretrained = False
img_size = 32
batch_size = 4
data_root = {root!r}
{lines}
"""
SUPCON = BASE.replace('full', 'supcon')
TRIAL, STATIC = Wishes(), Wishes(trial=False)


class Setup:
    """A folder of images and the config for it."""

    def __init__(self, folder):
        self.folder = folder
        self.root = folder / 'images'
        self.lines, self.options, self.base = [], {}, BASE

    def load(self):
        file = self.folder / 'my_config.py'
        file.write_text(self.base.format(root=str(self.root), lines='\n'.join(self.lines)))
        return load_config(file, self.options)

    def examine(self, wishes=STATIC):
        return examine(self.load, wishes=wishes, work_dir=str(self.folder / 'work'))

    def train(self, *parts):
        return self.root.joinpath('train', *parts)

    def val(self, *parts):
        return self.root.joinpath('val', *parts)


@pytest.fixture
def setup(tmp_path):
    made = Setup(tmp_path)
    class_folders(made.root / 'train', cat=6, dog=6, owl=6)
    for number, name in enumerate(('cat', 'dog', 'owl')):
        for image in range(3):
            save(picture(50_000 + 100 * number + image), made.val(name), f'{image}.png')
    return made


def weights(setup, name='test_resnet'):
    torch.save(timm.create_model(name).state_dict(), setup.folder / 'weights.pth')
    return str(setup.folder / 'weights.pth')


# Each mistake: what is done, with a step of training or without, and what names the key or the files to change.
MISTAKES = {}


def mistake(*named, level='problem', trial=False, data=False):
    def note(function):
        MISTAKES[function.__name__] = (function, named, level, trial, data)
        return function

    return note


@mistake('val_dataloader.dataset', 'share all 18', data=False)
def the_validation_is_the_training_folder(setup):
    setup.options['val_dataloader.dataset.split'] = 'train'


@mistake('val_dataloader.dataset', 'in train too', data=True)
def some_validation_images_are_copies(setup):
    shutil.copy(setup.train('cat', '1.png'), setup.val('cat', 'copy.png'))


@mistake('val_dataloader.dataset', 'nearly equal', level='warning', data=True)
def a_validation_image_is_a_smaller_copy(setup):
    Image.open(setup.train('cat', '1.png')).resize((40, 36)).save(setup.val('cat', 'small.jpg'), quality=80)


@mistake('test_dataloader.dataset', 'in train too', data=True)
def the_test_overlaps_the_training(setup):
    for name in ('cat', 'dog', 'owl'):
        save(picture(len(name) + 900), setup.root, 'test', name, 'own.png')
        shutil.copy(setup.train(name, '2.png'), setup.root / 'test' / name / 'a.png')


@mistake('data_root', 'files are not there')
def a_list_has_wrong_paths(setup):
    (setup.root / 'list.txt').write_text('pictures/cat/0.png cat\npictures/dog/0.png dog\n')
    setup.lines = ["train_dataloader = dict(dataset=dict(split=None, ann_file='list.txt'))"]


@mistake('num_classes')
def too_few_classes_in_the_head(setup):
    setup.lines = ['num_classes = 2']


@mistake('num_classes')
def the_head_has_the_classes_of_imagenet(setup):
    setup.lines = ['num_classes = 1000']


@mistake('owl', 'single image', level='warning', data=True)
def a_class_has_one_image(setup):
    for number in range(1, 6):
        setup.train('owl', f'{number}.png').unlink()


@mistake('2.png', "on_unreadable='skip'", data=True)
def a_file_is_no_image(setup):
    setup.train('cat', '2.png').write_bytes(b'this is no image' * 20)


@mistake('2.jpg', "on_unreadable='skip'", data=True)
def a_photograph_is_truncated(setup):
    picture(77, (200, 160)).save(setup.train('cat', '2.jpg'), quality=95)
    content = setup.train('cat', '2.jpg').read_bytes()
    setup.train('cat', '2.jpg').write_bytes(content[: len(content) // 2])


@mistake('LoadImage.transparency', '1.png', level='warning', data=True)
def an_image_is_transparent(setup):
    image = picture(5).convert('RGBA')
    image.putalpha(120)
    image.save(setup.train('dog', '1.png'))


@mistake('LoadImage.depth', '1.png', level='warning', data=True)
def an_image_has_16_bits(setup):
    pixels = (np.asarray(picture(6).convert('L')).astype(np.uint16)) * 257
    Image.fromarray(pixels).save(setup.train('dog', '1.png'))


@mistake('LoadImage.color_type')
def turned_photographs_stay_turned(setup):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(7).save(setup.train('dog', 'turned.jpg'), exif=exif)
    setup.lines = [
        "train_pipeline = [dict(type='LoadImage', color_type='color_ignore_orientation'), dict(type='ResizeToSize'), "
        "dict(type='PackInputs')]"
    ]


@mistake('3.png', 'tiny', level='warning', data=True)
def an_image_is_a_thumbnail(setup):
    save(picture(8, (6, 5)), setup.train('dog', '3.png'))


@mistake('3.png', 'of one colour', level='warning', data=True)
def an_image_is_blank(setup):
    save(Image.new('RGB', (48, 40), (255, 255, 255)), setup.train('dog', '3.png'))


@mistake('several labels', '0.png', data=True)
def an_image_is_in_two_classes(setup):
    shutil.copy(setup.train('dog', '0.png'), setup.train('owl', '0.png'))


@mistake('rename', "'Cat'", level='warning', data=True)
def a_class_has_two_spellings(setup):
    for number in range(2):
        save(picture(400 + number), setup.train('Cat'), f'{number}.png')
        save(picture(500 + number), setup.val('Cat'), f'{number}.png')


@mistake('rename', 'emu', level='warning', data=True)
def a_class_is_in_the_validation_alone(setup):
    save(picture(300), setup.val('emu', '1.png'))


@mistake('rename', 'Katze', data=True)
def the_validation_has_other_names(setup):
    for old, new in (('cat', 'Katze'), ('dog', 'Hund'), ('owl', 'Eule')):
        setup.val(old).rename(setup.val(new))


@mistake("class_weight='balanced'", '20 times', level='warning')
def a_class_has_most_of_the_images(setup):
    for number in range(6, 40):
        save(picture(700 + number), setup.train('cat'), f'{number}.png')
    for number in range(2, 6):
        setup.train('owl', f'{number}.png').unlink()


@mistake('one label', 'data_root')
def all_labels_are_the_same(setup):
    (setup.root / 'list.txt').write_text(''.join(f'train/cat/{number}.png a\n' for number in range(6)))
    setup.lines = ["train_dataloader = dict(dataset=dict(split=None, ann_file='list.txt'))"]


@mistake('emu', 'no image', data=True)
def a_class_folder_is_empty(setup):
    setup.train('emu').mkdir()


@mistake('data_root', 'no image')
def the_folder_is_empty(setup):
    shutil.rmtree(setup.root)
    setup.train().mkdir(parents=True)
    setup.val().mkdir()


@mistake('data_root', 'does not exist')
def the_folder_is_mistyped(setup):
    setup.root = setup.root.with_name('imagse')


@mistake('optim_wrapper')
def a_key_is_mistyped(setup):
    setup.lines = ["optim_wraper = dict(optimizer=dict(type='SGD'))"]


@mistake('label_smoothing')
def a_key_of_a_part_is_mistyped(setup):
    setup.options['model.head.label_smoothin'] = 0.1


@mistake('epochs', level='warning')
def a_variable_is_read_by_nothing(setup):
    setup.lines = ['my_epochs = 7']


@mistake('LinearHead')
def a_class_is_mistyped(setup):
    setup.lines = ["model = dict(head=dict(_delete_=True, type='LinearHaed'))"]


@mistake('model', 'expected head', "'type'")
def a_part_has_no_type(setup):
    setup.lines = ['model = dict(head=dict(_delete_=True, in_channels=8))']


@mistake('test_resnet')
def a_model_name_is_mistyped(setup):
    setup.options['model_name'] = 'test_resnte'


@mistake('--model NAME', trial=True)
def weights_are_of_another_model(setup):
    setup.options.update(checkpoint_path=weights(setup, 'test_vit'))


@mistake('checkpoint_path', 'does not exist')
def weights_are_missing(setup):
    setup.options.update(checkpoint_path=str(setup.folder / 'weihgts.pth'))


@mistake('load_from', 'does not exist', trial=True)
def a_checkpoint_is_missing(setup):
    setup.options.update(load_from=str(setup.folder / 'best.pth'))


@mistake('resume', level='warning')
def resume_and_load_from(setup):
    setup.options.update(load_from=weights(setup), resume=True)


@mistake('lr=', 'optim_wrapper.optimizer.lr')
def the_rate_is_that_of_sgd(setup):
    setup.options.update(lr=0.1, checkpoint_path=weights(setup))


@mistake('--auto-scale-lr')
def the_rate_is_scaled_twice(setup):
    setup.options.update({'lr': 8e-3, 'auto_scale_lr.enable': True, 'batch_size': 256})
    setup.options['train_dataloader.drop_last'] = False


@mistake('batch_size', 'drop_last', trial=True)
def the_batch_is_larger_than_the_data(setup):
    setup.options.update({'batch_size': 64, 'train_dataloader.drop_last': True})


@mistake('batch_size=4', 'each epoch is one smaller batch', level='warning')
def a_batch_holds_all_images_and_more(setup):
    setup.options['batch_size'] = 64


@mistake('optimizer.momentum=0.9')
def the_momentum_is_nine_tenths_without_the_point(setup):
    setup.lines = ["optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=0.01, momentum=9))"]


@mistake('lookahead.alpha=0.5', level='warning')
def lookahead_takes_everything_back(setup):
    setup.lines = ["optim_wrapper = dict(stages=dict(lookahead=dict(type='Lookahead', alpha=0.005)))"]


@mistake('optimizer.betas=(0.9, 0.999)', level='warning')
def the_betas_are_in_the_wrong_order(setup):
    setup.options['optim_wrapper.optimizer.betas'] = (0.999, 0.9)


@mistake('lr', 'AdamW usually tolerates on random weights', level='warning')
def the_rate_is_ten_times_too_large(setup):
    setup.options['lr'] = 5e-3


@mistake('data_root', 'splits of a dataset', 'images')
def the_folder_is_one_too_high(setup):
    setup.root = setup.folder / 'whole'
    setup.root.mkdir()
    (setup.folder / 'images').rename(setup.root / 'images')


@mistake('param_scheduler.0.end')
def the_warmup_is_longer_than_the_training(setup):
    setup.lines = ["param_scheduler = [dict(type='LinearLR', start_factor=0.01, begin=0, end=20)]", 'max_epochs = 5']


@mistake('param_scheduler.0', 'milestones', level='warning')
def milestones_never_come(setup):
    setup.lines = ["param_scheduler = [dict(type='MultiStepLR', milestones=[3, 60], gamma=0.1)]", 'max_epochs = 5']


@mistake('T_max', level='warning')
def a_cosine_is_longer_than_the_training(setup):
    setup.lines = ["param_scheduler = [dict(type='CosineAnnealingLR', T_max=100, begin=0)]", 'max_epochs = 5']


@mistake('val_interval')
def no_validation_comes(setup):
    setup.lines = ['train_cfg = dict(val_interval=50)', 'max_epochs = 5']


@mistake('save_best', 'accuracy/top1', trial=True)
def save_best_is_not_computed(setup):
    setup.options['default_hooks.checkpoint.save_best'] = 'accuracy/top-1'


@mistake('ema.momentum')
def the_average_has_the_decay_for_momentum(setup):
    setup.options['default_hooks.ema.momentum'] = 0.9998


@mistake('ema.momentum', level='warning')
def the_average_is_slower_than_the_training(setup):
    setup.lines = ["default_hooks = dict(ema=dict(_delete_=True, type='EMAHook'))"]


@mistake('rho', level='warning')
def sam_ascends_far(setup):
    setup.lines = ["optim_wrapper = dict(stages=dict(sam=dict(type='SAM', rho=5.0)))"]


@mistake('frozen', trial=True)
def nothing_is_trained(setup):
    setup.options['optim_wrapper.paramwise_cfg'] = dict(
        custom_keys={'backbone': dict(lr_mult=0.0), 'head': dict(lr_mult=0.0)}
    )


@mistake('pretrained=True', level='warning', trial=True)
def a_large_model_starts_at_random(setup):
    setup.options['model_name'] = 'tf_efficientnet_lite0'


@mistake('mean', level='warning', trial=True)
def the_mean_is_not_that_of_the_weights(setup):
    setup.lines = ['model = dict(backbone=dict(cnn=dict(mean=(0.2, 0.2, 0.2), std=(0.1, 0.1, 0.1))))']
    setup.options.update(checkpoint_path=weights(setup))


@mistake('backbone.cnn.mean', 'in [0, 255], but a stream gets images in [0, 1]')
def the_mean_of_a_stream_is_that_of_bytes(setup):
    setup.lines = ['model = dict(backbone=dict(cnn=dict(mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))))']


@mistake('Normalize', trial=True)
def images_are_normalized_twice(setup):
    setup.lines = [
        "train_pipeline = [dict(type='LoadImage'), dict(type='ResizeToSize'), dict(type='mmpretrain.Normalize', "
        "mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4]), dict(type='PackInputs')]"
    ]


@mistake('data_preprocessor.to_rgb=True', trial=True)
def colors_are_swapped(setup):
    setup.lines = ["data_preprocessor = dict(type='HybridDataPreprocessor', to_rgb=False)"]


@mistake('img_size', level='warning')
def training_and_validation_have_other_sizes(setup):
    setup.lines = [
        "val_pipeline = [dict(type='LoadImage'), dict(type='CenterCropToSize', img_size=64), dict(type='PackInputs')]"
    ]


@mistake('img_size', '48')
def patches_do_not_divide_the_image(setup):
    setup.options.update(model_name='vit_tiny_patch16_224', img_size=50)


@mistake('PackInputs')
def a_pipeline_does_not_pack(setup):
    setup.lines = ["train_pipeline = [dict(type='LoadImage'), dict(type='ResizeToSize')]"]


@mistake('ResizeToSize')
def images_keep_their_sizes(setup):
    save(picture(9, (60, 50)), setup.train('cat', '0.png'))
    setup.lines = ["train_pipeline = [dict(type='LoadImage'), dict(type='PackInputs')]"]


@mistake('val_dataloader.dataset.pipeline', 'RandomFlip')
def the_validation_is_augmented(setup):
    setup.lines = [
        "val_pipeline = [dict(type='LoadImage'), dict(type='CenterCropToSize'), dict(type='RandomFlip', prob=0.5, "
        "direction='horizontal'), dict(type='PackInputs')]"
    ]


@mistake('shuffle')
def the_training_is_not_shuffled(setup):
    setup.options['train_dataloader.sampler.shuffle'] = False


@mistake('drop_last')
def the_validation_drops_images(setup):
    setup.options['val_dataloader.drop_last'] = True


@mistake('num_workers', level='warning')
def more_workers_than_processors(setup):
    setup.options['train_dataloader.num_workers'] = 512


@mistake('num_views=2')
def supcon_has_one_view(setup):
    setup.base = SUPCON
    setup.lines = [
        "train_pipeline = [dict(type='LoadImage'), dict(type='RandomCropToSize'), dict(type='PackInputs')]",
    ]


@mistake('batch_size', level='warning', trial=True)
def supcon_has_small_batches(setup):
    setup.base = SUPCON
    setup.options['batch_size'] = 2


@mistake('temperature', level='warning')
def the_temperature_is_a_scale(setup):
    setup.base = SUPCON
    setup.options['model.head.loss.temperature'] = 64.0


@mistake('images_per_class', level='warning', trial=True)
def a_batch_has_more_of_a_class_than_there_are(setup):
    setup.lines = ["train_dataloader = dict(batch_sampler=dict(type='PKSampler', images_per_class=8))"]
    setup.options['batch_size'] = 16


@mistake('images_per_class', trial=True)
def a_batch_has_more_classes_than_there_are(setup):
    setup.lines = ["train_dataloader = dict(batch_sampler=dict(type='PKSampler', images_per_class=2))"]
    setup.options['batch_size'] = 16


@mistake('head.scale', level='warning')
def the_scale_of_a_margin_is_too_small(setup):
    setup.lines = ["model = dict(head=dict(_delete_=True, type='ArcFaceHead', scale=1.0))"]


@mistake('ann_file', 'count from 0', level='warning')
def the_labels_of_the_validation_count_from_one(setup):
    for split, count, first in (('train', 6, 0), ('val', 3, 1)):
        lines = [f'{split}/{name}/{image}.png {number + first}\n' for number, name in enumerate(('cat', 'dog', 'owl'))
                 for image in range(count)]  # fmt: skip
        (setup.root / f'{split}.txt').write_text(''.join(lines))
        setup.lines.append(f"{split}_dataloader = dict(dataset=dict(split=None, ann_file='{split}.txt'))")


@mistake('count from 0', '3')
def the_labels_count_from_one(setup):
    lines = [f'train/{name}/0.png {number}\n' for number, name in enumerate(('cat', 'dog', 'owl'), 1)]
    (setup.root / 'list.txt').write_text(''.join(lines))
    setup.lines = [
        "train_dataloader = dict(dataset=dict(split=None, ann_file='list.txt', classes=['cat', 'dog', 'owl']))"
    ]


@mistake('inner folders', 'animals', level='warning', data=True)
def classes_lie_one_level_below(setup):
    for folder in (setup.train, setup.val):
        folder('animals').mkdir()
        folder('cat').rename(folder('animals', 'cat'))
        folder('dog').rename(folder('animals', 'dog'))


@mistake('long.png', 'as long as wide', level='warning', data=True)
def an_image_is_a_strip(setup):
    save(picture(3000, (1200, 40)), setup.train('cat', 'long.png'))


@mistake('a.gif', 'frames', level='note', data=True)
def an_image_is_an_animation(setup):
    first, *others = (picture(900 + number) for number in range(3))
    first.save(setup.train('cat', 'a.gif'), save_all=True, append_images=others)


@mistake('checkpoint.rule', trial=True)
def the_worst_checkpoint_is_kept(setup):
    setup.options['default_hooks.checkpoint.rule'] = 'less'


@mistake('early_stopping.rule', trial=True)
def the_training_stops_while_it_gets_better(setup):
    setup.options.update({'default_hooks.early_stopping.rule': 'less', 'default_hooks.early_stopping.patience': 3})


@mistake('param_scheduler.0', 'below a ten-thousandth', level='warning')
def the_rate_dies(setup):
    setup.lines = ["param_scheduler = [dict(type='StepLR', step_size=1, gamma=0.1)]", 'max_epochs = 50']


@mistake('param_scheduler.0', 'raises the rate')
def the_rate_is_raised(setup):
    setup.lines = ["param_scheduler = [dict(type='MultiStepLR', milestones=[2, 4], gamma=10.0)]", 'max_epochs = 10']


@mistake('param_scheduler.0.end', '5000 iterations')
def the_warmup_of_iterations_is_longer_than_the_training(setup):
    setup.lines = [
        "param_scheduler = [dict(type='LinearLR', start_factor=0.01, end=5000, by_epoch=False)]",
        'max_epochs = 10',
    ]


@mistake('T_max=40', level='warning')
def a_cosine_of_epochs_counts_iterations(setup):
    setup.lines = ["param_scheduler = [dict(type='CosineAnnealingLR', T_max=10, by_epoch=False)]", 'max_epochs = 10']


@mistake('total_steps=10', level='warning')
def a_cycle_is_of_another_training(setup):
    setup.lines = ["param_scheduler = [dict(type='OneCycleLR', eta_max=1.0, total_steps=100)]", 'max_epochs = 10']


@mistake('lr: expected a number', '1e-3x')
def the_rate_is_a_text(setup):
    setup.options['lr'] = '1e-3x'


@mistake('optimizer.lr', 'ten-thousandth', level='warning')
def the_rate_of_sgd_is_that_of_adam_and_smaller(setup):
    setup.lines = ["optim_wrapper = dict(optimizer=dict(_delete_=True, type='SGD', lr=1e-6))"]


@mistake('custom_keys', 'bakcbone', "Did you mean 'backbone'", level='warning', trial=True)
def a_multiplier_is_of_no_parameter(setup):
    setup.options['optim_wrapper.paramwise_cfg'] = dict(custom_keys={'bakcbone': dict(lr_mult=0.1)})


@mistake('paramwise_cfg', 'raise lr', level='warning', trial=True)
def a_multiplier_is_too_large(setup):
    setup.options['optim_wrapper.paramwise_cfg'] = dict(custom_keys={'head': dict(lr_mult=1e4)})


@mistake('accumulative_counts', level='warning')
def no_update_comes_in_an_epoch(setup):
    setup.options['optim_wrapper.accumulative_counts'] = 1000


@mistake('crop_ratio_range', level='warning')
def crops_show_nothing(setup):
    setup.lines = [
        "train_pipeline = [dict(type='LoadImage'), dict(type='RandomCropToSize', crop_ratio_range=(0.0001, 0.0002)), "
        "dict(type='PackInputs')]"
    ]


@mistake('train_dataloader.dataset.pipeline', 'one colour')
def images_become_black(setup):
    setup.lines = [
        "train_pipeline = [dict(type='LoadImage'), dict(type='ResizeToSize'), dict(type='mmpretrain.ColorJitter', "
        "brightness=[0.0, 0.0]), dict(type='PackInputs')]"
    ]


@mistake('val_dataloader.dataset.pipeline', 'in colour', 'grey', level='warning')
def the_validation_alone_is_grey(setup):
    setup.lines = [
        "val_pipeline = [dict(type='LoadImage'), dict(type='CenterCropToSize'), dict(type='mmcv.RandomGrayscale', "
        "prob=1.0, keep_channels=True), dict(type='PackInputs')]"
    ]


@mistake('views of an image are equal', 'ImageViews.transforms')
def the_views_are_equal(setup):
    setup.base = SUPCON
    setup.lines = [
        "train_pipeline = [dict(type='LoadImage'), dict(type='ImageViews', num_views=2, "
        "transforms=[[dict(type='ResizeToSize')]]), dict(type='PackInputs')]"
    ]


@mistake('bank.dataloader.dataset', '9 of 9 images of val')
def the_bank_is_the_validation(setup):
    setup.base = SUPCON
    setup.options['default_hooks.bank.dataloader.dataset.split'] = 'val'


@mistake('backbone.cnn.std', 'in [0, 255], and a stream gets them in [0, 1]')
def the_deviation_of_a_stream_is_that_of_bytes(setup):
    setup.lines = ['model = dict(backbone=dict(cnn=dict(mean=(0.485, 0.456, 0.406), std=(58.4, 57.1, 57.4))))']


@mistake('head.margin', level='warning')
def the_margin_is_too_large(setup):
    setup.lines = ["model = dict(head=dict(_delete_=True, type='ArcFaceHead', margin=2.5))"]


@mistake('head.scale', level='warning')
def the_scale_is_in_degrees(setup):
    setup.lines = ["model = dict(head=dict(_delete_=True, type='ArcFaceHead', scale=3666.9))"]


@mistake('drop_path_rate', level='warning')
def nearly_all_is_dropped(setup):
    setup.options['model.backbone.cnn.drop_path_rate'] = 0.95


@mistake('class_weight', level='warning')
def a_class_weighs_nothing(setup):
    setup.options['model.head.class_weight'] = [1.0, 2.0, 0.0]


def told(examination, level):
    rank = ('note', 'warning', 'problem').index
    return [
        f'{one.level} {one.where}: {one.what} -> {one.change}'
        for one in examination.findings
        if rank(one.level) >= rank(level)
    ]


# In the gate; the others, which take a second or two each, at night.
IN_THE_GATE = (
    'some_validation_images_are_copies', 'a_validation_image_is_a_smaller_copy', 'the_test_overlaps_the_training',
    'a_class_has_one_image', 'a_file_is_no_image', 'a_photograph_is_truncated', 'an_image_is_transparent',
    'an_image_has_16_bits', 'an_image_is_a_thumbnail', 'an_image_is_blank', 'an_image_is_in_two_classes',
    'a_class_has_two_spellings', 'a_class_is_in_the_validation_alone', 'the_validation_has_other_names',
    'a_class_folder_is_empty', 'a_key_is_mistyped', 'the_folder_is_mistyped', 'the_folder_is_empty',
    'the_validation_is_the_training_folder', 'too_few_classes_in_the_head', 'a_pipeline_does_not_pack',
    'the_warmup_is_longer_than_the_training', 'the_rate_is_scaled_twice', 'the_batch_is_larger_than_the_data',
    'classes_lie_one_level_below', 'an_image_is_a_strip', 'an_image_is_an_animation',
)  # fmt: skip


def marked(names, gate):
    return [name if name in gate else pytest.param(name, marks=pytest.mark.nightly) for name in names]


def test_an_empty_class_folder_hides_no_other_mistake(setup):
    setup.train('emu').mkdir()
    setup.train('cat', 'broken.png').write_text('no image')
    for examination in (examine_data(str(setup.root)), setup.examine()):
        problems = told(examination, 'problem')
        assert [('no image' in one, 'cannot be read' in one) for one in problems] == [(True, False), (False, True)]


@pytest.mark.parametrize('name', marked(MISTAKES, IN_THE_GATE))
def test_a_mistake_is_caught(setup, name):
    make, named, level, trial, data = MISTAKES[name]
    make(setup)
    found = examine_data(str(setup.root)) if data else setup.examine(TRIAL if trial else STATIC)
    lines = told(found, level)
    assert any(all(part in line for part in named) for line in lines), '\n'.join(told(found, 'note'))
    assert all(one.change for one in found.findings if one.level != 'note')


def test_enough_mistakes_are_known():
    assert len(MISTAKES) >= 60
    assert set(IN_THE_GATE) <= set(MISTAKES)
    assert len(IN_THE_GATE) >= 20


def test_a_mistyped_key_is_told_once(setup):
    setup.lines = ['optim_wrapper = dict(optimizer=dict(weight_decy=0.1))']
    (line,) = told(setup.examine(), 'problem')
    assert line.startswith('problem optim_wrapper.optimizer.weight_decy: ')


def test_shuffled_batches_of_one_large_class_are_no_fault_of_the_sampler():
    labels = [[0]] * 990 + [[1]] * 10
    numbers = np.random.default_rng(0).permutation(1000)
    batches = [numbers[start : start + 8].tolist() for start in range(0, 1000, 8)]
    part = SimpleNamespace(labels=labels, count_classes=lambda: {})
    subject = SimpleNamespace(parts=dict(train=part), get=lambda key, default=None: default, is_written=lambda path: 0)
    assert not list(check_batches_of_labels(subject, SimpleNamespace(batch_sampler=batches)))
    in_order = np.arange(1000).reshape(-1, 8).tolist()
    part.labels = [[label] for label in np.arange(1000) // 500]
    (found,) = check_batches_of_labels(subject, SimpleNamespace(batch_sampler=in_order))
    assert 'batches hold one class' in found.what


@pytest.mark.nightly
def test_two_sources_in_one_training(setup):
    class_folders(setup.folder / 'more', cat=2, dog=2, owl=2)
    for number, path in enumerate(sorted((setup.folder / 'more').rglob('*.png'))):
        picture(600_000 + number).save(path)
    sources = ''.join(
        f"dict(type='ImageFolder', data_root={str(root)!r}, pipeline=_base_.train_pipeline), "
        for root in (setup.train(), setup.folder / 'more')
    )
    setup.lines = [f"train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=[{sources}]))"]
    assert told(setup.examine(TRIAL), 'warning') == []


@pytest.mark.nightly
def test_unseen_classes_are_meant_where_images_are_compared(setup):
    for name, new in (('cat', 'ape'), ('dog', 'bee'), ('owl', 'cow')):
        setup.val(name).rename(setup.val(new))
    setup.base = BASE.replace('full', 'arcface')
    setup.lines = [
        "val_evaluator = [dict(type='RetrievalMetric')]", 'test_evaluator = val_evaluator',
        "default_hooks = dict(checkpoint=dict(save_best='retrieval/map@r'), "
        "early_stopping=dict(monitor='retrieval/map@r'))",
    ]  # fmt: skip
    found = setup.examine(TRIAL)
    assert told(found, 'warning') == []
    assert any('3 of 3 classes of val are unseen in the training' in one for one in told(found, 'note'))


MADE = dict(plain={}, transformer=dict(model_name='test_vit'), large_images=dict(img_size=64))


@pytest.mark.parametrize('name', marked(MADE, ['plain']))
def test_nothing_is_found_in_a_healthy_folder(setup, name):
    setup.options = MADE[name]
    found = setup.examine(TRIAL)
    assert told(found, 'warning') == []
    assert counts_of(found.findings)['note'] > 1


# digits/few_images has too few images for its model on purpose.
_OTHER = ('distill', 'few_images')
SHIPPED = [path for path in test_configs.ALL if path.stem not in _OTHER and 'two_phase_' not in path.stem]
# What the folder of 48 images is too small for.
LARGER = {'train_dataloader.batch_size': 24}


def options_of(path, folder):
    options = test_configs.options_for(path, folder)
    if 'hybrid/' in test_configs.name_of(path):
        options = {**options, **test_configs.SMALL, 'batch_size': 24}
        options.update(LARGER if path not in test_configs.CHAINS else {})
        if path.stem.endswith('_pk'):
            options['train_dataloader.batch_sampler.images_per_class'] = 8
    if path in test_configs.CHAINS:
        return {f'cfg_options.{key}': value for key, value in options.items()}
    return options


def test_there_are_twenty_healthy_set_ups():
    assert len(SHIPPED) + len(MADE) >= 20


@pytest.mark.nightly
@pytest.mark.parametrize('path', SHIPPED, ids=test_configs.name_of)
def test_nothing_is_found_in_a_shipped_config(path, digit_folder):
    found = examine(lambda: load_config(path, options_of(path, digit_folder)))
    assert told(found, 'warning') == []
