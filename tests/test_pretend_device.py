"""On a device that is not the CPU: nothing is left on the CPU, and nothing of the CPU's meets the device's.

Each check runs in a process of its own, which has the device of ``pretend_device.py``: as CUDA is, or like MPS, which
has no float64.
"""

import json
from copy import deepcopy
from importlib.util import find_spec

import numpy as np
import pretend_device
import pytest
import timm
import torch
from command_runs import run_command
from drawn_rows_by_hand import OPTIMIZERS_OF, STAGES, check_drawn_rows
from exportable_models import CASES as MODELS_OF_ALL_KINDS
from exportable_models import LINEAR, VIT, classifier
from mmengine.registry import DefaultScope
from mmengine.structures import BaseDataElement
from mmpretrain.structures import DataSample
from PIL import Image
from processes import run_process, run_processes
from safetensors.torch import save_file
from test_levers import GROUPS, configs, plain, train, with_levers  # noqa: F401  (fixtures)
from trained_checkpoints import config_of, write_checkpoint
from yapf.yapflib import yapf_api

from hybridcls import load
from hybridcls.apis.benchmark.candidate import NetworkRunner
from hybridcls.apis.fidelity import Place, chosen_cases, compare
from hybridcls.apis.inference_settings import InferenceSettings
from hybridcls.compat.mmengine.default_device import set_device
from hybridcls.distributed.sharded_parameters import gather_whole
from hybridcls.engine.hooks import preemption_hook
from hybridcls.engine.optim import ComposedOptimWrapper
from hybridcls.functional import fit_logistic_regression
from hybridcls.functional.full_precision import WITHOUT_FLOAT64
from hybridcls.registry import METRICS, MODELS
from hybridcls.structures import move_to_cpu


def check_there(check, *arguments, like_mps=False):
    """Call ``check(device, *arguments)`` in a process that has the device, and fail with what it wrote."""
    ended = run_process(_checked, check, arguments, like_mps, timeout=600)
    assert ended.status == 0, ended.output[-6000:]


def _checked(check, arguments, like_mps):
    device = pretend_device.set_up()
    if like_mps:
        pretend_device.refused_dtypes.add(torch.float64)
        WITHOUT_FLOAT64.add(device.type)
    set_device(device.type)
    yapf_api.FormatCode = lambda text, **style: (text, True)  # of configs; it takes as long as their training
    check(device, *arguments)


def refuses_what_cuda_refuses(device):
    here, there = torch.ones(3, 4), torch.ones(3, 4, device=device)
    rows, mask = torch.arange(3), torch.ones(3, 4, dtype=torch.bool)
    mistakes = dict(
        a_sum=lambda: there + here,
        a_sum_in_place=lambda: here.add_(there),
        a_number_into_the_cpu=lambda: here.add_(there.sum()),
        a_product=lambda: there @ here.T,
        a_range=lambda: torch.nn.functional.cross_entropy(there, rows),
        a_class_weight=lambda: torch.nn.functional.cross_entropy(there, rows.to(device), weight=here[0]),
        a_mask=lambda: there.masked_fill(mask, 0),
        a_choice=lambda: torch.where(mask, there, there),
        a_row=lambda: torch.cat([there, here]),
        rows=lambda: there.index_select(0, rows),
        rows_of_the_cpu=lambda: here[rows.to(device)],
        values=lambda: there.__setitem__(mask.to(device), here.flatten()),
        a_gather=lambda: there.gather(0, torch.zeros(1, 4, dtype=torch.long)),
        a_generator=lambda: torch.randn(2, device=device, generator=torch.Generator()),
        a_module=lambda: torch.nn.Linear(4, 2)(there),
        an_array=lambda: there.numpy(),
        what_cuda_lacks=lambda: torch.histogram(there, 3),
    )
    for name, mistake in mistakes.items():
        with pytest.raises((RuntimeError, TypeError)):
            print(name, 'gave', mistake())
    # And these are no mistakes.
    assert (there + torch.tensor(2.0)).device == there[rows].device == device
    assert torch.where(there > 0, torch.tensor(1.0), there).device == device
    assert torch.rand(2, device=device, generator=torch.Generator(device)).device == device


