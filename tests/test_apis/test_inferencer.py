"""The answers of a model are those of a test of the Runner, to the bit, for images from anywhere."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from trained_checkpoints import CLASSES, CNN, LINEAR, VIT, config_of, scores_of_a_test, write_checkpoint

import hybridcls
from hybridcls.apis.inferencer import HybridInferencer
from hybridcls.datasets.transforms.load_image import UnreadableImageError

EVIDENTIAL = dict(type='EvidentialHead', num_classes=4)
LORA = dict(VIT, lora_rank=4, token_merging_ratio=0.2)


@pytest.fixture(scope='module')
def photos(tmp_path_factory, digit_folder):
    """Class folders with what people bring: transparency, an orientation, 16 bits."""
    root = tmp_path_factory.mktemp('photos')
    for number, name in enumerate(('one', 'two', 'zero')):
        (root / name).mkdir()
        for file in sorted((digit_folder / 'val' / name).glob('*.png'))[: 2 + number]:
            (root / name / file.name).write_bytes(file.read_bytes())
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, 70, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(root / 'two' / 'alpha.png')
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(pixels[..., :3]).save(root / 'one' / 'turned.jpg', exif=exif)
    cv2.imwrite(str(root / 'zero' / 'deep.png'), rng.integers(0, 65536, (40, 60), dtype=np.uint16))
    return root


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory, photos):
    root = tmp_path_factory.mktemp('checkpoints')
    made = {}
    for name, backbone, head in (('linear', CNN, LINEAR), ('evidential', LORA, EVIDENTIAL)):
        cfg = config_of(backbone, head, photos)
        made[name] = cfg, *write_checkpoint(root / name / 'epoch_1.pth', cfg)
    return made


@pytest.fixture(scope='module')
def model(checkpoints):
    return hybridcls.load(checkpoints['linear'][1], 'cpu')


@pytest.mark.parametrize('name', ['linear', 'evidential'])
@pytest.mark.parametrize('workers', [0, 3])
def test_scores_are_those_of_a_test_to_the_bit(checkpoints, photos, tmp_path, name, workers):
    cfg, path, _ = checkpoints[name]
    paths, expected = scores_of_a_test(cfg, path, tmp_path)
    answers = hybridcls.load(path, 'cpu')(photos, workers=workers)
    got = list(answers)
    assert [answer.path for answer in got] == paths
    assert (np.stack([answer.scores for answer in got]) == expected).all()
    assert expected.std() > 1e-3  # not one answer for all
    assert answers.total == answers.done == len(paths) == 12


def test_scores_are_those_of_the_model_itself(checkpoints, photos):
    """Another road: the model that was saved, on pixels that Pillow reads and crops."""
    _, path, network = checkpoints['linear']
    file = photos / 'one' / '12.png'
    image = torch.from_numpy(np.array(Image.open(file).convert('RGB').resize((73, 73), Image.Resampling.BICUBIC)))
    cropped = image[5 : 5 + 64, 5 : 5 + 64].permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = network.eval()(cropped).softmax(1)[0].numpy()
    answer = hybridcls.load(path, 'cpu').predict(str(file))
    np.testing.assert_allclose(answer.scores, expected, atol=2e-3)  # mmcv resizes the edge by itself
    assert answer.class_name == CLASSES[expected.argmax()]


def test_another_batch_size_differs_by_rounding_alone(model, photos):
    by_four, by_one = (np.stack([a.scores for a in model(photos, batch_size=size)]) for size in (4, 1))
    np.testing.assert_allclose(by_one, by_four, atol=1e-5)


def test_an_image_is_the_same_from_memory(model, photos):
    file = photos / 'two' / 'alpha.png'
    expected = model.predict(file).scores
    opened = Image.open(file)
    for image in (opened, np.array(opened), file.read_bytes(), io.BytesIO(file.read_bytes()), str(file),
                  torch.from_numpy(np.array(opened)).permute(2, 0, 1),
                  torch.from_numpy(np.array(opened)).permute(2, 0, 1) / 255):  # fmt: skip
        answer = model.predict(image)
        assert (answer.scores == expected).all(), type(image)
    turned = photos / 'one' / 'turned.jpg'
    assert (model.predict(turned.read_bytes()).scores == model.predict(turned).scores).all()
    np.testing.assert_allclose(model.predict(Image.open(turned)).scores, model.predict(turned).scores, atol=0.02)


def test_colours_of_an_array_are_rgb(model):
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 255
    assert (model.predict(red).scores == model.predict(Image.new('RGB', (64, 64), 'red')).scores).all()
    assert (model.predict(red).scores != model.predict(Image.new('RGB', (64, 64), 'blue')).scores).any()


def test_a_generator_is_read_while_it_is_answered(model):
    taken = []

    def frames():
        frame = np.zeros((64, 64, 3), np.uint8)  # one buffer for all, as cameras have
        for number in range(100):
            taken.append(number)
            frame[:] = 2 * number
            yield frame

    answers = model(frames(), batch_size=2, workers=2)
    first, second = next(answers), next(answers)
    assert len(taken) < 20
    assert answers.total is None
    assert (first.scores != second.scores).any()
    rest = list(answers)
    assert len(rest) == 98
    white = model.predict(np.full((64, 64, 3), 198, np.uint8), batch_size=2)
    np.testing.assert_allclose(rest[-1].scores, white.scores, atol=1e-5)


def test_an_unreadable_image_is_an_error_or_has_no_answer(model, photos, tmp_path):
    files = [str(photos / 'one' / name) for name in ('12.png', '13.png')]
    broken = tmp_path / 'broken.png'
    broken.write_bytes(b'no image')
    with pytest.raises(UnreadableImageError, match=r'cannot read .*broken.png: its 8 bytes'):
        list(model([files[0], broken, files[1]]))
    answers = model([files[0], broken, files[1]], on_unreadable='skip')
    assert [answer.path for answer in answers] == files
    assert [(one.path, 'not a known image format' in one.reason) for one in answers.unreadable] == [(str(broken), True)]


def test_folders_and_columns_of_labels_give_the_accuracy(model, photos, tmp_path):
    answers = model(photos)
    got = list(answers)
    right = [answer.class_name == answer.path.split('/')[-2] for answer in got]
    assert answers.accuracy.top1 == sum(right) / 12
    assert answers.accuracy.images == {'one': 3, 'two': 4, 'zero': 5}
    table = tmp_path / 'list.csv'
    table.write_text(f'path,label\n{photos}/one/12.png,{got[0].class_name}\n{photos}/one/13.png,cow\n')
    answers = model(table)
    assert [answer.label for answer in answers] == [got[0].class_name, None]
    assert (answers.accuracy.top1, answers.accuracy.labelled, answers.accuracy.unlabelled) == (1.0, 1, 1)


def test_uncertainties_and_the_classes_in_order(checkpoints, photos):
    answer = hybridcls.load(checkpoints['evidential'][1], 'cpu').predict(photos / 'one' / '12.png', top_k=3)
    assert list(answer.uncertainties) == ['total', 'aleatoric', 'epistemic', 'vacuity']
    assert answer.uncertainties['total'] == pytest.approx(
        answer.uncertainties['aleatoric'] + answer.uncertainties['epistemic'], abs=1e-5
    )
    order = np.argsort(-answer.scores)[:3]
    assert [name for name, _ in answer.top] == [CLASSES[number] for number in order]
    assert answer.top[0] == (answer.class_name, answer.probability)


def test_a_head_without_classes_gives_embeddings(tmp_path, photos):
    path, network = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, dict(type='SupConHead'), photos))
    model = hybridcls.load(path, 'cpu')
    assert (model.classes, model.head_name) == ((), 'SupConHead')
    answer = model.predict(photos / 'one' / '12.png')
    assert (answer.class_name, answer.probability, answer.top) == (None, None, ())
    assert 'no class, embedding of' in repr(answer)
    images = torch.rand(2, 3, 64, 64).mul(255).round().byte()
    with torch.no_grad():
        expected = network.eval().extract_feat(images / 255)[-1]
    pipeline_keeps = [image for image in images]
    got = model.embed(pipeline_keeps)
    assert got.shape == tuple(expected.shape)


def test_each_head_of_several_answers(tmp_path, photos):
    heads = dict(first=LINEAR, second=EVIDENTIAL)
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, dict(type='MultiHead', heads=heads), photos))
    answer = hybridcls.load(path, 'cpu').predict(photos / 'one' / '12.png')
    assert answer.class_name == answer.heads['first'].class_name
    assert 'vacuity' in answer.heads['second'].uncertainties
    assert not answer.uncertainties


def test_several_labels_an_image_are_joined(tmp_path, photos):
    head = dict(type='MultiLabelHead', num_classes=4, thresholds=[0.0, 1.0, 0.0, 1.0])
    path, _ = write_checkpoint(tmp_path / 'epoch_1.pth', config_of(CNN, head, photos))
    answers = hybridcls.load(path, 'cpu')(photos)
    answer = next(answers)
    assert answer.class_name == 'one|two'
    assert answer.label == 'one'  # its folder
    assert answer.probability == answer.scores.max()
    list(answers)
    assert answers.accuracy.by_class()['one'].recall == 1.0
    rows = ['one/12.png,zero|one', 'two/alpha.png,', 'zero/deep.png,other', 'one/turned.jpg,one|other']
    (photos / 'tags.csv').write_text('path,label\n' + '\n'.join(rows))
    answers = hybridcls.load(path, 'cpu')(photos / 'tags.csv')
    assert [answer.label for answer in answers] == ['zero|one', '', None, 'one']
    assert (answers.accuracy.labelled, answers.accuracy.unlabelled) == (3, 1)
    (photos / 'tags.csv').unlink()


def test_an_ensemble_averages_its_members(tmp_path, checkpoints, photos):
    cfg, first, _ = checkpoints['linear']
    second, _ = write_checkpoint(tmp_path / 'epoch_2.pth', cfg, seed=1)
    file = photos / 'one' / '12.png'
    expected = (
        hybridcls.load(first, 'cpu').predict(file).scores + hybridcls.load(second, 'cpu').predict(file).scores
    ) / 2
    model = hybridcls.load([first, second], 'cpu')
    answer = model.predict(file)
    np.testing.assert_allclose(answer.scores, expected, atol=1e-6)
    assert model.classes == CLASSES
    assert set(answer.uncertainties) == {'total', 'aleatoric', 'epistemic'}


def test_wrong_arguments_are_sentences(model, photos, checkpoints):
    with pytest.raises(ValueError, match=r'predict: expected batch_size in \[1, inf\), got 0'):
        model(photos, batch_size=0)
    with pytest.raises(ValueError, match='expected on_unreadable to be one of'):
        model(photos, on_unreadable='ignore')
    with pytest.raises(ValueError, match=r"device: expected 'auto', 'cpu'.* got 'cuda:99'"):
        HybridInferencer(checkpoints['linear'][1], 'cuda:99')


def test_pictures_with_answers(model, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos)
    list(model(['one/12.png', np.zeros((64, 64, 3), np.uint8)], show_dir=str(tmp_path / 'shown')))
    assert cv2.imread(str(tmp_path / 'shown/one/12.png.png')).shape[0] >= 320
    assert (tmp_path / 'shown/1.png').is_file()


def test_answers_go_on_from_a_state(model, photos):
    whole = model(photos, batch_size=4)
    expected = list(whole)
    begun = model(photos, batch_size=4)
    next(begun.batches())
    rest = model(photos, batch_size=4, skip=begun.done)
    rest.restore(begun.state())
    assert [answer.scores.tolist() for answer in rest] == [answer.scores.tolist() for answer in expected[4:]]
    assert rest.accuracy == whole.accuracy
