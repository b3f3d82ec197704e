"""Add classes to an exported model from a few images each, without training. Needs numpy, Pillow and onnxruntime.

    python DIR/enroll.py DIR mug=photos/mug 'cup=cups/*.jpg' --data HELD_OUT

A class is a prototype: the mean of the L2-normalized embeddings of its images. The score of an image is its cosine to
the nearest prototype, minus that to the nearest mean of an old class (if these are known). If the score reaches a
threshold, the image belongs to the new class. The threshold is a conformal quantile over held-out images of the old
classes: all new classes together take a later image of the old classes with a probability of at most ``steal``. Logits
and probabilities of the old classes do not change by a bit; only the decision about an image does.
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
STEAL = 0.02
_MOST_NUMBERS = 2_000_000  # of held-out embeddings, which take two bytes each
_SURE = 0.9


class EnrolledClasses:
    """The classes that were added to an artifact: their prototypes and thresholds.

    Args:
        folder: The folder of the artifact.
        sidecar: The content of model.json.
    """

    def __init__(self, folder: str, sidecar: Json) -> None:
        about = sidecar['enrolled']
        arrays = read_arrays(os.path.join(folder, about['file']))
        self.classes: list[Json] = about['classes']
        self.prototypes = arrays['prototypes']
        self.means: Optional[np.ndarray] = arrays.get('means')
        self.multi_label = bool(sidecar.get('multi_label'))
        self._thresholds = np.array([one['threshold'] for one in self.classes])
        self._unchecked = {} if about['held_out'] else {'unchecked': True}

    def scores(self, directions: np.ndarray) -> np.ndarray:
        """Return the scores that are compared with the thresholds, (N, E), of L2-normalized embeddings (N, D)."""
        return scores_of(directions, self.prototypes, self.means)

    def taken_by(self, directions: np.ndarray) -> np.ndarray:
        """Return the number of the added class that takes each embedding, (N,); -1 for none."""
        scores = self.scores(directions)
        best = np.where(scores >= self._thresholds, scores, -np.inf).argmax(axis=1)
        return np.where((scores >= self._thresholds).any(axis=1), best, -1)

    def decide(self, answers: list[Json], outputs: Mapping[str, np.ndarray]) -> list[Json]:
        """Replace the answers for images that an added class takes."""
        directions = normalized(outputs['embedding'])
        cosines, scores, taken = directions @ self.prototypes.T, self.scores(directions), self.taken_by(directions)
        for row, answer in enumerate(answers):
            names = [one['name'] for one in self.classes]
            order = np.argsort(-cosines[row], kind='stable')
            answer['enrolled'] = [[names[number], float(cosines[row, number])] for number in order[:5]]
            if self.multi_label:
                chosen = np.flatnonzero(scores[row] >= self._thresholds)
                answer['class'] = '|'.join([*filter(None, [answer['class']]), *(names[number] for number in chosen)])
                for number in chosen:
                    answer.update(self._marks(self.classes[number]))
            elif 'class' not in answer:  # embeddings alone: the nearest prototype
                answer['class'] = names[taken[row]] if taken[row] >= 0 else 'unknown'
                answer.update(self._marks(self.classes[taken[row]]) if taken[row] >= 0 else {})
            elif taken[row] >= 0:
                self._take(answer, self.classes[taken[row]])
        return answers

    def _marks(self, one: Json) -> Json:
        return {**({'uncalibrated': True} if one['images'] < FEW else {}), **self._unchecked}

    def _take(self, answer: Json, one: Json) -> None:
        answer.update({'class': one['name'], 'probability': None}, **self._marks(one))
        if 'answered' in answer:
            answer['answered'] = True
        if one['images'] < FEW:
            answer['top'] = [[one['name'], None]]
            answer.pop('prediction_set', None)
        elif 'prediction_set' in answer:  # it contains the old set, so its guarantee for old classes still holds
            answer['prediction_set'] = [one['name'], *answer['prediction_set']]


def normalized(rows: np.ndarray) -> np.ndarray:
    """Return L2-normalized rows, float32."""
    rows = np.asarray(rows, np.float64)
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def scores_of(directions: np.ndarray, prototypes: np.ndarray, means: Optional[np.ndarray]) -> np.ndarray:
    """Return the cosines to the prototypes, (N, E), minus the largest cosine to a class mean, if any."""
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
    """Return the statistics of held-out images that enrolling needs.

    Args:
        outputs: Outputs of the graph, with ``embedding`` (N, D).
        labels: Class numbers; images with -1, of no class of the model, are left out.
        answers: Answers of the runtime's ``decide``.
        classes: Classes of the model.

    Returns:
        ``held_directions`` (M, D) float16, L2-normalized; ``held_labels`` (M,); ``held_right`` and ``held_answered``
        (M,) bool: whether the most probable class is the right one, and whether the answer was not 'unknown'. If there
        are very many images, evenly spaced ones.
    """
    numbers = np.asarray(labels, np.int64)
    chosen = np.flatnonzero(numbers >= 0)
    most = max(1, _MOST_NUMBERS // outputs['embedding'].shape[1])
    if len(chosen) > most:
        chosen = chosen[np.arange(most) * len(chosen) // most]
    own = [answers[int(row)] for row in chosen]
    tops = [answer['top'][0][0] if answer.get('top') else None for answer in own]
    return dict(
        held_directions=normalized(outputs['embedding'][chosen]).astype(np.float16),
        held_labels=numbers[chosen],
        held_right=np.array(
            [not classes or top == classes[number] for top, number in zip(tops, numbers[chosen])], bool
        ),
        held_answered=np.array([answer.get('answered', True) for answer in own], bool),
    )


def class_means(held: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the mean direction of each class with held-out images, L2-normalized, (C, D)."""
    labels = held['held_labels']
    return normalized(np.stack([held['held_directions'][labels == own].mean(axis=0, dtype=np.float64)
                                for own in np.unique(labels)]))  # fmt: skip


