"""What is pulled is what was pushed: a file that has changed is named, and nothing that may run code comes along."""

import json
import pickle
import shutil

import pytest
import torch
from trained_checkpoints import CNN, LINEAR, config_of, write_checkpoint

import hybridcls
from hybridcls.apis.artifact.shipped.runtime import with_digests
from hybridcls.apis.hub.pulling import pull
from hybridcls.apis.hub.pushing import push
from hybridcls.checkpoint_reading import CheckpointError, read_checkpoint
from hybridcls.safetensors_folder import digest_of_file


@pytest.fixture(scope='module')
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pushed')
    path = write_checkpoint(folder / 'epoch_1.pth', config_of(CNN, LINEAR))[0]
    push(path, str(folder / 'model'))
    return folder / 'model'


@pytest.fixture
def pushed(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / 'pushed')


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def refused(place, tmp_path, match, error=ValueError, **options):
    with pytest.raises(error, match=match):
        pull(str(place), str(tmp_path / 'out'), **options)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != 'harm') == ['pushed']


def relist(folder, *names, **changes):
    """Write ``model.json`` again with the digests of files as they are now."""
    sidecar = json.loads((folder / 'model.json').read_text()) | changes
    for name in names:
        path = folder / name
        sidecar['files'][name] = dict(sha256=digest_of_file(path), bytes=path.stat().st_size)
    (folder / 'model.json').write_text(json.dumps(sidecar))


def test_a_changed_or_missing_file_is_named(pushed, tmp_path):
    content = bytearray((pushed / 'model.safetensors').read_bytes())
    content[-1] ^= 1
    (pushed / 'model.safetensors').write_bytes(content)
    refused(
        pushed, tmp_path, r'pull: .*pushed: expected the files that model.json lists, got model.safetensors changed'
    )
    with pytest.raises(CheckpointError, match=r'model.safetensors changed'):
        read_checkpoint(pushed)
    with pytest.raises(CheckpointError, match=r'model.safetensors changed'):
        hybridcls.load(pushed, 'cpu')
    (pushed / 'model.safetensors').unlink()
    refused(pushed, tmp_path, 'got model.safetensors missing')


def test_an_edited_readme_is_no_damage(pushed, tmp_path):
    (pushed / 'README.md').write_text('mine')
    pull(str(pushed), str(tmp_path / 'out'))
    assert (tmp_path / 'out' / 'README.md').read_text() == 'mine'


@pytest.mark.parametrize('name', ['../outside.json', '/tmp/outside.json', 'a/../../outside.json', 'C:\\x.json'])
def test_files_stay_in_the_folder(pushed, tmp_path, name):
    relist(pushed, files={name: dict(sha256='', bytes=0)})
    refused(pushed, tmp_path, 'expected paths below it in model.json')


def test_pickles_are_refused_and_not_read(pushed, tmp_path):
    (pushed / 'model.json').rename(pushed / 'old.json')
    (pushed / 'model.safetensors').unlink()
    torch.save(Harmful(tmp_path / 'harm'), pushed / 'pytorch_model.bin')
    refused(
        pushed, tmp_path, r'got pickles, which may run code when they are read \(pytorch_model.bin\)', FileNotFoundError
    )
    (pushed / 'old.json').rename(pushed / 'model.json')
    relist(pushed, 'pytorch_model.bin')
    refused(pushed, tmp_path, 'lists pytorch_model.bin, which may run code')
    refused(pushed, tmp_path, 'lists pytorch_model.bin, which may run code', trust=True)  # no kind of checkpoint
    for content in (pickle.dumps(Harmful(tmp_path / 'harm')), (pushed / 'pytorch_model.bin').read_bytes()):
        (pushed / 'model.safetensors').write_bytes(content)
        relist(pushed, 'model.safetensors', files={})
        refused(pushed, tmp_path, 'expected model.safetensors of .* in the format safetensors')
        with pytest.raises(CheckpointError, match='damaged or none'):
            read_checkpoint(pushed)
    assert not (tmp_path / 'harm').exists()


