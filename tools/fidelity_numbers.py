"""Run the official code of the papers on the inputs of the fidelity cases, and store its outputs.

All cases, those whose name contains a text, or only the tables of docs/fidelity.md as measured on this machine:

.. code-block:: bash

    python tools/fidelity_numbers.py CLONES
    python tools/fidelity_numbers.py CLONES --only SAM
    python tools/fidelity_numbers.py --page

CLONES is a folder with one clone for each repository, under its name (``git clone https://github.com/davda54/sam
CLONES/sam``). The files are read at the commit that the case names. Only the numbers are kept, as float64 in
``hybridcls/apis/fidelity/official_numbers.npz``; ``hybridcls fidelity`` compares with them. TokenLearner's code needs
``pip install flax``, those of google-research ``pip install tensorflow-cpu``. InsightFace's codes for mxnet, which
installs on no current Python, run with the same operations of torch.
"""

import argparse
import contextlib
import functools
import importlib
import io
import subprocess
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hybridcls.apis.fidelity import (
    CASES,
    NOT_COMPARED,
    Place,
    adapter_cases,
    case_of,
    compare,
    contrastive_cases,
    evidential_cases,
    loss_cases,
    margin_cases,
    metric_cases,
    module_cases,
    page_rows,
    stage_cases,
)
from hybridcls.apis.fidelity import fixed_inputs as inputs
from hybridcls.apis.fidelity.fidelity_case import Official, float_numbers
from hybridcls.apis.fidelity.stored_numbers import FILE_NAME
from hybridcls.registry import MODELS

TARGET = Path(margin_cases.__file__).with_name(FILE_NAME)
Numbers = dict[str, Any]
RECIPES: dict[str, Callable[['Code'], Numbers]] = {}
BEGIN, END = '<!-- fidelity: begin -->', '<!-- fidelity: end -->'


class Code:
    """The official code of a case, in a folder of its own."""

    def __init__(self, clones: Path, official: Official, folder: Path) -> None:
        self.clone = clones / official.repository.partition('/')[2]
        self.official = official
        self.folder = folder

    def checkout(self, where: str) -> Path:
        """Copy a file or folder of the commit; return the folder that stands for the repository."""
        if not (self.folder / where).exists():
            words = ['git', '-C', str(self.clone), 'archive', self.official.commit, where]
            packed = subprocess.run(words, check=True, capture_output=True)
            subprocess.run(['tar', 'x', '-C', str(self.folder)], input=packed.stdout, check=True)
        return self.folder

    def module(self, file: str = '', stubs: tuple[str, ...] = (), package: bool = False) -> Any:
        """Import a file, with its neighbours; of modules in ``stubs`` any name can be imported, and is nothing."""
        file = file or self.official.file
        where = str(Path(file).parent)
        path = self.checkout(where if where != '.' else file) / file
        root, name = path.parent, path.stem
        if package:  # it imports its neighbours by a dot
            root, name = root.parent, f'{root.name}.{name}'
        with stubbed(stubs), mock.patch.object(sys, 'path', [str(root), *sys.path]):
            for one in (name.partition('.')[0], name):
                sys.modules.pop(one, None)
            return importlib.import_module(name)


@contextlib.contextmanager
def stubbed(names: tuple[str, ...]) -> Iterator[None]:
    """Let modules be there that hold nothing; what else is imported in the block stays."""
    kept = {name: sys.modules.get(name) for name in names}
    sys.modules.update({name: _Nothing(name) for name in names})
    try:
        yield
    finally:
        for name, module in kept.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class _Nothing(types.ModuleType):
    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return mock.MagicMock()


def recipe(*cases: str) -> Callable:
    """Say which cases a function makes the numbers of; with several it is called with the name, too."""

    def keep(function: Callable) -> Callable:
        for case in cases:
            RECIPES[case] = function if len(cases) == 1 else lambda code, case=case: function(code, case)
        return function

    return keep


def tensor(values: np.ndarray, gradient: bool = False) -> torch.Tensor:
    """Return a tensor of its own."""
    return torch.from_numpy(np.array(values)).requires_grad_(gradient)


