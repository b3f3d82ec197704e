"""Find out why a user's code gives wrong answers: scores, classes, thresholds or input."""

# ruff: noqa: B905 - zip(strict=...) is not in Python 3.9, which runs this file
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from PIL import Image

try:
    from . import runtime
    from .pixel_mistakes import Finding, Golden, Pipeline, Simulator
except ImportError:  # beside the other files of an artifact
    import runtime  # type: ignore
    from pixel_mistakes import Finding, Golden, Pipeline, Simulator  # type: ignore

Json = dict[str, Any]
Array = np.ndarray
_UNKNOWN = ('unknown', 'reject', 'rejected', 'none', '')
_CLASS_KEYS = ('class', 'label', 'class_name', 'prediction', 'pred_class', 'pred_label')
_SCORE_KEYS = ('probability', 'score', 'confidence', 'pred_score')
_ALL_KEYS = ('probabilities', 'scores', 'probs', 'pred_scores', 'logits')
_MIXTURES = 10
ALTERNATIVES = {
    'adapter': (
        'the model without its LoRA adapter',
        'Merge the adapter before the conversion, or use the exported file',
    ),
    'raw weights': ('the weights of the last update, not their average', 'Load the averaged (EMA) weights'),
}
"""Wrong models whose outputs for the golden images are stored too: what each is, and what to do."""


class Answer(NamedTuple):
    """The answer of a user's code for an image; None for what it does not return.

    Args:
        scores: Scores of all classes, (C,).
        name: The class; ``'unknown'`` if there is none.
        score: The probability of the class.
        answered: Whether the code answers, rather than rejects the image.
        names: A set of classes.
    """

    scores: Optional[Array] = None
    name: Optional[str] = None
    score: Optional[float] = None
    answered: Optional[bool] = None
    names: Optional[tuple[str, ...]] = None


class Form(NamedTuple):
    """A way to compute scores from a graph's outputs; the right one has no name."""

    name: str
    message: str
    scores: Array
    number: int = 0  # of the ways, the same for all outputs


def read_answer(value: Any, classes: Sequence[str], multi_label: bool = False) -> Answer:
    """Read the return value of a user's function.

    Raises:
        ValueError: If it is not an answer.
    """
    if hasattr(value, '_asdict'):
        value = value._asdict()
    if isinstance(value, dict):
        return _of_dict(value, classes, multi_label)
    if value is None or isinstance(value, str):
        return _named(value, classes, multi_label)
    if isinstance(value, (list, tuple)) and value:
        if isinstance(value[0], (dict, Answer)):
            return read_answer(value[0], classes, multi_label) if len(value) == 1 else _top(value, classes)
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], (float, np.floating)):
            return _named(value[0], classes, multi_label)._replace(score=float(value[1]))
        if all(isinstance(one, str) for one in value):
            return Answer(names=tuple(value))
    for method in ('detach', 'cpu'):
        value = getattr(value, method, lambda value=value: value)()
    array = np.asarray(value.float() if 'bfloat16' in str(getattr(value, 'dtype', '')) else value)
    if array.dtype.kind in 'iu' and array.size == 1 and len(classes) > 1:
        number = int(array.reshape(()))
        if number == -1:
            return Answer(name='unknown', answered=False)
        if not 0 <= number < len(classes):
            raise ValueError(f'expected a class from 0 to {len(classes) - 1}, got {number}')
        return Answer(name=classes[number])
    if array.dtype.kind not in 'fiub' or array.size < 1 or array.size != max(array.shape, default=1):
        raise ValueError(f'expected probabilities, a class or a dict, got {type(value).__name__} {array.shape}')
    return Answer(scores=array.reshape(-1).astype(np.float64))


def _of_dict(value: dict, classes: Sequence[str], multi_label: bool) -> Answer:
    found = Answer()
    for key in _ALL_KEYS:
        if value.get(key) is not None and np.size(value[key]) > 1:
            found = read_answer(value[key], classes)
            break
    for key in _CLASS_KEYS:
        if key in value:
            named = read_answer(value[key], classes, multi_label)
            found = found._replace(name=named.name, answered=named.answered, names=named.names)
            break
    for key in _SCORE_KEYS:
        if value.get(key) is not None:
            found = found._replace(score=float(value[key]))
            break
    if value.get('answered') is not None:
        found = found._replace(answered=bool(value['answered']))
    if value.get('prediction_set') is not None:
        found = found._replace(names=tuple(map(str, value['prediction_set'])))
    if found == Answer():
        raise ValueError(f'expected a dict with class or probabilities, got the keys {list(value)}')
    return found


