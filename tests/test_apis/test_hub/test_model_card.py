"""The card says what is recorded, and nothing of it is markup."""

from tiny_artifact import calibration_of

from hybridcls.apis.hub.model_card import model_card

PRETRAINED = {
    'backbone.cnn': dict(model='convnextv2_base', license='cc-by-nc-4.0', url='https://huggingface.co/timm/x'),
    'backbone.vit': dict(model='swinv2_tiny', file='swin.safetensors'),
}
ARTIFACT = dict(
    format='hybridcls artifact',
    model=dict(file='model.onnx', format='onnx', dtype='float32', levers=dict(weights='ema')),
    classes=['a'], preprocessing=dict(size=[224, 192]),
    provenance=dict(hybridcls='0.2.0', data=dict(fingerprint='ab12')),
    metrics={'accuracy/top1': dict(value=91.25, low=90.0, high=92.5, confidence=0.95, unit='%')},
)  # fmt: skip


def test_licences_are_those_that_are_recorded():
    card = model_card(dict(meta={}, provenance=dict(pretrained=PRETRAINED)), 'x', './x')
    assert '| backbone.cnn | convnextv2_base | cc-by-nc-4.0 | https://huggingface.co/timm/x |' in card
    assert '| backbone.vit | swinv2_tiny | not recorded | swin.safetensors |' in card
    assert 'pipeline_tag: image-feature-extraction' in card
    assert 'license:' not in card


def test_an_artifact():
    card = model_card(ARTIFACT, 'flowers', 'hf://me/flowers', calibration_of(0.8), license='cc0-1.0')
    assert card.startswith('---\nlibrary_name: hybridcls\npipeline_tag: image-classification\n')
    assert 'python model/runtime.py photo.jpg' in card
    assert '| accuracy/top1 | 91.25 % | 90 to 92.5 (95 %) |' in card
    assert '| image size | 224 × 192 |' in card
    assert "'unknown' below 0.8000" in card
    assert '| fingerprint of the data | ab12 |' in card
    assert 'An image classifier of 1 class, trained' in card
    assert 'exponential moving average' in card
    assert 'license: "cc0-1.0"' in card


def test_many_classes_are_counted_and_names_are_no_markup():
    card = model_card(dict(meta={}, classes=[f'c{n}' for n in range(1000)]), 'x', './x')
    assert 'c199 and 800 more, in `model.json`' in card
    card = model_card(dict(meta={}, classes=['a\n## b', '|x|', '[l](http://e)', '_a_b_']), '# x', './x')
    assert 'a \\#\\# b, \\|x\\|, \\[l\\](http://e), \\_a_b\\_' in card
    assert '\n## b' not in card