def held_scores(held: Mapping[str, np.ndarray], prototypes: np.ndarray, means: Optional[np.ndarray]) -> np.ndarray:
    """Return the scores of held-out images, (M, E).

    If the class means were computed from these images, each image is compared with the mean of the others of its class:
    an image is nearer to a mean that contains it than later images are.
    """
    directions = held['held_directions'].astype(np.float32)
    if means is None or 'means_of_others' in held:
        return scores_of(directions, prototypes, means)
    _, rows, counts = np.unique(held['held_labels'], return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), directions.shape[1]))
    np.add.at(sums, rows, directions)
    nearest = directions @ means.T
    others = (directions * normalized(sums[rows] - directions)).sum(axis=1)
    nearest[np.arange(len(rows)), rows] = np.where(counts[rows] > 1, others, -1)
    return directions @ prototypes.T - nearest.max(axis=1, keepdims=True)


def threshold_of(scores: np.ndarray, steal: float) -> float:
    """Return the threshold that a new image like these M reaches with a probability of at most ``steal``.

    An image is taken if its conformal p-value, (1 + the number of scores that are at least as large) / (M + 1), is at
    most ``steal``. With fewer than 1 / steal - 1 images none of these may be taken: the probability is 1 / (M + 1).
    """
    allowed = max(0, math.floor(steal * (len(scores) + 1) + 1e-9) - 1)
    return float(np.nextafter(np.sort(scores.astype(np.float32))[::-1][allowed], np.float32(np.inf)))


