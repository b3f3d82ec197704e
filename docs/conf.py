"""Build the pages with Sphinx: ``bash tools/docs.sh``. Needs no network; ``generated/`` is written each time."""

import doctest
import importlib
import os
import pkgutil
import re
import shutil
import warnings
from pathlib import Path

warnings.filterwarnings('ignore')  # of other packages, while they are imported

from mmcv.transforms.utils import cache_randomness  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

import hybridcls  # noqa: E402

project = 'hybridcls'
author = copyright = 'the hybridcls authors'
version = release = hybridcls.__version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.doctest',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
]
exclude_patterns = ['_build']
myst_heading_anchors = 3
add_module_names = False  # the page's title says it
autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # the docstrings say types, and shapes
doctest_default_flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True  # a property may be among the attributes of its class's docstring


html_theme = 'sphinx_book_theme'
html_title = f'hybridcls {release}'
html_theme_options = {'show_toc_level': 2}
html_static_path = ['_static']
html_css_files = ['pages.css']
toc_object_entries_show_parents = 'hide'

# The log goes to the output of this process, not to that of the example that would make the logger.
MMLogger.get_current_instance().setLevel('WARNING')
# A method under this decorator of mmcv can be read from an instance only, and autodoc reads classes.
of_instance = cache_randomness.__get__
cache_randomness.__get__ = lambda self, obj, cls: self.func if obj is None else of_instance(self, obj, cls)

ROOT = Path(__file__).resolve().parents[1]
GENERATED = ROOT / 'docs' / 'generated'
# Pages that lie outside of docs/ and are copied beside the others: path in the repository -> path below docs/.
OUTSIDE = {
    'README.md': 'generated/readme.md',
    'CONTRIBUTING.md': 'generated/contributing.md',
    'CHANGELOG.md': 'generated/changelog.md',
    'projects/example_project/README.md': 'generated/example_project.md',
}
PAGE = """{name}
{line}

.. testsetup:: *

   import importlib
   for file in {files}:  # an example knows the names of the file that it stands in
       globals().update(vars(importlib.import_module(file)))

.. automodule:: {name}
   :members: {members}
   :show-inheritance:
"""
LINK = re.compile(r'(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)')


def relinked(text: str, place: str, page: str) -> str:
    """Return a page of ``place`` in the repository with the links that are right at ``page`` below docs/."""

    def target(link: re.Match) -> str:
        path = os.path.normpath(os.path.join(os.path.dirname(place), link[1]))
        path = f'docs/{OUTSIDE[path]}' if path in OUTSIDE else path
        return os.path.relpath(path, os.path.dirname(f'docs/{page}'))

    return LINK.sub(target, text)


def write_outside_pages() -> None:
    """Copy the pages of ``OUTSIDE``."""
    for place, page in OUTSIDE.items():
        text = (ROOT / place).read_text(encoding='utf8')
        (ROOT / 'docs' / page).write_text(relinked(text, place, page), encoding='utf8')


def write_api() -> None:
    """Write a page for each package, with what its ``__all__`` names and no package above it does."""
    found = [info.name for info in pkgutil.walk_packages(hybridcls.__path__, 'hybridcls.') if info.ispkg]
    seen, pages = set(), []
    for name in sorted(['hybridcls', *found], key=lambda name: name.count('.')):
        package = importlib.import_module(name)
        members = [member for member in getattr(package, '__all__', []) if id(getattr(package, member)) not in seen]
        seen.update(id(getattr(package, member)) for member in members)
        if members:
            pages.append(name)
            files = sorted({getattr(getattr(package, member), '__module__', name) for member in members})
            text = PAGE.format(name=name, line='=' * len(name), members=', '.join(members), files=files)
            (GENERATED / f'{name}.rst').write_text(text, encoding='utf8')
    listed = '\n'.join(f'   {page.removeprefix("hybridcls.")} <{page}>' for page in sorted(pages))
    (GENERATED / 'api.rst').write_text(f'API\n===\n\n.. toctree::\n   :maxdepth: 1\n\n{listed}\n', encoding='utf8')


def relink(app: Sphinx, page: str, source: list[str]) -> None:
    """Relink what is read from docs/ itself."""
    if not page.startswith('generated/'):
        source[0] = relinked(source[0], f'docs/{page}.md', f'{page}.md')


def keep_letters(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keep ``scale (float): s. Defaults to 64.`` from becoming a list of which ``s.`` is a number."""
    lines[:] = [re.sub(r'(?<=\): )([A-Za-z])\.(?=\s|$)', r'\1\\.', line) for line in lines]


def skip_fields(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Leave out the fields of named tuples, whose own docstrings say no more than their number."""
    return True if str(getattr(obj, '__doc__', '')).startswith('Alias for field number') else None


def setup(app: Sphinx) -> None:
    """Connect them."""
    app.connect('autodoc-skip-member', skip_fields)
    app.connect('source-read', relink)
    app.connect('autodoc-process-docstring', keep_letters, priority=400)  # before napoleon


shutil.rmtree(GENERATED, ignore_errors=True)
GENERATED.mkdir()
write_outside_pages()
write_api()
