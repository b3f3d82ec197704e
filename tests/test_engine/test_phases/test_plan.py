"""What reaches each phase: its own options win over those of the chain, and these over its config."""

from hybridcls.engine import load_config
from hybridcls.engine.phases.plan import read_phases


def second_phase(folder, chain, entry):
    (folder / 'planned.py').write_text(
        f"cfg_options = {chain!r}\nphases = [dict(name='a', config='toy.py'), "
        f"dict(name='b', config='toy.py', cfg_options={entry!r})]\n"
    )
    phase = read_phases(load_config(folder / 'planned.py'))[1]
    return load_config(phase.config, phase.options).model.head


def test_an_option_of_a_phase_wins_in_whatever_order_the_chain_has_them(toy_configs):
    deleting = {'model.head': dict(_delete_=True, type='ToyHead', num_classes=5)}
    chain = {'model.head.num_classes': 4, **deleting}
    assert second_phase(toy_configs, chain, {'model.head.num_classes': 6}).num_classes == 6
    assert second_phase(toy_configs, chain, {}).num_classes == 5


def test_what_a_phase_deletes_the_chain_does_not_bring_back(toy_configs):
    chain = {'model.head.scale': 3, 'model.header': 1}
    for entry in (
        {'model.head': dict(_delete_=True, type='ToyHead', num_classes=5)},
        {'model.head._delete_': True, 'model.head.type': 'ToyHead', 'model.head.num_classes': 5},
    ):
        assert second_phase(toy_configs, chain, entry) == dict(type='ToyHead', num_classes=5)