def _named(name: Optional[str], classes: Sequence[str], multi_label: bool) -> Answer:
    if multi_label:
        return Answer(names=tuple(one for one in (name or '').split('|') if one))
    if name is None or (name.lower() in _UNKNOWN and name not in classes):
        return Answer(name='unknown', answered=False)
    return Answer(name=name, answered=True)


def _top(value: Sequence[Any], classes: Sequence[str]) -> Answer:
    """Read a list of classes with scores, as pipelines of Hugging Face return it."""
    each = [read_answer(one, classes) for one in value]
    if all(one.name in classes and one.score is not None for one in each) and len(each) == len(classes):
        scores = np.zeros(len(classes))
        for one in each:
            scores[classes.index(one.name)] = one.score
        return Answer(scores=scores)
    return max(each, key=lambda one: one.score or 0)


# Forms of scores


def softmax(logits: Array) -> Array:
    """Return the softmax of rows."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _sigmoid(logits: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(logits, -500, 500)))


def forms(outputs: dict[str, Array], sidecar: Json) -> list[Form]:
    """Return the ways to compute scores from outputs; the first one is right."""
    raw = outputs['probabilities'].astype(np.float64)
    logits = outputs['logits'].astype(np.float64) if 'logits' in outputs else np.log(np.maximum(raw, 1e-30))
    calibration, multi = sidecar.get('calibration'), bool(sidecar.get('multi_label'))
    right = runtime.calibrated(outputs['probabilities'], calibration['scaling']) if calibration else raw
    right = right.astype(np.float64)
    found = [Form('', '', right)]

    def add(name: str, message: str, scores: Array) -> None:
        found.append(Form(name, message, scores, len(found)))

    if calibration:
        add('calibration', 'the probabilities are those of the graph, without the calibration. Apply '
            'runtime.calibrated(probabilities, calibration["scaling"] of model.json), or use '
            'Model.predict', raw)  # fmt: skip
        add('calibration', 'the calibration is applied twice. Apply it once',
            runtime.calibrated(right, calibration['scaling']).astype(np.float64))  # fmt: skip
        temperature = calibration['scaling'].get('temperature')
        if temperature:
            add('calibration', 'the logits are multiplied by the temperature. Divide by it',
                softmax(np.log(np.maximum(raw, 1e-30)) * temperature))  # fmt: skip
    add('logits', 'the scores are logits. Use the output "probabilities"', logits)
    for scores in (right, raw):
        add(
            'double softmax',
            'a softmax is applied to probabilities. Leave it out: the graph has done it',
            softmax(scores),
        )
        add('double softmax', 'a sigmoid is applied to probabilities. Leave it out', _sigmoid(scores))
    if multi:
        add('softmax', 'a softmax is applied to independent classes. Apply a sigmoid', softmax(logits))
    else:
        add('sigmoid', 'a sigmoid is applied to classes that exclude each other. Use the output "probabilities"',
            _sigmoid(logits))  # fmt: skip
        add(
            'softmax',
            'the softmax of the logits does not give the probabilities of this head. Use the output "probabilities"',
            softmax(logits),
        )
    for scores in (right, raw):
        add(
            'log',
            'the scores are logarithms of probabilities. Apply exp',
            np.log(np.maximum(scores, 1e-30)),
        )
        add('percent', 'the scores are in percent. Divide them by 100', 100 * scores)
        add('inverted', 'the scores are 1 - probability', 1 - scores)
        add('one-hot', 'the scores are 1 for one class and 0 for the others. Use the output "probabilities"',
            np.eye(scores.shape[1])[scores.argmax(1)])  # fmt: skip
    for scale in (2.0, 0.5, 30.0, 64.0):
        add(
            'softmax',
            f'the logits are multiplied by {scale:g} before the softmax. Leave that out',
            softmax(logits * scale),
        )
    return found


def permutation(given: Array, right: Array, tolerance: float) -> Optional[list[int]]:
    """Return, for each column of one array, the equal column of the other; None if no permutation fits.

    Equal columns stay in place where possible.
    """
    if given.shape != right.shape:
        return None
    count = given.shape[1]
    distance = np.abs(given[:, :, None] - right[:, None, :]).max(0) if count <= 400 else np.stack(
        [np.abs(given[:, [one]] - right).max(0) for one in range(count)]
    )  # fmt: skip
    order: list[int] = [-1] * count
    free = set(range(count))
    for one in sorted(range(count), key=lambda one: (distance[one, one] > tolerance, distance[one].min())):
        if one in free and distance[one, one] <= tolerance:
            order[one] = one
        else:
            rest = sorted(free)
            best = rest[int(np.argmin(distance[one, rest]))]
            if distance[one, best] > tolerance:
                return None
            order[one] = best
        free.discard(order[one])
    return order


def class_order(order: Sequence[int], classes: Sequence[str]) -> Finding:
    """Return a finding that describes in which order the classes are."""
    count = len(classes)
    moved = [(place, number) for place, number in enumerate(order) if place != number]
    kinds = {
        'reversed': list(range(count))[::-1],
        'sorted as text': sorted(range(count), key=lambda one: classes[one]),
        'sorted without case': sorted(range(count), key=lambda one: classes[one].lower()),
        'shifted by one': [(one + 1) % count for one in range(count)],
        'shifted back by one': [(one - 1) % count for one in range(count)],
    }
    kind = next((name for name, other in kinds.items() if list(order) == other), '')
    examples = ', '.join(
        f'place {place} holds {classes[number]!r}, not {classes[place]!r}' for place, number in moved[:2]
    )
    return Finding(
        'class order',
        f'the classes are in another order{f" ({kind})" if kind else ""}: {examples}. Use the order of "classes" in '
        'model.json.',
    )


def name_scores(
    given: Array, outputs: dict[str, Array], sidecar: Json, tolerance: float, kind: str = 'probabilities'
) -> Optional[Finding]:
    """Name the kind of scores (logits, another softmax, ...) if they differ from the stored outputs."""
    if kind == 'logits':
        if given.shape == outputs['logits'].shape:
            scale = max(1.0, float(np.abs(outputs['logits']).max()))
            if (order := permutation(given, outputs['logits'], tolerance * scale)) is not None:
                return class_order(order, sidecar['classes'])
            for form in forms(outputs, sidecar)[:2]:
                if np.abs(given - form.scores).max() <= tolerance:
                    return Finding('logits', 'the logits are probabilities: the graph contains a softmax. Remove it.')
        return None
    found = forms({**outputs}, sidecar)
    if sidecar.get('calibration'):  # of a graph's output the uncalibrated one is right
        found = [one._replace(name='', message='') if 'those of the graph' in one.message else one for one in found]
    for form in found:
        limit = tolerance * max(1.0, float(np.abs(form.scores).max()))
        if given.shape == form.scores.shape and np.abs(given - form.scores).max() <= limit:
            return Finding(form.name, f'{form.message}.') if form.name else None
    for form in found:
        limit = tolerance * max(1.0, float(np.abs(form.scores).max()))
        if (order := permutation(given, form.scores, limit)) is not None:
            return class_order(order, sidecar['classes'])
    return None


# The answers for the golden images


class _Comparison:
    """Compare the answers of a user's code with those of the artifact.

    Args:
        answers: The answer for each golden image, by its name.
        goldens: The images.
        sidecar: The content of model.json.
        graph: The graph of the artifact.
    """

    def __init__(self, answers: dict[str, Answer], goldens: Sequence[Golden], sidecar: Json, graph: Any) -> None:
        self.answers, self.sidecar, self.graph = answers, sidecar, graph
        self.goldens = [one for one in goldens if one.name in answers]
        self.classes: list[str] = sidecar['classes']
        self.simulator = Simulator(goldens, sidecar)
        self.names = [golden.name for golden in self.goldens]
        self.right = np.stack([golden.input for golden in self.goldens])
        self._noisy = self._noise()

    def _noise(self) -> list[list[Form]]:
        """Return scores of images whose pixels are rounded differently by one level; first those of the originals."""
        rng = np.random.default_rng(0)
        changes: list[Any] = [0, 1, -1, *(rng.integers(-1, 2, self.right.shape) for _ in range(3))]
        inputs = (np.clip(self.right.astype(np.int16) + change, 0, 255).astype(np.uint8) for change in changes)
        return [self.forms_of(one) for one in inputs]

    def limits(self, names: Sequence[str], form: Form) -> Array:
        """Return how far the scores of each image may differ: by pixel rounding, plus the tolerance of the graph."""
        first, *others = (noisy[form.number].scores for noisy in self._noisy)
        moved = np.max([np.abs(other - first).max(1) for other in others], axis=0)
        rows = [self.names.index(name) for name in names]
        factor = np.array([3.0 if 'CMYK' in self.simulator.golden(name).traits else 1.5 for name in names])
        return factor * moved[rows] + self.graph.tolerance * max(1.0, float(np.abs(form.scores).max()))

    def distance(self, name: str, scores: Array) -> float:
        """Return the distance of an answer from scores (C,)."""
        answer = self.answers[name]
        if answer.scores is not None:
            return float(np.abs(answer.scores - scores).max()) if len(answer.scores) == len(scores) else np.inf
        apart = 0.0
        if answer.score is not None:
            apart = abs(answer.score - float(scores.max()))
        if answer.name is not None and answer.name != 'unknown':
            # Two classes that are about as probable may change places.
            number = self.classes.index(answer.name) if answer.name in self.classes else None
            lacks = 1.0 if number is None else float(scores.max() - scores[number])
            apart = max(apart, lacks)
        return apart

    def fits(self, names: Sequence[str], form: Form) -> Array:
        """Return which images have answers equal to the scores of a form, (N, C)."""
        limits = self.limits(names, form)
        return np.array([self.distance(name, row) <= limit for name, row, limit in zip(names, form.scores, limits)])

    def forms_of(self, inputs: Array) -> list[Form]:
        return forms(self.graph.run(inputs), self.sidecar)


def explain(
    given: Json,
    predict: Callable[[str], Any],
    goldens: Sequence[Golden],
    stages: dict[str, Array],
    sidecar: Json,
    graph: Any,
) -> Iterator[Finding]:
    """Name the mistakes that explain the answers of a user's code for the golden images."""
    if 'probabilities' not in stages:
        raise ValueError('--predict: expected a model with classes, got one that returns embeddings alone.')
    classes, multi = list(sidecar['classes']), bool(sidecar.get('multi_label'))
    answers: dict[str, Answer] = {}
    wrong: dict[str, list[str]] = {}
    for name, value in given.items():
        try:
            if isinstance(value, Exception):
                raise value
            answers[name] = read_answer(value, classes, multi)
        except Exception as error:  # whatever the user's code raises
            wrong.setdefault(f'{type(error).__name__}: {str(error)[:120]}', []).append(name)
    for what, names in wrong.items():
        listed = Simulator(goldens, sidecar).describe(names)
        yield Finding('failure', f'The code fails for {listed} ({what}). It must answer for every image.', tuple(names))
    if not answers:
        return
    lengths = {len(one.scores) for one in answers.values() if one.scores is not None}
    if lengths - {len(classes)}:
        yield Finding(
            'classes',
            f'The code returns {" or ".join(map(str, sorted(lengths)))} scores for an image, the model has '
            f'{len(classes)} classes. Return one score for each class, in the order of "classes" in model.json.',
        )
        return
    strange = sorted({str(one.name) for one in answers.values() if one.name not in (None, 'unknown', *classes)})
    if strange:
        yield Finding('classes', f'The model has no class {strange[0]!r}. Use the names of "classes" in model.json.')
        if all(one.name in strange for one in answers.values()):
            return
    comparison = _Comparison(answers, goldens, sidecar, graph)
    if any(one.answered is False for one in answers.values()):
        answers = {key: one._replace(answered=one.answered is not False) for key, one in answers.items()}
    scored = [name for name, one in answers.items() if one.scores is not None or one.score is not None or one.name]
    found: list[Finding] = []
    if scored:
        found = list(_explain_scores(comparison, scored, stages))
        yield from found
    if not found:
        yield from _explain_decisions(comparison, predict, goldens)