def risk_holds(errors: int, answered: int, risk: float, confidence: float) -> bool:
    """Return whether so few errors prove the risk: P(Bin(answered, risk) <= errors) <= 1 - confidence."""
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
    data: Optional[Arrays] = None,
    train: Optional[Arrays] = None,
    steal: Optional[float] = None,
    replace: bool = False,
) -> tuple[list[Json], Json]:
    """Add classes to an artifact; nothing is written unless all of them are valid.

    Args:
        model: A ``Model`` of ``runtime.py``.
        images: Images for each class name: paths, or anything that the model reads.
        data: Held-out images of the old classes, from :func:`read_old_images`. Defaults to None: those in the artifact,
            from its export or from an earlier enrolling, if any.
        train: Other images of the old classes, such as those of the training, for better class means. Defaults to
            None: the means in the artifact; without them, those of the held-out images.
        steal: Share in (0, 1) of later images of the old classes that all new classes together may take. Defaults to
            None: that of an earlier enrolling, else 0.02.
        replace: Whether a class that is already enrolled may be enrolled again.

    Returns:
        A report for each class (``name``, ``images``, ``found_again``, ``unreadable``, ``warnings``), and the entry of
        the sidecar for all (``threshold``, ``held_out``, ``taken`` of these, ``risk``).

    Raises:
        ValueError: If a name or the share is invalid, or no image of a class can be read.
    """
    old = model.sidecar.get('enrolled') or dict(classes=[], steal=STEAL)
    steal = old['steal'] if steal is None else steal
    if not 0 < steal < 1:
        raise ValueError(f'enroll: expected --steal to be a share in (0, 1), got {steal}.')
    outputs = list(model.sidecar['model']['outputs'])
    if 'embedding' not in outputs:
        raise ValueError(f'enroll: expected a model with the output embedding, got {", ".join(outputs)}.')
    _check_names(list(images), model.sidecar, [one['name'] for one in old['classes']], replace)
    arrays = read_arrays(os.path.join(model.folder, old['file'])) if old['classes'] else {}
    kept = [number for number, one in enumerate(old['classes']) if one['name'] not in images]
    known = {name: values for name, values in arrays.items() if name != 'prototypes'} or _of_export(model)
    known = _with_old_images(known, data, train, bool(model.classes) and not model.sidecar.get('multi_label'))
    classes = [{**old['classes'][number]} for number in kept]
    prototypes, embedded, reports = [arrays['prototypes'][number] for number in kept], [], []
    for name, own in images.items():
        directions, answers, unreadable = _embedded(model, own)
        if not len(directions):
            raise ValueError(f'enroll: expected readable images of {name!r}, got none among {len(own)}.')
        prototypes.append(normalized(directions.mean(axis=0, dtype=np.float64)[None])[0])
        classes.append(dict(name=name, images=len(directions)))
        embedded.append(directions)
        reports.append(dict(classes[-1], unreadable=unreadable, warnings=_warnings(name, answers)))
        if 'held_labels' not in known:
            classes[-1]['threshold'] = _without_held_out(model, directions, prototypes[-1])
    arrays = dict(known, prototypes=np.stack(prototypes))
    about = _with_threshold(classes, arrays, steal, model.sidecar.get('calibration'))
    for report, directions, one in zip(reports, embedded, about['classes'][len(kept) :]):
        report['found_again'] = _found_again(directions, one['threshold'], arrays.get('means'))
    write_enrolled(model, about, arrays)
    return reports, about


def remove(model: Any, names: Sequence[str]) -> None:
    """Remove added classes from an artifact; the threshold is chosen again for the remaining ones.

    Raises:
        ValueError: If a class is not enrolled; then nothing is removed.
    """
    about = model.sidecar.get('enrolled') or dict(classes=[])
    known = [one['name'] for one in about['classes']]
    for name in names:
        if name not in known:
            raise ValueError(
                f'enroll: expected an enrolled class for --remove, got {name!r}. Enrolled: '
                f'{", ".join(known) or "none"}.'
            )
    kept = [number for number, name in enumerate(known) if name not in names]
    arrays = read_arrays(os.path.join(model.folder, about['file']))
    arrays['prototypes'] = arrays['prototypes'][kept]
    classes = [about['classes'][number] for number in kept]
    if classes:
        about = _with_threshold(classes, arrays, about['steal'], model.sidecar.get('calibration'))
    write_enrolled(model, about if classes else None, arrays)


def _of_export(model: Any) -> Arrays:
    """Return the held-out images that the export has stored."""
    if 'reference.npz' not in model.sidecar['files']:
        return {}
    arrays = read_arrays(os.path.join(model.folder, 'reference.npz'))
    return {name: values for name, values in arrays.items() if name.startswith('held_')}


def _with_old_images(known: Arrays, data: Optional[Arrays], train: Optional[Arrays], has_classes: bool) -> Arrays:
    """Return held-out images and class means: the given ones, else the stored ones."""
    if data is not None:
        known = {**{name: values for name, values in known.items() if 'means_of_others' in known}, **data}
    if train is not None:
        known = {**known, 'means': class_means(train), 'means_of_others': np.array(True)}
    elif 'means' not in known and 'held_labels' in known and has_classes:
        known = {**known, 'means': class_means(known)}
    return known


def _with_threshold(classes: list[Json], arrays: Arrays, steal: float, calibration: Optional[Json]) -> Json:
    """Return the sidecar's entry for the classes; with held-out images, one threshold for all that keeps the risk."""
    about: Json = dict(classes=classes, steal=steal, score='margin' if 'means' in arrays else 'cosine', held_out=0)
    asked = (calibration or {}).get('risk')
    if 'held_labels' not in arrays:
        return {**about, 'risk': dict(checked=False) if asked else None}
    scores = held_scores(arrays, arrays['prototypes'], arrays.get('means')).max(axis=1)
    threshold, risk = threshold_of(scores, steal), None
    if asked:
        counts = [_errors(arrays, scores >= limit) for limit in (math.inf, threshold)]
        holds = [risk_holds(*count, asked['risk'], asked['confidence']) for count in counts]
        raised = False
        while holds[0] and not holds[1]:  # it holds if nothing is taken, so this ends
            threshold, raised = float(np.nextafter(scores[scores >= threshold].min(), np.float32(np.inf))), True
            counts[1] = _errors(arrays, scores >= threshold)
            holds[1] = risk_holds(*counts[1], asked['risk'], asked['confidence'])
        risk = dict(checked=True, holds=holds[1], raised=raised, before=counts[0], after=counts[1])
    for one in classes:
        one['threshold'] = threshold
    return {**about, 'held_out': len(scores), 'taken': int((scores >= threshold).sum()), 'risk': risk}


