"""Classes added to an artifact whose embedding is the mean color of an image, so that everything is known by hand."""

import errno
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom

pytest.importorskip('onnx', reason="needs onnx and onnxruntime: pip install 'hybridcls[export]'")
pytest.importorskip('onnxruntime')

from color_artifact import CLASSES, color_artifact, paint, paint_folder, write

from hybridcls.apis.artifact.shipped import enroll as enrolling
from hybridcls.apis.artifact.shipped.runtime import Model


@pytest.fixture
def artifact(tmp_path):
    return color_artifact(tmp_path / 'art')


@pytest.fixture(scope='module')
def colors(tmp_path_factory):
    """Images: 40 held-out ones of each old class, and of blue, purple and yellow."""
    folder = tmp_path_factory.mktemp('colors')
    for seed, (name, color) in enumerate(CLASSES.items()):
        paint_folder(folder / 'held' / name, np.array(color) * 0.8 + 0.1, 40, 25, seed)
    paint_folder(folder / 'blue', (0.1, 0.1, 0.9), 6, 15, 7)
    paint_folder(folder / 'purple', (0.9, 0.1, 0.9), 30, 15, 8)
    paint(folder / 'yellow.png', (180, 180, 30))
    return folder


def add(folder, *assignments, data=None, **options):
    model = Model(folder)
    held = enrolling.read_old_images(model, str(data))[0] if data else None
    return enrolling.enroll(model, enrolling.read_assignments(assignments), held, **options)


def answers(folder, paths):
    return Model(folder).predict([str(path) for path in paths])


def test_new_classes_answer_and_old_outputs_stay_bit_for_bit(artifact, colors):
    images = sorted(colors.rglob('*.png'))
    model = Model(artifact)
    batch = np.stack([model.prepare(image) for image in images])
    outputs, before = model.run(batch), model.predict(list(map(str, images)))
    reports, about = add(artifact, f'blue={colors}/blue', f'purple={colors}/purple/*.png', data=colors / 'held')
    assert [(one['name'], one['images'], one['found_again']) for one in reports] == [('blue', 6, 6), ('purple', 30, 30)]
    changed = Model(artifact)
    for name, values in changed.run(batch).items():
        np.testing.assert_array_equal(values, outputs[name])
    taken = 0
    for image, old, new in zip(images, before, changed.predict(list(map(str, images))), strict=True):
        assert new['top'] == old['top']
        if image.parent.name in ('blue', 'purple'):
            assert new['class'] == image.parent.name
            assert new['probability'] is None
        elif new['class'] != old['class']:
            taken += image.parent.parent.name == 'held'
        else:
            assert {key: value for key, value in new.items() if key != 'enrolled'} == old
    assert taken <= 0.02 * 120
    assert about['taken'] <= 0.02 * 121 - 1


def test_hidden_files_are_no_images(artifact, colors, tmp_path):
    """Those that macOS leaves on a stick, beside each file, are images by name alone."""
    paint_folder(tmp_path / 'blue', (0.1, 0.1, 0.9), 3, 15, 7)
    for name in ('._1.png', '__MACOSX/2.png', '.cache/3.png'):
        (tmp_path / 'blue' / name).parent.mkdir(exist_ok=True)
        (tmp_path / 'blue' / name).touch()
    reports, _ = add(artifact, f'blue={tmp_path}/blue')
    assert (reports[0]['images'], reports[0]['unreadable']) == (3, [])


def test_files_that_pillow_only_writes_are_no_images_and_links_to_folders_are_followed(artifact, tmp_path):
    paint_folder(tmp_path / 'far', (0.1, 0.1, 0.9), 3, 15, 7)
    (tmp_path / 'blue').mkdir()
    (tmp_path / 'blue' / 'notes.pdf').touch()
    (tmp_path / 'blue' / 'more').symlink_to(tmp_path / 'far')
    (tmp_path / 'far' / 'up').symlink_to(tmp_path / 'far')
    reports, _ = add(artifact, f'blue={tmp_path}/blue')
    assert (reports[0]['images'], reports[0]['unreadable']) == (3, [])


def test_an_error_while_old_images_are_read_loses_no_class(artifact, colors):
    add(artifact, f'blue={colors}/blue')
    model = Model(artifact)
    enrolled, model.run = model.enrolled, None
    with pytest.raises(TypeError):
        enrolling.read_old_images(model, str(colors / 'held'))
    assert model.enrolled is enrolled is not None