@contextlib.contextmanager
def without_cuda() -> Iterator[None]:
    """Let ``.cuda()`` and the types of CUDA mean the CPU, and one process be all."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch.Tensor, 'cuda', lambda self: self))
        stack.enter_context(mock.patch.object(torch.cuda, 'FloatTensor', torch.DoubleTensor))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/init', rank=0, world_size=1)
        try:
            yield
        finally:
            torch.distributed.destroy_process_group()


# Margins and heads


@recipe('ArcFace on angles', 'ArcFace, easy margin')
def arcface_on_angles(code: Code, case: str) -> Numbers:
    """The target logits of angles, and their slopes."""
    loss = code.module().ArcFace(64.0, 0.5)
    loss.easy_margin = case.endswith('easy margin')
    cosine = tensor(np.cos(inputs.ANGLES), gradient=True)
    logits = loss(cosine[:, None] * 1, torch.zeros(len(cosine), dtype=torch.int64))
    logits.sum().backward()
    return dict(logits=logits[:, 0], slopes=cosine.grad)


@recipe('ArcFaceHead', 'CosFaceHead', 'Partial FC')
def partial_fc(code: Code, case: str) -> Numbers:
    """PartialFC_V2 on one process, with all classes or those of the batch."""
    losses = code.module(case_of('ArcFaceHead').against.file.replace('partial_fc_v2', 'losses'))
    margin = losses.CombinedMarginLoss(margin_cases.SCALE, 1.0, *((0.0, 0.35) if case == 'CosFaceHead' else (0.5, 0.0)))
    sampled = case == 'Partial FC'
    weight = inputs.waves(20, 5, phase=0.3) if sampled else inputs.CLASS_WEIGHTS
    labels = tensor(margin_cases.SAMPLED_LABELS if sampled else inputs.LABELS)
    with without_cuda():
        rate = margin_cases.FEW_CLASSES if sampled else 1.0
        head = code.module().PartialFC_V2(margin, 5, len(weight), rate)
        head.weight.data = tensor(weight)
        feats = tensor(inputs.waves(6, 5, phase=1.0), gradient=True)
        loss = head(feats, labels)
        loss.backward()
    found = dict(loss=loss, embedding_gradients=feats.grad, weight_gradients=head.weight.grad)
    return dict(found, classes=head.weight_index) if sampled else found


def over_batches(batches: list[np.ndarray], step: Callable) -> Numbers:
    """Losses, statistics and gradients of batch after batch; ``step(feats)`` returns loss, mean and std."""
    numbers: Numbers = dict(losses=[], means=[], stds=[], gradients=[])
    for batch in batches:
        feats = tensor(batch, gradient=True)
        loss, mean, std = step(feats)
        loss.backward()
        for name, value in zip(numbers, (loss, mean.squeeze(), std.squeeze(), feats.grad), strict=True):
            numbers[name].append(value.detach().clone())
    return {name: torch.stack(values) for name, values in numbers.items()}


@recipe('AdaFaceHead')
def adaface(code: Code) -> Numbers:
    """Three batches one after another."""
    head = code.module().AdaFace(5, 4, m=0.4, h=0.333, s=64.0, t_alpha=0.2)
    head.kernel.data = tensor(inputs.CLASS_WEIGHTS.T)

    def step(feats: torch.Tensor) -> tuple:
        norms = feats.norm(dim=1, keepdim=True)
        logits = head(feats / norms, norms, tensor(inputs.LABELS))
        return F.cross_entropy(logits, tensor(inputs.LABELS)), head.batch_mean, head.batch_std

    return over_batches(inputs.adaface_batches()[:3], step)


@recipe('AdaFaceHead, CVLFace')
def cvlface(code: Code) -> Numbers:
    """Four batches one after another through its FC."""
    losses = code.module(stubs=())
    with mock.patch.dict(sys.modules, {'losses': _Nothing('losses'), 'losses.adaface': losses,
                                       'losses.margin_loss': code.module(code.official.file.replace(
                                           'adaface', 'margin_loss'))}):  # fmt: skip
        layer = code.module(code.official.file.replace('losses/adaface', 'classifiers/fc/fc'))
    fc = layer.FC(losses.AdaFaceLoss(s=64.0, m=0.4, h=0.333, t_alpha=0.2), 5, 4)
    fc.weight.data = tensor(inputs.CLASS_WEIGHTS)
    return over_batches(
        inputs.adaface_batches(), lambda feats: (fc(feats, tensor(inputs.LABELS)), fc.batch_mean, fc.batch_std)
    )


@recipe('AdaFace on angles')
def cvlface_on_angles(code: Code) -> Numbers:
    """The target logits of angles and norms, and their slopes."""
    loss = code.module().AdaFaceLoss(s=64.0, m=0.4, h=0.333, t_alpha=0.2)
    cosine = tensor(np.cos(inputs.ANGLES), gradient=True)
    labels, norms = torch.zeros(len(cosine), dtype=torch.int64), tensor(margin_cases.NORMS)[:, None]
    start = torch.tensor(20.0), torch.tensor(100.0)
    logits, mean, std = loss(cosine[:, None] * 1, labels, norms, *start)
    logits.sum().backward()
    return dict(logits=logits[:, 0], slopes=cosine.grad, mean=mean, std=std)


@recipe('LDAM margins')
def ldam(code: Code) -> Numbers:
    """Its loss of cosines to class weights."""
    with without_cuda(), mock.patch.object(torch, 'uint8', torch.bool):  # torch.where takes no uint8 any more
        loss_module = code.module().LDAMLoss(list(margin_cases.CLASS_COUNTS), max_m=0.5, s=30)
        feats, weight = tensor(inputs.waves(6, 5, phase=1.0), True), tensor(inputs.CLASS_WEIGHTS, True)
        loss = loss_module(F.normalize(feats) @ F.normalize(weight).T, tensor(inputs.LABELS))
        loss.backward()
    return dict(loss=loss, embedding_gradients=feats.grad, weight_gradients=weight.grad)


class _Mxnet:
    """The operations of mxnet that InsightFace's margins consist of, computed by torch on given tensors."""

    def __init__(self, given: dict[str, torch.Tensor]) -> None:
        self.given = given
        self.symbol = self.sym = self
        self.cosine: Any = None

    def Variable(self, name: str, **_: Any) -> torch.Tensor:
        return self.given[name]

    def L2Normalization(self, data: torch.Tensor, **_: Any) -> torch.Tensor:
        return data / (data.square().sum(1, keepdim=True) + 1e-10).sqrt()  # mxnet's eps

    def FullyConnected(self, data: torch.Tensor, weight: torch.Tensor, **_: Any) -> torch.Tensor:
        self.cosine = F.linear(data, weight)
        self.cosine.retain_grad()
        return self.cosine

    def one_hot(self, labels: torch.Tensor, depth: int, **_: Any) -> torch.Tensor:
        return F.one_hot(labels, depth).double()

    def reshape(self, data: torch.Tensor, shape: tuple) -> torch.Tensor:
        return data.reshape(shape)

    def max(self, data: torch.Tensor, axis: int) -> torch.Tensor:
        return data.amax(axis)

    def arccos(self, data: torch.Tensor) -> torch.Tensor:
        return data.acos()

    def cos(self, data: torch.Tensor) -> torch.Tensor:
        return data.cos()

    def Group(self, parts: list) -> list:
        return parts


