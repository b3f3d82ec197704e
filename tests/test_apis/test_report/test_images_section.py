"""Images to look at."""

from answered_images import answered

from hybridcls.apis.report.images_section import images_section


def test_wrong_images_stand_by_pair_the_surest_first():
    known = answered([0, 0, 1, 1, 1], [1, 1, 0, 1, 1], surest=[0.6, 0.9, 0.7, 0.9999, 0.8])
    section = images_section(known, ['a', 'b'])
    assert section.says == ['The answer is wrong for 3 of 5 images.']
    titles = [group['title'].replace('\u2068', '').replace('\u2069', '') for group in section.groups]
    assert titles == [
        'a predicted as b (2 images, the most confident first)', 'b predicted as a (1 image)',
        'Least confident answers',
    ]  # fmt: skip
    first, second = (picture['caption'] for picture in section.groups[0]['pictures'])
    assert '95\u00a0%' in first  # 0.9 and half of what is left
    assert '80\u00a0%' in second
    assert section.groups[0]['pictures'][0]['alt'].startswith('1.png: ')
    assert len(section.groups[2]['pictures']) == 5


def test_of_many_pairs_the_section_says_that_it_shows_some():
    sure = [0.5] * 11 + [0.9]
    known = answered(list(range(12)), [(k + 1) % 12 for k in range(12)], classes=12, surest=sure)
    section = images_section(known, [str(k) for k in range(12)])
    assert section.says == [
        'The answer is wrong for 12 of 12 images. There are 12 pairs of a true and a predicted class. The 8 most '
        'frequent pairs are shown; of equally frequent ones, those with the most confident error.'
    ]
    assert len(section.groups) == 9
    assert section.groups[0]['title'].startswith('\u206811\u2069 predicted as')  # the surest, not the first by name
