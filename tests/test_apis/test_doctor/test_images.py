"""Files that are read in part, and files that tell their class, are told."""

from made_images import picture, save
from mmengine.config import Config

from hybridcls.apis.doctor.data_parts import build_parts
from hybridcls.apis.doctor.image_scan import scan_images
from hybridcls.apis.doctor.images import check_images
from hybridcls.apis.doctor.subject import Subject


def findings(root, **dataset):
    subject = Subject(
        Config(dict(train_dataloader=dict(dataset=dict(type='ImageFolder', data_root=str(root), **dataset)))), ''
    )
    assert list(build_parts(subject)) == []
    subject.scan = scan_images(list(subject.parts.values()))
    return {one.change: one for one in check_images(subject) if one.level != 'note'}


def test_a_file_without_its_end_is_read_by_one_decoder_and_not_by_the_other(tmp_path):
    save(picture(1), tmp_path, 'a', '1.png')
    save(picture(3), tmp_path, 'b', '1.png')
    broken = save(picture(2), tmp_path, 'a', '2.png')
    broken.write_bytes(broken.read_bytes()[:-6])
    by_default = findings(tmp_path)
    assert [one.level for one in by_default.values()] == ['problem']
    assert 'cannot be read' in next(iter(by_default.values())).what
    loader = dict(type='LoadImage', imdecode_backend='pillow')
    by_pillow = findings(tmp_path, pipeline=[loader])
    assert 'damaged' in by_pillow['delete or replace them'].what
    skipped = findings(tmp_path, on_unreadable='skip')
    assert [one.level for one in skipped.values()] == ['warning']


def test_the_colours_of_a_file_may_tell_its_class(tmp_path):
    for number in range(3):
        save(picture(number), tmp_path, 'colour', f'{number}.png')
        save(picture(10 + number).convert('L'), tmp_path, 'grey', f'{number}.png')
    found = findings(tmp_path)
    assert 'only grey is grey throughout' in found['save all images in one mode (RGB)'].what
    save(picture(20), tmp_path, 'grey', 'colour.png')
    assert findings(tmp_path) == {}