def computes_what_the_cpu_computes(device):
    """Views, gradients in place, resized outputs, random numbers, a copy, a file: of two tensors in one memory."""
    leaf = torch.arange(6.0).view(2, 3).to(device).requires_grad_()
    changed = leaf * 1
    changed.T[1].mul_(3)
    changed.sum().backward()
    assert leaf.grad.tolist() == [[1, 3, 1], [1, 3, 1]]
    out = torch.empty(0, device=device)
    torch.add(leaf.detach(), 1, out=out)
    assert out.tolist() == [[1, 2, 3], [4, 5, 6]]
    layer = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).to(device)
    copied = deepcopy(layer)
    copied[0].weight.data.zero_()
    assert layer[0].weight.abs().sum() > 0
    assert copied[0].weight.device == device
    torch.manual_seed(0)
    first = torch.rand(3, device=device).tolist()
    torch.manual_seed(0)
    torch.rand(5)
    assert torch.rand(3, device=device).tolist() == first
    with torch.autocast(device.type, torch.bfloat16):
        assert torch.nn.Linear(3, 2, device=device)(leaf).dtype == torch.bfloat16
        assert leaf.softmax(1).dtype == torch.float32


def agrees_with_the_papers(device, names, dtype):
    for case in chosen_cases(names):
        found = compare(case, Place(device, dtype))
        assert found.ok, f'{case.name}: {found.deviation} of {found.tolerance}, {found.problem}'


def trains(device, cfg, folder):
    """Train, and again from the middle: to the same bits, all of it on the device, also with what hooks ask of it."""
    cfg.train_dataloader.dataset.indices = 8  # an update an epoch
    runner = train(deepcopy(cfg), folder / 'straight', epochs=2)
    assert preemption_hook._fingerprint(runner.model).isfinite().all()
    straight = runner.model.state_dict()
    assert {value.device for value in straight.values()} == {device}
    (folder / 'straight' / 'epoch_2.pth').unlink()
    resumed = train(deepcopy(cfg), folder / 'again', str(folder / 'straight' / 'epoch_1.pth'), epochs=2).model
    for (name, value), other in zip(straight.items(), resumed.state_dict().values(), strict=True):
        assert value.isfinite().all(), name
        assert torch.equal(value, other), name


def predicts_and_trains(device, names):
    """Models of all kinds: what they predict is what the CPU predicts, and a step of training goes through."""
    for name in names:
        with DefaultScope.overwrite_default_scope('hybridcls'):
            torch.manual_seed(0)
            model = MODELS.build(deepcopy(MODELS_OF_ALL_KINDS[name].model)).eval()
            if getattr(getattr(model, 'head', None), 'needs_class_counts', False):
                model.head.set_class_counts([8, 4, 2, 1], 15)
            there = deepcopy(model).to(device)
            with torch.no_grad():
                expected, found = (one.test_step(batch_of(name)) for one in (model, there))
                there.val_step(batch_of(name))
            for one, other in zip(expected, found, strict=True):
                for key, value in one.items():
                    if isinstance(value, torch.Tensor) and value.is_floating_point() and 'MCDropout' not in name:
                        torch.testing.assert_close(
                            other.get(key).cpu(), value, rtol=1e-3, atol=1e-4, msg=f'{name}: {key}'
                        )
            if 'Ensemble' in name:  # which is not trained
                continue
            trained = [param for param in there.train().parameters() if param.requires_grad]
            stages = dict(sam=dict(type='SAM'), gc=dict(type='GradientCentralization'))
            losses = there.train_step(
                batch_of(name), ComposedOptimWrapper(torch.optim.AdamW(trained, lr=1e-3), stages=stages)
            )
            assert losses['loss'].isfinite(), name
            assert {value.device for value in there.state_dict().values()} == {device}, name


def batch_of(name):
    drawn = torch.Generator().manual_seed(1)
    label = [0, 2] if name in ('MultiLabelHead', 'EnsembleClassifier of MultiLabelHead') else None
    label = [0, 2] if 'MultiLabelLinear' in name else label
    return dict(
        inputs=[torch.randint(256, (3, 64, 64), generator=drawn, dtype=torch.uint8) for _ in range(4)],
        data_samples=[DataSample().set_gt_label(number if label is None else label) for number in range(4)],
    )


