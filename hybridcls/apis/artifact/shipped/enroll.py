"""Add classes to an exported model from a few images each, without a training. Needs numpy, Pillow and onnxruntime.

    python DIR/enroll.py DIR mug=photos/mug 'cup=cups/*.jpg' --data HELD_OUT

A class is a prototype: the mean of the L2-normalized embeddings of its images. It takes an image where the cosine to
the prototype, less the largest cosine to the mean of an old class, reaches the class's threshold; where no class means
are known, where the cosine alone does. The threshold comes from held-out images of the old classes: a conformal
quantile, so that later images of these classes are taken with a probability of at most ``steal``, and never below 0
(the image must lie nearer to the new class than to any old one). Logits and probabilities of the old classes stay what
they are, bit for bit: only the decision about an image changes.
"""

# ruff: noqa: B905 - zip(strict=...) is not in Python 3.9, which runs this file
import argparse
import glob
import hashlib
import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np

Json = dict[str, Any]
Arrays = dict[str, np.ndarray]
FEW = 3  # images; below, an answer is marked as uncalibrated
MANY = 20
STEAL = 0.01
_MOST_NUMBERS = 2_000_000  # of held-out embeddings, which take two bytes each
_SURE = 0.9


class EnrolledClasses:
    """The classes that were added to an artifact, and what they take.

    Args:
        folder: Of the artifact.
        sidecar: Of the artifact.
    """

    def __init__(self, folder: str, sidecar: Json) -> None:
        about = sidecar['enrolled']
        arrays = read_arrays(os.path.join(folder, about['file']))
        self.classes: list[Json] = about['classes']
        self.prototypes = arrays['prototypes']
        self.means: Optional[np.ndarray] = arrays.get('means')
        self.multi_label = bool(sidecar.get('multi_label'))
        self._thresholds = np.array([_number(one['threshold']) for one in self.classes])

    def scores(self, directions: np.ndarray) -> np.ndarray:
        """Return what is compared with the thresholds, (N, E), of L2-normalized embeddings (N, D)."""
        return scores_of(directions, self.prototypes, self.means)

    def taken_by(self, directions: np.ndarray) -> np.ndarray:
        """Return the number of the class that takes each embedding, (N,); -1 for none."""
        scores = self.scores(directions)
        best = np.where(scores >= self._thresholds, scores, -np.inf).argmax(axis=1)
        return np.where((scores >= self._thresholds).any(axis=1), best, -1)

    def decide(self, answers: list[Json], outputs: Mapping[str, np.ndarray]) -> list[Json]:
        """Return the answers with those of the added classes."""
        directions = normalized(outputs['embedding'])
        cosines, scores, taken = directions @ self.prototypes.T, self.scores(directions), self.taken_by(directions)
        for row, answer in enumerate(answers):
            names = [one['name'] for one in self.classes]
            order = np.argsort(-cosines[row], kind='stable')
            answer['enrolled'] = [[names[number], float(cosines[row, number])] for number in order[:5]]
            if self.multi_label:
                more = [names[number] for number in np.flatnonzero(scores[row] >= self._thresholds)]
                answer['class'] = '|'.join([*filter(None, [answer['class']]), *more])
            elif 'class' not in answer:  # embeddings alone: the nearest prototype
                answer['class'] = names[taken[row]] if taken[row] >= 0 else 'unknown'
                answer.update(_marks(self.classes[taken[row]]) if taken[row] >= 0 else {})
            elif taken[row] >= 0:
                self._take(answer, self.classes[taken[row]])
        return answers

    @staticmethod
    def _take(answer: Json, one: Json) -> None:
        answer.update({'class': one['name'], 'probability': None}, **_marks(one))
        if 'answered' in answer:
            answer['answered'] = True
        if one['images'] < FEW:
            answer['top'] = [[one['name'], None]]
            answer.pop('prediction_set', None)
        elif 'prediction_set' in answer:  # with the old set in it, what it guarantees for old classes stays true
            answer['prediction_set'] = [one['name'], *answer['prediction_set']]


