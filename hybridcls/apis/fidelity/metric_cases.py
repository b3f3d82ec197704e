"""Fidelity cases of metrics, on fixed predictions."""

from collections.abc import Iterable, Sequence
from typing import Any, Optional

import numpy as np
import torch

from hybridcls.functional import fit_logistic_regression, fold_accuracies, mixture_uncertainty, roc_on_grid
from hybridcls.functional.calibration import fit_temperature
from hybridcls.functional.metrics import (
    classwise_calibration_error,
    equal_mass_calibration_error,
    risk_coverage,
    smooth_calibration_error,
)
from hybridcls.registry import METRICS

from .fidelity_case import Expected, FidelityCase, Found, Official, Place
from .fixed_inputs import pairs, probabilities, waves

__all__ = [
    'BANK', 'CASES', 'FAR_AWAY', 'LAYER', 'QUERIES', 'UNKNOWN', 'bank_labels', 'confidences', 'members',
    'ood_scores', 'predictions', 'query_labels',
]  # fmt: skip

_IMAGES, _CLASSES = 97, 6
UNKNOWN = 40
"""Images of unknown categories among 120; 95 % of either side are whole images."""
BANK, QUERIES = waves(150, 8, phase=0.2), waves(100, 8, phase=1.2)

FAR_AWAY = 1.3 * waves(40, 8, phase=2.4) + 0.2
"""Embeddings of images of unknown categories."""
LAYER = waves(6, 8, phase=0.6), waves(6, phase=1.4)


def bank_labels() -> np.ndarray:
    """Return the classes of the bank, which partly follow from its embeddings."""
    return (BANK[:, :6] + 0.4 * waves(150, 6, phase=3.0)).argmax(1)


def query_labels() -> np.ndarray:
    """Return the classes of the queries."""
    return (QUERIES[:, :6] + 0.4 * waves(100, 6, phase=4.0)).argmax(1)


def predictions() -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (N, C) and labels (N,)."""
    return probabilities(_IMAGES, _CLASSES)


def confidences() -> tuple[np.ndarray, np.ndarray]:
    """Return the confidence of each image, and whether its prediction is right."""
    scores, labels = predictions()
    return scores.max(1), scores.argmax(1) == labels


def _evaluated(cfg: dict[str, Any], samples: Sequence[dict], names: Sequence[str], bank: Any = None) -> Found:
    metric = METRICS.build(cfg)
    if bank is not None:
        metric.set_bank(*bank)
    metric.process(None, samples)
    results = {name.rpartition('/')[2]: value for name, value in metric.evaluate(size=len(samples)).items()}
    return {name: torch.as_tensor(results[name], dtype=torch.float64) for name in names}


def _samples(place: Place, scores: np.ndarray, labels: Iterable[int]) -> list[dict]:
    return [
        dict(pred_score=place.tensor(score), gt_label=torch.tensor([int(label)], device=place.device))
        for score, label in zip(scores, labels, strict=True)
    ]


def _of_predictions(names: Sequence[str], **cfg: Any) -> Any:
    def found(place: Place) -> Found:
        return _evaluated(cfg, _samples(place, *predictions()), names)

    return found


def _top_k() -> Expected:
    from sklearn.metrics import top_k_accuracy_score

    scores, labels = predictions()
    return {f'top{k}': 100 * np.array(top_k_accuracy_score(labels, scores, k=k)) for k in (1, 3)}


_REPORTED = ('macro_precision', 'macro_recall', 'macro_f1')


def _macro(names: Sequence[str]) -> Expected:
    from sklearn.metrics import precision_recall_fscore_support

    scores, labels = predictions()
    found = precision_recall_fscore_support(labels, scores.argmax(1), average='macro', zero_division=0.0)
    return {name: 100 * np.array(value) for name, value in zip(names, found, strict=False)}


def _confusion() -> Expected:
    from sklearn.metrics import confusion_matrix

    scores, labels = predictions()
    return dict(result=confusion_matrix(labels, scores.argmax(1), labels=range(_CLASSES)))


def _calibration() -> Expected:
    from sklearn.metrics import log_loss
    from torchmetrics.functional.classification import binary_calibration_error

    scores, labels = predictions()
    confidence, right = (torch.from_numpy(values) for values in confidences())
    ece = binary_calibration_error(confidence, right.int(), n_bins=15, norm='l1')
    mce = binary_calibration_error(confidence, right.int(), n_bins=15, norm='max')
    brier = ((scores - np.eye(_CLASSES)[labels]) ** 2).sum(1).mean()
    nll = log_loss(labels, scores, labels=range(_CLASSES))
    return dict(ece=100 * ece.numpy(), mce=100 * mce.numpy(), brier=brier, nll=nll)


def _smooth(place: Place) -> Found:
    confidence, right = (place.tensor(values).cpu() for values in confidences())
    return dict(error=smooth_calibration_error(confidence, right))


def _smooth_by_definition() -> Expected:
    """Integrate smECE on a fine grid, with mirror images of the kernel; the bandwidth by scipy's root finder."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    confidence, right = confidences()
    grid = (np.arange(2_000) + 0.5) / 2_000
    images = np.concatenate([mirror + sign * confidence for mirror in (-2, 0, 2) for sign in (1, -1)])
    residuals = np.tile(right - confidence, 6) / len(confidence)

    def error(width: float) -> float:
        return float(np.abs(norm.pdf(grid[:, None], images, width) @ residuals).mean())

    return dict(error=np.array(brentq(lambda width: error(width) - width, 0.05, 0.3, xtol=1e-9)))


