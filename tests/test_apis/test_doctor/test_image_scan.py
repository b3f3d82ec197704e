"""Up to so many images are looked at, each once; of more a sample that has all of the smaller splits."""

from made_images import class_folders, picture, save

from hybridcls.apis.doctor.data_parts import DataPart
from hybridcls.apis.doctor.image_scan import scan_images


def part_of(split, folder):
    paths = sorted(map(str, folder.rglob('*.png')))
    return DataPart(split, None, paths, labels_of_paths=[(0,)] * len(paths))


def test_every_image_is_looked_at_once(tmp_path):
    train = part_of('train', class_folders(tmp_path / 'train', a=3))
    scan = scan_images([train, train])
    assert (scan.found, len(scan.looks), scan.missing) == (3, 3, [])
    assert [path for path, _, _ in scan.of(train)] == train.paths


def test_a_sample_holds_the_small_split(tmp_path):
    train, val = (
        part_of('train', class_folders(tmp_path / 'train', a=30)),
        part_of('val', class_folders(tmp_path / 'v', b=4)),
    )
    scan = scan_images([train, val], most=10)
    assert len(scan.looks) == 10
    assert set(val.paths) <= set(scan.looks)
    assert set(scan.looks) == set(scan_images([train, val], most=10).looks)


def test_missing_files_and_the_end_of_the_time(tmp_path):
    save(picture(1), tmp_path, '1.png')
    part = DataPart('train', None, [str(tmp_path / name) for name in ('1.png', '2.png')], labels_of_paths=[(0,), (0,)])
    assert scan_images([part]).missing == [str(tmp_path / '2.png')]
    scan = scan_images([part], seconds=-1)
    assert scan.stopped
    assert not scan.looks