def test_an_edited_sidecar_of_an_artifact_is_neither_pulled_nor_pushed(pushed, tmp_path):
    sidecar = json.loads((pushed / 'model.json').read_text()) | dict(format='hybridcls artifact')
    (pushed / 'model.json').write_text(json.dumps(with_digests(sidecar) | dict(classes=['b', 'a'])))
    refused(pushed, tmp_path, "pull: .*model.json is not as it was exported: model.json was edited in 'classes'")
    with pytest.raises(ValueError, match=r"push: .* was edited in 'classes'"):
        push(str(pushed), str(tmp_path / 'other'))
    (pushed / 'model.json').write_text(json.dumps(with_digests(sidecar)))
    assert pull(str(pushed), str(tmp_path / 'out')).kind == 'artifact'


def test_an_archive_of_torch_is_refused_under_any_name(pushed, tmp_path):
    relist(pushed, format='hybridcls artifact', model=dict(format='torch_export', file='model.safetensors'))
    refused(pushed, tmp_path, r'lists model.safetensors, which may run code .* add --trust-checkpoint')
    assert pull(str(pushed), str(tmp_path / 'out'), trust=True).kind == 'artifact'


def test_a_config_that_would_run_code_is_refused(pushed, tmp_path):
    sidecar = json.loads((pushed / 'model.json').read_text())
    sidecar['meta']['cfg'] = sidecar['meta']['cfg'].replace("type='LinearHead'", "type='os.system'")
    relist(pushed, meta=sidecar['meta'])
    pull(str(pushed), str(tmp_path / 'out'))
    with pytest.raises(ValueError, match=r"expected registered classes in its config, got type='os.system'"):
        hybridcls.load(tmp_path / 'out', 'cpu')


def test_a_damaged_or_later_sidecar(pushed, tmp_path):
    relist(pushed, version=2)
    refused(pushed, tmp_path, 'expected version 1 in .*, got 2. Update hybridcls')
    with pytest.raises(CheckpointError, match='expected version 1'):
        read_checkpoint(pushed)
    for damage in ('ema', None, []):
        relist(pushed, version=1, model=damage)
        refused(pushed, tmp_path, 'its model is no object')
        with pytest.raises(ValueError, match='it lacks model'):
            hybridcls.load(pushed, 'cpu')
    relist(pushed, version=1, model={}, files=[])
    refused(pushed, tmp_path, 'it lists no files')
    for text in ('{"format": ', '[' * 100_000):
        (pushed / 'model.json').write_text(text)
        refused(pushed, tmp_path, 'model.json is damaged')
        with pytest.raises(ValueError, match=r'model.json is damaged'):
            read_checkpoint(pushed)
    (pushed / 'model.json').write_text('{"format": "another project"}')
    refused(
        pushed, tmp_path, r'expected model.json of hybridcls push in .*, got README.md, model.json', FileNotFoundError
    )


def test_an_archive_of_torch_export_needs_trust(pushed, tmp_path):
    (pushed / 'model.pt2').write_bytes(b'x')
    relist(pushed, 'model.pt2', format='hybridcls artifact', model=dict(file='model.pt2', format='torch_export'))
    refused(pushed, tmp_path, 'lists model.pt2, which may run code .* add --trust-checkpoint')
    assert pull(str(pushed), str(tmp_path / 'out'), trust=True).kind == 'artifact'


def test_places_that_are_not_there(pushed, tmp_path):
    refused(tmp_path / 'pushde', tmp_path, 'does not exist', FileNotFoundError)
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'photo.jpg').touch()
    with pytest.raises(FileExistsError):
        pull(str(pushed), str(tmp_path / 'out'), force=True)
    assert (tmp_path / 'out' / 'photo.jpg').exists()