def test_the_prototype_and_the_score_by_hand(artifact, colors):
    add(artifact, f'blue={colors}/blue', data=colors / 'held')
    model = Model(artifact)

    def directions(folder):
        rows = np.stack([model.prepare(path).mean((0, 1)) for path in sorted(folder.glob('*.png'))]).astype(np.float64)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    prototype = directions(colors / 'blue').mean(0)
    prototype /= np.linalg.norm(prototype)
    np.testing.assert_allclose(model.enrolled.prototypes[0], prototype, rtol=1e-5)
    means = [directions(colors / 'held' / name).mean(0) for name in CLASSES]
    yellow = model.prepare(colors / 'yellow.png').mean((0, 1))
    yellow /= np.linalg.norm(yellow)
    expected = yellow @ prototype - max(yellow @ mean / np.linalg.norm(mean) for mean in means)
    score = model.enrolled.scores(yellow[None].astype(np.float32))[0, 0]
    assert score == pytest.approx(expected, abs=2e-3)  # held-out embeddings are float16


def test_no_more_than_the_share_of_later_images_is_taken():
    """Over many draws of held-out images, in a space where the new class lies amid the old ones."""
    random = np.random.default_rng(0)
    shares = []
    for _ in range(300):
        drawn = random.normal(0, 1, (199 + 400, 5)) + np.eye(5)[random.integers(0, 3, 599)] * 2
        labels = random.integers(0, 3, 199)
        units = enrolling.normalized(drawn)
        held = dict(held_directions=units[:199], held_labels=labels)
        prototypes = enrolling.normalized(random.normal(0, 1, (2, 5)))
        means = enrolling.class_means(held)
        threshold = enrolling.threshold_of(enrolling.held_scores(held, prototypes, means).max(1), 0.05)
        later = enrolling.scores_of(units[199:], prototypes, means).max(1)
        shares.append((later >= threshold).mean())
    assert 0.035 < np.mean(shares) < 0.056


@pytest.mark.parametrize(('count', 'steal', 'taken'), [(99, 0.02, 1), (99, 0.05, 4), (10, 0.02, 0), (49, 0.02, 0)])
def test_thresholds(count, steal, taken):
    scores = np.random.default_rng(1).random(count).astype(np.float32)
    threshold = enrolling.threshold_of(scores, steal)
    assert (scores >= threshold).sum() == taken
    assert (1 + taken) / (count + 1) <= max(steal, 1 / (count + 1))


@pytest.mark.parametrize(('errors', 'answered'), [(0, 58), (0, 59), (3, 150), (4, 150), (2, 0)])
def test_the_risk_by_scipy(errors, answered):
    expected = answered > 0 and binom.cdf(errors, answered, 0.05) <= 0.05
    assert enrolling.risk_holds(errors, answered, 0.05, 0.95) == expected


def calibration(threshold, risk):
    return dict(
        classes=list(CLASSES), weights_sha256='w', checkpoint='a.pth', scaling=dict(kind='none'), sets=None,
        risk=dict(threshold=threshold, risk=risk, confidence=0.95),
    )  # fmt: skip


def test_a_threshold_is_raised_until_the_risk_holds_again(tmp_path, colors):
    """With a class that lies beside 'red' and a large share, the risk decides how much is taken."""
    paint_folder(tmp_path / 'pink', (0.9, 0.25, 0.3), 8, 10, 3)
    limits = {}
    for name, risk in (('none', None), ('loose', calibration(0.5, 0.3)), ('strict', calibration(0.5, 0.06))):
        folder = color_artifact(tmp_path / name, calibration=risk)
        _, about = add(folder, f'pink={tmp_path}/pink', data=colors / 'held', steal=0.2)
        limits[name] = about
    assert limits['none']['risk'] is None
    assert limits['none']['taken'] > 10
    for name in ('loose', 'strict'):
        risk = limits[name]['risk']
        assert risk['holds']
        assert binom.cdf(*risk['after'], dict(loose=0.3, strict=0.06)[name]) <= 0.05
    assert limits['strict']['risk']['raised']
    assert limits['strict']['taken'] < limits['loose']['taken'] <= limits['none']['taken']


def test_a_risk_that_the_images_do_not_prove_is_said(tmp_path, colors):
    folder = color_artifact(tmp_path / 'art', calibration=calibration(0.0, 0.001))
    _, about = add(folder, f'blue={colors}/blue', data=colors / 'held')
    assert not about['risk']['holds']
    assert any('do not prove the risk' in line for line in enrolling.said_of_all(about))
    _, about = add(color_artifact(tmp_path / 'b', calibration=calibration(0.0, 0.1)), f'blue={colors}/blue')
    assert about['risk'] == dict(checked=False)
    assert any('not checked again' in line for line in enrolling.said_of_all(about))