def mxnet_margin(code: Code, mxnet: _Mxnet, classes: int, **settings: Any) -> torch.Tensor:
    """The logits of InsightFace's ``get_symbol_arcface``."""
    nets = ('fresnet', 'fmobilefacenet', 'fmobilenet', 'fmnasnet', 'fdensenet', 'vargfacenet')
    module = code.module(stubs=('mxnet', 'mxnet.optimizer', 'image_iter', 'verification', 'config', *nets))
    module.mx = mxnet
    module.config = types.SimpleNamespace(
        loss_name='margin_softmax', emb_size=0, fc7_lr_mult=1, fc7_wd_mult=1, **settings
    )
    return module.get_symbol_arcface(types.SimpleNamespace(_ctxid=0, ctx_num_classes=classes))[0]


@recipe('CombinedMargin')
def combined(code: Code) -> Numbers:
    """The target logits of angles to a single class, and their slopes."""
    rows = tensor(np.stack([np.cos(inputs.ANGLES), np.sin(inputs.ANGLES)], 1), True)
    labels = torch.zeros(len(rows), dtype=torch.int64)
    mxnet = _Mxnet(dict(data=rows, softmax_label=labels, fc7_0_weight=tensor(np.array([[1.0, 0.0]]))))
    logits = mxnet_margin(code, mxnet, 1, loss_m1=1.2, loss_m2=0.3, loss_m3=0.1, loss_s=1.0)
    logits.sum().backward()
    return dict(logits=logits[:, 0], slopes=mxnet.cosine.grad[:, 0])


@recipe('Sub-center ArcFace')
def subcenters(code: Code) -> Numbers:
    """The cross entropy of its logits."""
    feats, weight = tensor(inputs.waves(6, 5, phase=1.0), True), tensor(inputs.waves(12, 5, phase=0.3), True)
    mxnet = _Mxnet(dict(data=feats, softmax_label=tensor(inputs.LABELS), fc7_0_weight=weight))
    logits = mxnet_margin(code, mxnet, 4, loss_K=3, loss_m1=1.0, loss_m2=0.5, loss_m3=0.0, loss_s=margin_cases.SCALE)
    loss = F.cross_entropy(logits, tensor(inputs.LABELS))
    loss.backward()
    return dict(loss=loss, embedding_gradients=feats.grad, weight_gradients=weight.grad.reshape(4, 3, 5))


# Contrastive, evidential and other losses


@recipe('SupConLoss, form in')
def supcon_inside(code: Code) -> Numbers:
    """The authors' code for TensorFlow, which computes in float32."""
    import tensorflow as tf

    if not hasattr(tf.keras.losses.Reduction, 'AUTO'):  # of the keras that it was written for
        tf.keras.losses.Reduction = types.SimpleNamespace(AUTO='auto')
    with mock.patch.object(sys, 'path', [str(code.checkout('supcon')), *sys.path]), stubbed(('supcon.utils',)):
        from supcon import enums, losses
    losses.utils = types.SimpleNamespace(cross_replica_concat=lambda rows: rows, local_tpu_replica_id=lambda: 0)
    numbers: Numbers = {}
    for one in contrastive_cases.INSIDE:
        rows = tf.constant(inputs.waves(6, one.views, 5))
        mode = dict(all=enums.LossContrastMode.ALL_VIEWS, one=enums.LossContrastMode.ONE_VIEW)[one.mode]
        with tf.GradientTape() as tape:
            tape.watch(rows)
            loss = tf.reduce_mean(losses.contrastive_loss(
                tf.math.l2_normalize(rows, axis=-1), tf.one_hot(contrastive_cases.CONTRAST_LABELS, 3), one.temperature,
                mode, enums.LossSummationLocation.INSIDE, scale_by_temperature=False))  # fmt: skip
        numbers[f'{one} loss'], numbers[f'{one} gradient'] = loss.numpy(), tape.gradient(loss, rows).numpy()
    return numbers


@recipe('Dirichlet uncertainties')
def dirichlet(code: Code) -> Numbers:
    """Of the logarithms of the concentrations; EPKL is (K - 1) / S, the vacuity K / S."""
    with mock.patch.object(sys, 'path', [str(code.checkout('prior_networks')), *sys.path]):
        module = importlib.import_module('prior_networks.priornet.dpn')
    alpha = np.exp(evidential_cases.logits()) + 1
    found = module.dirichlet_prior_network_uncertainty(np.log(alpha), epsilon=0)
    classes = evidential_cases.NUM_CLASSES
    return dict(
        vacuity=found['EPKL'] * classes / (classes - 1), aleatoric=found['expected_entropy'],
        epistemic=found['mutual_information'], total=found['entropy_of_expected'],
    )  # fmt: skip