def _explain_scores(comparison: _Comparison, scored: Sequence[str], stages: dict[str, Array]) -> Iterator[Finding]:
    names = [name for name in comparison.names if name in scored]
    right = comparison.forms_of(comparison.right[[comparison.names.index(name) for name in names]])
    if comparison.fits(names, right[0]).all():
        return
    order = _order_of(comparison, names, right)
    if order is not None:
        yield order
        if comparison.fits(names, right[0]).all():
            return
    for other in sorted({key.split('/')[1] for key in stages if key.startswith('mistake/')}):
        head, every = f'mistake/{other}/', [golden.name for golden in comparison.simulator.goldens]
        outputs = {key[len(head) :]: values for key, values in stages.items() if key.startswith(head)}
        rows = [every.index(name) for name in names]
        theirs = forms({key: values[rows] for key, values in outputs.items()}, comparison.sidecar)[0]
        if comparison.fits(names, theirs).all():
            said, advice = ALTERNATIVES.get(other, (f'the model {other}', 'Use the exported file'))
            yield Finding(other, f'The answers are those of {said}. {advice}.', tuple(names))
            return
    plain = comparison.simulator.plain(names)
    rows = [names.index(name) for name in plain]
    # The scores alone may be wrong
    form = next((one for one in right if comparison.fits(plain, one._replace(scores=one.scores[rows])).all()), None)
    causes = iter([_Cause([], comparison.simulator.right_pipeline, form)] if form else _search(comparison, plain))
    weak = all(comparison.answers[name].scores is None and comparison.answers[name].score is None for name in names)
    # A cause that explains the plain images may not explain the others, which a better cause does
    explained = []
    for cause in itertools.islice(causes, 6 if weak else None):
        special = list(_explain_special(comparison, names, cause))
        explained.append((sum(len(one.images) for one in special if one.name == 'unexplained'), cause, special))
        if not special or not (explained[-1][0] or weak):
            break
    if not explained:
        count = int((~comparison.fits(names, right[0])).sum())
        far = max(comparison.distance(name, row) for name, row in zip(names, right[0].scores))
        yield Finding('unexplained', f'{count} of {len(names)} answers {"differs" if count == 1 else "differ"} from '
                      f'{"that" if count == 1 else "those"} of the artifact, by up to {far:.3g}, and no known mistake '
                      'explains them. Compare the input first: --pipeline.',
                      tuple(names), far)  # fmt: skip
        return
    _, cause, special = min(explained, key=lambda one: one[0] + weak * len(one[2]))
    guess = ' (Guessed from the classes alone: let the function return probabilities to be sure.)' if weak else ''
    for finding in cause.findings:
        yield finding._replace(message=finding.message + guess)
    if cause.form.name:
        yield Finding(cause.form.name, f'{_capital(cause.form.message)}.{guess}', tuple(names))
    yield from special


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _order_of(comparison: _Comparison, names: Sequence[str], right: Sequence[Form]) -> Optional[Finding]:
    """Find another order of classes, and undo it in the answers."""
    answers = [comparison.answers[name] for name in names]
    plain = [name in comparison.simulator.plain(names, loose=True) for name in names]
    for form in right[:2]:
        limits = comparison.limits(names, form)
        if all(one.scores is not None for one in answers):
            given = np.stack([one.scores for one in answers if one.scores is not None])
            for rows in (np.ones(len(names), bool), np.array(plain)):
                scale = limits[rows, None]
                order = permutation(given[rows] / scale, form.scores[rows] / scale, 1.0)
                if order is not None and order != list(range(len(order))):
                    back = np.argsort(order)
                    for name, row in zip(names, given):
                        comparison.answers[name] = comparison.answers[name]._replace(scores=row[back])
                    finding = class_order(order, comparison.classes)
                    return finding._replace(message=_capital(finding.message), images=tuple(names))
            continue
        mapping: dict[str, set[str]] = {}
        said = [
            (one, row, limit)
            for one, row, limit in zip(answers, form.scores, limits)
            if one.name not in (None, 'unknown')
        ]
        for one, row, _ in said:
            mapping.setdefault(comparison.classes[int(row.argmax())], set()).add(str(one.name))
        values = [next(iter(one)) for one in mapping.values()]
        alike = all(one.score is None or abs(one.score - row.max()) <= limit for one, row, limit in said)
        is_order = (
            all(len(one) == 1 for one in mapping.values()) and len(set(values)) == len(values) and len(values) > 1
        )
        moved = [(key, next(iter(one))) for key, one in mapping.items() if key not in one]
        if alike and is_order and len(moved) > 1:
            pairs = ', '.join(f'{key!r} is called {other!r}' for key, other in moved)
            names_of = {other: key for key, other in moved}
            for name in names:
                answer = comparison.answers[name]
                comparison.answers[name] = answer._replace(name=names_of.get(str(answer.name), answer.name))
            return Finding(
                'class order',
                f'The classes are in another order: {pairs}. Use the order of "classes" in model.json.',
                tuple(names),
            )
    return None


