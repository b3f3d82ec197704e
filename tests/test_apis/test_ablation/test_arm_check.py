"""All arms are built before the first training."""

import pytest

from hybridcls.apis.ablation import arms_of, check_arms, lever_of, write_arms
from hybridcls.engine import ConfigError

OPTIONS = {'max_epochs': 3}


def checked(names, tmp_path, config='hybridcls::digits/ce_hybrid.py'):
    arms = arms_of(config, [lever_of(one) for one in names], False, OPTIONS, tmp_path / 'arms')
    return check_arms(arms, write_arms(arms, tmp_path / 'arms'), OPTIONS)


def test_an_arm_that_cannot_be_trained_is_named(tmp_path):
    left_out = checked(['supcon', 'sam', 'msam'], tmp_path).left_out  # a chain, its phases, and arms
    assert left_out['all'].startswith('its levers do not go together: ComposedOptimWrapper: stages.sam')
    with pytest.raises(ConfigError, match='ablate: the arm token_merging cannot be trained: '):
        checked(['token_merging'], tmp_path)


def test_levers_that_exclude_each_other_are_not_together(tmp_path):
    heads = ['arcface', 'adaface', 'gc']
    arms = arms_of('hybridcls::digits/ce_vit.py', [lever_of(one) for one in heads], True, OPTIONS, tmp_path / 'arms')
    files = write_arms(arms, tmp_path / 'arms')
    assert 'all' not in files  # it would have been the last of the two, in silence
    why = check_arms(arms, files, OPTIONS).left_out
    assert sorted(why) == ['all', 'all_but_adaface', 'all_but_arcface', 'all_but_gc']
    assert set(why.values()) == {'arcface and adaface exclude each other: both set model.head.type'}
    with pytest.raises(ConfigError, match=r'the arm odd cannot be trained: .*momentumm'):
        checked(['odd:optim_wrapper.optimizer.momentumm=1'], tmp_path, 'hybridcls::digits/ce_vit.py')
    with pytest.raises(ConfigError, match='the arm odd cannot be trained: nothing reads mdl'):
        checked(['odd:mdl.head.label_smoothing=0.1'], tmp_path, 'hybridcls::digits/ce_vit.py')


def test_chance_is_that_of_the_classes(tmp_path):
    chance = checked(['gc'], tmp_path).chance
    assert chance({'accuracy/top1': 10.0}) == 'accuracy 10 % is no better than chance (10 %)'
    assert chance({'accuracy/top1': 10.1}) is None
    assert chance({}) is None


def test_contents_change_with_what_a_config_inherits(tmp_path):
    mine, parent = tmp_path / 'mine.py', tmp_path / 'parent.py'
    mine.write_text("_base_ = 'parent.py'\n")
    parent.write_text("_base_ = 'hybridcls::digits/ce_hybrid.py'\nlr = 0.1\n")
    before = checked(['gc'], tmp_path, str(mine)).contents
    assert checked(['gc'], tmp_path, str(mine)).contents == before
    parent.write_text("_base_ = 'hybridcls::digits/ce_hybrid.py'\nlr = 0.2\n")
    after = checked(['gc'], tmp_path, str(mine)).contents
    assert all(after[name] != before[name] for name in ('base', 'gc'))
