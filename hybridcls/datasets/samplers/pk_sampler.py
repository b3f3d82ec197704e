"""Draw batches of P classes with K images each."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, Optional

import numpy as np
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from hybridcls.checks import check_number
from hybridcls.registry import DATA_SAMPLERS

from .dataset_labels import labels_of

__all__ = ['PKSampler']

_CANDIDATES_A_SLOT = 32


@DATA_SAMPLERS.register_module()
class PKSampler(Sampler):
    """Draw batches of P classes with K images each, which gives contrastive losses their positives.

    It is the ``batch_sampler`` of a dataloader::

        train_dataloader = dict(
            batch_size=64, sampler=dict(type='DefaultSampler', shuffle=True),
            batch_sampler=dict(type='PKSampler', images_per_class=8), ...)      # 8 classes of 8 images

    **Several processes.** ``batch_size`` is that of one process, as everywhere in mmengine: the batch of *each* process
    has P classes with K images. In one step the processes have different classes if there are at least P x processes
    of them; otherwise they share classes, but not images. All processes have equally many batches.

    **An epoch.** The images of a class are shuffled and cut into groups of K; each batch takes the groups of P
    different classes, drawn in proportion to the groups that are left. The epoch ends when every image has been drawn.
    Where the numbers do not divide, images are repeated, as few and as evenly as possible: within a class the counts of
    two images differ by at most one; a class of fewer than K images fills its group by repeating them; and if one
    class is so large that the others run out of groups, these start over, in proportion to their sizes. (A class with
    half of all images makes long epochs: it can have only 1 of P groups. ``batches_per_epoch`` shortens them.)

    **Resuming.** The order follows from the seed and the epoch of ``sampler`` alone, which mmengine's
    DistSamplerSeedHook sets, and a resumed run continues as the uninterrupted one. :meth:`skip` starts within an epoch.

    A dataloader with a batch sampler takes no ``drop_last``; no batch is incomplete.

    Args:
        sampler (Sampler): Filled in by mmengine from the dataloader's ``sampler``; ``DefaultSampler`` with
            ``shuffle=True``. Only its dataset, seed and epoch are used.
        batch_size (int): Filled in by mmengine from the dataloader's ``batch_size``: P x K.
        images_per_class (int): K >= 1.
        classes_per_batch (int, optional): P, checked against the batch size. Defaults to None: ``batch_size / K``.
        batches_per_epoch (int, optional): Number of batches of an epoch. If that is too few for all images, a random
            part of the groups is dropped, a different one in each epoch. Defaults to None: as many as needed.

    Raises:
        ValueError: If P x K is not the batch size, P exceeds the number of classes, or a number is out of range.
        TypeError: If the dataset has no labels, or ``sampler`` has no seed and epoch.

    Example:
        >>> from mmengine.dataset import DefaultSampler
        >>> from hybridcls.datasets import Digits
        >>> digits = Digits()
        >>> batches = PKSampler(DefaultSampler(digits, seed=0), batch_size=32, images_per_class=8)
        >>> labels = digits.get_gt_labels()
        >>> [len(set(labels[batch])) for batch in batches][:3], len(batches)
        ([4, 4, 4], 38)
    """

    def __init__(
        self,
        sampler: Any,
        batch_size: int,
        images_per_class: int,
        classes_per_batch: Optional[int] = None,
        batches_per_epoch: Optional[int] = None,
    ) -> None:
        check_number('PKSampler', 'images_per_class', images_per_class, 1, integer=True)
        if classes_per_batch is None:
            classes_per_batch = batch_size // images_per_class
        check_number(
            'PKSampler',
            'classes_per_batch',
            classes_per_batch,
            1,
            integer=True,
            advice=f'It is batch_size={batch_size} divided by images_per_class={images_per_class}.',
        )
        if classes_per_batch * images_per_class != batch_size:
            raise ValueError(
                f'PKSampler: expected batch_size={classes_per_batch * images_per_class} for {classes_per_batch} '
                f'classes with images_per_class={images_per_class}, got batch_size={batch_size} (of one process).'
            )
        if not all(hasattr(sampler, name) for name in ('dataset', 'seed', 'epoch')):
            raise TypeError(
                f'PKSampler: expected a sampler with dataset, seed and epoch, got {type(sampler).__name__}. Use '
                "sampler=dict(type='DefaultSampler', shuffle=True), also for training by iterations."
            )
        if not getattr(sampler, 'shuffle', True):
            raise ValueError(
                'PKSampler: expected sampler.shuffle=True, got False: it draws classes and images at random. Set '
                'shuffle=True, or remove the batch_sampler.'
            )
        # DistSamplerSeedHook calls set_epoch of the attribute with this name.
        self.sampler = sampler
        self.batch_size = batch_size
        self.images_per_class = images_per_class
        self.classes_per_batch = classes_per_batch
        self.rank, self.world_size = get_dist_info()
        labels = labels_of(sampler.dataset)
        if not len(labels):
            raise ValueError('PKSampler: the dataset is empty.')
        order = np.argsort(labels, kind='stable')
        starts = np.unique(labels[order], return_index=True)[1]
        self._images = np.split(order, starts[1:])  # of each class that has any
        if classes_per_batch > len(self._images):
            raise ValueError(
                f'PKSampler: a batch of {batch_size} with images_per_class={images_per_class} needs '
                f'{classes_per_batch} classes, but the dataset has {len(self._images)}. Use at least '
                f'images_per_class={math.ceil(batch_size / len(self._images))} or a smaller batch_size.'
            )
        self._slots = classes_per_batch * self.world_size  # groups in one step of all processes
        # Largest number of groups of a class in one step; 1 unless the processes have to share classes.
        self._most = math.ceil(self._slots / len(self._images))
        self._sizes = np.array([len(images) for images in self._images])
        self._needed = -(-self._sizes // images_per_class)  # groups that cover every image
        if batches_per_epoch is None:
            self._num_batches = max(
                math.ceil(self._needed.sum() / self._slots), math.ceil(self._needed.max() / self._most)
            )
        else:
            check_number('PKSampler', 'batches_per_epoch', batches_per_epoch, 1, integer=True)
            self._num_batches = batches_per_epoch
        self._skipped = 0

    def __len__(self) -> int:
        """Return the number of batches of an epoch, the same in all processes."""
        return self._num_batches

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the image indices of each batch of this process."""
        skipped, self._skipped = self._skipped, 0
        return itertools.islice(self._batches(), skipped, None)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next epoch, which seeds its shuffling."""
        self.sampler.set_epoch(epoch)

    def skip(self, num_batches: int) -> None:
        """Skip the first ``num_batches`` batches of the next epoch, without loading their images."""
        check_number('PKSampler.skip', 'num_batches', num_batches, 0, self._num_batches, integer=True)
        self._skipped = num_batches

    def _batches(self) -> Iterator[list[int]]:
        # Every process draws the batches of all, with the same generator, and takes its own: nothing to communicate.
        rng = np.random.default_rng([self.sampler.seed, self.sampler.epoch])
        groups_left = self._groups_of_an_epoch(rng)
        decks: dict[int, _Deck] = {}
        for batches_left in range(self._num_batches, 0, -1):
            counts = self._draw_classes(groups_left, batches_left, rng)
            groups_left -= counts
            groups = []
            for number in rng.permutation(np.flatnonzero(counts)):
                deck = decks.setdefault(number, _Deck(self._images[number], rng))
                deck.seen = []
                groups += [deck.draw(self.images_per_class) for _ in range(counts[number])]
            # Groups of one class are neighbours, at most one for each process: dealt in turn, no process gets a
            # class twice.
            yield [image for group in groups[self.rank :: self.world_size] for image in group]

    def _groups_of_an_epoch(self, rng: np.random.Generator) -> np.ndarray:
        """Return the number of groups of each class; the sum fills all batches, and no class exceeds its share."""
        total, most = self._num_batches * self._slots, self._num_batches * self._most
        least = np.minimum(self._needed, most)
        if least.sum() > total:
            return rng.multivariate_hypergeometric(least, total, method='marginals')

        def filled_up(rounds: float) -> np.ndarray:
            """Return the groups for ``rounds`` passes over each class, at least one and at most ``most`` groups."""
            return np.clip(np.floor(rounds * self._sizes / self.images_per_class).astype(np.int64), least, most)

        low, high = 0.0, float(most * self.images_per_class + 1)
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if filled_up(middle).sum() <= total else (low, middle)
        groups = filled_up(low)
        while groups.sum() < total:  # less than one group a class: the least drawn classes first
            seen = np.where(groups < most, (groups + 1) * self.images_per_class / self._sizes, np.inf)
            chosen = np.argsort(seen, kind='stable')[: min(total - groups.sum(), np.isfinite(seen).sum())]
            groups[chosen] += 1
        return groups

    def _draw_classes(self, left: np.ndarray, batches_left: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the number of groups of each class in one step, in proportion to the groups left."""
        # A class that cannot place all its groups in the later steps has to be in this one.
        counts = np.maximum(left - (batches_left - 1) * self._most, 0)
        free = self._slots - counts.sum()
        while free > 0:
            candidates = np.flatnonzero((counts < self._most) & (counts < left))
            if len(candidates) > _CANDIDATES_A_SLOT * self._slots:  # a sample of a million classes is enough
                chosen = rng.choice(len(candidates), _CANDIDATES_A_SLOT * self._slots, replace=False, shuffle=False)
                candidates = candidates[chosen]
            number = min(free, len(candidates))
            # The smallest of exponential variables of these rates: drawing one after the other without replacement.
            arrivals = rng.exponential(size=len(candidates)) / (left - counts)[candidates]
            counts[candidates[np.argpartition(arrivals, number - 1)[:number]]] += 1
            free -= number
        return counts


class _Deck:
    """The images of one class, drawn without replacement and reshuffled when exhausted."""

    def __init__(self, images: np.ndarray, rng: np.random.Generator) -> None:
        self.images = images
        self.rng = rng
        self.cards: list[int] = []
        self.seen: list[int] = []  # in the current step, by any process

    def draw(self, number: int) -> list[int]:
        """Draw ``number`` images, with repeats only if the class has too few."""
        begin = len(self.seen)
        while len(self.seen) < begin + number:
            if not self.cards:
                shuffled = self.rng.permutation(self.images).tolist()
                # Images of this step go to the bottom, the latest deepest.
                when = {image: position for position, image in enumerate(self.seen)}
                shuffled.sort(key=lambda image: when.get(image, -1))
                self.cards = shuffled[::-1]
            self.seen.append(self.cards.pop())
        return self.seen[begin:]