class _Cause(NamedTuple):
    """A combination of mistakes that explains the scores of the plain images."""

    findings: list[Finding]
    pipeline: Pipeline
    form: Form
    scale: Optional[tuple[Array, Array]] = None


def _search(comparison: _Comparison, plain: Sequence[str]) -> Iterator[_Cause]:
    """Simulate mistakes of the input, alone and in pairs; yield those that explain the answers for the plain images."""
    simulator = comparison.simulator
    found: list[tuple[int, float, _Cause]] = []
    scored = any(
        comparison.answers[name].scores is not None or comparison.answers[name].score is not None for name in plain
    )

    def attempt(cause: _Cause, run: Callable[[Array], Any], inputs: Array) -> float:
        nearest = np.inf
        for form in forms(run(inputs), comparison.sidecar)[: None if scored else 1]:
            apart = [comparison.distance(name, row) for name, row in zip(plain, form.scores)]
            score = float(np.mean(apart)) / max(1.0, float(np.abs(form.scores).max()))
            if comparison.fits(plain, form).all():
                found.append((len(cause.findings) + bool(form.name), score, cause._replace(form=form)))
            if not form.name:
                nearest = score
        return nearest

    def taken() -> list[_Cause]:
        best = [one[2] for one in sorted(found, key=lambda one: one[:2])[:6]]
        found.clear()
        return best

    none = Form('', '', np.zeros((0, 0)))
    single = [_Cause(findings, pipeline, none) for findings, pipeline in simulator.simulations(plain)]
    distances = [attempt(one, comparison.graph.run, simulator.batch(plain, one.pipeline)) for one in single]
    nearest = [single[number] for number in np.argsort(distances, kind='stable')]
    yield from taken()
    run_floats = comparison.graph.floats() if len(simulator.normalization) == 1 else None

    def attempt_scales(causes: Sequence[_Cause], scales: Sequence[Any]) -> list[Any]:
        """Return the closest scales."""
        if run_floats is None:
            return []
        mean, std = simulator.normalization[0]
        distances: list[tuple[float, int, Any]] = []
        for cause in causes:
            inputs = np.stack([np.nan_to_num(simulator.simulate(name, cause.pipeline)) for name in plain])
            for scale in scales:
                name, message, gain, offset, advice = scale
                seen = 255 * (mean + std * (gain * inputs.astype(np.float64) + offset))
                said = [*cause.findings, Finding(name, f'{message}. {advice}.', tuple(plain))]
                tried = _Cause(said, cause.pipeline, none, (gain, offset))
                distances.append((attempt(tried, run_floats, seen.astype(np.float32)), len(distances), scale))
        return [scale for *_, scale in sorted(distances)[:3]]

    swapped = [one for one in single if one.pipeline.order == (2, 1, 0)]
    scales = attempt_scales([single[0], *swapped], list(simulator.scales()))
    yield from taken()
    pairs = {}
    for first, second in itertools.product([*nearest[:4], *swapped], single):
        joined = first.pipeline.joined(second.pipeline)
        key = frozenset((id(first), id(second)))
        if joined is not None and first.findings and second.findings and key not in pairs:
            pairs[key] = _Cause([*first.findings, *second.findings], joined, none)
            attempt(pairs[key], comparison.graph.run, simulator.batch(plain, joined))
    yield from taken()
    attempt_scales([one for one in single if one.findings], scales)
    yield from taken()


