"""Settings of an inference by name and by the key of a config."""

import pytest
import torch

from hybridcls.apis.inference_settings import InferenceSettings


@pytest.mark.parametrize('name', ['eager', 'bf16', 'compiled+channels_last+bf16', 'tome=0.04+compiled', 'fp16'])
def test_names_and_keys_say_the_same(name):
    settings = InferenceSettings.of_name(name)
    assert settings.name == name
    assert InferenceSettings.of_config(dict(inference=settings.as_key())) == settings


def test_the_order_in_a_name_does_not_matter():
    assert InferenceSettings.of_name('bf16+compiled') == InferenceSettings.of_name('compiled+bf16')
    assert InferenceSettings.of_name('bf16').dtype == torch.bfloat16


@pytest.mark.parametrize(
    ('build', 'sentence'),
    [
        (lambda: InferenceSettings.of_name('compield'), "Did you mean 'compiled'"),
        (lambda: InferenceSettings.of_name('tome=much'), 'expected a number'),
        (lambda: InferenceSettings.of_config(dict(inference=dict(dtype_='bfloat16'))), 'dtype_'),
        (lambda: InferenceSettings.of_config(dict(inference='fast')), 'expected a dict'),
        (lambda: InferenceSettings(precision='int8'), 'expected precision to be|precision'),
        (lambda: InferenceSettings(token_merging_ratio=1.5), 'token_merging_ratio'),
        (lambda: InferenceSettings(channels_last='yes'), 'channels_last=True or False'),
    ],
)
def test_mistakes_are_sentences(build, sentence):
    with pytest.raises((ValueError, TypeError), match=sentence):
        build()


def test_only_the_order_of_sums_differs():
    assert InferenceSettings.of_name('compiled+channels_last').computes_the_same
    assert not InferenceSettings.of_name('compiled+bf16').computes_the_same
    assert not InferenceSettings.of_name('tome=0.04').computes_the_same