def test_few_images_and_no_held_out_images_are_marked(artifact, colors):
    add(artifact, f'yellow={colors}/yellow.png')
    (answer,) = answers(artifact, [colors / 'yellow.png'])
    assert answer['class'] == 'yellow'
    assert answer['uncalibrated']
    assert answer['unchecked']
    assert answer['top'] == [['yellow', None]]
    add(artifact, f'blue={colors}/blue', data=colors / 'held')  # which also serve the class that was there
    (answer,) = answers(artifact, [colors / 'yellow.png'])
    assert answer['uncalibrated']
    assert 'unchecked' not in answer
    (answer,) = answers(artifact, [colors / 'blue/1.png'])
    assert 'uncalibrated' not in answer


def test_held_out_images_of_the_export_are_taken(artifact, colors):
    held, line = enrolling.read_old_images(Model(artifact), str(colors / 'held'))
    assert line == '--data: 120 images of 3 of the old classes'
    np.savez(artifact / 'reference.npz', **held, counts=np.zeros(3))
    sidecar = json.loads((artifact / 'model.json').read_text())
    write(artifact, sidecar)
    _, about = add(artifact, f'blue={colors}/blue')
    assert about['held_out'] == 120
    assert about['score'] == 'margin'


def test_other_images_make_the_class_means(artifact, colors):
    model = Model(artifact)
    held = enrolling.read_old_images(model, str(colors / 'held'))[0]
    train = {name: values[::2] for name, values in held.items()}
    enrolling.enroll(model, {'blue': [str(colors / 'blue/0.png')]}, held, train)
    np.testing.assert_array_equal(Model(artifact).enrolled.means, enrolling.class_means(train))


def test_embeddings_alone_and_several_labels(tmp_path, colors):
    folder = color_artifact(tmp_path / 'embeddings', outputs=('embedding',))
    add(folder, f'blue={colors}/blue', f'purple={colors}/purple')
    assert [one['class'] for one in answers(folder, [colors / 'blue/0.png', colors / 'purple/0.png'])] == [
        'blue',
        'purple',
    ]
    add(folder, f'yellow={colors}/yellow.png', data=colors / 'held')
    said = answers(folder, [colors / 'blue/0.png', colors / 'held/red/0.png'])
    assert [one['class'] for one in said] == ['blue', 'unknown']

    folder = color_artifact(tmp_path / 'several', multi_label=True)
    before = answers(folder, [colors / 'blue/0.png', colors / 'held/red/0.png'])
    add(folder, f'blue={colors}/blue', data=colors / 'held')
    after = answers(folder, [colors / 'blue/0.png', colors / 'held/red/0.png'])
    assert [one['class'] for one in after] == [before[0]['class'] + '|blue', before[1]['class']]


def test_removed_classes_leave_the_artifact_as_it_was(artifact, colors):
    before = (artifact / 'model.json').read_text()
    files = sorted(path.name for path in artifact.iterdir())
    add(artifact, f'blue={colors}/blue', f'purple={colors}/purple', data=colors / 'held')
    enrolling.remove(Model(artifact), ['blue'])
    assert [one['name'] for one in Model(artifact).enrolled.classes] == ['purple']
    assert len(list(artifact.glob('enrolled-*.npz'))) == 1
    enrolling.remove(Model(artifact), ['purple'])
    assert json.loads((artifact / 'model.json').read_text()) == json.loads(before)
    assert sorted(path.name for path in artifact.iterdir()) == files
    with pytest.raises(ValueError, match="expected an enrolled class for --remove, got 'blue'"):
        enrolling.remove(Model(artifact), ['blue'])


def test_an_interrupted_writing_leaves_the_old_state(artifact, colors, monkeypatch):
    add(artifact, f'blue={colors}/blue')
    before = (artifact / 'model.json').read_text()
    real = enrolling._write

    def fails(path, content):
        if path.endswith('model.json'):
            raise OSError('the disk is full')
        real(path, content)

    monkeypatch.setattr(enrolling, '_write', fails)
    with pytest.raises(OSError, match='full'):
        add(artifact, f'purple={colors}/purple')
    assert (artifact / 'model.json').read_text() == before
    assert [one['name'] for one in Model(artifact).enrolled.classes] == ['blue']