def _explain_special(comparison: _Comparison, names: Sequence[str], cause: _Cause) -> Iterator[Finding]:
    """Name the kinds of images that are handled wrongly."""
    simulator = comparison.simulator
    run = comparison.graph.run
    if cause.scale is not None:
        mean, std = simulator.normalization[0]
        gain, offset = cause.scale
        floats = comparison.graph.floats()

        def run(inputs: Array) -> Any:
            return floats((255 * (mean + std * (gain * inputs.astype(np.float64) + offset))).astype(np.float32))

    def lack(name: str, pixels: Array) -> float:
        """Return the distance of an answer from the answer for pixels, in units of its tolerance."""
        form = forms(run(np.nan_to_num(pixels)[None].astype(np.uint8)), comparison.sidecar)[cause.form.number]
        return comparison.distance(name, form.scores[0]) / float(comparison.limits([name], form)[0])

    explained: dict[tuple[str, str], list[str]] = {}
    left: list[str] = []
    for name in names:
        first = lack(name, simulator.simulate(name, cause.pipeline))
        if first <= 1:
            continue
        found = [
            (lack(name, pixels), mistake, what) for mistake, what, pixels in simulator.decoded(name, cause.pipeline)
        ]
        best, mistake, what = min(found, default=(np.inf, '', ''))
        if best <= min(1.0, 0.5 * first):
            explained.setdefault((mistake, what), []).append(name)
        else:
            left.append(name)
    for (mistake, what), which in explained.items():
        yield simulator.decoding_finding(mistake, what, which)
    if left:
        scores = comparison.forms_of(comparison.right[[comparison.names.index(name) for name in left]])[0].scores
        apart = max(comparison.distance(name, row) for name, row in zip(left, scores))
        jpeg = all('JPEG' in simulator.golden(name).traits for name in left)
        why = ': the JPEG decoder is another one, or has other settings. Decode with Pillow or OpenCV.'
        if not jpeg:
            why = ', and no known mistake explains it. Compare the input: --pipeline.'
        yield Finding(
            'JPEG decoder' if jpeg else 'unexplained',
            f'The answers differ only for {simulator.describe(left)}, by up to {apart:.3g}{why}',
            tuple(left),
            apart,
        )