@recipe('Logit adjustment')
def logit_adjustment(code: Code) -> Numbers:
    """The loss of the layer's logits in TensorFlow's float32, and the gradient of the layer's inputs."""
    import tensorflow as tf

    counts = np.array(margin_cases.CLASS_COUNTS, dtype=np.float64)
    loss_of = code.module().build_loss_fn(True, counts / counts.sum(), 1.0)
    weight, bias = inputs.waves(4, 5), inputs.waves(4, start=10)
    logits = tf.constant((inputs.waves(6, 5, phase=1.0) @ weight.T + bias).astype(np.float32))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = loss_of(tf.constant(inputs.LABELS), logits)
    return dict(loss=loss.numpy(), gradient=tape.gradient(loss, logits).numpy().astype(np.float64) @ weight)


@recipe('Effective numbers')
def effective_numbers(code: Code) -> Numbers:
    """The weights that its training hands to the model."""

    class Enough(Exception):
        pass

    tensorflow = _Nothing('tensorflow')
    tensorflow.contrib = mock.MagicMock()
    tensorflow.contrib.training.HParams.side_effect = Enough
    stubs = ('tensorflow', 'cifar', 'cifar_model', 'cifar_utils')
    module = code.module(stubs=stubs)
    module.tf = tensorflow
    counts = module.data_utils.get_img_num_per_cls('10', loss_cases.LONG_TAIL)
    assert tuple(counts) == loss_cases.LONG_TAILED_COUNTS, counts
    with contextlib.suppress(Enough):
        module.main('', '', 0, '', False, False, 0, data_version='10', imb_factor=loss_cases.LONG_TAIL,
                    beta=loss_cases.BETA)  # fmt: skip
    return dict(weights=tensorflow.contrib.training.HParams.call_args.kwargs['weights'])


@recipe('Backward-compatible training')
def backward_compatible(code: Code) -> Numbers:
    """Its second cross entropy in a step of training, where the first one has no gradient."""
    module = code.module(stubs=('models', 'utils', 'utils.meters', 'utils.data', 'utils.data.datasets', 'evaluate'))
    weight, old_classes = loss_cases.old_classifier()
    np.save(code.folder / 'map.npy', {new: int(old) for new, old in enumerate(old_classes) if old >= 0})
    rows, old, labels = tensor(loss_cases.student(9), True), tensor(weight), tensor(inputs.LABELS) % 4

    class Model(nn.Module):
        def forward(self, images: torch.Tensor) -> tuple:
            return tensor(loss_cases.teacher()), rows[:, :7] @ old.T, rows

    seen: list[torch.Tensor] = []

    def criterion(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(F.cross_entropy(logits, targets))
        return seen[-1]

    off = dict.fromkeys(('triplet', 'contra', 'l2', 'lwf', 'multiprocessing_distributed'), False)
    args = types.SimpleNamespace(old_fc='yes', n2o_map=code.folder / 'map.npy', gpu=None, print_freq=1, **off)
    module.accuracy = lambda *_, **__: torch.zeros(2, 1)  # a view that torch refuses by now; only logged
    with mock.patch.object(torch.cuda, 'is_available', return_value=False):
        module.train([(torch.zeros(6), labels)], Model(), criterion, torch.optim.SGD([rows], 0.0), 0, args, 1)
    return dict(loss=seen[1], gradient=rows.grad)


@recipe('SupConLoss', 'SupConLoss without labels', 'SupConLoss with a mask')
def supcon(code: Code, case: str) -> Numbers:
    """The loss and its gradient in each setting."""
    numbers: Numbers = {}
    for one in contrastive_cases.SETTINGS[case]:
        module = code.module().SupConLoss(one.temperature, one.mode, one.base_temperature)
        embeddings = tensor(inputs.waves(6, one.views, 5), gradient=True)
        labels = tensor(contrastive_cases.CONTRAST_LABELS) if case == 'SupConLoss' else None
        mask = tensor(contrastive_cases.positive_weights(one.mask)) if one.mask else None
        loss = module(F.normalize(embeddings, dim=-1), labels, mask)
        loss.backward()
        numbers[f'{one} loss'], numbers[f'{one} gradient'] = loss, embeddings.grad
    return numbers


@recipe('SupConHead')
def supcon_head(code: Code) -> Numbers:
    """The loss behind a projection of two layers."""
    projection = inputs.set_parameters(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)))
    feats = tensor(inputs.waves(12, 4, phase=1.0), gradient=True)
    views = F.normalize(projection(feats), dim=1).unflatten(0, (2, 6)).transpose(0, 1)
    loss = code.module().SupConLoss(contrastive_cases.HEAD_TEMPERATURE)(
        views, tensor(contrastive_cases.CONTRAST_LABELS)
    )
    loss.backward()
    return dict(loss=loss, gradient=feats.grad, weight_gradient=projection[0].weight.grad)