def looks_at_images_without_waiting(device):
    """A batch that is predicted and judged waits a few times, not once an image and metric."""
    model = MODELS.build(dict(classifier(VIT, LINEAR), type='hybridcls.HybridClassifier')).to(device).eval()
    metrics = [METRICS.build(dict(type=f'hybridcls.{name}')) for name in ('Accuracy', 'ClassReport', 'OODMetric')]
    pretend_device.waits.clear()
    with torch.no_grad():
        samples = model.test_step(batch_of(''))
    for metric in metrics:
        metric.process(None, [sample.to_dict() for sample in samples])
    assert sum(pretend_device.waits.values()) <= 4, pretend_device.waits
    assert {value.device.type for sample in samples for value in sample.values() if torch.is_tensor(value)} == {'cpu'}
    sizes = {
        value.untyped_storage().nbytes() for sample in samples for value in sample.values() if torch.is_tensor(value)
    }
    assert max(sizes) <= 4 * samples[0].embedding.numel(), 'each image alone is pickled, not its batch'
    odd = [torch.tensor([2**24 + 1]), torch.tensor([0.5])]  # no number type for both
    samples = [BaseDataElement(odd=value.to(device)) for value in odd]
    move_to_cpu(samples)
    assert [sample.odd.tolist() for sample in samples] == [value.tolist() for value in odd]


def runs_commands(device, folder, images):
    """From a folder of images to answers, by the commands; the answers are the CPU's."""

    def run(*arguments):
        assert run_command(*arguments) == 0, arguments

    save_file(timm.create_model('test_vit').state_dict(), folder / 'vit.safetensors')
    work_dir, val = folder / 'w', images / 'val'
    run(
        'train', 'finetune/full', '--data', images, '--model', 'test_vit', '--checkpoint', folder / 'vit.safetensors',
        '--img-size', 32, '--epochs', 2, '--work-dir', work_dir,
    )  # fmt: skip
    run('test', work_dir)
    run('test', work_dir, '--tta')
    run('embed', work_dir, val, '--out', folder / 'index.npz')
    run('search', folder / 'index.npz', val / 'one', '--checkpoint', work_dir)
    run('report', work_dir, '--data', images, '--gallery', images / 'train', '--out', folder / 'report.html')
    run('audit', work_dir, '--data', images, '--out', folder / 'audit.html')
    run('doctor', work_dir / 'full.py')
    run('export', work_dir, '--out', folder / 'artifact')
    for path in val.rglob('*.png'):  # more of them: some upside down
        for turned in (0, 180):
            held_out = folder / 'held_out' / path.parent.name / f'{path.stem}_{turned}.png'
            held_out.parent.mkdir(parents=True, exist_ok=True)
            Image.open(path).rotate(turned).save(held_out)
    run('calibrate', work_dir, '--data', folder / 'held_out', '--scale', 'temperature')
    for amp in (False, True):
        there, here = (load(work_dir, place, amp=amp and place != 'cpu') for place in (device, 'cpu'))
        for one, other in zip(there(val), here(val), strict=True):
            np.testing.assert_allclose(one.scores, other.scores, atol=0.05 if amp else 1e-4)
    NetworkRunner(load(work_dir, device), InferenceSettings()).prepare(2)()


def rejects_by_features(device):
    """A bank, a classifier and images of the device: the scores are the CPU's."""
    drawn = torch.Generator().manual_seed(0)
    rows, labels = torch.randn(60, 8, generator=drawn), torch.arange(60) % 3
    rows[labels == 1] += 2
    layer = torch.nn.Linear(8, 3)
    results = []
    for place in (torch.device('cpu'), device):
        metric = METRICS.build(dict(type='hybridcls.FeatureOODMetric', detectors=['knn', 'mahalanobis', 'ViM']))
        metric.set_bank(rows[:40].to(place), labels[:40].to(place))
        metric.set_classifier(layer.weight.detach().to(place), layer.bias.detach().to(place))
        known = [label if number % 2 else -1 for number, label in enumerate(labels[40:].tolist())]
        for row, label in zip(rows[40:], known, strict=True):
            metric.process(None, [dict(embedding=row.to(place), gt_label=torch.tensor([label], device=place))])
        results.append(metric.evaluate(20))
    assert len(results[0]) >= 6
    assert results[0] == pytest.approx(results[1], abs=1e-4)