# Thresholds


def _explain_decisions(
    comparison: _Comparison, predict: Callable[[str], Any], goldens: Sequence[Golden]
) -> Iterator[Finding]:
    sidecar = comparison.sidecar
    risk = (sidecar.get('calibration') or {}).get('risk')
    sets = (sidecar.get('calibration') or {}).get('sets')
    if sidecar.get('multi_label'):
        yield from _explain_labels(comparison, sidecar['class_thresholds'])
        return
    answered = {name: one.answered for name, one in comparison.answers.items() if one.answered is not None}
    if risk and answered:
        yield from _explain_threshold(comparison, predict, goldens, risk['threshold'])
    elif answered and not all(answered.values()):
        yield Finding(
            'threshold',
            "The code answers 'unknown', but model.json has no threshold. Leave that out, or calibrate and export "
            'again.',
        )
    if sets and any(one.names is not None for one in comparison.answers.values()):
        scores = comparison.forms_of(comparison.right)[0].scores
        for name, row in zip(comparison.names, scores):
            said = comparison.answers[name].names
            order = np.argsort(-row, kind='stable')
            count = max(1, int((row >= sets['threshold']).sum()))
            close = np.abs(row - sets['threshold']).min() < comparison.graph.tolerance
            if said is not None and not close and set(said) != {comparison.classes[one] for one in order[:count]}:
                yield Finding(
                    'threshold',
                    f'The set of classes of {name} is {", ".join(said) or "empty"}; by the threshold in model.json '
                    f'(calibration.sets.threshold, {sets["threshold"]:.4g}) it has {count}. Use that threshold.',
                    (name,),
                )
                return