def evidential_loss(module: Any, form: str, outputs: torch.Tensor, alpha: torch.Tensor, annealing: float) -> Any:
    """The mean over images at the epoch of the cases."""
    target = F.one_hot(tensor(evidential_cases.EVIDENTIAL_LABELS), alpha.shape[1]).double()
    rest = (target, alpha, evidential_cases.EPOCH, alpha.shape[1], annealing, outputs.device)
    if form == 'sum_of_squares':
        return module.mse_loss(*rest).mean()
    return module.edl_loss(torch.log if form == 'log' else torch.digamma, *rest).mean()


@recipe('EvidentialLoss')
def evidential(code: Code) -> Numbers:
    """The loss and its gradient by form and kind of evidence."""
    module, numbers = code.module(stubs=('helpers',)), {}
    for form in evidential_cases.FORMS:
        for evidence in evidential_cases.EVIDENCES:
            outputs = tensor(evidential_cases.logits(), gradient=True)
            alpha = getattr(module, f'{evidence}_evidence')(outputs) + 1
            loss = evidential_loss(module, form, outputs, alpha, evidential_cases.ANNEALING)
            loss.backward()
            numbers[f'{form} {evidence} loss'], numbers[f'{form} {evidence} gradient'] = loss, outputs.grad
    return numbers


@recipe('EvidentialHead')
def evidential_head(code: Code) -> Numbers:
    """The loss behind a linear layer, at its full weight, and the mean of the Dirichlet distribution."""
    module = code.module(stubs=('helpers',))
    layer = inputs.set_parameters(nn.Linear(4, evidential_cases.NUM_CLASSES))
    feats = tensor(inputs.waves(5, 4, phase=1.0), gradient=True)
    outputs = layer(feats)
    alpha = module.relu_evidence(outputs) + 1
    loss = evidential_loss(module, 'sum_of_squares', outputs, alpha, evidential_cases.EPOCH)
    loss.backward()
    return dict(loss=loss, gradient=feats.grad, scores=alpha / alpha.sum(1, keepdim=True))


@recipe('AsymmetricLoss')
def asymmetric(code: Code) -> Numbers:
    """The sum over classes and images, and its gradient."""
    numbers: Numbers = {}
    for keys in loss_cases.ASYMMETRIC:
        for focal_gradient in (False, True):
            module = code.module().AsymmetricLoss(**keys, disable_torch_grad_focal_loss=not focal_gradient)
            logits = tensor(3 * inputs.waves(5, 7, phase=0.1), gradient=True)
            loss = module(logits, tensor(loss_cases.TARGETS))
            loss.backward()
            name = f'{list(keys.values())} {focal_gradient}'
            numbers[f'{name} loss'], numbers[f'{name} gradient'] = loss, logits.grad
    return numbers


@recipe('Distillation', 'Distances of a batch')
def distillation(code: Code, case: str) -> Numbers:
    """The loss of a student's outputs, and its gradient."""
    numbers: Numbers = {}
    for temperature in loss_cases.TEMPERATURES if case == 'Distillation' else (None,):
        module = code.module()
        loss_module = module.DistillKL(temperature) if temperature else module.RKDLoss(w_d=1, w_a=0)
        outputs = tensor(loss_cases.student(), gradient=True)
        loss = loss_module(outputs, tensor(loss_cases.teacher()))
        loss.backward()
        prefix = f'{temperature} ' if temperature else ''
        numbers[f'{prefix}loss'], numbers[f'{prefix}gradient'] = loss, outputs.grad
    return numbers


# Stages of the update


def step_with_closure(optimizer: Any, model: nn.Module, batch: torch.Tensor) -> None:
    """Two passes, as davda54/sam and F-SAM want them."""

    def closure() -> torch.Tensor:
        loss = model(batch)['loss']
        loss.backward()
        return loss

    closure()
    optimizer.step(closure)
    optimizer.zero_grad()


def step_once(optimizer: Any, model: nn.Module, batch: torch.Tensor) -> None:
    """One pass."""
    optimizer.zero_grad()
    model(batch)['loss'].backward()
    optimizer.step()


def small_net(training: stage_cases.Training, make: Callable, step: Callable, end: Callable = lambda made: None) -> Any:
    """The weights after the steps of a training."""
    model = inputs.SmallNet()
    optimizer = make(model.parameters())
    for number in range(training.steps):
        step(optimizer, model, tensor(stage_cases.batch_of_step(number)))
    end(optimizer)
    return dict(model.named_parameters())


@recipe('SAM', 'ASAM', *(name for name in stage_cases.TRAININGS if name.startswith('FriendlySAM')))
def sam(code: Code, case: str) -> Numbers:
    """SAM and ASAM of davda54/sam, and F-SAM's optimizer, which is made of it."""
    training = stage_cases.TRAININGS[case]
    module = code.module(stubs=('models', 'models.pyramidnet') if case.startswith('F') else ())
    keys = {key: value for key, value in training.stage.items() if key != 'type'}
    base = getattr(torch.optim, training.optimizer)
    made = module.FriendlySAM if case.startswith('F') else module.SAM
    return small_net(training, lambda params: made(params, base, **keys, **training.settings), step_with_closure)


@recipe('MSAM', 'MSAM, AdamW', 'MSAM, AdamW with decay')
def msam(code: Code, case: str) -> Numbers:
    """The weights at which the training would be evaluated, not those moved along the momentum."""
    training = stage_cases.TRAININGS[case]
    settings = dict(training.settings, rho=training.stage['rho'])
    settings['weight_decay'] = settings.pop('decay', settings.get('weight_decay'))
    module = code.module()
    made = module.MSAM if case == 'MSAM' else module.AdamW_MSAM
    back = lambda optimizer: optimizer.move_back_from_momentumAscent()  # noqa: E731
    return small_net(training, lambda params: made(params, **settings), step_once, back)