def fits_several_labels(device):
    """Binary logistic regressions on features of the device: the weights are the CPU's."""
    features = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.stack([features[:, 0] > 0, features[:, 1] > 0.5], 1).float()
    here = fit_logistic_regression(features, targets, 2)
    there = fit_logistic_regression(features.to(device), targets.to(device), 2)
    assert there.inverse_penalty == here.inverse_penalty
    torch.testing.assert_close(there.weight.cpu(), here.weight, rtol=1e-3, atol=1e-3)


def of_two_streams(root):
    streams = dict(cnn=dict(model_name='test_resnet'), vit=dict(model_name='test_vit'))
    cfg = config_of(dict(type='HybridBackbone', img_size=64, **streams), LINEAR, root)
    cfg['model']['neck'] = dict(type='ConcatFusion', fusion_dim=16)
    return dict(cfg, test_evaluator=[dict(type='Accuracy')])


def corrupts_images(device, folder, images):
    """With a bank: the numbers of each corruption are the CPU's."""
    cfg = of_two_streams(images / 'val')
    bank = of_two_streams(images / 'train')['test_dataloader']
    metrics = [dict(type='KNNAccuracy', k=3), dict(type='CalibrationMetric')]
    metrics += [dict(type='FeatureOODMetric', detectors=['knn'])] if find_spec('pytorch_ood') else []
    cfg.update(
        test_evaluator=metrics,
        test_cfg=dict(type='CorruptionTestLoop', corruptions=['noise', 'blur'], severities=[5]),
        custom_hooks=[dict(type='EmbeddingBankHook', dataloader=bank)],
    )
    path = write_checkpoint(folder / 'pair.pth', cfg)[0]
    found = []
    for name, place in (('there', ()), ('here', ('--device', 'cpu'))):
        out = folder / f'{name}.json'
        assert run_command('test', path, *place, '--work-dir', folder / 't', '--out', out) == 0
        found.append(json.loads(out.read_text()))
    assert any(name.startswith('corruption/blur') for name in found[0])
    assert found[0] == pytest.approx(found[1], abs=1e-3)


def skips_streams(device, folder, images):
    """Where one stream is sure, the other is left out, of the same images as on the CPU."""
    path = write_checkpoint(folder / 'pair.pth', of_two_streams(images / 'val'))[0]
    options = ('--scale', 'none', '--skip-sure', 0.9, '--skip-stream', 'vit')
    assert run_command('calibrate', path, '--data', images / 'train', *options) == 0
    there, here = (list(load(path, place, skip_sure=True)(images / 'val')) for place in (device, 'cpu'))
    assert {'cnn', 'cnn|vit'} & {'|'.join(one.streams) for one in here}
    for one, other in zip(there, here, strict=True):
        assert one.streams == other.streams
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    assert run_command('test', path, '--skip-sure', '--work-dir', folder / 't') == 0


def shards_classes(rank, folder):
    """Heads whose classes are divided among processes: updates and answers there are those on the CPU."""
    device = pretend_device.set_up()
    torch.distributed.init_process_group(
        'cpu:gloo,pretend:gloo', init_method=f'file://{folder}/init', rank=rank, world_size=2
    )
    drawn = torch.Generator().manual_seed(rank)
    features, labels = torch.randn(4 + rank, 8, generator=drawn), torch.randint(11, (4 + rank,), generator=drawn)
    for keys in (
        dict(type='ArcFaceHead', label_smoothing=0.1),
        dict(type='AdaFaceHead'),
        dict(type='MarginHead', num_subcenters=2, sample_rate=0.5),
    ):
        found = []
        for place in (torch.device('cpu'), device):
            torch.manual_seed(0)
            head = MODELS.build(dict(keys, num_classes=11, in_channels=8, shard_classes=True)).to(place)
            wrapper = ComposedOptimWrapper(torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9))
            torch.manual_seed(rank)
            inputs = features.clone().to(place).requires_grad_()
            for _ in range(3):
                losses = head.loss((inputs,), samples_of(labels.to(place)))
                wrapper.update_params(sum(value for name, value in losses.items() if 'loss' in name))
            assert inputs.grad.device == place
            whole = gather_whole(head.weight.detach(), head.sharded_rows['weight'])
            scores = [sample.pred_score.cpu() for sample in head.predict((inputs.detach(),), samples_of(labels))]
            found.append([inputs.grad.cpu(), head.weight.detach().cpu(), whole, torch.stack(scores)])
        for here, there in zip(*found, strict=True):
            torch.testing.assert_close(there, here, msg=lambda text, keys=keys: f'{keys}: {text}')