def _explain_threshold(
    comparison: _Comparison, predict: Callable[[str], Any], goldens: Sequence[Golden], threshold: float
) -> Iterator[Finding]:
    """Estimate the probability threshold of a user's code, with images that are made for it."""
    said: list[tuple[float, float, bool]] = []  # calibrated and uncalibrated probability, answered
    outputs = comparison.graph.run(comparison.right)
    calibrated, raw = forms(outputs, comparison.sidecar)[0].scores.max(1), outputs['probabilities'].max(1)
    for name, score, own in zip(comparison.names, calibrated, raw):
        if comparison.answers[name].answered is not None:
            said.append((float(score), float(own), bool(comparison.answers[name].answered)))
    with tempfile.TemporaryDirectory() as folder:
        for path, score, own in _mixtures(comparison, folder, threshold):
            try:
                answer = read_answer(predict(path), comparison.classes)
            except Exception:
                continue
            if answer.answered is not None:
                said.append((score, own, answer.answered))
    margin = 5 * comparison.graph.tolerance
    wrong = [one for one in said if (one[0] >= threshold) != one[2] and abs(one[0] - threshold) > margin]
    if not wrong:
        return
    answers = [score for score, _, yes in said if yes]
    silent = [score for score, _, yes in said if not yes]
    if not silent:
        yield Finding(
            'threshold',
            f"The code never answers 'unknown', not even at {min(answers):.3f}; below {threshold:.4g} it should. Apply "
            'the threshold of model.json, calibration.risk.threshold.',
        )
    elif all((own >= threshold) == yes for _, own, yes in said):
        yield Finding(
            'calibration',
            f'The threshold {threshold:.4g} is compared with uncalibrated probabilities. Calibrate them first, as '
            'runtime.py does.',
        )
    elif not answers:
        yield Finding(
            'threshold',
            f"The code always answers 'unknown', even at {max(silent):.3f}; from {threshold:.4g} on it should answer.",
        )
    else:
        low, high = sorted((max(silent), min(answers)))
        yield Finding(
            'threshold',
            f'The code answers from a probability between {low:.4f} and {high:.4f} on, the threshold of model.json is '
            f'{threshold:.4g}. Use that one (calibration.risk.threshold).',
        )