@recipe('Lookahead', 'Lookahead, reset', 'Lookahead, pullback')
def lookahead(code: Code, case: str) -> Numbers:
    """Around torch's SGD."""
    training = stage_cases.TRAININGS[case]
    keys = dict(la_steps=training.stage['k'], la_alpha=training.stage['alpha'])
    keys['pullback_momentum'] = training.stage.get('momentum', 'none')
    made = code.module().Lookahead
    return small_net(training, lambda params: made(torch.optim.SGD(params, **training.settings), **keys), step_once)


@recipe('Lion')
def lion(code: Code) -> Numbers:
    """Alone."""
    training, made = stage_cases.TRAININGS['Lion'], code.module().Lion
    return small_net(training, lambda params: made(params, **training.settings), step_once)


@recipe(*(name for name in stage_cases.TRAININGS if name.startswith('GradientCentralization')))
def gradient_centralization(code: Code, case: str) -> Numbers:
    """Its optimizers on gradients that do not depend on the weights."""
    training = stage_cases.TRAININGS[case]
    module = sys.modules['torch.optim.optimizer']
    if not hasattr(module, 'required'):
        module.required = object()  # torch has none any more
    keys: dict[str, Any] = dict(use_gc=True, gc_conv_only=training.stage['layers'] == 'official_conv')
    if training.optimizer != 'SGD':
        keys['gc_loc'] = 'on' not in training.stage
    made = getattr(code.module(package=True), training.optimizer)
    model = inputs.Dimensions()
    optimizer = made(model.parameters(), **training.settings, **keys)
    for step in range(training.steps):
        optimizer.zero_grad()
        model.linear_loss(step).backward()
        optimizer.step()
    return {name: param for name, param in model.named_parameters() if name not in training.without}


# Modules and adapters


@recipe('CBAM')
def cbam(code: Code) -> Numbers:
    """Maps weighed in eval mode, by form."""
    module, numbers = code.module(), {}
    for keys in module_cases.CBAM_FORMS:
        if keys.get('use_channel', True):
            part = module.CBAM(4, 2, keys.get('pool_types', ['avg', 'max']), not keys.get('use_spatial', True))
        else:
            part = module.SpatialGate()
        numbers[str(keys)] = inputs.set_parameters(part.eval())(tensor(inputs.waves(2, 4, 3, 5)))
    return numbers


@recipe(*module_cases.LEARNERS)
def tokens(code: Code, case: str) -> Numbers:
    """The authors' modules in flax, with the parameters of ours."""
    import jax

    jax.config.update('jax_enable_x64', True)
    learner = module_cases.LEARNERS[case]
    kind = case.partition(' ')[0].rstrip(',')
    ours = inputs.set_parameters(MODELS.build(dict(type=kind, channels=5, num_tokens=3, **learner.keys)), 0.5)
    layers = code.module('scenic/model_lib/layers/attention_layers.py', stubs=('scenic.model_lib.layers', 'scenic'))
    layers.nn_layers = code.module('scenic/model_lib/layers/nn_layers.py', stubs=('scenic.model_lib.layers', 'scenic'))
    stubs = ('scenic', 'scenic.model_lib.base_models', 'scenic.model_lib.layers', 'scenic.projects.baselines',
             'scenic.projects.vivit', 'ml_collections')  # fmt: skip
    module = code.module(stubs=stubs)
    layers.MlpBlock = functools.partial(layers.MlpBlock, dtype=jax.numpy.float64)  # a setting; by default float32
    module.attention_layers = layers
    theirs = getattr(module, learner.cls)(num_tokens=3, **learner.settings) if kind == 'TokenLearner' else getattr(
        module, learner.cls)(**learner.settings)  # fmt: skip
    positions = inputs.waves(2, 16, 5, phase=0.6)
    if kind == 'TokenFuser':
        given: tuple = (inputs.waves(2, 3, 5, phase=1.6), positions, True)
    else:
        given = (positions,) if learner.cls == 'TokenLearnerModule' else (positions, True)
    params = flax_parameters(theirs.init(jax.random.PRNGKey(0), *given)['params'], ours)
    return dict(out=np.array(theirs.apply(dict(params=params), *given)))


