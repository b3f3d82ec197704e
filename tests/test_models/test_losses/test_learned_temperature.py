import math

import pytest
import torch

from hybridcls.models.losses import LearnedTemperature


def test_it_is_the_exponential_of_its_parameter():
    temperature = LearnedTemperature(0.2)
    torch.testing.assert_close(temperature().item(), 0.2)
    temperature().backward()
    torch.testing.assert_close(temperature.log_temperature.grad.item(), 0.2)
    assert list(temperature.state_dict()) == ['log_temperature']


@pytest.mark.parametrize(
    ('parameter', 'value', 'downhill', 'felt'),
    [
        (math.log(0.001), 0.01, -1, True),  # below; a step would raise it
        (math.log(0.001), 0.01, 1, False),
        (math.log(9.0), 1.0, 1, True),
        (math.log(9.0), 1.0, -1, False),
        (math.log(0.5), 0.5, 1, True),
        (math.log(0.5), 0.5, -1, True),
    ],
)
def test_bounds_hold_it_and_do_not_catch_it(parameter, value, downhill, felt):
    temperature = LearnedTemperature(0.1)
    with torch.no_grad():
        temperature.log_temperature.fill_(parameter)
    torch.testing.assert_close(temperature().item(), value)
    (downhill * temperature()).backward()
    expected = downhill * value if felt else 0.0
    torch.testing.assert_close(temperature.log_temperature.grad.item(), expected)


@pytest.mark.parametrize(
    ('keys', 'name'),
    [
        (dict(start=2.0), r'expected temperature in .* got 2'),
        (dict(start=0.001), r'expected temperature in .* got 0.001'),
        (dict(start=0.1, low=0.0), r'expected low in .* got 0'),
        (dict(start=0.1, low=0.5, high=0.2), r'expected high in .* got 0.2'),
    ],
)
def test_wrong_numbers_are_named(keys, name):
    with pytest.raises(ValueError, match=name):
        LearnedTemperature(**keys)
