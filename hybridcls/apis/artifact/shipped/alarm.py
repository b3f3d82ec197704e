"""Detect that a stream of images differs from the held-out images of the artifact. It needs numpy only.

    alarm = Alarm('DIR')                             # or Model('DIR').alarm()
    report = alarm.update(model.run(batch), batch)   # images in the order of arrival
    if report['alarm']: ...                          # 'p_value': how sure; 'evidence': by which scores
    alarm.save('alarm.json')                         # a service continues with alarm.restore('alarm.json')

Each image has several scores: of the model (1 - largest probability, uncertainties, distance to the nearest class mean,
norm of the embedding) and of its pixels (brightness, color, detail, grain). The rank of a score among those of the
held-out images and of the stream so far gives a p-value. While these images are exchangeable (drawn alike, in random
order), the p-values of a score are independent and uniform, and a bet against that is a fair game: the probability that
a stake ever grows x-fold is at most 1 / x, however long the stream is. The alarm is raised when the stake on one of S
scores has grown S / alpha-fold.
Scores are rounded (64 values per octave), so that a count for each value is all that is stored, and ranks are exact.
"""

# ruff: noqa: B905 - zip(strict=...) is not in Python 3.9, which runs this file
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

BINS = 2048
_PER_OCTAVE = 64
_BLOCK = 64
_LOWEST = 2.0**-24
_RICHEST = 1e200
LEAST_IMAGES = 20
_STATE = 'hybridcls alarm state'


def bins_of(scores: np.ndarray) -> np.ndarray:
    """Quantize scores >= 0 to ``BINS`` logarithmic bins, 64 per octave from 2^-24 on, independently of the data."""
    rounded = np.floor(np.log2(np.maximum(scores, _LOWEST) / _LOWEST) * _PER_OCTAVE)
    return np.minimum(rounded, BINS - 1).astype(np.int64)