def _mixtures(comparison: _Comparison, folder: str, threshold: float) -> Iterator[tuple[str, float, float]]:
    """Yield mixtures of golden inputs whose probabilities lie around a threshold and elsewhere."""
    rng = np.random.default_rng(0)
    steps = comparison.sidecar['preprocessing']['steps']
    decode = comparison.sidecar['preprocessing']['decode']
    made = []
    for number in range(96):
        first, second = rng.integers(0, len(comparison.right), 2)
        share = rng.uniform()
        mixed = comparison.right[first] * share + comparison.right[second] * (1 - share)
        path = os.path.join(folder, f'mixture_{number}.png')
        Image.fromarray(np.rint(mixed).astype(np.uint8).squeeze()).save(path)
        made.append(path)
    inputs = np.stack([runtime.prepare_image(runtime.read_image(path, decode), steps) for path in made])
    outputs = comparison.graph.run(inputs)
    scores = forms(outputs, comparison.sidecar)[0].scores.max(1)
    raw = outputs['probabilities'].max(1)
    order = np.argsort(scores)
    at = int(np.searchsorted(scores[order], threshold))
    near = order[max(0, at - _MIXTURES // 2) : at + _MIXTURES // 2]
    spread = order[np.linspace(0, len(order) - 1, 2 * _MIXTURES).astype(int)]
    for one in dict.fromkeys([*near.tolist(), *spread.tolist()]):
        yield made[one], float(scores[one]), float(raw[one])


def _explain_labels(comparison: _Comparison, thresholds: Sequence[float]) -> Iterator[Finding]:
    """Compare the labels of multi-label images."""
    scores = comparison.forms_of(comparison.right)[0].scores
    limits = np.asarray(thresholds, np.float32)
    wrong: dict[str, list[str]] = {}
    for name, row in zip(comparison.names, scores):
        said = comparison.answers[name].names
        if said is None:
            continue
        for label, score, limit in zip(comparison.classes, row, limits):
            if (label in said) != (score >= limit) and abs(score - limit) > comparison.graph.tolerance:
                wrong.setdefault(label, []).append(f'{name} at {score:.3f}')
    for label, where in itertools.islice(wrong.items(), 3):
        limit = limits[comparison.classes.index(label)]
        yield Finding(
            'threshold',
            f'The label {label!r} is not decided by its threshold {limit:.4g} ({", ".join(where[:3])}). Use '
            'class_thresholds of model.json.',
        )
