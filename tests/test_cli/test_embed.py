"""hybridcls embed: an index with what Python computes, the same after an interruption, and added to."""

import copy
import json
import os
import shutil

import numpy as np
import pytest
from mmengine.config import Config
from trained_checkpoints import CLASSES, CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.embedding_index import EmbeddingIndex, resolved
from hybridcls.apis.index_search import IndexSearch
from hybridcls.apis.inferencer import HybridInferencer
from hybridcls.cli import embed as embed_module
from hybridcls.cli.main import SUBCOMMANDS, parse_args


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp('work') / 'epoch_1.pth', config_of(CNN, LINEAR))[0]


@pytest.fixture
def folder(tmp_path, digit_folder):
    return shutil.copytree(digit_folder / 'val', tmp_path / 'photos')


def embed(*arguments):
    return SUBCOMMANDS['embed'].run(parse_args(['embed', *map(str, arguments), '--device', 'cpu']))


@pytest.mark.parametrize('suffix', ['.npz', '.parquet'])
def test_an_index_has_the_vectors_of_python_and_knows_its_model(checkpoint, folder, tmp_path, suffix, capfd):
    if suffix == '.parquet':
        pytest.importorskip('pyarrow')
    out = tmp_path / f'index{suffix}'
    assert embed(os.path.dirname(checkpoint), folder, '--out', out, '--json') == 0
    report = json.loads(capfd.readouterr().out)
    assert (report['embedded'], report['images'], report['unreadable']) == (16, 16, [])
    model = hybridcls.load(checkpoint, 'cpu')
    index = EmbeddingIndex(out)
    assert index.paths.tolist() == [answer.path for answer in model(folder)]
    assert index.labels.tolist() == [name for name in sorted(CLASSES) for _ in range(4)]
    np.testing.assert_array_equal(index.vectors, model.embed(folder))
    np.testing.assert_allclose(index.norms, np.linalg.norm(model.embed(folder), axis=1), rtol=1e-6)
    about = index.about
    assert (about['checkpoint'], about['width'], about['classes']) == (checkpoint, 96, list(CLASSES))
    assert about['preprocessing']['version'] == 2
    assert 'CenterCropToSize' in about['preprocessing']['pipeline']
    assert sorted(os.listdir(tmp_path)) == [f'index{suffix}', 'photos']


def test_the_digest_is_of_the_weights_alone(checkpoint, tmp_path):
    """A copy in another place is the same model, and other weights are another one."""
    from hybridcls.apis.embedding_index import about_model

    copied = shutil.copy(checkpoint, tmp_path / 'copy.pth')
    other, _ = write_checkpoint(tmp_path / 'other.pth', config_of(CNN, LINEAR), seed=1)
    digests = [about_model(hybridcls.load(path, 'cpu'))['digest'] for path in (checkpoint, copied, other)]
    assert digests[0] == digests[1] != digests[2]


def test_an_interrupted_run_goes_on_to_the_same_vectors(checkpoint, folder, tmp_path, monkeypatch, capfd):
    (folder / 'one' / 'broken.png').write_bytes(b'text')
    assert embed(checkpoint, folder, '--out', tmp_path / 'whole.npz') == 1
    forward, calls = HybridInferencer.forward, []

    def interrupted(self, inputs):
        calls.append(len(inputs))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return forward(self, inputs)

    monkeypatch.setattr(HybridInferencer, 'forward', interrupted)
    out = tmp_path / 'a.npz'
    with pytest.raises(KeyboardInterrupt):
        embed(checkpoint, folder, '--out', out)
    assert '8 of 17 images are done' in capfd.readouterr().err
    with pytest.raises(FileExistsError, match=r'^embed: an interrupted run has left 8 answers'):
        embed(checkpoint, folder, '--out', out)
    assert embed(checkpoint, folder, '--out', out, '--resume') == 1
    assert '16 images embedded, 1 cannot be read' in capfd.readouterr().err
    one, other = EmbeddingIndex(out), EmbeddingIndex(tmp_path / 'whole.npz')
    assert one.paths.tolist() == other.paths.tolist()
    np.testing.assert_array_equal(one.vectors, other.vectors)
    assert sorted(os.listdir(tmp_path)) == ['a.npz', 'photos', 'whole.npz']


