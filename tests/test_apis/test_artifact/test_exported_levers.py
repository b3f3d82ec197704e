"""Which weights and levers an export takes is chosen and said."""

import pytest
import torch
from exportable_models import CASES, DHA, LEVERS, VIT, Case, classifier, write_case
from trained_checkpoints import LINEAR

from hybridcls.apis.artifact.exported_levers import (
    check_exportable,
    choose_weights,
    merge_adapters,
    set_token_merging,
)
from hybridcls.apis.trained_model import read_trained_model

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def with_second_weights(folder, key, prefix=''):
    """A checkpoint whose head is 1 in a second set of weights, as the hooks write it."""
    path = write_case(folder, Case(classifier(VIT, LINEAR)))
    content = torch.load(path)
    second = {
        f'{prefix}{name}': value + 1.0 if 'head' in name else value
        for name, value in content['state_dict'].items()
        if value.is_floating_point()
    }
    content[key] = dict(second, **({'steps': torch.tensor(3)} if prefix else {}))
    torch.save(content, path)
    return path, content['state_dict']['head.fc.bias']


@pytest.mark.parametrize(
    ('key', 'prefix', 'first', 'second'),
    [('ema_state_dict', 'module.', 'ema', 'raw'), ('fast_state_dict', '', 'slow', 'fast')],
)
def test_the_second_weights_of_a_checkpoint(tmp_path, key, prefix, first, second):
    path, bias = with_second_weights(tmp_path, key, prefix)
    for asked, name, expected in (('test', first, bias), (first, first, bias), (second, second, bias + 1)):
        trained = read_trained_model(path)
        chosen, said = choose_weights(trained, asked)
        assert chosen == name
        assert torch.equal(trained.model.head.fc.bias.detach(), expected)
        assert f'the {first}' in said.lower()
        assert second in said
    other = 'fast' if second == 'raw' else 'raw'
    with pytest.raises(ValueError, match=f'got {other}; .*has {first} .* and {second}'):
        choose_weights(read_trained_model(path), other)


def test_a_checkpoint_with_one_set_of_weights(tmp_path):
    trained = read_trained_model(write_case(tmp_path, Case(classifier(VIT, LINEAR))))
    assert choose_weights(trained, 'test') == ('raw', 'Weights: the only ones of the checkpoint.')
    with pytest.raises(ValueError, match=r'got ema; .*epoch_1.pth has raw'):
        choose_weights(trained, 'ema')


def test_an_ensemble_has_those_of_its_members(tmp_path):
    paths = [write_case(tmp_path / name, Case(classifier(VIT, LINEAR))) for name in 'ab']
    trained = read_trained_model(paths)
    assert choose_weights(trained, 'test') == ('members', 'Weights: those of the members.')
    with pytest.raises(ValueError, match='has one set of weights'):
        choose_weights(trained, 'ema')


def test_token_merging_is_kept_as_in_a_test_or_removed(tmp_path):
    path = write_case(tmp_path, LEVERS['token merging by a TokenMergingHook, kept'])
    plain = read_trained_model(
        write_case(tmp_path / 'plain', Case(classifier(CASES['DHAFusion'].model['backbone'], neck=DHA)))
    )
    plain.model.load_state_dict(torch.load(path)['state_dict'])
    with torch.no_grad():
        whole = plain.model(IMAGES)
        kept = read_trained_model(path)
        name, said = set_token_merging(kept, None)
        assert name == "kept, {'r': 2}"
        assert '--token-merging remove' in said[0]
        assert not torch.allclose(kept.model(IMAGES), whole)
        removed = read_trained_model(path)
        name, said = set_token_merging(removed, 'remove')
        assert name == 'removed'
        assert 'differ from a test' in said[0]
        assert torch.equal(removed.model(IMAGES), whole)
    assert set_token_merging(plain, None) == (None, [])
    assert set_token_merging(plain, 'keep') == (None, ['Token merging: there is none to keep.'])


def test_adapters_are_merged_and_the_rest_is_told(tmp_path):
    pytest.importorskip('peft', reason="needs PEFT: pip install 'hybridcls[lora]'")
    case = CASES['LoRA, merged']
    more = dict(use_cbam=True, token_learner_tokens=4)
    trained = read_trained_model(
        write_case(tmp_path, case._replace(model=dict(case.model, backbone=dict(case.model['backbone'], **more))))
    )
    with torch.no_grad():
        before = trained.model(IMAGES)
        levers, notes = merge_adapters(trained.model)
        torch.testing.assert_close(trained.model(IMAGES), before, rtol=0, atol=1e-5)
    assert levers == dict(lora='merged', token_learner='kept, 4 tokens', cbam='kept')
    assert 'float32' in notes[0]
    assert not [name for name, _ in trained.model.named_parameters() if 'lora' in name]


def test_random_draws_are_refused(tmp_path):
    case = CASES['MCDropoutClassifier']
    with pytest.raises(ValueError, match=f'{case.result}.*--config FILE with model=dict'):
        check_exportable(read_trained_model(write_case(tmp_path, case)))


def test_what_a_test_could_do_besides_is_said(tmp_path):
    path = write_case(tmp_path, CASES['LinearHead'], tta_model=dict(type='MixtureTTA'), tta_pipeline=[])
    assert check_exportable(read_trained_model(path)) == [
        'Test-time augmentation (--tta of a test) is left out: the artifact sees one view of an image.'
    ]
    trained = read_trained_model(write_case(tmp_path, CASES['LinearHead']))
    assert check_exportable(trained) == []
    trained.cfg.test_cfg = dict(fp16=True)
    assert 'in mixed precision' in check_exportable(trained)[0]
