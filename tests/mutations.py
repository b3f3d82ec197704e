"""A fixed set of small changes of core lines, each of which the mirrored tests must notice.

    python tests/mutations.py            all of them, about ten seconds each; prints which one survived
    python tests/mutations.py --only adaface --verbose

Each change is made in a copy of the package, and the tests that mirror the changed file run on it until the first one
fails. A change that no test notices says which test is missing. ``tests/test_mutations.py`` sees that the lines are
still there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LEAST_NOTICED = 55


class Mutation(NamedTuple):
    """``old`` stands once in ``file`` (below ``hybridcls/``) and becomes ``new``; ``tests`` stand beside the mirror."""

    file: str
    old: str
    new: str
    tests: tuple[str, ...] = ()


MUTATIONS = (
    # margins
    Mutation('functional/margins/angular_margin.py', 'past = cosine <= -cos_margin', 'past = cosine <= cos_margin'),
    Mutation('functional/margins/angular_margin.py', 'cosine - margin * sin_margin', 'cosine + margin * sin_margin'),
    Mutation('functional/margins/angular_margin.py', '(1 - cosine) * (1 + cosine)', '1 - cosine.abs()'),
    Mutation('functional/margins/adaptive_margin.py', 'angle = -margin * scaler', 'angle = margin * scaler'),
    Mutation('functional/margins/adaptive_margin.py', 'margin * (1 + scaler)', 'margin * scaler'),
    Mutation('functional/margins/adaptive_margin.py', '(total - 1).clamp(min=1)', 'total.clamp(min=1)'),
    Mutation(
        'functional/margins/adaptive_margin.py', 'torch.where(total > 1, t_alpha', 'torch.where(total > 0, t_alpha'
    ),
    Mutation('functional/margins/margin_combination.py', 'cosine - edge - 1', 'cosine - 1'),
    Mutation('functional/margins/class_margins.py', 'high * weight / weight.max()', 'high * weight / weight.sum()'),
    Mutation('functional/margins/class_sampling.py', 'torch.where(here, 2.0, 0.0)', 'torch.where(here, 0.5, 0.0)'),
    Mutation(
        'functional/margins/margin_softmax.py', 'labels < statistics.best_class', 'labels > statistics.best_class'
    ),
    Mutation(
        'functional/margins/margin_softmax.py',
        'label_smoothing * (target - mean_logit)',
        'label_smoothing * mean_logit',
    ),
    Mutation('models/margins/norm_statistics.py', 'std.copy_(new_std)', 'std.copy_(std)'),
    Mutation('models/margins/adaface_margin.py', 'if self.training:', 'if True:'),
    Mutation('functional/margins/streamed_softmax.py', '(before - largest_sum).exp_()', '(before - before).exp_()'),
    Mutation('functional/margins/class_blocks.py', 'row.t() * self.num_subcenters', 'row.t()'),
    Mutation(
        'functional/margins/softmax_kernels.py',
        'tl.where(is_target, 0.0, found)',
        'found',
        ('tests/test_functional/test_margins/test_kernel_softmax.py',),
    ),
    Mutation('functional/product_precision.py', 'half = tensor.bfloat16()', 'half = tensor.half()'),
    # class imbalance, several labels
    Mutation('functional/imbalance/class_weights.py', '(present.sum() * counts)', 'counts.double()'),
    Mutation('functional/imbalance/class_weights.py', 'present.sum() / weights.sum()', '1 / weights.sum()'),
    Mutation('functional/imbalance/logit_adjustment.py', '.clamp(min=1)', ''),
    Mutation('functional/multilabel/asymmetric_cross_entropy.py', '(logits.sigmoid() - clip)', 'logits.sigmoid()'),
    Mutation('functional/multilabel/threshold_choice.py', 'following == self.scores', 'following > self.scores'),
    Mutation('models/modules/class_thresholds.py', 'in_checkpoint=not is_given', 'in_checkpoint=True'),
    # contrast
    Mutation('functional/contrastive/dense_supcon.py', 'positive = positive & ~own', 'pass'),
    Mutation('functional/contrastive/dense_supcon.py', 'masked_fill(num_positives == 0, 0)', 'nan_to_num()'),
    Mutation('functional/contrastive/streamed_logsumexp.py', 'if symmetric and not block.is_own:', 'if symmetric:'),
    Mutation('functional/contrastive/streamed_logsumexp.py', '/ temperature**2', '/ temperature'),
    Mutation('models/heads/supcon_head.py', '.transpose(0, 1)  # (B, V, out_channels)', '.contiguous()'),
    # evidence and uncertainty
    Mutation(
        'functional/evidential/evidential_losses.py', '(1 - squares) / (strength + 1)', '(1 - squares) / strength'
    ),
    Mutation('functional/evidential/dirichlet_uncertainty.py', 'alpha.shape[1] / strength', '1 / strength'),
    Mutation('functional/evidential/mixture_uncertainty.py', 'epistemic + (expected - own).clamp_min(0)', 'epistemic'),
    Mutation('models/heads/evidential_head.py', 'self.evidence(feats).log1p()', 'self.evidence(feats)'),
    # calibration
    Mutation('functional/calibration/risk_threshold.py', 'candidates[int(', 'candidates[0 * int('),
    Mutation('functional/calibration/risk_threshold.py', 'else int(passed.argmin())', 'else int(passed.sum())'),
    Mutation('functional/calibration/conformal_sets.py', '(len(right_scores) + 1)', 'len(right_scores)'),
    Mutation('apis/calibration_fit.py', 'fits = known & ~is_test if split else known', 'fits = known'),
    # new classes, new models
    Mutation('apis/artifact/shipped/enroll.py', '(len(scores) + 1) + 1e-9) - 1)', '(len(scores) + 1) + 1e-9))'),
    Mutation('functional/distillation/influence_loss.py', 'own >= 0, picked, 0.0', 'own >= -1, picked, 0.0'),
    # distillation
    Mutation('functional/distillation/distillation_losses.py', 'temperature**2 * F.kl_div', 'F.kl_div'),
    Mutation('functional/distillation/distillation_losses.py', "reduction='batchmean'", "reduction='sum'"),
    # tokens and modules
    Mutation('functional/tokens/token_matching.py', 'r = min(r, (length - protected) // 2)', 'r = min(r, length // 2)'),
    Mutation('functional/tokens/token_matching.py', 'size.log().to(dtype)', 'size.to(dtype)'),
    Mutation('models/modules/cbam.py', 'x.amax(dim=(2, 3))', 'x.amin(dim=(2, 3))'),
    Mutation('models/modules/cbam.py', 'momentum=0.01', 'momentum=0.1'),
    Mutation('models/modules/token_learner.py', '.softmax(dim=-1)', '.softmax(dim=-2)'),
    Mutation('models/necks/dha_fusion.py', 'joined * self.gate(joined)', 'joined + self.gate(joined)'),
    Mutation('models/heads/multi_head.py', "value * self.weights[name] if 'loss' in key else value", 'value'),
    Mutation(
        'models/heads/linear_head.py',
        'targets = targets.repeat(num_views,',
        'targets = targets.repeat_interleave(num_views, 0).repeat(1,',
    ),
    # metrics
    Mutation('functional/metrics/ood_scores.py', 'known, unknown, right=True', 'known, unknown, right=False'),
    Mutation('functional/metrics/ood_scores.py', 'unknown <= known[accepted - 1]', 'unknown < known[accepted - 1]'),
    Mutation('functional/metrics/retrieval_scores.py', '< matches.unsqueeze(1)', '<= matches.unsqueeze(1)'),
    Mutation('functional/metrics/verification_scores.py', 'rate * impostors + 1e-9', 'rate * impostors'),
    Mutation('functional/metrics/selective_prediction.py', 'return means[group]', 'return errors'),
    Mutation(
        'functional/metrics/nearest_neighbours.py',
        'keys[inside, place[inside]] = NOT_THERE',
        'pass',
    ),
    Mutation('functional/metrics/nearest_neighbours.py', '- 2 * rounding_error(', '+ 0 * rounding_error('),
    Mutation(
        'functional/metrics/neighbour_candidates.py',
        'return own - self.first, own - start',
        'return own[:0], own[:0]',
    ),
    Mutation('functional/metrics/rough_similarities.py', 'error = (self._moved', 'error = 0 * (self._moved'),
    Mutation('functional/metrics/resampled_ranks.py', '(below + self.others)', '(2 * below)'),
    Mutation('functional/metrics/neighbour_order.py', '(_LARGEST - positions)', 'positions'),
    Mutation('evaluation/knn_accuracy.py', '- similarity[:, :1]) / self.temperature', ') * 0'),
    # data
    Mutation('datasets/data_split.py', 'divided = set(sizes) - {', 'divided = set(sizes) or {'),
    Mutation(
        'datasets/near_duplicates.py', '(-1) ** across for _ in range(FREQUENCIES)', '1 for _ in range(_FREQUENCIES)'
    ),
    Mutation('engine/config/kept_split.py', "{own: 'val', 'test': 'test'}", "{own: 'val'}"),
    Mutation('engine/config/data_splits.py', '(*beside, folder)', '(folder,)'),
    Mutation('engine/phases/folds.py', "'data_split.fold': fold,", "'data_split.fold': 1,"),
    # processes
    Mutation('distributed/gather.py', '        dist.all_reduce(grad)\n', ''),
    Mutation('distributed/sharded_softmax.py', '.div_(len(counts))', ''),
    # the update
    Mutation('engine/optim/stages/sam.py', 'update.count % self.every == 0', 'update.count % self.every == 1'),
    Mutation('engine/optim/stages/sam.py', 'norm / update.grad_scale)', 'norm)'),
    Mutation('engine/optim/stages/msam.py', 'norm + 1e-12)', '1)'),
    Mutation('engine/optim/stages/msam.py', 'factor * decay', 'factor * 0'),
    Mutation('engine/optim/stages/friendly_sam.py', 'alpha=1 - self.lmbda', 'alpha=self.lmbda'),
    Mutation('engine/optim/stages/friendly_sam.py', '-self.sigma * update.grad_scale', '-self.sigma'),
    Mutation(
        'engine/optim/composed_optim_wrapper.py',
        '            finally:\n                self._restore_weights()',
        '            finally:\n                pass',
    ),
    Mutation('engine/optim/stages/lookahead.py', 'self.steps_since = 0\n        where', 'where'),
    Mutation('engine/optim/stages/gradient_centralization.py', 'param.dim() < 2 or any(', 'any('),
    Mutation('engine/optim/composed_optim_wrapper.py', 'self.nonfinite_losses.reset()', 'pass'),
    Mutation('engine/optim/composed_optim_wrapper.py', 'self.precision.unscale(self.optimizer)', 'pass'),
    Mutation('engine/optim/groups/decay_rules.py', 'param.dim() <= 1 or', ''),
    # a config
    Mutation('engine/config/shared_keys.py', 'if there is ABSENT or there is None:', 'if True:'),
    Mutation('engine/config/schedules.py', 'batch * accumulated * processes', 'batch * processes'),
    Mutation('engine/config/change.py', 'layer.rank > written.rank', 'layer.rank >= written.rank'),
    # images
    Mutation('datasets/jpeg_header.py', 'in (5, 6, 7, 8)', 'in (6, 8)'),
    Mutation('datasets/transforms/planned_crops.py', 'box.height >= crop.img_size[0] and', ''),
    Mutation('datasets/transforms/planned_crops.py', 'if self.size != (height, width):', 'if self.size is None:'),
    Mutation(
        'datasets/transforms/load_image.py', 'scale == 1 or image.shape[:2] != plan.decoded_size(scale)', 'scale == 1'
    ),
    Mutation('datasets/transforms/rand_augment.py', '- low * scale', ''),
    Mutation('datasets/transforms/rand_augment.py', 'np.cumsum(counts, axis=0) - counts', 'np.cumsum(counts, axis=0)'),
    Mutation('datasets/image_cache.py', 'status.st_size, status.st_mtime_ns', 'status.st_size,'),
    Mutation('datasets/image_cache.py', 'fcntl.flock(file, fcntl.LOCK_EX)', 'pass'),
    Mutation('datasets/image_cache.py', 'if repr(fixed) == self._steps else None', ''),
    Mutation('functional/color_adjustment.py', '(blue - red) / divisor + 2', '(blue - red) / divisor + 3'),
    Mutation('models/data_preprocessors/device_augment.py', '+ get_rank()', ''),
    Mutation(
        'models/data_preprocessors/device_augment.py', '(2 * left + box_width) / width - 1', '2 * left / width - 1'
    ),
    # a run
    Mutation('engine/checkpoints/files.py', '            os.fsync(file.fileno())\n', ''),
    Mutation('engine/hooks/slow_weights_hook.py', 'param.copy_(fast)', 'pass'),
    Mutation('engine/hooks/random_state_hook.py', 'self._batches.skip(done)', 'pass'),
    Mutation('engine/hooks/early_stopping_hook.py', 'else -self._min_delta', 'else self._min_delta'),
    Mutation('engine/hooks/transfer_hook.py', 'if resumes(runner):\n            return', 'pass'),
    Mutation('engine/phases/running.py', 'if not is_a(', 'if is_a('),
    # data
    Mutation('structures/labels.py', '(scores != 0).sum(1) == 1', '(scores != 0).sum(1) >= 1'),
    Mutation('structures/unknown.py', 'label == UNKNOWN_LABEL or', ''),
)


def mirror_of(file: str) -> str:
    """Return the test file of a file of the package: its folders and itself with ``test_`` in front."""
    path = Path(file)
    return str(Path('tests', *(f'test_{part}' for part in path.parent.parts), f'test_{path.name}'))


def run(mutation: Mutation, verbose: bool) -> bool:
    """Return whether the mirrored tests notice the change."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ('hybridcls', 'tests', 'configs', 'tools', 'projects', 'docs'):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns('__pycache__'), symlinks=True)
        for name in ('pyproject.toml', 'README.md', 'CHANGELOG.md', 'setup.py', 'model-index.yml'):
            shutil.copy(ROOT / name, copy / name)
        source = copy / 'hybridcls' / mutation.file
        source.write_text(source.read_text(encoding='utf8').replace(mutation.old, mutation.new), encoding='utf8')
        command = [sys.executable, '-m', 'pytest', '-x', '-q', '-p', 'no:cacheprovider', '-m', 'not nightly']
        result = subprocess.run(
            [*command, mirror_of(mutation.file), *mutation.tests],
            cwd=copy,
            env={**os.environ, 'PYTHONPATH': str(copy), 'OMP_NUM_THREADS': '1', 'HF_HUB_OFFLINE': '1'},
            capture_output=True,
            text=True,
        )
    if verbose:
        print(result.stdout[-1500:])
    if result.returncode not in (0, 1):
        raise RuntimeError(f'{mutation.file}: the tests did not run.\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}')
    return result.returncode == 1


def main() -> None:
    """Run the mutations and print which survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', default='', help='mutations of files with this in their path')
    parser.add_argument('--verbose', action='store_true', help='print the end of what pytest says')
    args = parser.parse_args()
    chosen = [mutation for mutation in MUTATIONS if args.only in mutation.file]
    survived = []
    for number, mutation in enumerate(chosen, 1):
        start = time.time()
        noticed = run(mutation, args.verbose)
        if not noticed:
            survived.append(mutation)
        what = f'{mutation.file}: {mutation.old!r} -> {mutation.new!r}'
        print(
            f'{number}/{len(chosen)} {"noticed" if noticed else "SURVIVED"} {time.time() - start:.0f} s  {what}',
            flush=True,
        )
    print(f'{len(chosen) - len(survived)} of {len(chosen)} noticed.')
    if len(chosen) == len(MUTATIONS) and len(chosen) - len(survived) < LEAST_NOTICED:
        sys.exit(1)


if __name__ == '__main__':
    main()
