"""The lines of the fixed set of mutations are still there, once each, with a mirrored test to notice the change."""

import pytest
from mutations import LEAST_NOTICED, MUTATIONS, ROOT, mirror_of


@pytest.mark.parametrize('mutation', MUTATIONS, ids=lambda mutation: f'{mutation.file}: {mutation.old.strip()[:40]}')
def test_the_line_is_there_once(mutation):
    text = (ROOT / 'hybridcls' / mutation.file).read_text(encoding='utf8')
    assert text.count(mutation.old) == 1
    changed = text.replace(mutation.old, mutation.new)
    compile(changed, mutation.file, 'exec')
    assert changed != text
    assert (ROOT / mirror_of(mutation.file)).is_file()


def test_there_are_sixty_or_more():
    assert len(MUTATIONS) >= 60 > LEAST_NOTICED