def flax_parameters(tree: Any, ours: nn.Module) -> dict[str, Any]:
    """Our parameters in the tree of flax: matrices are turned, kernels have their channels last."""
    names = {
        'LayerNorm_0': 'norm', 'fuser_mix_norm1': 'norm_before', 'fuser_mix_norm2': 'norm_after', 'Dense_0': 'mix',
        **{f'Conv_{number}': f'attention.{2 * number}' for number in range(4)},
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name in tree:
        if name == 'token_masking':
            inside = {'Dense_0': ours.attention[0], 'Dense_1': ours.attention[3]}
            found[name] = {key: layer_parameters(layer) for key, layer in inside.items()}
        else:
            found[name] = layer_parameters(ours.get_submodule(names[name]))
    return found


def layer_parameters(layer: nn.Module) -> dict[str, np.ndarray]:
    """The parameters of a layer under the names of flax."""
    weight = layer.weight.detach().numpy()
    bias = {} if layer.bias is None else dict(bias=layer.bias.detach().numpy())
    if isinstance(layer, nn.LayerNorm):
        return dict(scale=weight, **bias)
    return dict(kernel=weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T, **bias)


@recipe('Merges of tokens')
def merges(code: Code) -> Numbers:
    """Three merges one after another."""
    module, numbers = code.module(), {}
    for protected in (0, 1, 2):
        found, size = tensor(inputs.waves(1, 16, 3)), None
        for r in adapter_cases.MERGED_TIMES:
            merge, _ = module.bipartite_soft_matching(found, r, protected > 0, protected > 1)
            found, size = module.merge_wavg(merge, found, size)
        numbers[f'{protected} tokens'], numbers[f'{protected} sizes'] = found[0], size[0, :, 0]
    return numbers


@recipe(*adapter_cases.MERGINGS)
def merging(code: Code, case: str) -> Numbers:
    """Logits of a patched transformer of timm; without a class token what its last block gives."""
    numbers = {}
    with mock.patch.object(sys, 'path', [str(code.checkout('tome')), *sys.path]):
        from tome.patch.timm import apply_patch
    for r, proportional in adapter_cases.MERGINGS[case]:
        model = adapter_cases.plain_transformer(case)
        apply_patch(model, prop_attn=proportional)
        model.r = list(r) if isinstance(r, tuple) and len(r) > 2 else r
        last: list[torch.Tensor] = []
        model.blocks[-1].register_forward_hook(lambda module, given, out, last=last: last.append(out))
        with torch.no_grad():
            logits = model(tensor(inputs.photographs(2, 40)))
        numbers[f'{r} {proportional}'] = logits if model.cls_token is not None else last[0][:, :, :3]
    return numbers


@recipe('LoRA')
def lora(code: Code) -> Numbers:
    """Its linear layer, unmerged, and the gradients of the square of what it gives."""
    layer = code.module().Linear(5, 6, r=adapter_cases.LORA_RANK, lora_alpha=adapter_cases.LORA_ALPHA)
    layer.load_state_dict({name: tensor(value) for name, value in adapter_cases.LORA_WEIGHTS.items()})
    out = layer(tensor(inputs.waves(3, 5, phase=0.8)))
    out.square().sum().backward()
    return dict(out=out, lora_A=layer.lora_A.grad, lora_B=layer.lora_B.grad)


# Metrics


@recipe('smECE')
def smooth_error(code: Code) -> Numbers:
    """Smooth calibration error of confidences."""
    module = code.module(package=True, stubs=('seaborn', 'pandas'))
    confidence, right = metric_cases.confidences()
    return dict(error=module.smECE(confidence, right.astype(float)))


@recipe('Expected calibration error', 'Temperature scaling, official')
def temperature_scaling(code: Code, case: str) -> Numbers:
    """The expected calibration error of confidences, or the temperature that LBFGS ends with."""
    scores, labels = metric_cases.predictions()
    logits = tensor(np.log(scores))
    module = code.module()
    if case == 'Expected calibration error':
        return dict(ece=100 * module._ECELoss()(logits, tensor(labels))[0])
    with without_cuda(), mock.patch.object(nn.Module, 'cuda', lambda self: self):
        model = module.ModelWithTemperature(nn.Identity())
        model.set_temperature([(logits, tensor(labels))])
    return dict(temperature=model.temperature[0])


@recipe('Classwise calibration error')
def classwise_error(code: Code) -> Numbers:
    """Of six classes."""
    scores, labels = metric_cases.predictions()
    return dict(classwise=code.module(stubs=('betacal',)).classwise_ECE(scores, labels, bins=16))


@recipe('Risk-coverage curve')
def risk_coverage(code: Code) -> Numbers:
    """Its curve in the order of our coverages, and what E-AURC subtracts from AURC."""
    confidence, right = metric_cases.confidences()
    curve, area, excess = code.module().RC_curve(1.0 - right, confidence)
    return dict(risks=[risk for _, risk in curve][::-1], least=area - excess)


@recipe('Mixture uncertainties')
def mixture(code: Code) -> Numbers:
    """Of three members."""
    members = metric_cases.members()
    members /= members.sum(2, keepdims=True)
    found = code.module().ensemble_uncertainties(members.transpose(1, 0, 2), epsilon=0)
    return dict(
        aleatoric=found['expected_entropy'], epistemic=found['mutual_information'], total=found['entropy_of_expected']
    )


@recipe('OODMetric')
def out_of_distribution(code: Code) -> Numbers:
    """AUROC, and AUPR with either side as the positive one, in percent."""
    measures = code.module().get_measures
    scores = 1 - metric_cases.ood_scores().max(1)
    known, unknown = scores[: -metric_cases.UNKNOWN], scores[-metric_cases.UNKNOWN :]
    auroc, aupr_unknown, _ = measures(unknown, known)
    aupr_known = measures(-known, -unknown)[1]
    return dict(auroc=100 * auroc, aupr_known=100 * aupr_known, aupr_unknown=100 * aupr_unknown)


@recipe('FeatureOODMetric')
def feature_detectors(code: Code) -> Numbers:
    """Its table up to Mahalanobis, in percent; what comes later wants the 1000 classes of ImageNet."""
    module = code.module(stubs=('pandas', 'tqdm'))
    found: dict[str, dict] = {}

    def table(rows: Any = (), **_: Any) -> Any:
        found.update({row['method'].lower(): row for row in rows})
        return types.SimpleNamespace(**{name: np.array([row[name] for row in rows]) for name in ('auroc', 'fpr')})

    module.pd = types.SimpleNamespace(DataFrame=table)
    module.tqdm, module.gradnorm = iter, lambda rows, *_: np.zeros(len(rows))
    files = dict(fc=metric_cases.LAYER, bank=metric_cases.BANK, known=metric_cases.QUERIES, ood=metric_cases.FAR_AWAY)
    module.mmengine = types.SimpleNamespace(
        load=files.get, list_from_file=lambda _: [f'image {label}' for label in metric_cases.bank_labels()]
    )
    with mock.patch.object(sys, 'argv', ['benchmark', *files]), without_cuda(), contextlib.suppress(Exception):
        module.main()
    return {f'{name}_{method}': 100 * found[method][name.removesuffix('95')]
            for method in ('vim', 'mahalanobis') for name in ('auroc', 'fpr95')}  # fmt: skip


@recipe('KNNAccuracy')
def neighbours(code: Code) -> Numbers:
    """Weighted votes of the nearest."""
    module = code.module(stubs=('utils', 'vision_transformer'))
    bank, queries = (F.normalize(tensor(rows)) for rows in (metric_cases.BANK, metric_cases.QUERIES))
    labels = tensor(metric_cases.bank_labels()), tensor(metric_cases.query_labels())
    top1, top5 = module.knn_classifier(bank, labels[0], queries, labels[1], 60, 0.07, num_classes=6)
    return dict(top1=top1, top5=top5)


@recipe('RetrievalMetric')
def retrieval(code: Code) -> Numbers:
    """Of pytorch-metric-learning, in percent."""
    with mock.patch.object(sys, 'path', [str(code.checkout('src') / 'src'), *sys.path]):
        from pytorch_metric_learning.distances import CosineSimilarity
        from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
        from pytorch_metric_learning.utils.inference import CustomKNN
    names = {'precision_at_1': 'recall@1', 'r_precision': 'precision@r', 'mean_average_precision_at_r': 'map@r'}
    calculator = AccuracyCalculator(include=tuple(names), knn_func=CustomKNN(CosineSimilarity()))
    found = calculator.get_accuracy(tensor(metric_cases.QUERIES), tensor(metric_cases.query_labels()))
    return {ours: 100 * found[theirs] for theirs, ours in names.items()}


@recipe('VerificationMetric on pairs')
def verification(code: Code) -> Numbers:
    """Accuracy of each fold, and the mean curve."""
    cosines, same = inputs.pairs()
    first = np.stack([np.ones_like(cosines), np.zeros_like(cosines)], 1)
    second = np.stack([cosines, np.sqrt(1 - cosines**2)], 1)
    found = code.module(stubs=('mxnet',)).calculate_roc(np.arange(0, 4, 0.01), first, second, same)
    return dict(zip(('true_rates', 'false_rates', 'accuracies'), found, strict=True))


def main() -> None:
    """Run what is asked for, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('clones', type=Path, nargs='?', help='folder of the clones')
    parser.add_argument('--page', action='store_true', help='write the tables of docs/fidelity.md')
    parser.add_argument('--only', default='', help='run only cases whose name contains this text')
    args = parser.parse_args()
    if args.page:
        write_page(Path(__file__).resolve().parents[1] / 'docs' / 'fidelity.md')
    elif args.clones is None:
        parser.error('expected CLONES, or --page')
    else:
        store(args.clones, args.only)


def write_page(page: Path) -> None:
    """Put the tables between the marks of the page."""
    places = [Place(torch.device('cpu'), dtype) for dtype in (torch.float64, torch.float32)]
    rows = page_rows([[compare(case, place) for case in CASES] for place in places], NOT_COMPARED)
    before, _, rest = page.read_text(encoding='utf8').partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(before + BEGIN + '\n' + '\n'.join(rows) + '\n' + END + after, encoding='utf8')


def store(clones: Path, only: str) -> None:
    """Run the codes, and write the file of numbers."""
    kept: dict[str, np.ndarray] = {}
    if TARGET.exists():
        with np.load(TARGET) as file:
            kept = dict(file)
    wanted = {case.name for case in CASES if case.expected is None and not case.numbers_of}
    kept = {key: value for key, value in kept.items() if key.rpartition('/')[0] in wanted}
    torch.set_default_dtype(torch.float64)
    for case in CASES:
        if case.expected is not None or case.numbers_of or only.lower() not in case.name.lower():
            continue
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with contextlib.redirect_stdout(io.StringIO()):
                numbers = RECIPES[case.name](Code(clones, case.against, Path(folder)))
        kept = {key: value for key, value in kept.items() if key.rpartition('/')[0] != case.name}
        arrays = {name: float_numbers(value) for name, value in numbers.items()}
        kept.update({f'{case.name}/{name}': array for name, array in arrays.items()})
        print(f'{case.name}: {sum(array.size for array in arrays.values())} numbers of {case.against}')
    np.savez_compressed(TARGET, **dict(sorted(kept.items())))
    print(f'{TARGET}: {TARGET.stat().st_size:,} bytes')


if __name__ == '__main__':
    main()