def _errors(held: Arrays, taken: np.ndarray) -> tuple[int, int]:
    """Return the numbers of wrong and of all answers on old images, of which the new classes take some."""
    answered = held['held_answered'] | taken
    return int((answered & (taken | ~held['held_right'])).sum()), int(answered.sum())


def write_enrolled(model: Any, about: Optional[Json], arrays: Arrays) -> None:
    """Write the arrays under a new name, then the sidecar that names them, so that readers see the old or new state."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    before = (model.sidecar.get('enrolled') or {}).get('file')
    sidecar = {**model.sidecar, 'files': {name: one for name, one in model.sidecar['files'].items() if name != before}}
    sidecar['enrolled'] = None
    if about is not None:
        name = f'enrolled-{digest[:8]}.npz'
        _write(os.path.join(model.folder, name), content.getvalue())
        sidecar['enrolled'] = {**about, 'file': name}
        sidecar['files'][name] = dict(sha256=digest, bytes=len(content.getvalue()))
    sidecar = model.with_digests(sidecar)
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
    except OSError as error:
        os.unlink(unfinished)
        raise OSError(f'{path} could not be written ({error.strerror}); it is as it was before.') from error
    except BaseException:
        os.unlink(unfinished)
        raise


def _check_names(names: list[str], sidecar: Json, enrolled: list[str], replace: bool) -> None:
    old = {*sidecar['classes'], *(sidecar.get('folders') or ())}
    for name in names:
        if not name.strip() or name == 'unknown' or (sidecar.get('multi_label') and '|' in name):
            raise ValueError(
                f'enroll: expected a class name, got {name!r}, which is empty or has another meaning. Choose another '
                'name.'
            )
        if name in old:
            raise ValueError(
                f'enroll: expected a new class, got {name!r}, which the model was trained on. Choose another name.'
            )
        if name in enrolled and not replace:
            raise ValueError(f'enroll: {name!r} is already enrolled. Add --force to enroll it again, or --remove it.')


def _embedded(model: Any, images: Sequence[Any]) -> tuple[np.ndarray, list[Json], list[Json]]:
    """Return L2-normalized embeddings, the model's answers, and the images that cannot be read."""
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
    """Return a cosine threshold that ignores old classes: the lowest leave-one-out cosine among the class's own images.

    With fewer than three images, it is half way between the golden images, which have no class, and the prototype.
    """
    if not model.classes:
        return -1.0  # embeddings alone: the nearest prototype
    if len(directions) >= FEW:
        return float(_left_out(directions).min())
    golden = [os.path.join(model.folder, name) for name in model.sidecar['files'] if name.startswith('golden/')]
    background, _, _ = _embedded(model, golden)
    return float((1 + max((background @ prototype).max(initial=0.0), 0.0)) / 2)


def _left_out(directions: np.ndarray) -> np.ndarray:
    """Return the cosine of each image to the prototype of the other ones (leave-one-out), (N,)."""
    return (directions * normalized(directions.sum(axis=0, dtype=np.float64) - directions)).sum(axis=1)


def _found_again(directions: np.ndarray, threshold: float, means: Optional[np.ndarray]) -> Optional[int]:
    """Return how many images the class recognizes by the prototype of the other ones; None for a single image."""
    if len(directions) < 2:
        return None
    nearest = 0.0 if means is None else (directions @ means.T).max(axis=1)
    return int((_left_out(directions) - nearest >= threshold).sum())


def _warnings(name: str, answers: list[Json]) -> list[str]:
    """Return a warning about images that the model already recognizes as another class."""
    known: dict[str, int] = {}
    for answer in answers:
        is_sure = answer.get('probability') is None or answer['probability'] >= _SURE
        if answer.get('class') not in (None, '', 'unknown', name) and is_sure:
            known[answer['class']] = known.get(answer['class'], 0) + 1
    return [
        f'{count} of {len(answers)} images of {name!r} {"is" if count == 1 else "are"} {old!r} for the model'
        for old, count in known.items()
    ]