def _binned(place: Place) -> Found:
    scores, labels = predictions()
    confidence, right = (place.tensor(values).cpu() for values in confidences())
    return dict(
        equal_mass=equal_mass_calibration_error(confidence, right),
        classwise=classwise_calibration_error(place.tensor(scores).cpu(), torch.from_numpy(labels)),
    )


def _classwise(place: Place) -> Found:
    scores, labels = predictions()
    return dict(classwise=classwise_calibration_error(place.tensor(scores).cpu(), torch.from_numpy(labels)))


def _binned_by_hand() -> Expected:
    scores, labels = predictions()
    confidence, right = confidences()
    parts = np.array_split(np.argsort(confidence), 15)
    mass = sum(abs((right[part] - confidence[part]).sum()) for part in parts) / len(confidence)
    by_class = []
    for number in range(_CLASSES):
        place = np.floor(scores[:, number] * 15)
        residual = (labels == number) - scores[:, number]
        by_class.append(sum(abs(residual[place == one].sum()) for one in np.unique(place)) / len(labels))
    return dict(equal_mass=mass, classwise=np.mean(by_class))


_SELECTIVE = ('aurc', 'eaurc', 'risk80', 'auroc')


def _selective(place: Place) -> Found:
    names = [f'{name}_least_confidence' for name in _SELECTIVE]
    cfg = dict(type='SelectiveMetric', eaurc='asymptotic', failure_auroc=True, coverages=(0.8,))
    found = _evaluated(cfg, _samples(place, *predictions()), names)
    return dict(zip(_SELECTIVE, found.values(), strict=True))


def _selective_by_hand() -> Expected:
    from sklearn.metrics import roc_auc_score

    confidence, right = confidences()
    errors = 1 - right[np.argsort(-confidence)].astype(np.float64)
    risks = errors.cumsum() / np.arange(1, len(errors) + 1)
    risk = errors.mean()
    found = dict(
        aurc=risks.mean(), eaurc=risks.mean() - (risk + (1 - risk) * np.log(1 - risk)),
        risk80=risks[int(np.ceil(0.8 * len(errors))) - 1], auroc=roc_auc_score(1 - right, -confidence),
    )  # fmt: skip
    return {name: 100 * np.asarray(value) for name, value in found.items()}


def _curve(place: Place) -> Found:
    confidence, right = (place.tensor(values) for values in confidences())
    risks = risk_coverage(1 - confidence, ~right).cpu()
    n = torch.arange(1, len(risks) + 1, dtype=torch.float64)
    names = [f'{name}_least_confidence' for name in ('aurc', 'eaurc')]
    found = _evaluated(dict(type='SelectiveMetric', eaurc='asymptotic'), _samples(place, *predictions()), names)
    aurc, eaurc = found.values()
    return dict(risks=risks * torch.where(n < len(n), n / (n + 1), 1.0), least=(aurc - eaurc) / 100)


_OOD = ('auroc', 'aupr_known', 'aupr_unknown')
_FPR = ('fpr95', 'fpr95_ood_positive')