def test_known_images_and_unreadable_ones_are_said(artifact, colors, tmp_path):
    (tmp_path / 'mixed').mkdir()
    (tmp_path / 'mixed/bad.png').write_bytes(b'nothing')
    paint(tmp_path / 'mixed/a.png', (200, 5, 5))
    paint(tmp_path / 'mixed/b.png', (60, 10, 200))
    ((report,), _) = add(artifact, f'new={tmp_path}/mixed', data=colors / 'held')
    assert report['images'] == 2
    assert [one['path'] for one in report['unreadable']] == [str(tmp_path / 'mixed/bad.png')]
    assert "1 of 2 images of 'new' is 'red' for the model" in report['warnings']


@pytest.mark.parametrize(
    ('texts', 'said'),
    [
        (['mug'], "expected NAME=IMAGES (a folder, a pattern or files), got 'mug'"),
        (['=here'], 'expected NAME=IMAGES'),
        (['mug='], 'expected NAME=IMAGES'),
        (['mug=nowhere'], "'nowhere' is neither an image nor a folder of images"),
        (['a={0}/yellow.png', 'b={0}/yellow.png'], "is an image of both 'a' and 'b'"),
        (['red={0}/yellow.png'], "got 'red', which the model was trained on"),
        (['unknown={0}/yellow.png'], 'which is empty or has another meaning'),
    ],
)
def test_what_is_refused(artifact, colors, texts, said):
    before = (artifact / 'model.json').read_bytes()
    with pytest.raises(ValueError) as error:
        add(artifact, *(text.format(colors) for text in texts))
    assert said in str(error.value)
    assert (artifact / 'model.json').read_bytes() == before


def test_names_occur_once_but_may_be_enrolled_again(artifact, colors):
    add(artifact, f'blue={colors}/blue/0.png,{colors}/blue/1.png', f'blue={colors}/blue/2.png')
    assert Model(artifact).enrolled.classes[0]['images'] == 3
    with pytest.raises(ValueError, match="'blue' is already enrolled"):
        add(artifact, f'blue={colors}/blue')
    add(artifact, f'blue={colors}/blue', replace=True)
    assert [one['images'] for one in Model(artifact).enrolled.classes] == [6]


def test_in_a_shell_without_hybridcls(artifact, colors):
    """``python DIR/enroll.py`` and ``python DIR/runtime.py``, in processes in which these two cannot be imported."""
    blocked = 'import sys; sys.modules.update(hybridcls=None, torch=None); '
    begin = 'import runpy; sys.path.insert(0, sys.argv[1]); sys.argv = sys.argv[2:]; '
    code = f'{blocked}{begin}runpy.run_path(sys.argv[0], run_name="__main__")'

    def shell(name, *arguments):
        texts = [sys.executable, '-I', '-c', code, artifact, artifact / name, *arguments]
        return subprocess.run([*map(str, texts)], capture_output=True, text=True, check=False)

    done = shell('enroll.py', artifact, f'blue={colors}/blue', '--data', colors / 'held')
    assert done.returncode == 0, done.stderr
    assert ' of 120 held-out images of the old classes, and are expected to take at most ' in done.stderr
    assert json.loads(shell('runtime.py', colors / 'blue/0.png').stdout)['class'] == 'blue'
    assert shell('enroll.py', artifact, '--list').stdout == 'blue: 6 images\n'
    wrong = shell('enroll.py', artifact, 'blue')
    assert wrong.returncode == 2
    assert 'expected NAME=IMAGES' in wrong.stderr


def test_one_thing_at_a_time(artifact):
    args = SimpleNamespace(folder=str(artifact), classes=[], remove=None, list=False)
    with pytest.raises(ValueError, match='expected one of NAME=IMAGES, --remove NAME and --list'):
        enrolling.perform(args, Model)


def test_a_folder_that_cannot_be_written_is_said_before_any_image_is_read(artifact, colors, monkeypatch):
    args = SimpleNamespace(folder=str(artifact), classes=[f'mug={colors}/blue'], remove=None, list=False)
    monkeypatch.setattr('os.access', lambda path, mode: False)
    with pytest.raises(ValueError, match=r'art is not a writable folder\. Copy it to one'):
        enrolling.perform(args, None)


def test_a_full_disk_names_the_file(artifact, colors, monkeypatch):
    before = (artifact / 'model.json').read_bytes()

    def full(number):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(OSError, match=r'could not be written \(No space left on device\); it is as it was before'):
        add(artifact, f'purple={colors}/purple')
    assert (artifact / 'model.json').read_bytes() == before
    assert not [*artifact.glob('.unfinished*')]
