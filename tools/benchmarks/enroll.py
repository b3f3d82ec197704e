"""Enrolled classes: how many of their images are recognized, and what it costs the old classes.

    hybridcls export work_dirs/full --out DIR
    python tools/benchmark.py enroll DIR --data HELD_OUT --new FOLDER

HELD_OUT has images of the old classes, in a folder for each, FOLDER those of classes that the model was not trained on.
In each of --repeats draws a random half of HELD_OUT sets threshold and class means (the means come from --train where
it is given), the other half is tested; of each new class N random images are enrolled, and the others are tested.
"""

import argparse
from pathlib import Path
from typing import Optional

import numpy as np

from hybridcls.apis.artifact.shipped.enroll import (
    class_means,
    held_scores,
    normalized,
    read_old_images,
    scores_of,
    threshold_of,
)
from hybridcls.apis.artifact.shipped.runtime import Model, image_files


def main() -> None:
    """Print a row for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('artifact')
    parser.add_argument('--data', required=True)
    parser.add_argument('--new', required=True)
    parser.add_argument('--train')
    parser.add_argument('--images', type=int, nargs='+', default=[1, 3, 5, 20])
    parser.add_argument('--steal', type=float, default=0.02)
    parser.add_argument('--repeats', type=int, default=20)
    args = parser.parse_args()
    model = Model(args.artifact)
    held, _ = read_old_images(model, args.data)
    means = class_means(read_old_images(model, args.train)[0]) if args.train else None
    new = [_directions(model, folder) for folder in sorted(Path(args.new).iterdir()) if folder.is_dir()]
    print(f'{len(held["held_labels"])} held-out images, {sum(map(len, new))} of {len(new)} new classes')
    print('images  new accuracy  old images taken  old accuracy before  after')
    for count in args.images:
        random = np.random.default_rng(0)
        rows = [_one_draw(held, new, means, count, args.steal, random) for _ in range(args.repeats)]
        found, taken, before, after = np.mean(rows, axis=0) * 100
        print(f'{count:6}  {found:10.1f} %  {taken:14.1f} %  {before:17.1f} %  {after:.1f} %', flush=True)


def _one_draw(
    held: dict,
    new: list[np.ndarray],
    means: Optional[np.ndarray],
    count: int,
    steal: float,
    random: np.random.Generator,
) -> tuple[float, float, float, float]:
    """Enroll, and return the shares: new images found, old ones taken, old ones right before and after."""
    order = random.permutation(len(held['held_labels']))
    sets, tests = ({name: values[part] for name, values in held.items()} for part in np.array_split(order, 2))
    if means is not None:
        sets['means_of_others'] = np.array(True)
    own_means = class_means(sets) if means is None else means
    shuffled = [rows[random.permutation(len(rows))] for rows in new]
    prototypes = np.concatenate([normalized(rows[:count].mean(0)[None]) for rows in shuffled])
    threshold = threshold_of(held_scores(sets, prototypes, own_means).max(1), steal)
    scores = [scores_of(rows[count:], prototypes, own_means) for rows in shuffled]
    found = [(own.argmax(1) == number) & (own.max(1) >= threshold) for number, own in enumerate(scores)]
    old = scores_of(tests['held_directions'].astype(np.float32), prototypes, own_means).max(1) >= threshold
    right = tests['held_right']
    return np.concatenate(found).mean(), old.mean(), right.mean(), (right & ~old).mean()


def _directions(model: Model, folder: Path) -> np.ndarray:
    """Return the L2-normalized embeddings of the images of a folder."""
    paths = image_files(str(folder))
    batches = [np.stack([model.prepare(path) for path in paths[start : start + 32]])
               for start in range(0, len(paths), 32)]  # fmt: skip
    return normalized(np.concatenate([model.run(batch)['embedding'] for batch in batches]))


if __name__ == '__main__':
    main()