def ood_scores() -> np.ndarray:
    """Return probabilities of 120 images; the last ``UNKNOWN`` are of unknown categories and less certain."""
    return np.concatenate([probabilities(80, _CLASSES, 2.0)[0], probabilities(UNKNOWN, _CLASSES, 1.0)[0]])


def _ood(names: Sequence[str]) -> Any:
    def found(place: Place) -> Found:
        labels = [0] * 80 + [-1] * UNKNOWN
        cfg = dict(type='OODMetric', positive='both', aupr=True)
        full = [f'{name}_least_confidence' for name in names]
        return dict(zip(names, _evaluated(cfg, _samples(place, ood_scores(), labels), full).values(), strict=True))

    return found


_DETECTED = ('auroc_vim', 'fpr95_vim', 'auroc_mahalanobis', 'fpr95_mahalanobis')


def _detected(place: Place) -> Found:
    metric = METRICS.build(dict(type='FeatureOODMetric', detectors=('vim', 'mahalanobis')))
    metric.set_bank(place.tensor(BANK).cpu(), torch.from_numpy(bank_labels()))
    metric.set_classifier(*(place.tensor(part) for part in LAYER))
    rows = np.concatenate([QUERIES, FAR_AWAY])
    metric.process(None, _embedded(place, rows, np.concatenate([query_labels(), np.full(len(FAR_AWAY), -1)])))
    found = metric.evaluate(size=len(rows))
    return {name: torch.tensor(found[f'ood/{name}'], dtype=torch.float64) for name in _DETECTED}


def _false_rates() -> Expected:
    """Return the lowest false rate among the thresholds that detect 95 % of the positive side."""
    from sklearn.metrics import roc_curve

    unknown = np.arange(80 + UNKNOWN) >= 80
    uncertainty = 1 - ood_scores().max(1)
    found = {}
    for name, positive, score in zip(_FPR, (~unknown, unknown), (-uncertainty, uncertainty), strict=True):
        false_rates, recalls, _ = roc_curve(positive, score, drop_intermediate=False)
        found[name] = 100 * false_rates[recalls >= 0.95 - 1e-12].min()
    return found


def _embedded(place: Place, embeddings: np.ndarray, labels: np.ndarray) -> list[dict]:
    return [
        dict(embedding=place.tensor(row), gt_label=torch.tensor([int(label)], device=place.device))
        for row, label in zip(embeddings, labels, strict=True)
    ]


def _of_queries(names: Sequence[str], with_bank: bool, **cfg: Any) -> Any:
    def found(place: Place) -> Found:
        if 'KNN' in cfg['type'] or 'Retrieval' in cfg['type']:
            cfg['device'] = str(place.device)
        bank = (place.tensor(BANK).cpu(), torch.from_numpy(bank_labels())) if with_bank else None
        return _evaluated(cfg, _embedded(place, QUERIES, query_labels()), names, bank)

    return found


def _standard(rows: np.ndarray) -> np.ndarray:
    """Standardize embeddings by the bank's mean and mean deviation, as our fit does."""
    centred = BANK - BANK.mean(0)
    return (rows - BANK.mean(0)) / np.sqrt((centred**2).mean())


def _probed() -> Expected:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit(_standard(BANK), bank_labels())
    return dict(top1=np.array(100 * model.score(_standard(QUERIES), query_labels())))


def _regression(place: Place) -> Found:
    fit = fit_logistic_regression(place.tensor(BANK), place.tensor(bank_labels()), 6, 1.0)
    return dict(probabilities=(torch.from_numpy(QUERIES).to(fit.weight) @ fit.weight.T + fit.bias).softmax(1))


def _regression_of_sklearn() -> Expected:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0, tol=1e-12, max_iter=10_000).fit(_standard(BANK), bank_labels())
    return dict(probabilities=model.predict_proba(_standard(QUERIES)))


_TAGS = (waves(_IMAGES, _CLASSES, phase=2.5) > 0.3).astype(np.int64)


def _tagged(names: Sequence[str], **cfg: Any) -> Any:
    def found(place: Place) -> Found:
        scores = 1 / (1 + np.exp(-2 * waves(_IMAGES, _CLASSES, phase=2.2)))
        samples = [
            dict(pred_score=place.tensor(score), gt_label=torch.from_numpy(tags.nonzero()[0]).to(place.device))
            for score, tags in zip(scores, _TAGS, strict=True)
        ]
        return _evaluated(cfg, samples, names)

    return found


