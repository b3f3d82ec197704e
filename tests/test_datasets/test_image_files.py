"""Image files below a folder, and the files that are skipped, on local and remote backends."""

from collections import Counter

from mmengine.fileio import LocalBackend

from hybridcls.datasets import image_files
from hybridcls.datasets.image_files import files_below


def fill(folder):
    for name in ('b/1.jpg', 'a/2.JPG', 'a/deep/er/3.png', 'a-b/4.png', 'a/n.txt', 'a/README', 'a/.h.jpg', '.git/5.jpg'):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / '__MACOSX').mkdir()
    (folder / '__MACOSX' / '6.jpg').touch()


def test_images_are_found_and_the_rest_is_counted(tmp_path):
    fill(tmp_path)
    (tmp_path / 'gone.jpg').symlink_to('nowhere')
    (tmp_path / 'link').symlink_to(tmp_path / 'b')
    images, left_out = files_below(str(tmp_path), ('.jpg', '.png'))
    assert images == ['a-b/4.png', 'a/2.JPG', 'a/deep/er/3.png', 'b/1.jpg', 'link/1.jpg']
    assert left_out == Counter({'hidden': 3, '.txt': 1, 'without extension': 1, 'broken links': 1})


def test_a_missing_decoder_is_named(tmp_path, monkeypatch):
    (tmp_path / 'a.HEIC').touch()
    monkeypatch.setattr(image_files, 'missing_decoder', {'.heic': 'pip install pillow-heif'}.get)
    assert files_below(str(tmp_path), ('.jpg',)).left_out == Counter({'.heic, which needs pip install pillow-heif': 1})


def test_files_on_a_remote_backend(tmp_path, monkeypatch):
    class Remote:
        """Lists as remote backends do."""

        def list_dir_or_file(self, folder, list_dir, recursive):
            assert (list_dir, recursive) == (False, True)
            return LocalBackend().list_dir_or_file(folder, list_dir=False, recursive=True)

    fill(tmp_path)
    monkeypatch.setattr(image_files, 'get_file_backend', lambda *args, **kwargs: Remote())
    assert files_below(str(tmp_path), ('.jpg', '.png')).images == ['a-b/4.png', 'a/2.JPG', 'a/deep/er/3.png', 'b/1.jpg']