def updates_drawn_rows(device):
    def dense(rows, values, shape, **_):  # torch has no sparse tensors of such a device
        return values.new_zeros(shape).index_copy_(0, rows[0], values)

    torch.sparse_coo_tensor = dense
    for optimizer in OPTIMIZERS_OF:
        for stage in STAGES:
            check_drawn_rows(optimizer, stage, device)


def samples_of(labels):
    return [DataSample().set_gt_label(label) for label in labels]


@pytest.mark.parametrize(
    'check', [refuses_what_cuda_refuses, computes_what_the_cpu_computes, looks_at_images_without_waiting]
)
def test_the_device_is_like_one(check):
    check_there(check)


QUICK = ['margin', 'head', 'loss', 'module', 'stage', 'token merging', 'RetrievalMetric', 'KNNAccuracy', 'OODMetric']
WITH_FLOAT64 = ['Evidential', 'Dirichlet', 'SupConLoss, streamed', 'Mixture', 'Effective', 'VerificationMetric']
nightly = pytest.mark.nightly


@pytest.mark.parametrize(
    ('names', 'dtype', 'like_mps'),
    [
        pytest.param(QUICK, torch.float32, False, id='most, float32'),
        pytest.param(WITH_FLOAT64, torch.float32, True, id='like MPS, what has float64 elsewhere'),
        pytest.param([], torch.float32, False, marks=nightly, id='all, float32'),
        pytest.param([], torch.float64, False, marks=nightly, id='all, float64'),
        pytest.param([], torch.float32, True, marks=nightly, id='like MPS, all'),
    ],
)
def test_fidelity_there(names, dtype, like_mps):
    check_there(agrees_with_the_papers, names, dtype, like_mps=like_mps)


MANY = ('cbam', 'token merging', 'sam', 'gc', 'lookahead', 'distillation', 'ema', 'clipping', 'bfloat16', 'adaface')


@pytest.mark.parametrize(
    ('levers', 'like_mps'),
    [
        pytest.param(MANY, True, id='many, like MPS'),
        *(pytest.param(group, False, marks=nightly, id=' + '.join(group)) for group in GROUPS),
        *(pytest.param(group, True, marks=nightly, id=f'like MPS, {" + ".join(group)}') for group in GROUPS),
    ],
)
def test_levers_there(levers, like_mps, plain, configs, tmp_path):  # noqa: F811
    check_there(trains, with_levers(plain, configs, levers), tmp_path, like_mps=like_mps)


@nightly
def test_drawn_rows_there():
    check_there(updates_drawn_rows)


@nightly
def test_sharded_classes_there(tmp_path):
    run_processes(shards_classes, tmp_path)


KINDS = [name for name, case in MODELS_OF_ALL_KINDS.items() if not case.extra and 'shard_classes' not in name]


@nightly
@pytest.mark.parametrize('like_mps', [False, True])
def test_models_of_all_kinds_there(like_mps):
    check_there(predicts_and_trains, KINDS, like_mps=like_mps)


@nightly
@pytest.mark.parametrize('like_mps', [False, True])
def test_commands_there(tmp_path, digit_folder, like_mps):
    check_there(runs_commands, tmp_path, digit_folder, like_mps=like_mps)


@nightly
@pytest.mark.parametrize('like_mps', [False, True])
def test_rejection_by_features_there(like_mps):
    pytest.importorskip('pytorch_ood', reason='the extra ood is not installed')
    check_there(rejects_by_features, like_mps=like_mps)


@nightly
def test_fits_there():
    check_there(fits_several_labels)


@nightly
@pytest.mark.parametrize('like_mps', [False, True])
@pytest.mark.parametrize('check', [corrupts_images, skips_streams])
def test_evaluations_there(check, tmp_path, digit_folder, like_mps):
    check_there(check, tmp_path, digit_folder, like_mps=like_mps)