def pixel_scores(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return image statistics that cameras and light change, of uint8 (N, h, w, 3) RGB: each (N,) float64 > 0.

    ``brightness`` is the mean, ``color`` the mean red divided by the mean blue, ``detail`` the mean difference of a
    pixel from its four neighbours, and ``grain`` the 0.2 quantile of these differences, which noise raises.
    """
    values = images.astype(np.float32)
    gray, channels = values.mean(3), values.mean((1, 2), dtype=np.float64)
    edges = np.abs(
        gray[:, 1:-1, 1:-1] - (gray[:, :-2, 1:-1] + gray[:, 2:, 1:-1] + gray[:, 1:-1, :-2] + gray[:, 1:-1, 2:]) / 4
    )
    return {
        'brightness': channels.mean(1) + 1,
        'color': (channels[:, 0] + 1) / (channels[:, 2] + 1),
        'detail': edges.mean((1, 2), dtype=np.float64) + 0.01,
        'grain': np.quantile(edges, 0.2, axis=(1, 2)).astype(np.float64) + 0.01,
    }


def scores_of(
    outputs: Mapping[str, np.ndarray], means: Optional[np.ndarray] = None, multi_label: bool = False
) -> dict[str, np.ndarray]:
    """Return the scores that the alarm monitors, each (N,) float64 >= 0.

    Args:
        outputs: Outputs of the model: ``probabilities`` (N, C) and ``embedding`` (N, D), if it has them, and all of
            shape (N,): uncertainties, :func:`pixel_scores`.
        means: Class means of L2-normalized embeddings, (G, D). None: the distance is left out.
        multi_label: Whether each class has a probability of its own.

    Raises:
        ValueError: If an output has numbers that are not finite.
    """
    found = {}
    for name, values in outputs.items():
        if '.' not in name and not np.isfinite(values).all():
            first = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))[0])
            raise ValueError(
                f'alarm: expected finite numbers, got NaN or infinity in {name!r} of image {first} of the batch.'
            )
        if values.ndim == 1 and '.' not in name:
            found[name] = np.maximum(values.astype(np.float64), 0)
    if 'probabilities' in outputs:
        given = outputs['probabilities'].astype(np.float64)
        rest = np.minimum(given, 1 - given).mean(1) if multi_label else np.sort(given, 1)[:, :-1].sum(1)
        found['least_confidence'] = np.maximum(rest, 0)
    if 'embedding' in outputs:
        embeddings = outputs['embedding'].astype(np.float64)
        found['norm'] = np.linalg.norm(embeddings, axis=1)
        if means is not None:
            means = means.astype(np.float64)
            directions = embeddings / np.maximum(found['norm'], 1e-12)[:, None]
            cosines = directions @ (means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)).T
            found['distance'] = np.maximum(1 - cosines.max(1), 0)
    return found


# A bet on small p-values pays a + b * p^c, whose mean over p is 1. The same with 1 - p bets on large ones.
_BETS = [bet for c in (0.15, 0.4, 0.7) for bet in ((0, c, c - 1), (0.75, c / 4, c - 1))]  # all, or a quarter of, images
_A, _B, _C = np.array([*_BETS, (2, -2, 1), (1.5, -1, 1)]).T


def bets_on(p_values: np.ndarray) -> np.ndarray:
    """Return the payoff of each of K bets per stake, (..., K); its mean is 1 if the p-value is uniform."""
    sides = np.maximum(np.stack([p_values, 1 - p_values], -1), 1e-12)
    small_or_large = (_A + _B * sides[..., None] ** _C).reshape(*p_values.shape, -1)
    both = sides.prod(-1)[..., None]  # bets on the two ends, and on the middle
    return np.concatenate([small_or_large, 1 / (math.pi * np.sqrt(both)), 6 * both], -1)


class Martingales:
    """Test martingales, one for each row: of the scores of one stream (in tests, of one score of many streams).

    Args:
        counts: Number of times that each rounded score has been seen, (S, BINS).
    """

    def __init__(self, counts: np.ndarray) -> None:
        self.counts = np.array(counts, np.int64)
        self._sums = self._blocks().sum(2)  # one a block, so that a rank takes two short sums
        self.wealth = np.zeros((len(self.counts), bets_on(np.zeros(1)).shape[-1]))
        self.images = 0

    def update(self, bins: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Take the next image; return the evidence, (S,).

        Args:
            bins: Rounded scores of the image, (S,).
            uniforms: Random numbers in [0, 1), (S,), which break ties.
        """
        p_values = self.p_values(bins, uniforms)
        rows = np.arange(len(bins))
        self.counts[rows, bins] += 1
        self._sums[rows, bins // _BLOCK] += 1
        # A shift may begin at any image: a part of the money waits, and at each image some of it begins to bet.
        waited, self.images = self._waiting(), self.images + 1
        stake = (waited - self._waiting()) / self.wealth.shape[1]
        self.wealth = np.minimum((self.wealth + stake) * bets_on(p_values), _RICHEST)
        return self.wealth.sum(1) + self._waiting()

    def p_values(self, bins: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Return p-values: the share of all images so far and the next one with a higher score; ties are randomized."""
        rows, (block, place) = np.arange(len(bins)), np.divmod(bins[:, None], _BLOCK)
        own = self._blocks()[rows, block[:, 0]]
        higher = np.where(np.arange(_BLOCK) > place, own, 0).sum(1)
        higher += np.where(np.arange(BINS // _BLOCK) > block, self._sums, 0).sum(1)
        return (higher + uniforms * (self.counts[rows, bins] + 1)) / (self._sums.sum(1) + 1)

    def _blocks(self) -> np.ndarray:
        return self.counts.reshape(-1, BINS // _BLOCK, _BLOCK)

    def _waiting(self) -> float:
        return 1 / (1 + math.log1p(self.images))


class Alarm:
    """Compare a stream of images with the held-out images of an artifact.

    Args:
        folder: The artifact, exported with ``--data HELD_OUT``.
        alpha: Probability of ever raising an alarm although nothing changed, in (0, 1). None: that of the artifact.
        scores: Names of the scores that count. None: all.
        seed: Seed for ties between equal scores. None: another one each time.

    Attributes:
        names: Names of the scores.
        images: Number of images of the stream so far.
        alarm_at: Number of the image that raised the alarm, from 1; None without an alarm. ``restart()`` resets it.

    Raises:
        FileNotFoundError: If the folder is not an artifact.
        ValueError: If it was exported without held-out images, its reference was changed, alpha is out of range, or a
            score is unknown.
    """

    def __init__(
        self,
        folder: Union[str, Path] = '.',
        alpha: Optional[float] = None,
        scores: Optional[Sequence[str]] = None,
        seed: Optional[int] = None,
    ) -> None:
        sidecar_path = Path(folder) / 'model.json'
        if not sidecar_path.is_file():
            raise FileNotFoundError(f'alarm: expected an artifact, got {folder}, which has no model.json.')
        sidecar = json.loads(sidecar_path.read_text(encoding='utf8'))
        drift = sidecar.get('drift')
        if not drift:
            raise ValueError(
                f'alarm: expected an artifact with held-out images, got {folder} without them. Export it with --data '
                'HELD_OUT.'
            )
        content = (Path(folder) / drift['file']).read_bytes()
        self._digest = hashlib.sha256(content).hexdigest()
        stated = sidecar.get('files', {}).get(drift['file'], {}).get('sha256', self._digest)
        if stated != self._digest:
            raise ValueError(f'alarm: {drift["file"]} in {folder} was changed after the export. Export it again.')
        with np.load(Path(folder) / drift['file'], allow_pickle=False) as arrays:
            known = [str(name) for name in arrays['names']]
            self.names: list[str] = known if scores is None else list(scores)
            unknown = [name for name in self.names if name not in known]
            if unknown or not self.names:
                raise ValueError(f'alarm: expected scores among {", ".join(known)}, got {scores}.')
            self._reference = arrays['counts'][[known.index(name) for name in self.names]]
            self._means = arrays.get('means')
            self._multi_label = bool(arrays['multi_label'])
        self.alpha = float(drift['alpha'] if alpha is None else alpha)
        if not 0 < self.alpha < 1:
            raise ValueError(f'alarm: expected alpha in (0, 1), got {alpha}.')
        self._random = np.random.default_rng(seed)
        self.restart()

    def restart(self) -> None:
        """Forget the stream, and start again from the held-out images alone."""
        self._martingales = Martingales(self._reference)
        self.alarm_at: Optional[int] = None
        self._highest = 1.0
        self._evidence = np.ones(len(self.names))

    @property
    def images(self) -> int:
        """Number of images of the stream so far."""
        return self._martingales.images

    def update(self, outputs: Mapping[str, np.ndarray], images: Optional[np.ndarray] = None) -> dict[str, Any]:
        """Process the next images, in the order of the stream.

        Args:
            outputs: Outputs of ``Model.run`` for a batch.
            images: The batch, uint8 (N, h, w, 3); needed for the scores of pixels.

        Returns:
            dict: The result of :meth:`report`.

        Raises:
            ValueError: If a score is missing or not finite; then none of these images counts.
        """
        if images is not None and not len(images):
            return self.report()
        given = dict(outputs) if images is None else {**outputs, **pixel_scores(images)}
        scores = scores_of(given, self._means, self._multi_label)
        missing = [name for name in self.names if name not in scores]
        if missing:
            raise ValueError(
                f'alarm: expected update(outputs, images) with the outputs for {", ".join(missing)}, got '
                f'{", ".join(outputs)}{" without images" if images is None else ""}.'
            )
        for bins in np.stack([bins_of(scores[name]) for name in self.names], 1):
            self._evidence = self._martingales.update(bins, self._random.random(len(bins)))
            # Not the mean over the scores: different scores need not form a martingale together, so their mean could
            # exceed 1 / alpha more often. A share of alpha for each score holds for any dependence between them.
            self._highest = max(self._highest, float(self._evidence.max()) / len(self.names))
            if self.alarm_at is None and self._highest >= 1 / self.alpha:
                self.alarm_at = self.images
        return self.report()

    def report(self) -> dict[str, Any]:
        """Return ``alarm``, ``alarm_at``, ``images``, ``p_value`` and the present ``evidence`` of each score.

        The p-value is valid at any time; an alarm means that it is at or below alpha. Evidence is a multiple of the
        stake: 1 means nothing, and ``len(names) / alpha`` for any score is an alarm.
        """
        return {
            'alarm': self.alarm_at is not None,
            'alarm_at': self.alarm_at,
            'images': self.images,
            'p_value': min(1.0, 1 / self._highest),
            'evidence': {name: float(value) for name, value in zip(self.names, self._evidence)},
        }

    def __str__(self) -> str:
        """Describe the state of the alarm in a sentence."""
        if self.alarm_at is None:
            return f'{self.images} images, no alarm (p = {1 / self._highest:.3g}, alpha = {self.alpha:g}).'
        moved = ', '.join(name for name, value in zip(self.names, self._evidence) if value > 1 / self.alpha)
        return (
            f'ALARM at image {self.alarm_at} of {self.images} (p = {1 / self._highest:.3g}, alpha = {self.alpha:g}): '
            f'these images differ from the held-out ones, {f"in {moved}" if moved else "but the latest do not"}.'
        )

    def save(self, path: Union[str, Path]) -> None:
        """Write the state to a JSON file, atomically."""
        kept = self._martingales
        state = {
            'format': _STATE, 'version': 1, 'reference': self._digest, 'names': self.names, 'images': kept.images,
            'counts': [[[int(one), int(row[one])] for one in np.flatnonzero(row)] for row in kept.counts],
            'wealth': kept.wealth.tolist(), 'evidence': self._evidence.tolist(), 'highest': self._highest,
            'alarm_at': self.alarm_at, 'random': self._random.bit_generator.state,
        }  # fmt: skip
        unfinished = Path(f'{path}.{os.getpid()}.part')
        unfinished.write_text(json.dumps(state), encoding='utf8')
        os.replace(unfinished, path)

    def restore(self, path: Union[str, Path]) -> None:
        """Continue from a saved state.

        Raises:
            ValueError: If the file is not a state, or belongs to an artifact with other held-out images.
        """
        try:
            state = json.loads(Path(path).read_text(encoding='utf8'))
        except ValueError:
            state = None
        if not isinstance(state, dict) or state.get('format') != _STATE or state.get('version') != 1:
            raise ValueError(f'alarm: expected a state that save() of this version wrote, got {path}.')
        if state['reference'] != self._digest or state['names'] != self.names:
            raise ValueError(
                f'alarm: expected a state of this artifact, got {path}, which belongs to other held-out images or '
                'scores. Start with a new state.'
            )
        try:
            counts = np.zeros((len(self.names), BINS), np.int64)
            for row, pairs in zip(counts, state['counts']):
                for one, count in pairs:
                    row[one] = count
            kept, evidence, highest = Martingales(counts), np.array(state['evidence']), float(state['highest'])
            wealth, kept.images, alarm_at = np.array(state['wealth']), int(state['images']), state['alarm_at']
            fits = wealth.shape == kept.wealth.shape and evidence.shape == self._evidence.shape
            if not fits or (counts < self._reference).any() or not np.isfinite(wealth).all():
                raise ValueError('its numbers do not fit')
            self._random.bit_generator.state = state['random']
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f'alarm: {path} is damaged ({error!r}). Start with a new state.') from error
        kept.wealth = wealth
        self._martingales, self._evidence, self._highest, self.alarm_at = kept, evidence, highest, alarm_at
