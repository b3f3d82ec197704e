"""Code, messages, docs and file names use the words of docs/glossary.md, not those that they replaced."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ('hybridcls', 'tests', 'docs', 'configs', 'projects', 'tools', 'requirements')
SUFFIXES = {'.py', '.md', '.sh', '.txt', '.toml', '.yml', '.yaml'}
# Where old words may stand: what lists or translates them. A line elsewhere that has to name one says "old spelling".
EXEMPT_FILES = (
    'CHANGELOG.md', 'tests/test_words.py', '*/migrate.py', '*/test_migrate.py', '*renam*.py', '*rewriting.py',
    '*old_modules.py',
)  # fmt: skip
EXEMPT_LINE = 'old spelling'

# Name of the old word -> (pattern, the word to write). No letter may stand before or behind a match, so parts of
# snake_case names are found too; upper and lower case are the same.
WORDS = {
    'own class': (r'own[ _](class(es)?|cosines?)', 'target class, target cosine'),
    'centres': (r'(sub[-_]?)?centres?|num_centres', 'class weights (prototypes where averages), num_subcenters'),
    'length': (
        r'inverse_lengths?|lengths? of (an? |the |each |all )?(embeddings?|rows?)|embeddings?\'? lengths?',
        'norm; L2-normalized',
    ),
    'unit rows': (r'unit[ _]rows?', 'L2-normalized embeddings, l2_normalize'),
    'whole number': (r'whole[ _]numbers?', 'integer'),
    'came': (r'(?<=[a-z)}] )came(?= with| to|;|,| \()|(is|are) wanted', 'expected Y, got X'),
    'nobody': (r'(nobody|somebody)(\'s)?|who(ever)? speaks', 'the actor: "is not set in the config", caller'),
    'said once': (r'sa(id|ys?)[ _]once', 'shared keys'),
    'written whole': (
        r'writ(e|es|ten|ing)[ _]whole|whole[ _]checkpoints?|whole or not at all',
        'written atomically, valid checkpoint',
    ),
    'doubt': (r'doubt(s|ful)?', 'uncertainty'),
    'max_softmax': (r'max_softmax', 'least_confidence'),
    'bad loss': (
        r'bad[ _-]?loss(es|error|guard)?|most_bad_losses|spoil(s|ed|ing)?',
        "non-finite loss, nonfinite_loss='raise', max_skipped_updates",
    ),
    'regrad': (r'(wants_)?regrad', 'recompute_gradient, needs_second_pass, replay'),
    'settle': (r'settle[sd]?', 'after_step'),
    'probe': (r'((?<=def )|(?<=\.)|(?<=`))probes?(?=[`(])|probes(?= = )', 'second_pass'),
    'fold': (
        r'unfolded|folded|fold_lora|foldedlora|lora_folding|fold(s|ing)? (the |them |it )?(lora|adapters?|into)',
        'merge, merged, unmerge',
    ),
    'wandering tensors': (r'wandering([ _]?tensors)?|put(s|ting)?[ _]back', 'mutable state; snapshot, restore'),
    'leave to processes': (r'(leaves?|left|leaving)[ _]to[ _](the[ _])?processes', 'exclude from DDP'),
    'class statistics': (r'class[ _]?statistics', 'streaming softmax statistics, SoftmaxStats'),
    'contrast log sums': (r'contrast[ _]log[ _]sums|contrast[ _]of[ _]anchors', 'streamed logsumexp, dense SupCon'),
    'merged places': (r'merged[ _](places?|positions?)', 'merged_index, representative'),
    'idle adapters': (r'idle[ _]?adapters?', 'adapters without gradient'),
    'climb': (r'climb(s|ed|ing)?|ben(d|ds|t|ding)|com(e|es|ing)[ _]back', 'scale, ascend (ascent step), restore'),
    'anew': (r'anew|likewise|mend(s|ed|ing)?', 'again, rebuild, fix, the same'),
    'so that': (r'(?-i:So that)', 'to'),
    'short_training': (
        r'short_training|iteration_training|schedule_fit',
        'run_training, convert_to_iter_based, schedules',
    ),
    'crop scale': (r'RandomCropToSize\W.*\bscale', 'crop_ratio_range'),
    'projection keys': (
        r'(ProjectionMLP|projection=).*\b(hidden|out|layers|norm)(?==)',
        'hid_channels, out_channels, num_layers, norm_cfg',
    ),
    'standing hooks': (r'standing([ _]hooks?)?', 'default hooks'),
    'opinions': (r'opinions?|join(s|ed|ing)?[ _]predictions', 'ensemble members, views, aggregate'),
    'data set': (r'data[ -]sets?', 'dataset'),
    'folder of a run': (r'folders? of (a|the|its|each|all|every)?( \w+)? ?runs?', 'work dir'),
}
PATTERNS = {
    name: re.compile(f'(?<![A-Za-z])(?:{pattern})(?![A-Za-z])', re.IGNORECASE) for name, (pattern, _) in WORDS.items()
}


def old_words(text: str, path: str = '') -> Iterator[tuple[str, int, str]]:
    """Yield the name of each old word in a text and in the path it has, its line (0: the path), and what matched."""
    # Few files hold any, and to look through a whole text is much faster than through each of its lines.
    patterns = {name: pattern for name, pattern in PATTERNS.items() if pattern.search(f'{path}\n{text}')}
    for number, line in enumerate([path, *text.splitlines()] if patterns else []):
        if EXEMPT_LINE not in line:
            for name, pattern in patterns.items():
                for match in pattern.finditer(line):
                    yield name, number, match.group()


def files() -> Iterator[Path]:
    """Every file whose words are looked at, relative to the root."""
    found = [*ROOT.glob('*.*'), *(path for folder in FOLDERS for path in (ROOT / folder).rglob('*'))]
    for path in sorted(found):
        relative = path.relative_to(ROOT)
        hidden = any(part.startswith(('.', '_build', 'generated')) for part in relative.parts)
        if path.is_file() and path.suffix in SUFFIXES and not hidden and not any(map(relative.match, EXEMPT_FILES)):
            yield relative


def test_no_old_word_is_left():
    found = [
        f'{path}:{line} {word!r}. Write: {WORDS[name][1]}.'
        for path in files()
        for name, line, word in old_words((ROOT / path).read_text(encoding='utf8'), path.as_posix())
    ]
    assert not found, '\n'.join(found)


@pytest.mark.parametrize(
    ('line', 'name'),
    [
        ('    own_class = cosines[labels]', 'own class'),
        ('Sub-centres of a class', 'centres'),
        ('the lengths of the embeddings', 'length'),
        ('def unit_rows(x):', 'unit rows'),
        ('expected a whole number', 'whole number'),
        ("f'{who}: {n} embeddings came with {m} samples'", 'came'),
        ('where a tensor is wanted', 'came'),
        ('a key that nobody reads', 'nobody'),
        ('from .said_once import fill', 'said once'),
        ('newest_whole_checkpoint(folder)', 'written whole'),
        ('its Doubt grows', 'doubt'),
        ("score='max_softmax'", 'max_softmax'),
        ('class BadLossError(RuntimeError):', 'bad loss'),
        ("dict(bad_loss='stop')", 'bad loss'),
        ('loss = update.regrad()', 'regrad'),
        ('def settle(self, update):', 'settle'),
        ('def probe(self, update):', 'probe'),
        ('    probes = True', 'probe'),
        ('fold_lora(model)', 'fold'),
        ('class WanderingTensors:', 'wandering tensors'),
        ('leave_to_processes(model)', 'leave to processes'),
        ('class_statistics(embeddings)', 'class statistics'),
        ('from .contrast_log_sums import x', 'contrast log sums'),
        ('merged_places', 'merged places'),
        ('IdleAdapters', 'idle adapters'),
        ('SAM climbs to the worst point', 'climb'),
        ('train it anew', 'anew'),
        ('So that it is found.', 'so that'),
        ('schedule_fit.py', 'short_training'),
        ("dict(type='RandomCropToSize', scale=(0.2, 1.0))", 'crop scale'),
        ('projection=dict(hidden=8)', 'projection keys'),
        ('the standing hooks', 'standing hooks'),
        ('join_predictions(opinions)', 'opinions'),
        ('the folder of a run', 'folder of a run'),
        ('all data sets of the run', 'data set'),
    ],
)
def test_an_old_word_is_found(line, name):
    assert name in {found for found, _, _ in old_words(f'a\n{line}')}
    assert {number for _, number, _ in old_words(f'a\n{line}')} == {2}


def test_every_word_is_planted():
    (mark,) = [mark for mark in test_an_old_word_is_found.pytestmark if mark.name == 'parametrize']
    assert {name for _, name in mark.args[1]} == WORDS.keys()


@pytest.mark.parametrize(
    'line',
    [
        'a class of your own',
        'the mean over ten folds',
        'probe_output(module, 8, 8)',
        'a linear probe of the embeddings',
        'the whole batch',
        'commended, centralized, amended, recentred',
        'it is computed twice, so that the memory is free',
        'dict(sub_centres=3)  # the old spelling of num_subcenters',
    ],
)
def test_a_word_that_may_stand_is_not_found(line):
    assert not [*old_words(line)]


def test_a_file_name_is_read_too():
    assert [*old_words('', 'tests/test_doubt.py')] == [('doubt', 0, 'doubt')]