# In a shell


def read_assignments(texts: Sequence[str]) -> dict[str, list[str]]:
    """Read arguments NAME=IMAGES: a folder, a pattern or a file, or several separated by commas; names may repeat.

    Raises:
        ValueError: If a text has no name or no images, or a file belongs to two names.
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
                    f'enroll: {file} is an image of both {other!r} and {name!r}. Remove it from one of them.'
                )
    return found


def _files_of(place: str, text: str) -> list[str]:
    place = os.path.expanduser(place)
    if os.path.isdir(place):
        found = _below(place)
    elif os.path.isfile(place):
        found = [place]
    else:
        found = sorted(path for path in glob.glob(place, recursive=True) if os.path.isfile(path))
    if not found:
        raise ValueError(
            f'enroll: expected images for {text!r}, got none: {place!r} is neither an image nor a folder of images, '
            'and matches no file.'
        )
    return found


def read_old_images(model: Any, folder: str, option: str = '--data') -> tuple[Arrays, str]:
    """Read a folder of images for each old class, by class or folder name; return a line about what was read, too.

    Args:
        model: A ``Model`` of ``runtime.py``. If it has no classes, each folder is a class.
        folder: The folder of the class folders.
        option: Name for errors and the line.

    Raises:
        ValueError: If there is no image of an old class.
    """
    if not os.path.isdir(folder):
        raise ValueError(f'enroll: expected {option} to be a folder of class folders, got {folder!r}.')
    numbers = {name: number for number, name in enumerate(model.sidecar.get('folders') or [])}
    numbers.update({name: number for number, name in enumerate(model.classes)})
    places = sorted(name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name)))
    if not model.classes:
        numbers = {name: number for number, name in enumerate(places)}
    files = [(path, numbers[name]) for name in places if name in numbers for path in _below(os.path.join(folder, name))]
    if not files:
        raise ValueError(
            f"enroll: expected {option} to have images in folders of the model's classes "
            f'({", ".join(model.classes[:5])} ...), got none in {folder!r}.'
        )
    embeddings, labels, answers = [], [], []
    enrolled, model.enrolled = model.enrolled, None  # for the answers of the old classes alone
    try:
        for first in range(0, len(files), 32):
            batch = []
            for path, number in files[first : first + 32]:
                try:
                    batch.append(model.prepare(path))
                    labels.append(number)
                except (ValueError, OSError):
                    pass  # counted below
            if batch:
                outputs = model.run(np.stack(batch))
                embeddings.append(outputs['embedding'])
                answers += model.decide(outputs)
    finally:
        model.enrolled = enrolled
    if not labels:
        raise ValueError(f'enroll: expected readable images for {option}, got none in {folder!r}.')
    skipped = f', {len(files) - len(labels)} cannot be read' if len(files) > len(labels) else ''
    others = [name for name in places if name not in numbers]
    left = f', folders of other classes left out: {", ".join(others[:5])}' if others else ''
    line = f'{option}: {len(labels)} images of {len({*labels})} of the old classes{skipped}{left}'
    return held_out(dict(embedding=np.concatenate(embeddings)), labels, answers, model.classes), line


def _below(folder: str) -> list[str]:
    from PIL import Image

    known = {extension for extension, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    found: list[str] = []
    for top, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not (_is_hidden(name) or _is_around(os.path.join(top, name), top))]
        found += [os.path.join(top, name) for name in names if not _is_hidden(name)]
    return sorted(path for path in found if os.path.splitext(path)[1].lower() in known)


def _is_hidden(name: str) -> bool:
    return name.startswith('.') or name == '__MACOSX'


def _is_around(path: str, folder: str) -> bool:
    """Return whether a path links to a folder that contains ``folder``, or to it."""
    return os.path.join(os.path.realpath(folder), '').startswith(os.path.join(os.path.realpath(path), ''))


def said_of(report: Json) -> list[str]:
    """Return lines about an enrolled class."""
    count = f'{report["images"]} image{"s" if report["images"] > 1 else ""}'
    more = ''
    if report['images'] < FEW:
        more = f'; with fewer than {FEW} its answers are marked "uncalibrated"'
    elif report['images'] > MANY:
        more = f'; all are used ({MANY} are usually enough)'
    again = report['found_again']
    found = '' if again is None else f', {again} of them recognized by the prototype of the others'
    lines = [f'{report["name"]}: {count}{found}{more}']
    lines += [f'  warning: {text}' for text in report['warnings']]
    return lines + [f'  {one["error"]}' for one in report['unreadable']]


def said_of_all(about: Json) -> list[str]:
    """Return lines about the images of old classes that the new classes take."""
    if not about['held_out']:
        lines = ['Without held-out images (--data FOLDER) it is unknown how many images of the old classes the new '
                 'ones take: their answers are marked "unchecked".']  # fmt: skip
        if about['risk']:
            lines.append('For the same reason the threshold of the calibration is not checked again.')
        return lines
    count = about['held_out']
    lines = [f'The new classes take {about["taken"]} of {count} held-out images of the old classes, and are expected '
             f'to take at most {max(about["steal"], 1 / (count + 1)):.1%} of later ones.']  # fmt: skip
    risk = about['risk']
    if risk:
        before, after = (f'{errors} of {answered}' for errors, answered in (risk['before'], risk['after']))
        raised = '; for that the threshold of the new classes was raised' if risk['raised'] else ''
        lines.append(
            f'The risk of the calibration holds: {after} answers are wrong, {before} without the new classes{raised}.'
            if risk['holds']
            else f'These images do not prove the risk of the calibration: {after} answers are wrong, {before} without '
            'the new classes. Add more images: --data FOLDER.'
        )
    return lines


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command line; the exit code is 1 if an image cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    args = parser.parse_args(arguments)
    try:
        from runtime import Model  # beside this file

        return 1 if perform(args, Model)['unreadable'] else 0
    except (ValueError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('folder', metavar='DIR', help='the artifact, from hybridcls export')
    parser.add_argument(
        'classes',
        nargs='*',
        metavar='NAME=IMAGES',
        help='name of a new class, and its images: a folder, a pattern or files',
    )
    parser.add_argument('--data', metavar='FOLDER', help='held-out images of the old classes, in class folders')
    parser.add_argument(
        '--train',
        metavar='FOLDER',
        help='other images of the old classes, such as those of the training, in class folders',
    )
    parser.add_argument(
        '--steal',
        type=float,
        metavar='SHARE',
        help=f'share of later images of the old classes that all new ones may take; default: {STEAL}',
    )
    parser.add_argument('--force', action='store_true', help='enroll classes again that are already enrolled')
    parser.add_argument('--remove', nargs='+', metavar='NAME', help='remove enrolled classes')
    parser.add_argument('--list', action='store_true', help='show the enrolled classes')


def perform(args: argparse.Namespace, model_class: Any) -> Json:
    """Execute the parsed arguments and return the result; messages go to stderr, except those of ``--list``.

    Args:
        args: Parsed arguments of :func:`add_arguments`.
        model_class: ``Model`` of ``runtime.py``.

    Raises:
        ValueError: If the arguments are invalid; then nothing is changed.
    """
    if sum(map(bool, (args.classes, args.remove, args.list))) != 1:
        raise ValueError(
            'enroll: expected one of NAME=IMAGES, --remove NAME and --list. Type hybridcls enroll DIR mug=photos/mug'
        )
    images = read_assignments(args.classes)
    if not args.list and os.path.isdir(args.folder) and not os.access(args.folder, os.W_OK):
        raise ValueError(f'enroll: {args.folder} is not a writable folder. Copy it to one, and enroll there.')
    model = model_class(args.folder)
    reports: list[Json] = []
    lines: list[str] = []
    if args.remove:
        remove(model, args.remove)
        lines = [f'{", ".join(args.remove)}: removed from {args.folder}']
    if args.classes:
        old = [read_old_images(model, folder, option) if folder else (None, '')
               for folder, option in ((args.data, '--data'), (args.train, '--train'))]  # fmt: skip
        reports, about = enroll(model, images, old[0][0], old[1][0], args.steal, args.force)
        lines = [line for _, line in old if line]
        lines += [line for report in reports for line in said_of(report)] + said_of_all(about)
    for line in lines:
        print(line, file=sys.stderr)
    about = model.sidecar.get('enrolled')
    for one in about['classes'] if args.list and about else []:
        print(f'{one["name"]}: {one["images"]} image{"s" if one["images"] > 1 else ""}')
    unreadable = [bad for report in reports for bad in report['unreadable']]
    return dict(folder=args.folder, enrolled=about, reports=reports, unreadable=unreadable)


if __name__ == '__main__':
    sys.exit(main())