def interrupt(monkeypatch, batches):
    """Interrupt the model after some batches, once."""
    forward, calls = HybridInferencer.forward, []

    def interrupted(self, inputs):
        calls.append(len(inputs))
        if len(calls) == batches + 1:
            raise KeyboardInterrupt
        return forward(self, inputs)

    monkeypatch.setattr(HybridInferencer, 'forward', interrupted)


def test_an_interrupted_run_does_not_go_on_with_other_pixels(checkpoint, folder, tmp_path, monkeypatch):
    interrupt(monkeypatch, batches=2)
    out = tmp_path / 'a.npz'
    with pytest.raises(KeyboardInterrupt):
        embed(checkpoint, folder, '--out', out)
    other = Config(copy.deepcopy(config_of(CNN, LINEAR)))
    other.test_dataloader.dataset.pipeline[1].update(crop_pct=0.5)
    (tmp_path / 'other.py').write_text(other.pretty_text)
    with pytest.raises(ValueError, match=r'the interrupted run had preprocessing .*, this one has .*crop_pct=0.5'):
        embed(checkpoint, folder, '--out', out, '--resume', '--config', tmp_path / 'other.py')
    last, first = (folder / 'two' / '15.png', folder / 'one' / '12.png')
    last.write_bytes(first.read_bytes())  # is not done yet: someone has repaired it
    before = first.stat()
    content = first.read_bytes()
    first.write_bytes((folder / 'one' / '13.png').read_bytes())
    with pytest.raises(ValueError, match=r'expected the images of the interrupted run, but some of the 8 .*--force'):
        embed(checkpoint, folder, '--out', out, '--resume')
    first.write_bytes(content)
    os.utime(first, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert embed(checkpoint, folder, '--out', out, '--resume') == 0
    np.testing.assert_array_equal(EmbeddingIndex(out).vectors, hybridcls.load(checkpoint, 'cpu').embed(folder))


def test_an_interrupted_append_can_be_begun_again(checkpoint, folder, tmp_path, monkeypatch):
    out = tmp_path / 'a.npz'
    assert embed(checkpoint, folder / 'two', '--out', out) == 0
    interrupt(monkeypatch, batches=1)
    with pytest.raises(KeyboardInterrupt):
        embed(checkpoint, folder, '--out', out, '--append')
    EmbeddingIndex(out).remove([0])
    with pytest.raises(ValueError, match=r'the list of images has changed .*add --force instead of --resume'):
        embed(checkpoint, folder, '--out', out, '--append', '--resume')
    assert embed(checkpoint, folder, '--out', out, '--append', '--force') == 0
    assert sorted(EmbeddingIndex(out).paths) == sorted(map(str, folder.rglob('*.png')))
    assert sorted(os.listdir(tmp_path)) == ['a.npz', 'photos']


def test_append_to_vectors_of_unknown_origin(checkpoint, folder, tmp_path):
    width = hybridcls.load(checkpoint, 'cpu').embed(folder / 'one' / '12.png').shape[1]
    out = tmp_path / 'a.npz'
    vectors = np.random.default_rng(0).normal(size=(3, width)).astype(np.float32)
    np.savez(out, vector=vectors)
    assert embed(checkpoint, folder / 'one', '--out', out, '--append') == 0
    index = EmbeddingIndex(out)
    np.testing.assert_array_equal(index.vectors[:3], vectors)
    assert index.paths[3:].tolist() == sorted(map(str, (folder / 'one').iterdir()))
    np.savez(out, vector=vectors[:, 1:])
    with pytest.raises(ValueError, match=rf'the width of the embeddings differs?: .*width {width - 1}.*width {width}'):
        embed(checkpoint, folder / 'one', '--out', out, '--append')
    assert sorted(os.listdir(tmp_path)) == ['a.npz', 'photos']


@pytest.mark.parametrize('suffix', ['.npz', '.parquet'])
def test_append_adds_what_is_not_there(checkpoint, folder, tmp_path, suffix, capfd, monkeypatch):
    if suffix == '.parquet':
        pytest.importorskip('pyarrow')
    out = tmp_path / f'index{suffix}'
    monkeypatch.chdir(tmp_path)
    assert embed(checkpoint, 'photos/two', 'photos/two/12.png', '--out', out) == 0
    assert '1 of 5 images is given twice' in capfd.readouterr().err
    before = EmbeddingIndex(out)
    monkeypatch.chdir(folder)  # where the paths of the index would mean something else
    assert embed(checkpoint, '.', '--out', out, '--append') == 0
    assert '4 of 16 images are given twice or in' in capfd.readouterr().err
    index = EmbeddingIndex(out)
    assert len(index) == 16
    assert index.paths[:4].tolist() == [f'photos/two/{number}.png' for number in range(12, 16)]
    assert sorted(index.absolute_paths()) == sorted(map(str, folder.rglob('*.png')))
    np.testing.assert_array_equal(index.vectors[:4], before.vectors)
    whole = dict(zip(EmbeddingIndex(out).absolute_paths(), index.vectors, strict=True))
    np.testing.assert_allclose(
        whole[str(folder / 'one' / '12.png')],
        hybridcls.load(checkpoint, 'cpu').embed(folder / 'one' / '12.png')[0], rtol=1e-4, atol=1e-5,
    )  # fmt: skip
    assert all(os.path.isfile(index.located(row)) for row in range(16))

    def no_model(*arguments, **more):
        raise AssertionError('nothing is to be embedded')

    monkeypatch.setattr(embed_module, 'open_model', no_model)
    assert embed(checkpoint, '.', '--out', out, '--append') == 0
    assert '0 images embedded' in capfd.readouterr().err


def test_a_file_by_another_way(checkpoint, folder, tmp_path, capfd):
    """A link to a folder above it: the image is not embedded again, and is no match of itself."""
    out, link = tmp_path / 'a.npz', tmp_path / 'link'
    link.symlink_to(folder)
    assert embed(checkpoint, folder / 'one', '--out', out) == 0
    assert embed(checkpoint, link / 'one', '--out', out, '--append') == 0
    assert '4 of 4 images are given twice or in' in capfd.readouterr().err
    index = EmbeddingIndex(out)
    query = str(link / 'one' / '12.png')
    (found,) = IndexSearch(index, k=4)(index.vectors[:1], [query])
    assert sorted(match.path for match in found) == sorted(index.paths[1:])
    assert resolved(['https://example.org/a//b.jpg', query]) == [
        'https://example.org/a//b.jpg', os.path.realpath(folder / 'one' / '12.png'),
    ]  # fmt: skip


def test_bad_input_gets_a_sentence(checkpoint, folder, tmp_path, capfd):
    out = tmp_path / 'a.npz'
    with pytest.raises(ValueError, match='expected --out FILE'):
        embed(checkpoint, folder)
    with pytest.raises(ValueError, match=r'expected --out to end in .npz or .parquet'):
        embed(checkpoint, folder, '--out', tmp_path / 'a.csv')
    with pytest.raises(FileNotFoundError, match=r'^embed: .*a.npz. does not exist .*Leave --append out'):
        embed(checkpoint, folder, '--out', out, '--append')
    with pytest.raises(FileNotFoundError, match=r"^embed: the image 'gone.jpg' does not exist"):
        embed(checkpoint, 'gone.jpg', '--out', out)
    assert embed(checkpoint, folder / 'one', '--out', out) == 0
    with pytest.raises(FileExistsError, match=r'a.npz. exists. Add --force'):
        embed(checkpoint, folder, '--out', out)
    other, _ = write_checkpoint(tmp_path / 'other.pth', config_of(CNN, LINEAR), seed=1)
    with pytest.raises(ValueError, match=r'^embed: expected embeddings of one model, but the weights differ'):
        embed(other, folder, '--out', out, '--append')
    out.write_bytes(out.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r'^embed: expected a file of embeddings .* is of another kind or incomplete'):
        embed(checkpoint, folder, '--out', out, '--append')
    unreadable = tmp_path / 'texts'
    unreadable.mkdir()
    (unreadable / 'a.jpg').write_bytes(b'text')
    with pytest.raises(ValueError, match=r'^embed: none of 1 image can be read'):
        embed(checkpoint, unreadable, '--out', tmp_path / 'b.npz')


@pytest.mark.parametrize('suffix', ['.npz', '.parquet'])
def test_names_that_are_not_utf8(checkpoint, folder, tmp_path, suffix):
    if suffix == '.parquet':
        pytest.importorskip('pyarrow')
    name = os.fsdecode(b'\xff.png')
    os.rename(folder / 'one' / '12.png', folder / 'one' / name)
    out = tmp_path / f'a{suffix}'
    assert embed(checkpoint, folder / 'one', '--out', out) == 0
    assert str(folder / 'one' / name) in EmbeddingIndex(out).paths.tolist()
    assert embed(checkpoint, folder / 'one', '--out', out, '--append') == 0
    assert len(EmbeddingIndex(out)) == 4