def _tag_scores(ranked: bool) -> Expected:
    from sklearn.metrics import average_precision_score, precision_recall_fscore_support

    scores = 1 / (1 + np.exp(-2 * waves(_IMAGES, _CLASSES, phase=2.2)))
    if ranked:
        return dict(mAP=np.array(100 * average_precision_score(_TAGS, scores, average='macro')))
    found = precision_recall_fscore_support(_TAGS, scores >= 0.5, average='macro')
    return {name: 100 * np.array(value) for name, value in zip(_ITEMS, found, strict=False)}


_ITEMS = ('precision', 'recall', 'f1-score')


def _verification(place: Place) -> Found:
    cosines, same = pairs()
    of_folds = fold_accuracies(place.tensor(cosines), torch.from_numpy(same).to(place.device), thresholds='grid')
    true_rates, false_rates = roc_on_grid(place.tensor(cosines), torch.from_numpy(same).to(place.device))
    return dict(accuracies=of_folds, true_rates=true_rates, false_rates=false_rates)


_RATES = (0.01, 0.1, 0.3)


def _all_pairs(place: Place) -> Found:
    names = [f'tar@{rate:g}' for rate in _RATES]
    cfg = dict(type='VerificationMetric', far=_RATES, device=str(place.device))
    return _evaluated(cfg, _embedded(place, QUERIES, query_labels()), names)


def _all_pairs_of_sklearn() -> Expected:
    from sklearn.metrics import roc_curve

    rows = QUERIES / np.linalg.norm(QUERIES, axis=1, keepdims=True)
    first, second = np.triu_indices(len(rows), 1)
    same = query_labels()[first] == query_labels()[second]
    far, tar, _ = roc_curve(same, (rows[first] * rows[second]).sum(1), drop_intermediate=False)
    return {f'tar@{rate:g}': 100 * tar[far <= rate].max() for rate in _RATES}


def members() -> np.ndarray:
    """Return unnormalized scores of an ensemble (M, N, C)."""
    return np.stack([np.exp(waves(7, 4, phase=0.3 * member)) for member in range(3)])


def _mixture(place: Place) -> Found:
    scores = members()
    found = mixture_uncertainty(place.tensor(scores / scores.sum(2, keepdims=True)))
    return dict(zip(found._fields, found, strict=True))


def _temperature(place: Place) -> Found:
    scores, labels = predictions()
    found = fit_temperature(place.tensor(np.log(scores)), torch.from_numpy(labels).to(place.device))
    return dict(temperature=torch.tensor(found, dtype=torch.float64))


def _temperature_of_scipy() -> Expected:
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    scores, labels = predictions()

    def loss(inverse: float) -> float:
        return -log_softmax(inverse * np.log(scores), axis=1)[np.arange(len(labels)), labels].mean()

    return dict(temperature=1 / minimize_scalar(loss, bounds=(0.01, 10), method='bounded', options=dict(xatol=1e-12)).x)


def _case(name: str, pieces: Sequence[str], paper: str, against: Any, setting: str, found: Any,
          expected: Optional[Any] = None, **keys: Any) -> FidelityCase:  # fmt: skip
    kind = keys.pop('kind', 'metric')
    return FidelityCase(name, tuple(pieces), kind, paper, against, setting, found, expected, **keys)


_SKLEARN = 'scikit-learn'
_NO_PAPER = 'no paper'
_FLOAT32 = 1e-6
"""Of metrics that keep float32."""

