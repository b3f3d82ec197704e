"""timm models without a classifier, and sentences where there is none."""

import pytest
import timm
import torch

from hybridcls.models.backbones import timm_model
from hybridcls.models.backbones.timm_model import check_weights, create_timm_model, fixed_size, patch_size


def create(name, drop_path_rate=None, img_size=None, checkpoint_path='', pretrained=False, **timm_args):
    return create_timm_model(name, pretrained, checkpoint_path, drop_path_rate, img_size, timm_args, 0.1)


def drop_rates(model):
    return [part.drop_prob for part in model.modules() if type(part).__name__ == 'DropPath']


def test_it_is_timms_model_without_its_classifier():
    torch.manual_seed(0)
    ours = create('test_vit', img_size=32)
    torch.manual_seed(0)
    theirs = timm.create_model('test_vit', num_classes=0, img_size=32, drop_path_rate=0.1)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.num_classes == 0
    assert drop_rates(ours) == drop_rates(theirs) != []


@pytest.mark.parametrize('rate', [0.0, 0.3])
def test_a_rate_that_is_written_counts(rate):
    assert max(drop_rates(create('test_vit', rate)), default=0.0) == pytest.approx(rate)


def test_what_a_model_does_not_take_is_left_out_unless_it_is_written():
    model = create('resnet10t', img_size=32)  # takes no img_size
    assert type(model) is type(timm.create_model('resnet10t'))
    create('dla46_c')  # takes no drop_path_rate either
    with pytest.raises(TypeError, match="takes no argument 'drop_path_rate'"):
        create('dla46_c', 0.2)
    with pytest.raises(TypeError, match="takes no argument 'no_such'"):
        create('resnet10t', no_such=1)
    with pytest.raises(TypeError, match=r"takes no argument 'drop_path_rat'\. Did you mean .*drop_path_rate"):
        create('test_vit', drop_path_rat=0.1)


@pytest.mark.parametrize(
    ('name', 'options', 'error', 'message'),
    [
        ('convnextv2_bas', {}, ValueError, r"no model 'convnextv2_bas'\. Did you mean .*convnextv2_base"),
        ('convnextv2_atto.fcmae_ft', {}, ValueError, r"no weights 'fcmae_ft' of convnextv2_atto.*fcmae_ft_in1k"),
        ('test_vit', dict(num_classes=3), TypeError, 'num_classes=3 cannot be set'),
        ('test_vit', dict(checkpoint_path='/no/such.pth'), FileNotFoundError, 'checkpoint_path'),
        ('gcvit_xxtiny', dict(img_size=20), ValueError, 'cannot be built for img_size=20'),
        ('local-dir:/no/such', {}, FileNotFoundError, r'no folder with a config\.json'),
    ],
)
def test_what_cannot_be_is_a_sentence(name, options, error, message):
    with pytest.raises(error, match=message):
        create(name, **options)


def test_weights_of_a_file_are_taken_whole_or_refused(tmp_path):
    path = str(tmp_path / 'weights.pth')
    torch.manual_seed(1)
    source = timm.create_model('test_vit', num_classes=5)
    torch.save(source.state_dict(), path)
    model = create('test_vit', checkpoint_path=path)
    for name, value in model.state_dict().items():
        assert torch.equal(value, source.state_dict()[name]), name
    with pytest.raises(
        ValueError, match=f'{path} does not hold the weights of test_convnext: it lacks all of its 54 layers'
    ):
        create('test_convnext', checkpoint_path=path)


@pytest.mark.parametrize('name', ['test_resnet', 'test_vit', 'test_convnext', 'swin_tiny_patch4_window7_224'])
def test_weights_are_checked_without_the_memory_of_a_model(tmp_path, name, monkeypatch):
    args = dict(depths=(1, 1, 1, 1), embed_dim=24, num_heads=(1, 2, 4, 8)) if name.startswith('swin') else {}
    stream = dict(model_name=name, checkpoint_path=str(tmp_path / 'w.pth'), output='map', **args)
    source = timm.create_model(name, num_classes=5, **args)
    torch.save(source.state_dict(), tmp_path / 'w.pth')
    real = timm_model.create_timm_model

    def create_on_meta(*args, only_check=False, **kwargs):
        assert only_check
        model = real(*args, only_check=True, **kwargs)
        assert all(value.is_meta for value in model.parameters())

    with monkeypatch.context() as patched:
        patched.setattr(timm_model, 'create_timm_model', create_on_meta)
        check_weights(stream, 128)  # another size
    weights = source.state_dict()
    weights.pop(next(iter(weights)))
    torch.save(weights, tmp_path / 'w.pth')
    with pytest.raises(ValueError, match=f'does not hold the weights of {name}.*: it lacks 1 of'):
        check_weights(stream, 128)
    check_weights(dict(stream, checkpoint_path='https://host/w.pth'), 128)


def test_patches_and_sizes():
    assert patch_size(create('test_vit', patch_size=(8, 4))) == (8, 4)
    assert patch_size(create('resnet10t')) is None
    assert fixed_size(create('vit_tiny_patch16_224', img_size=(32, 64), depth=1)) == (32, 64)
    assert fixed_size(create('test_vit', dynamic_img_size=True)) is None
    assert fixed_size(create('resnet10t')) is None


def test_a_model_in_the_cache_of_the_hub_needs_no_network(tmp_path, monkeypatch):
    from hybridcls import hub_cache

    monkeypatch.setattr(hub_cache, 'get_session', lambda: pytest.fail('the network was asked'))
    source = timm.create_model('test_vit', num_classes=5)
    folder = tmp_path / 'models--someone--tiny'
    timm.models.save_for_hf(source, folder / 'snapshots' / 'abc')
    (folder / 'refs').mkdir()
    (folder / 'refs' / 'main').write_text('abc')
    model = create('hf-hub:someone/tiny', pretrained=True, cache_dir=str(tmp_path))
    assert model.state_dict()
    for given in (dict(checkpoint_path=str(folder)), dict(checkpoint_path=str(folder / 'snapshots' / 'abc'))):
        other = create('test_vit', **given)
        for name, value in other.state_dict().items():
            assert torch.equal(value, source.state_dict()[name])
            assert torch.equal(value, model.state_dict()[name])