def _marks(one: Json) -> Json:
    return {
        **({'uncalibrated': True} if one['images'] < FEW else {}),
        **({} if one['held_out'] else {'unchecked': True}),
    }


def _number(threshold: Optional[float]) -> float:
    return math.inf if threshold is None else threshold


def normalized(rows: np.ndarray) -> np.ndarray:
    """Return L2-normalized rows, float32."""
    rows = np.asarray(rows, np.float64)
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def scores_of(directions: np.ndarray, prototypes: np.ndarray, means: Optional[np.ndarray]) -> np.ndarray:
    """Return cosines to the prototypes, (N, E), less the largest cosine to a class mean where there are some."""
    cosines = directions @ prototypes.T
    return cosines if means is None or not len(means) else cosines - (directions @ means.T).max(axis=1, keepdims=True)


def read_arrays(path: str) -> Arrays:
    """Read an npz file."""
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


# Held-out images of the old classes


def held_out(
    outputs: Mapping[str, np.ndarray], labels: Sequence[int], answers: Sequence[Json], classes: Sequence[str]
) -> Arrays:
    """Return what enrolling has to know of held-out images.

    Args:
        outputs: Of the graph, with ``embedding`` (N, D).
        labels: Class numbers; -1 for none of the model's. Those images are left out.
        answers: Of the runtime's ``decide``.
        classes: Of the model.

    Returns:
        ``held_directions`` (M, D) float16, L2-normalized; ``held_labels`` (M,); ``held_right`` and ``held_answered``
        (M,) bool: whether the most probable class is the right one, and whether the answer was not 'unknown'. Of very
        many images evenly spaced ones.
    """
    labels = np.asarray(labels, np.int64)
    chosen = np.flatnonzero(labels >= 0)
    most = max(1, _MOST_NUMBERS // outputs['embedding'].shape[1])
    if len(chosen) > most:
        chosen = chosen[np.arange(most) * len(chosen) // most]
    tops = [answers[row]['top'][0][0] if answers[row].get('top') else None for row in chosen]
    return dict(
        held_directions=normalized(outputs['embedding'][chosen]).astype(np.float16),
        held_labels=labels[chosen],
        held_right=np.array([top == classes[labels[row]] if classes else True for top, row in zip(tops, chosen)], bool),
        held_answered=np.array([answers[row].get('answered', True) for row in chosen], bool),
    )


def class_means(held: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the L2-normalized mean of the directions of each class that has held-out images, (C, D)."""
    labels = held['held_labels']
    return normalized(np.stack([held['held_directions'][labels == own].mean(axis=0, dtype=np.float64)
                                for own in np.unique(labels)]))  # fmt: skip


def held_scores(held: Mapping[str, np.ndarray], prototypes: np.ndarray, with_means: bool) -> np.ndarray:
    """Return the scores of held-out images, (M, E): the mean of an image's own class is that of the other images.

    (An image lies nearer to a mean that it is a part of than later images do.)
    """
    directions = held['held_directions'].astype(np.float32)
    if not with_means:
        return scores_of(directions, prototypes, None)
    _, rows, counts = np.unique(held['held_labels'], return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), directions.shape[1]))
    np.add.at(sums, rows, directions)
    nearest = directions @ normalized(sums).T
    others = (directions * normalized(sums[rows] - directions)).sum(axis=1)
    nearest[np.arange(len(rows)), rows] = np.where(counts[rows] > 1, others, -1)
    return directions @ prototypes.T - nearest.max(axis=1, keepdims=True)


def threshold_of(scores: np.ndarray, steal: float, lowest: float) -> float:
    """Return the threshold that a later image like these M reaches with a probability of at most ``steal``.

    Its conformal p-value, (1 + the number of scores that are as large) / (M + 1), must be at most ``steal`` for an
    image to be taken. With fewer than 1 / steal - 1 images none of them may be, and the probability is 1 / (M + 1).
    """
    allowed = max(0, math.floor(steal * (len(scores) + 1) + 1e-9) - 1)
    return max(lowest, float(np.nextafter(np.sort(scores)[::-1][allowed], np.float32(np.inf))))


def risk_holds(errors: int, answered: int, risk: float, confidence: float) -> bool:
    """Return whether so few errors prove a risk: P(Bin(answered, risk) <= errors) <= 1 - confidence."""
    if not 0 < risk < 1:
        return risk >= 1
    terms = [
        math.lgamma(answered + 1) - math.lgamma(k + 1) - math.lgamma(answered - k + 1)
        + k * math.log(risk) + (answered - k) * math.log1p(-risk)
        for k in range(min(errors, answered) + 1)
    ]  # fmt: skip
    return answered > 0 and sum(map(math.exp, terms)) <= 1 - confidence


# Enrolling


def enroll(
    model: Any,
    images: Mapping[str, Sequence[Any]],
    data: Optional[Mapping[str, Any]] = None,
    steal: float = STEAL,
    replace: bool = False,
) -> tuple[list[Json], Json]:
    """Add classes to the artifact of a model; all or nothing is written.

    Args:
        model: A ``Model`` of ``runtime.py``.
        images: For each name its images: paths, or anything that the model reads.
        data: Held-out images of the old classes, as :func:`held_out` returns them. Defaults to None: those that the
            artifact has, if any.
        steal: Share in (0, 1) of later images of the old classes that a new class may take, each.
        replace: Whether a class that is enrolled is enrolled again.

    Returns:
        For each class what was found (``name``, ``images``, ``threshold``, ``held_out``, ``taken`` of these,
        ``found_again``, ``unreadable``, ``warnings``), and what became of the risk (``risk``).

    Raises:
        ValueError: For a name or a share that does not work, or if no image of a class can be read.
    """
    if not 0 < steal < 1:
        raise ValueError(f'enroll: expected steal to be a share in (0, 1), got {steal}.')
    if 'embedding' not in model.sidecar['model']['outputs']:
        raise ValueError(
            f'enroll: expected a model with the output embedding, got {list(model.sidecar["model"]["outputs"])}.'
        )
    old = model.sidecar.get('enrolled') or dict(classes=[])
    _check_names(list(images), model.sidecar, [one['name'] for one in old['classes']], replace)
    arrays = read_arrays(os.path.join(model.folder, old['file'])) if old['classes'] else {}
    held = dict(data) if data is not None else _known_held_out(model, arrays)
    multi_label = bool(model.sidecar.get('multi_label'))
    with_means = bool(held) and not multi_label and bool(model.classes)
    means = class_means(held) if with_means else None
    kept = [number for number, one in enumerate(old['classes']) if one['name'] not in images]
    classes = [old['classes'][number] for number in kept]
    prototypes = [arrays['prototypes'][number] for number in kept]
    reports = []
    for name, own in images.items():
        directions, answers, unreadable = _embedded(model, own)
        if not len(directions):
            raise ValueError(f'enroll: expected an image of {name!r} that can be read, got none of {len(own)}.')
        prototype = normalized(directions.mean(axis=0, dtype=np.float64)[None])[0]
        if held:
            threshold = threshold_of(
                held_scores(held, prototype[None], with_means)[:, 0], steal, 0.0 if with_means else -1.0
            )
        else:
            threshold = _without_held_out(model, directions, prototype)
        report = dict(name=name, images=len(directions), threshold=threshold, held_out=len(held.get('held_labels', ())))
        classes.append(report)
        prototypes.append(prototype)
        reports.append(report | dict(unreadable=unreadable, warnings=_warnings(name, directions, answers, means, model),
                                     found_again=_found_again(directions, threshold, means)))  # fmt: skip
    made = dict(prototypes=np.stack(prototypes), **held, **({} if means is None else dict(means=means)))
    risk = _recheck(classes, made, {report['name'] for report in reports}, with_means, model.sidecar.get('calibration'))
    for report in reports:
        report.update(next(one for one in classes if one['name'] == report['name']))
    write_enrolled(model, classes, made, dict(steal=steal, score='margin' if with_means else 'cosine', risk=risk))
    return reports, risk


def remove(model: Any, names: Sequence[str]) -> None:
    """Take added classes out of the artifact of a model.

    Raises:
        ValueError: If one is not there; nothing is removed then.
    """
    about = model.sidecar.get('enrolled') or dict(classes=[])
    known = [one['name'] for one in about['classes']]
    for name in names:
        if name not in known:
            raise ValueError(
                f'enroll: expected an enrolled class to remove, got {name!r}. There are: {", ".join(known) or "none"}.'
            )
    kept = [number for number, name in enumerate(known) if name not in names]
    arrays = read_arrays(os.path.join(model.folder, about['file']))
    arrays['prototypes'] = arrays['prototypes'][kept]
    classes = [about['classes'][number] for number in kept]
    has_means = 'means' in arrays
    risk = _recheck(classes, arrays, set(), has_means, model.sidecar.get('calibration')) if classes else None
    write_enrolled(model, classes, arrays, {**about, 'risk': risk})


def write_enrolled(model: Any, classes: list[Json], arrays: Arrays, about: Json) -> None:
    """Write the arrays under a new name, then the sidecar that names them: a reader sees the old state or the new."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    before = (model.sidecar.get('enrolled') or {}).get('file')
    sidecar = {**model.sidecar, 'files': {name: one for name, one in model.sidecar['files'].items() if name != before}}
    sidecar['enrolled'] = None
    if classes:
        name = f'enrolled-{digest[:8]}.npz'
        _write(os.path.join(model.folder, name), content.getvalue())
        sidecar['enrolled'] = {**about, 'file': name, 'classes': classes}
        sidecar['files'][name] = dict(sha256=digest, bytes=len(content.getvalue()))
    text = json.dumps(sidecar, indent=1, ensure_ascii=False)
    _write(os.path.join(model.folder, 'model.json'), f'{text}\n'.encode())
    if before and before not in sidecar['files']:
        os.remove(os.path.join(model.folder, before))
    model.sidecar = sidecar


def _write(path: str, content: bytes) -> None:
    handle, unfinished = tempfile.mkstemp(prefix='.unfinished_', dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(unfinished, 0o644)
        os.replace(unfinished, path)
    except BaseException:
        os.unlink(unfinished)
        raise


def _check_names(names: list[str], sidecar: Json, enrolled: list[str], replace: bool) -> None:
    old = {*sidecar['classes'], *(sidecar.get('folders') or ())}
    for name in names:
        if not name.strip() or name == 'unknown' or (sidecar.get('multi_label') and '|' in name):
            raise ValueError(
                f'enroll: expected a name for the class, got {name!r}, which is empty or stands for something else.'
            )
        if name in old:
            raise ValueError(
                f'enroll: expected a new class, got {name!r}, which the model was trained on. Choose another name.'
            )
        if name in enrolled and not replace:
            raise ValueError(f'enroll: {name!r} is enrolled already. Add --force to enroll it again, or --remove it.')


def _known_held_out(model: Any, arrays: Arrays) -> Arrays:
    """Return the held-out images that the artifact has: of its export, or of an earlier enrolling."""
    if 'held_labels' not in arrays:
        path = os.path.join(model.folder, 'reference.npz')
        arrays = read_arrays(path) if 'reference.npz' in model.sidecar['files'] else {}
    return {name: values for name, values in arrays.items() if name.startswith('held_') and 'held_labels' in arrays}


def _embedded(model: Any, images: Sequence[Any]) -> tuple[np.ndarray, list[Json], list[Json]]:
    """Return the L2-normalized embeddings of the images, the model's answers, and which cannot be read."""
    rows, answers, unreadable = [], [], []
    for first in range(0, len(images), 32):
        batch = []
        for image in images[first : first + 32]:
            try:
                batch.append(model.prepare(image))
            except (ValueError, OSError) as error:
                unreadable.append(dict(path=str(image), error=str(error)))
        if batch:
            outputs = model.run(np.stack(batch))
            rows.append(normalized(outputs['embedding']))
            answers += model.decide(outputs)
    return (np.concatenate(rows) if rows else np.empty((0, 0), np.float32)), answers, unreadable


def _without_held_out(model: Any, directions: np.ndarray, prototype: np.ndarray) -> Optional[float]:
    """Return a cosine that says nothing about old classes: the lowest among the class's own images, each left out.

    Of fewer than three images: half way from the golden images, which are of no class, to the prototype.
    """
    if not model.classes:
        return -1.0  # embeddings alone: the nearest prototype
    if len(directions) >= FEW:
        return float(_left_out(directions).min())
    golden = [os.path.join(model.folder, name) for name in model.sidecar['files'] if name.startswith('golden/')]
    background, _, _ = _embedded(model, golden)
    return float((1 + max((background @ prototype).max(initial=0.0), 0.0)) / 2)


def _left_out(directions: np.ndarray) -> np.ndarray:
    """Return the cosine of each image to the prototype of the others, (N,)."""
    return (directions * normalized(directions.sum(axis=0, dtype=np.float64) - directions)).sum(axis=1)


def _found_again(directions: np.ndarray, threshold: Optional[float], means: Optional[np.ndarray]) -> Optional[int]:
    """Return how many images the class would take by a prototype of the others; None for a single image."""
    if len(directions) < 2 or threshold is None:
        return None
    scores = _left_out(directions)
    if means is not None:
        scores = scores - (directions @ means.T).max(axis=1)
    return int((scores >= threshold).sum())


def _warnings(
    name: str, directions: np.ndarray, answers: list[Json], means: Optional[np.ndarray], model: Any
) -> list[str]:
    """Say which images the model already knows as another class."""
    said: dict[str, int] = {}
    for row, answer in enumerate(answers):
        known = answer.get('class') if (answer.get('probability') or 0) >= _SURE else None
        if answer.get('answered') is False:
            known = None
        if known is None and answer.get('probability') is None and answer.get('class') not in (None, 'unknown', name):
            known = answer['class']  # of a class that was enrolled before
        if known:
            said[known] = said.get(known, 0) + 1
    return [
        f'{count} of {len(answers)} images of {name!r} are {known!r} for the model' for known, count in said.items()
    ]


def _recheck(
    classes: list[Json], arrays: Arrays, new: set[str], with_means: bool, calibration: Optional[Json]
) -> Optional[Json]:
    """Count what all added classes take of the held-out images, and raise thresholds of new ones for the risk.

    Returns None where there is no risk to keep.
    """
    asked = (calibration or {}).get('risk')
    if 'held_labels' not in arrays:
        return dict(checked=False, why='no held-out images') if asked else None
    scores = held_scores(arrays, arrays['prototypes'], with_means)

    def taken() -> np.ndarray:
        return (scores >= np.array([_number(one['threshold']) for one in classes])).any(axis=1)

    def state(stolen: np.ndarray) -> tuple[int, int]:
        answered = arrays['held_answered'] | stolen
        return int((answered & (stolen | ~arrays['held_right'])).sum()), int(answered.sum())

    def holds(stolen: np.ndarray) -> bool:
        return risk_holds(*state(stolen), asked['risk'], asked['confidence'])

    found: Optional[Json] = None
    if asked:
        before = np.zeros(len(scores), bool)
        found = dict(checked=True, holds=holds(before), raised=[])
        while found['holds'] and not holds(taken()):
            # The class that takes most gives back its nearest to the threshold.
            counts = [int((scores[:, number] >= one['threshold']).sum()) if one['name'] in new else 0
                      for number, one in enumerate(classes)]  # fmt: skip
            number = int(np.argmax(counts))
            if not counts[number]:
                found['holds'] = False
                break
            own = scores[:, number]
            lowest = own[own >= classes[number]['threshold']].min()
            classes[number]['threshold'] = float(np.nextafter(lowest, np.float32(np.inf)))
            if classes[number]['name'] not in found['raised']:
                found['raised'].append(classes[number]['name'])
        found['errors'], found['answered'] = state(taken())
        found['errors_before'], found['answered_before'] = state(before)
    for number, one in enumerate(classes):
        one['taken'] = int((scores[:, number] >= one['threshold']).sum())
    return found


# In a shell


def read_assignments(texts: Sequence[str]) -> dict[str, list[str]]:
    """Read NAME=IMAGES: a folder, a pattern, a file, or several with commas; a name may occur again.

    Raises:
        ValueError: For a text without a name or without images, or for a file under two names.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, where = text.partition('=')
        if not equals or not name.strip() or not where.strip():
            raise ValueError(
                f'enroll: expected NAME=IMAGES (a folder, a pattern or files), got {text!r}. Type mug=photos/mug'
            )
        files = found.setdefault(name.strip(), [])
        for part in [where] if os.path.exists(os.path.expanduser(where)) else where.split(','):
            files += [file for file in _files_of(part.strip(), text) if file not in files]
    owners: dict[str, str] = {}
    for name, files in found.items():
        for file in files:
            other = owners.setdefault(os.path.realpath(file), name)
            if other != name:
                raise ValueError(
                    f'enroll: {file} is among the images of both {other!r} and {name!r}. Leave it out of one.'
                )
    return found


def _files_of(place: str, text: str) -> list[str]:
    place = os.path.expanduser(place)
    if os.path.isdir(place):
        below = sorted(os.path.join(top, name) for top, _, names in os.walk(place) for name in names)
        found = [path for path in below if _is_image(path)]
    elif os.path.isfile(place):
        found = [place]
    else:
        found = sorted(path for path in glob.glob(place, recursive=True) if os.path.isfile(path))
    if not found:
        raise ValueError(
            f'enroll: expected images for {text!r}, got none: {place!r} is no image, no folder with images, and matches none.'
        )
    return found


def _is_image(path: str) -> bool:
    from PIL import Image

    return os.path.splitext(path)[1].lower() in Image.registered_extensions()


def read_held_out(model: Any, folder: str) -> tuple[Arrays, str]:
    """Read held-out images in a folder for each old class, by class or folder name; and say in a line what was read.

    Raises:
        ValueError: If there is no image of an old class.
    """
    if not os.path.isdir(folder):
        raise ValueError(f'enroll: expected --data to be a folder of class folders, got {folder!r}.')
    numbers = {name: number for number, name in enumerate(model.sidecar.get('folders') or [])}
    numbers.update({name: number for number, name in enumerate(model.classes)})
    paths, labels, others = [], [], 0
    for name in sorted(os.listdir(folder)):
        if os.path.isdir(os.path.join(folder, name)):
            below = [path for path in _below(os.path.join(folder, name)) if _is_image(path)]
            paths += below if not model.classes or name in numbers else []
            labels += [numbers.get(name, len(labels)) for _ in below] if not model.classes or name in numbers else []
            others += len(below) if model.classes and name not in numbers else 0
    if not paths:
        raise ValueError(
            f"enroll: expected images in folders of the model's classes ({', '.join(model.classes[:5])}) below {folder!r}, got none."
        )
    kept, outputs, answers, skipped = [], [], [], 0
    enrolled, model.enrolled = model.enrolled, None  # the answers of the old classes alone
    for first in range(0, len(paths), 32):
        batch = []
        for path, label in zip(paths[first : first + 32], labels[first : first + 32]):
            try:
                batch.append(model.prepare(path))
                kept.append(label)
            except (ValueError, OSError):
                skipped += 1
        if batch:
            outputs.append(model.run(np.stack(batch)))
            answers += model.decide(outputs[-1])
    model.enrolled = enrolled
    joined = dict(embedding=np.concatenate([one['embedding'] for one in outputs]))
    more = f', {others} of other folders left out' if others else ''
    more += f', {skipped} cannot be read' if skipped else ''
    return held_out(
        joined, kept, answers, model.classes
    ), f'{len(kept)} held-out images of {len({*kept})} classes{more}'


def _below(folder: str) -> list[str]:
    return sorted(os.path.join(top, name) for top, _, names in os.walk(folder) for name in names)


def said_of(report: Json) -> list[str]:
    """Return lines about a class that was enrolled."""
    count = f'{report["images"]} image{"s" if report["images"] > 1 else ""}'
    marks = ''
    if report['images'] < FEW:
        marks = f'; below {FEW} images its answers are marked "uncalibrated"'
    elif report['images'] > MANY:
        marks = f'; all are used ({MANY} are enough as a rule)'
    lines = [f'{report["name"]}: {count}{marks}']
    if report['found_again'] is not None:
        lines.append(f'  {report["found_again"]} of {report["images"]} are found by a prototype of the others')
    if report['held_out']:
        lines.append(f'  of {report["held_out"]} held-out images of the old classes it takes {report["taken"]}')
    else:
        lines.append('  without held-out images of the old classes (--data) it is not known how many of theirs it takes: '
                     'its answers are marked "unchecked"')  # fmt: skip
    lines += [f'  warning: {text}' for text in report['warnings']]
    return lines + [f'  cannot be read: {one["error"]}' for one in report['unreadable']]


def said_of_risk(risk: Optional[Json]) -> Optional[str]:
    """Return a line about the guarantee of the calibration."""
    if risk is None:
        return None
    if not risk['checked']:
        return f'The threshold of the calibration is not checked again: {risk["why"]}. Its guarantee is for the old classes alone.'
    counts = f'{risk["errors"]} errors of {risk["answered"]} answered held-out images, {risk["errors_before"]} of {risk["answered_before"]} before'
    raised = f'; for it the threshold of {", ".join(risk["raised"])} is raised' if risk['raised'] else ''
    if risk['holds']:
        return f'The risk of the calibration still holds ({counts}){raised}.'
    return f'These held-out images do not prove the risk of the calibration ({counts}), also without the new classes.'


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Enroll; the exit code is 1 if an image cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    args = parser.parse_args(arguments)
    try:
        from runtime import Model  # beside this file

        return run(args, Model)
    except (ValueError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('folder', metavar='DIR', help='artifact, of hybridcls export')
    parser.add_argument(
        'classes', nargs='*', metavar='NAME=IMAGES', help='a new class, and a folder, a pattern or files'
    )
    parser.add_argument('--data', metavar='FOLDER', help='held-out images of the old classes, in a folder for each')
    parser.add_argument('--steal', type=float, default=STEAL, metavar='SHARE',
                        help=f'of later images of the old classes that a new class may take; default: {STEAL}')  # fmt: skip
    parser.add_argument('--force', action='store_true', help='enroll a class again that is enrolled')
    parser.add_argument('--remove', nargs='+', metavar='NAME', help='take enrolled classes out again')
    parser.add_argument('--list', action='store_true', help='show the enrolled classes')


def run(args: argparse.Namespace, model_class: Any) -> int:
    """Do what the arguments say; lines go to stderr, but for ``--list``."""
    return 1 if perform(args, model_class)['unreadable'] else 0


def perform(args: argparse.Namespace, model_class: Any) -> Json:
    """Do what the arguments say, and return what was done."""
    asked = [bool(args.classes), bool(args.remove), bool(args.list)]
    if sum(asked) != 1:
        raise ValueError(
            'enroll: expected one of NAME=IMAGES, --remove NAME and --list, got '
            + ('several.' if any(asked) else 'none.')
        )
    images = read_assignments(args.classes)
    model = model_class(args.folder)
    if args.remove:
        remove(model, args.remove)
        print(f'{", ".join(args.remove)} removed from {args.folder}', file=sys.stderr)
    held, risk, reports = None, None, []
    if args.classes:
        if args.data:
            held, line = read_held_out(model, args.data)
            print(line, file=sys.stderr)
        reports, risk = enroll(model, images, held, args.steal, args.force)
        for line in [line for report in reports for line in said_of(report)] + [said_of_risk(risk)]:
            if line:
                print(line, file=sys.stderr)
    enrolled = (model.sidecar.get('enrolled') or dict(classes=[]))['classes']
    if args.list:
        for one in enrolled:
            print(f'{one["name"]}: {one["images"]} images')
    unreadable = [bad for report in reports for bad in report['unreadable']]
    return dict(folder=args.folder, enrolled=enrolled, reports=reports, risk=risk, unreadable=unreadable)


if __name__ == '__main__':
    sys.exit(main())