CASES = [
    _case('Accuracy', ['Accuracy'], _NO_PAPER, _SKLEARN, 'topk=(1, 3)',
          _of_predictions(('top1', 'top3'), type='Accuracy', topk=(1, 3)), _top_k),
    _case('ClassReport', ['ClassReport'], _NO_PAPER, _SKLEARN, 'macro precision, recall, F1',
          _of_predictions(_REPORTED, type='ClassReport'), lambda: _macro(_REPORTED)),
    _case('SingleLabelMetric', ['SingleLabelMetric'], _NO_PAPER, _SKLEARN, 'macro precision, recall, F1',
          _of_predictions(_ITEMS, type='SingleLabelMetric'), lambda: _macro(_ITEMS), tolerance=_FLOAT32),
    _case('ConfusionMatrix', ['ConfusionMatrix'], _NO_PAPER, _SKLEARN, f'{_CLASSES} classes',
          _of_predictions(('result',), type='ConfusionMatrix', num_classes=_CLASSES), _confusion),
    _case('CalibrationMetric', ['CalibrationMetric'], 'ECE, arXiv 1706.04599',
          'torchmetrics (ECE, MCE), scikit-learn (NLL), Brier score by hand', 'bins=15',
          _of_predictions(('ece', 'mce', 'brier', 'nll'), type='CalibrationMetric'), _calibration,
          tolerance=_FLOAT32),
    _case('Expected calibration error', ['CalibrationMetric'], 'ECE, arXiv 1706.04599',
          Official('gpleiss/temperature_scaling', 'ce1154ec', 'temperature_scaling.py'), 'bins=15: _ECELoss',
          _of_predictions(('ece',), type='CalibrationMetric'), tolerance=_FLOAT32),
    _case('smECE', ['CalibrationMetric', 'smooth_calibration_error'], 'smECE, arXiv 2309.12236',
          Official('apple/ml-calibration', '18ff21a7', 'src/relplot/metrics.py'), "errors=['smooth']: relplot.smECE",
          _smooth, tolerance=1e-2, tolerance32=1e-2,
          deviates='the code halves the bandwidth ten times and sums on a grid, which ends within 0.001; here both are '
          'exact (no switch)'),
    _case('smECE by its definition', ['CalibrationMetric', 'smooth_calibration_error'], 'smECE, arXiv 2309.12236',
          'definitions 5 and 6 in float64, on a grid of 2,000', "errors=['smooth']", _smooth, _smooth_by_definition,
          tolerance=1e-6),
    _case('Classwise calibration error', ['CalibrationMetric'], 'Dirichlet calibration, arXiv 1910.12656',
          Official('dirichletcal/experiments_neurips', '54989edf', 'calib/utils/functions.py'),
          "errors=['classwise'], bins=15: classwise_ECE(bins=16)", _classwise,
          deviates='bins is the number of bins; the code takes that of their edges'),
    _case('Calibration errors in bins', ['CalibrationMetric'], 'Dirichlet calibration, arXiv 1910.12656',
          'by hand in float64', "errors=['equal_mass', 'classwise']", _binned, _binned_by_hand),
    _case('SelectiveMetric', ['SelectiveMetric'], 'E-AURC, arXiv 1805.08206',
          'equations 3, 4 and 6 in float64, scikit-learn (AUROC)', "eaurc='asymptotic', failure_auroc=True", _selective,
          _selective_by_hand,
          deviates="the authors' code (geifmany/uncertainty_ICLR) divides the errors of the n least uncertain images "
          "by n + 1 (no switch); the default of E-AURC is exact, eaurc='asymptotic' is equation 6"),
    _case('Risk-coverage curve', ['SelectiveMetric', 'risk_coverage'], 'E-AURC, arXiv 1805.08206',
          Official('geifmany/uncertainty_ICLR', '495f82d9', 'utils/uncertainty_tools.py'),
          "97 coverages; eaurc='asymptotic': RC_curve", _curve,
          deviates='the code divides the errors of the n least uncertain images by n + 1, unless these are all: '
          'n / (n + 1) times this one, which the case multiplies with'),
    _case('OODMetric', ['OODMetric'], 'AUROC and AUPR, arXiv 1610.02136',
          Official('hendrycks/outlier-exposure', 'e6ede98a', 'utils/display_results.py'),
          'aupr=True; 80 known and 40 unknown images', _ood(_OOD)),
    _case('FPR at 95 % TPR', ['OODMetric'], 'FPR95, arXiv 1610.02136', _SKLEARN, "positive='both'", _ood(_FPR),
          _false_rates,
          deviates="the unknown are the positive side of outlier exposure's code: positive='unknown'. It takes the "
          'recall nearest to 95 % on either side, and of equal recalls that with the most false ones; here the least '
          'recall from 95 % on, and the fewest (no switch)'),
    _case('FeatureOODMetric', ['FeatureOODMetric'], 'ViM, arXiv 2203.10807',
          Official('haoqiwang/vim', 'dabf9e5b', 'benchmark.py'),
          "detectors=('vim', 'mahalanobis'), through pytorch-ood", _detected, needs='pytorch_ood'),
    _case('KNNAccuracy', ['KNNAccuracy'], 'DINO, arXiv 2104.14294',
          Official('facebookresearch/dino', '7c446df5', 'eval_knn.py'), 'k=60, temperature=0.07, topk=(1, 5)',
          _of_queries(('top1', 'top5'), True, type='KNNAccuracy', k=60, topk=(1, 5)),
          deviates='classes without a vote have no rank here; the code ranks them by chance behind the others (no '
          'switch)'),
    _case('LinearProbeAccuracy', ['LinearProbeAccuracy'], _NO_PAPER, _SKLEARN, 'inverse_penalty=1.0: C=1.0',
          _of_queries(('top1',), True, type='LinearProbeAccuracy', inverse_penalty=1.0), _probed,
          deviates='embeddings are centred and divided by one number first (no switch); scikit-learn gets them so'),
    _case('Logistic regression', ['LinearProbeAccuracy', 'fit_logistic_regression'], _NO_PAPER, _SKLEARN,
          'inverse_penalty=1.0: C=1.0; probabilities', _regression, _regression_of_sklearn,
          tolerance=1e-4, tolerance32=1e-4),  # where scikit-learn stops
    _case('RetrievalMetric', ['RetrievalMetric'], 'MAP@R, arXiv 2003.08505',
          Official('KevinMusgrave/pytorch-metric-learning', '216a792c',
                   'src/pytorch_metric_learning/utils/accuracy_calculator.py'), 'leave one out, cosine similarity',
          _of_queries(('recall@1', 'precision@r', 'map@r'), False, type='RetrievalMetric')),
    _case('VerificationMetric on pairs', ['VerificationMetric', 'fold_accuracies', 'roc_on_grid'], 'LFW protocol',
          Official('mk-minchul/CVLface', 'd3d09c93',
                   'cvlface/research/recognition/code/run_v1/evaluations/verifications/verification.py'),
          "thresholds='grid': calculate_roc, ten folds of 600 pairs", _verification,
          deviates="the codes try distances in steps of 0.01: thresholds='grid'; the default tries all"),
    _case('VerificationMetric', ['VerificationMetric'], _NO_PAPER, _SKLEARN, 'all pairs, TAR at FAR 0.01, 0.1, 0.3',
          _all_pairs, _all_pairs_of_sklearn),
    _case('MultiLabelMetric', ['MultiLabelMetric'], _NO_PAPER, _SKLEARN, 'thr=0.5, macro',
          _tagged(_ITEMS, type='MultiLabelMetric', thr=0.5), lambda: _tag_scores(False), tolerance=_FLOAT32),
    _case('AveragePrecision', ['AveragePrecision'], _NO_PAPER, _SKLEARN, "average='macro'",
          _tagged(('mAP',), type='AveragePrecision'), lambda: _tag_scores(True), tolerance=_FLOAT32),
    _case('Mixture uncertainties', ['mixture_uncertainty', 'EnsembleClassifier', 'MCDropoutClassifier', 'MixtureTTA'],
          'Decomposition of uncertainty, arXiv 1710.07283',
          Official('KaosEngineer/PriorNetworks', 'd6f6ffb6', 'prior_networks/ensembles/uncertainties.py'),
          'three members: ensemble_uncertainties(epsilon=0)', _mixture, kind='function'),
    _case('Temperature scaling, official', ['fit_temperature'], 'Temperature scaling, arXiv 1706.04599',
          Official('gpleiss/temperature_scaling', 'ce1154ec', 'temperature_scaling.py'),
          'one temperature: ModelWithTemperature.set_temperature', _temperature, kind='function', tolerance=2e-2,
          tolerance32=2e-2, deviates="the code's steps of 0.01 end beside the minimum; here they reach it (no switch)"),
    _case('Temperature scaling', ['fit_temperature'], 'Temperature scaling, arXiv 1706.04599',
          "scipy's minimum of equation 9", 'one temperature', _temperature, _temperature_of_scipy, kind='function',
          tolerance=1e-6),
]  # fmt: skip
