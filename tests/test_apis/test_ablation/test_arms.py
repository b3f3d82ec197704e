"""Arms are configs that differ from the one that was named in their levers alone."""

import pytest

from hybridcls.apis.ablation import arms_of, lever_of, write_arms
from hybridcls.engine import ConfigError, load_config
from hybridcls.engine.config.tree import differing, dotted
from hybridcls.engine.phases.plan import read_phases

HYBRID = 'hybridcls::digits/ce_hybrid.py'
CHAIN = 'hybridcls::digits/two_phase.py'
OPTIONS = {'max_epochs': 3}


def arms(names, tmp_path, full=False, config=HYBRID, options=OPTIONS):
    return arms_of(config, [lever_of(name) for name in names], full, options, tmp_path / 'arms')


def loaded(arm, files):
    return load_config(files[arm], OPTIONS)


def places(one, other):
    return {dotted(path) for path, _ in differing(one.to_dict(), other.to_dict())}


def test_which_arms_there_are(tmp_path):
    assert [arm.name for arm in arms(['sam', 'cbam', 'dha'], tmp_path)] == ['base', 'sam', 'cbam', 'dha', 'all']
    full = arms(['sam', 'cbam', 'dha'], tmp_path, full=True)[5:]
    assert [(arm.name, arm.against, arm.gains) for arm in full] == [
        ('all_but_sam', 'all', 'sam'), ('all_but_cbam', 'all', 'cbam'), ('all_but_dha', 'all', 'dha'),
    ]  # fmt: skip
    assert [arm.name for arm in arms(['sam'], tmp_path)] == ['base', 'sam']
    two = arms(['sam', 'cbam'], tmp_path, full=True)  # all but one of two is each alone
    assert [arm.name for arm in two] == ['base', 'sam', 'cbam', 'all']


def test_an_arm_differs_in_its_lever_alone(tmp_path):
    files = write_arms(arms(['sam', 'cbam', 'dha'], tmp_path), tmp_path / 'arms')
    base = loaded('base', files)
    assert base.model.neck.type == 'ConcatFusion'  # the config has the gate: off where it is no lever of the arm
    assert places(loaded('sam', files), base) == {'optim_wrapper.stages'}
    assert places(loaded('cbam', files), base) == {'model.backbone.use_cbam'}
    assert places(loaded('dha', files), base) == {'model.neck'}
    everything = loaded('all', files)
    assert everything.optim_wrapper.stages.sam.type == 'SAM'
    assert everything.model.backbone.use_cbam
    assert everything.model.neck.type == 'DHAFusion'
    assert places(base, load_config(HYBRID, OPTIONS)) >= {'model.neck', 'val_evaluator'}


def test_levers_of_your_own_do_not_leak_into_arms_without_them(tmp_path):
    own = ['a:model.head.label_smoothing=0.1', 'b:model.backbone.use_cbam=True', 'c:model.neck.fusion_dim=32']
    files = write_arms(arms(own, tmp_path, full=True), tmp_path / 'arms')
    base = loaded('base', files)
    places_of = {'a': 'model.head.label_smoothing', 'b': 'model.backbone.use_cbam', 'c': 'model.neck.fusion_dim'}
    assert places(loaded('all', files), base) == {*places_of.values()}
    for name, place in places_of.items():
        assert places(loaded(name, files), base) == {place}
        assert places(loaded(f'all_but_{name}', files), base) == {*places_of.values()} - {place}


def test_supcon_is_a_phase_before(tmp_path):
    made = arms(['supcon', 'sam'], tmp_path)
    files = write_arms(made, tmp_path / 'arms')
    chain = load_config(files['supcon'])
    assert [phase['name'] for phase in chain.phases] == ['supcon', 'head']
    first = load_config(tmp_path / 'arms' / chain.phases[0].config)
    assert first.model.head.type == 'SupConHead'
    kinds = [step['type'] for step in first.train_dataloader.dataset.pipeline]
    assert kinds == ['ImageViews', 'PackInputs']
    assert first.val_evaluator is None
    second = load_config(tmp_path / 'arms' / chain.phases[1].config)
    assert second.model.head.type == 'LinearHead'
    assert load_config(tmp_path / 'arms' / 'all_head.py').optim_wrapper.stages.sam.type == 'SAM'


def test_the_phases_of_a_chain_have_the_levers_and_the_last_one_those_of_the_head(tmp_path):
    made = arms(['lora', 'evidential'], tmp_path, config=CHAIN)
    files = write_arms(made, tmp_path / 'arms')

    def trained(chain):
        return [load_config(phase.config, phase.options) for phase in read_phases(chain)]

    base, both = (trained(load_config(files[name], {'cfg_options.max_epochs': 3})) for name in ('base', 'all'))
    ours = trained(load_config(CHAIN))
    assert [places(one, other) for one, other in zip(both, base, strict=True)] == [
        {'model.backbone.lora_rank'}, {'model.backbone.lora_rank', 'model.head'},
    ]  # fmt: skip
    assert places(base[0], ours[0]) == {'default_hooks.step_cost', 'max_epochs', 'train_cfg.max_epochs'}
    assert [one.model.head.type for one in both] == ['SupConHead', 'EvidentialHead']
    chain, theirs = load_config(files['all']), load_config(CHAIN)
    assert [{**one, 'config': None, 'test': None} for one in chain.phases] == [
        {**one, 'config': None, 'test': None} for one in theirs.phases
    ]


def test_a_config_by_its_path_is_found_from_the_arms(tmp_path):
    mine = tmp_path / 'mine.py'
    mine.write_text(f"_base_ = '{HYBRID}'\nlr = 0.5\n")
    files = write_arms(arms(['gc'], tmp_path, config=str(mine)), tmp_path / 'arms')
    assert load_config(files['gc']).optim_wrapper.optimizer.lr == 0.5
    assert "_base_ = '../mine.py'" in files['gc'].read_text()


def test_mistakes_are_told_before_a_training(tmp_path):
    with pytest.raises(ConfigError, match=r'no lever supcon for the chain .*two_phase.*last phase \(.*adaface'):
        arms(['supcon'], tmp_path, config=CHAIN)
    overruling = {'phases.0.cfg_options': dict(optim_wrapper=dict(stages=dict(sam=None)))}
    with pytest.raises(ConfigError, match=r'option optim_wrapper\.stages\.sam would overrule .* arm sam'):
        arms(['sam'], tmp_path, config=CHAIN, options=overruling)
    with pytest.raises(ConfigError, match=r'option model\.backbone\.use_cbam would overrule .* arm cbam'):
        arms(['cbam'], tmp_path, options={'model.backbone.use_cbam': False})
    with pytest.raises(ConfigError, match=r'option model would overrule'):
        arms(['cbam'], tmp_path, options={'model': dict(backbone=dict(with_cp=True))})
    with pytest.raises(ValueError, match='expected different levers'):
        arms(['sam', 'sam'], tmp_path)
    judged = lever_of("strict:val_evaluator=[dict(type='Accuracy', topk=(5,))]")
    for config in (HYBRID, CHAIN):
        with pytest.raises(ConfigError, match=r"the same val_evaluator, got another one in the lever 'strict'"):
            arms_of(str(config), [judged], False, {}, tmp_path)
    for key in ('seed', 'randomness.seed'):
        with pytest.raises(ConfigError, match="expected no seed in the lever 'other'"):
            arms([f'other:{key}=7'], tmp_path)
