"""What two configs are compared by."""

from mmengine.config import Config

from hybridcls.engine.config.facts import config_facts, differing_keys, fingerprint

TRAINING = dict(model=dict(type='M', widths=(8, 16), none=None, empty=[]), optim_wrapper=dict(lr=0.1))


def test_facts_are_printed_values_by_dotted_key():
    assert config_facts(Config(TRAINING)) == {
        'model.type': "'M'", 'model.widths.0': '8', 'model.widths.1': '16', 'model.none': 'None', 'model.empty': '[]',
        'optim_wrapper.lr': '0.1',
    }  # fmt: skip


def test_the_machine_does_not_matter_and_the_learning_does():
    here = fingerprint(config_facts(Config(TRAINING)))
    there = dict(TRAINING, work_dir='/x', launcher='slurm', load_from='a.pth', train_dataloader=dict(num_workers=4))
    assert fingerprint(config_facts(Config(there))) == here
    inside = dict(TRAINING, model=dict(TRAINING['model'], work_dir='/x'))  # a key of a model, not of the machine
    assert fingerprint(config_facts(Config(inside))) != here
    assert fingerprint(config_facts(Config(dict(TRAINING, optim_wrapper=dict(lr=0.2))))) != here


def test_lists_and_tuples_are_one():
    """A config that was dumped and read again has lists where there were tuples."""
    assert config_facts(Config(dict(a=(1, [2]), b=()))) == config_facts(Config(dict(a=[1, (2,)], b=[])))


def test_differing_keys_are_named_with_both_values():
    told = differing_keys({'a': '1', 'b': '2', 'c': '3'}, {'a': '1', 'b': '5', 'd': '4'})
    assert told.replace(' and ', ', ') == 'b (2, now 5), c (3, now not there), d (not there, now 4)'
    many = differing_keys({str(n): '0' for n in range(9)}, {}, most=2)
    assert many.startswith('0 (0, now not there)')
    assert '7' in many  # how many more
