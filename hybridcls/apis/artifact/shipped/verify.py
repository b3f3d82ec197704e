"""Find out why an exported model, or your code around it, gives wrong answers.

::

    python verify.py                                       checks files, preprocessing and graph of this folder
    python verify.py --pipeline my_code.py:preprocess      checks your preprocessing: image path -> network input
    python verify.py --predict my_code.py:predict          checks your whole code: image path -> probabilities or class
    python verify.py --model other.onnx                    checks a graph that was converted or quantized again

Each stage is compared on the golden images, with the right values and with those of simulated mistakes. It needs
numpy, Pillow, the runtime of the format (onnxruntime) and the files beside it. Exit code: 0 all is right, 1 a mismatch
was found (its name and what to change are printed), 2 the comparison is not possible.
"""

# ruff: noqa: B905 - zip(strict=...) is not in Python 3.9, which runs this file
import argparse
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

try:
    from . import graph_check, runtime, score_check
    from .input_check import Explainer
    from .pixel_mistakes import Finding, Golden, traits
except ImportError:  # beside the other files of an artifact, whose folder `python -I` leaves out
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import graph_check  # type: ignore
    import runtime  # type: ignore
    import score_check  # type: ignore
    from input_check import Explainer  # type: ignore
    from pixel_mistakes import Finding, Golden, traits  # type: ignore

Json = dict[str, Any]
Array = np.ndarray


class Report(NamedTuple):
    """The result of :func:`verify`.

    Args:
        folder: The artifact.
        findings: The mismatches.
        passed: A sentence for each check that passed.
        notes: Remarks that are not mismatches.
    """

    folder: str
    findings: list[Finding]
    passed: list[str]
    notes: list[str]

    @property
    def ok(self) -> bool:
        """Whether there are no mismatches."""
        return not self.findings

    def to_json(self) -> Json:
        """Return the report in the types of JSON."""
        return {
            'folder': self.folder,
            'ok': self.ok,
            'findings': [finding._asdict() for finding in self.findings],
            'passed': self.passed,
            'notes': self.notes,
        }

    def __str__(self) -> str:
        lines = [f'ok        {one}' for one in self.passed] + [f'note      {one}' for one in self.notes]
        lines += [f'MISMATCH  {finding.name}: {finding.message}' for finding in self.findings]
        lines.append(
            f'{self.folder}: '
            f'{_count(len(self.findings), "mismatch", "mismatches") if self.findings else "all is right"}.'
        )
        return '\n'.join(lines)


def verify(
    folder: str,
    pipeline: Optional[Callable[[str], Any]] = None,
    predict: Optional[Callable[[str], Any]] = None,
    model: Optional[str] = None,
    stage: Optional[str] = None,
    layout: Optional[str] = None,
    tolerance: Optional[float] = None,
    allow: Sequence[str] = (),
) -> Report:
    """Compare an artifact, and the user's code around it, with its golden images.

    Args:
        folder: The artifact.
        pipeline: Function from the path of an image to the network's input: an array, tensor or image.
        predict: Function from the path of an image to the answer: probabilities of all classes, a class, a pair of
            both, or a dict.
        model: An ONNX file to compare with the artifact.
        stage: What the pipeline returns: ``'uint8'``, ``'unit'`` (0..1) or ``'normalized'``. Defaults to None: uint8
            as the graph takes it, or normalized.
        layout: ``'NHWC'`` or ``'NCHW'``. Defaults to None: NHWC for uint8, any for normalized values.
        tolerance: Largest difference of outputs, relative to the largest value. Defaults to None: 1e-3 for float32,
            more for fewer bits.
        allow: Names of findings that do not count as mismatches.

    Raises:
        ValueError: If the folder is not an artifact, or the tolerance is not above 0.
        ImportError: If the runtime of the format is not installed.
    """
    if tolerance is not None and not 0 < tolerance < np.inf:
        raise ValueError(f'expected --tolerance to be a number above 0, got {tolerance}.')
    report = Report(os.fspath(folder), [], [], [])
    _verify(report, pipeline, predict, model, stage, layout, tolerance)
    for finding in [one for one in report.findings if one.name in allow]:
        report.findings.remove(finding)
        report.notes.append(f'Allowed: {finding.name}: {finding.message}')
    return report


def _verify(
    report: Report,
    pipeline: Optional[Callable[[str], Any]],
    predict: Optional[Callable[[str], Any]],
    model: Optional[str],
    stage: Optional[str],
    layout: Optional[str],
    tolerance: Optional[float],
) -> None:
    folder, findings = report.folder, report.findings
    foreign = _foreign_calibration(folder)
    if foreign is not None:
        findings.append(foreign)
        return
    sidecar = runtime.read_sidecar(folder, check_files=False)
    for what in runtime.changed_files(folder, sidecar):
        findings.append(Finding('file', f'{what}. Copy it again from the exported artifact.'))
    if not sidecar.get('digests'):
        report.notes.append('model.json has no digests of its keys, so edited classes or thresholds are not noticed.')
    if not findings:
        report.passed.append(f'files: {len(sidecar["files"])}, as model.json lists them')
    try:
        goldens, stages = read_golden(folder, sidecar)
        graph = graph_check.open_artifact(folder, sidecar, tolerance)
        preprocessing = _own_preprocessing(goldens, sidecar)
        found = list(graph_check.check_outputs(graph, stages, sidecar))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        if findings:  # which say why
            return
        if isinstance(error, ValueError):
            raise
        raise ValueError(
            f'{folder}/model.json is damaged: a part of it is missing or of another type ({error!r}). Copy it again '
            'from the exported artifact.'
        ) from error
    findings += preprocessing
    if not preprocessing:
        report.passed.append(f'preprocessing: model.json gives the stored input of {len(goldens)} golden images')
    findings += found
    if not found:
        report.passed.append(f'graph: {sidecar["model"]["file"]} gives the stored outputs')
    if model is not None:
        before = len(findings)
        findings += graph_check.check_other(model, stages, sidecar, tolerance, report.notes)
        if len(findings) == before:
            report.passed.append(f'model: {model} gives the stored outputs')
    if pipeline is not None:
        explained = Explainer(goldens, sidecar, stage, layout).explain(collect(pipeline, goldens))
        findings += explained.findings
        report.notes.extend(explained.notes)
        if not explained.findings:
            report.passed.append(f'pipeline: it gives the stored input of {len(goldens)} golden images')
    if predict is not None:
        answers = collect(predict, goldens, as_array=False)
        found = list(score_check.explain(answers, predict, goldens, stages, sidecar, graph))
        findings += found
        if not found:
            report.passed.append(f'predict: it gives the answers for {len(goldens)} golden images')


def _foreign_calibration(folder: str) -> Optional[Finding]:
    """Return a finding if the calibration belongs to other classes or weights; runtime.py rejects such artifacts."""
    try:
        with open(os.path.join(folder, 'model.json'), encoding='utf8') as file:
            sidecar = json.load(file)
        calibration = sidecar.get('calibration') or {}
        pairs = [('classes', calibration.get('classes'), sidecar['classes'])]
        pairs.append(('weights', calibration.get('weights_sha256'), sidecar['provenance']['weights_sha256']))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None  # read_sidecar says what is wrong
    for what, its, own in pairs:
        if calibration and its != own:
            return Finding(
                'threshold',
                f'The calibration in model.json, with its thresholds, belongs to other {what} than the model. '
                'Calibrate this model and export again.',
            )
    return None


def read_golden(folder: str, sidecar: Json) -> tuple[list[Golden], dict[str, Array]]:
    """Return the golden images, and their values at each stage, by name.

    Raises:
        ValueError: If they cannot be read.
    """
    about = sidecar.get('golden') or dict(file='golden/golden.npz', folder='golden')
    path = os.path.join(folder, about['file'])
    try:
        stages = runtime.read_arrays(path)
        names = [str(name) for name in stages['names']]
        paths = [os.path.join(folder, about['folder'], name) for name in names]
        goldens = [Golden(one, traits(one), pixels) for one, pixels in zip(paths, stages['input'])]
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f'{path} or an image beside it cannot be read ({error}). Copy the artifact again.') from error
    return goldens, stages


def _own_preprocessing(goldens: Sequence[Golden], sidecar: Json) -> list[Finding]:
    """Compare the golden inputs with what this machine computes by model.json."""
    own, steps = {}, sidecar['preprocessing']['steps']
    for golden in goldens:
        try:
            image = runtime.read_image(golden.path, sidecar['preprocessing']['decode'])
            own[golden.name] = runtime.prepare_image(image, steps)
        except ValueError as error:
            return [Finding('decoder', f'{golden.name} cannot be read on this machine: {error}')]
    # Seen from model.json: then a changed model.json is named by what the golden images were made with.
    seen = [golden._replace(input=own[golden.name]) for golden in goldens]
    if len({golden.input.shape for golden in seen} | {goldens[0].input.shape}) > 1:
        shape = seen[0].input.shape
        stored = goldens[0].input.shape
        message = f'model.json makes images of {shape[0]} x {shape[1]}, the golden inputs are {stored[0]} x {stored[1]}'
        return [Finding('size', f'{message}: model.json was changed.')]
    explained = Explainer(seen, sidecar, 'uint8', 'NHWC').explain({golden.name: golden.input for golden in goldens})
    return [
        one._replace(
            message='The preprocessing of model.json does not give the golden inputs on this machine, or model.json '
            f'was changed. Compared with model.json, the golden inputs say: {one.message}'
        )
        for one in explained.findings
    ]


def collect(function: Callable[[str], Any], goldens: Sequence[Golden], as_array: bool = True) -> Json:
    """Call a user's function with the path of each golden image; return its result, or its error, by name.

    Raises:
        ValueError: If the function fails for all of them.
    """
    given: Json = {}
    for golden in goldens:
        try:
            value = function(golden.path)
            if value is None and as_array:
                raise ValueError('it returns None')
            given[golden.name] = to_array(value) if as_array else value
        except Exception as error:  # whatever the user's code raises
            given[golden.name] = error
    errors = [one for one in given.values() if isinstance(one, Exception)]
    if len(errors) == len(given):
        name = getattr(function, '__name__', 'the function')
        raise ValueError(f'{name} fails for all golden images: {type(errors[0]).__name__}: {errors[0]}') from errors[0]
    return given


def to_array(value: Any) -> Array:
    """Convert an array, a tensor, a Pillow image, or the only array in a dict or list, to an array."""
    if hasattr(value, 'keys') and not hasattr(value, 'dtype'):
        arrays = [value[key] for key in value if np.ndim(to_array(value[key])) >= 2]
        if len(arrays) != 1:
            raise ValueError(f'it returns a dict with {len(arrays)} images: {list(value)}')
        value = arrays[0]
    if isinstance(value, (list, tuple)) and len(value) == 1:
        return to_array(value[0])
    for method in ('detach', 'cpu'):
        value = getattr(value, method, lambda value=value: value)()
    if 'bfloat16' in str(getattr(value, 'dtype', '')):
        value = value.float()
    return np.asarray(value)


def load_function(text: str, option: str) -> Callable[[str], Any]:
    """Load ``FILE.py:FUNCTION`` or ``MODULE:FUNCTION``.

    Raises:
        ValueError: If there is no such function.
    """
    place, _, name = text.rpartition(':')
    if not place or not name.isidentifier():
        raise ValueError(f'{option}: expected FILE.py:FUNCTION, got {text!r}.')
    try:
        if place.endswith('.py'):
            if not os.path.isfile(place):
                raise ValueError(f'{option}: there is no file {place}.')
            folder = os.path.dirname(os.path.abspath(place))
            sys.path.insert(0, folder)
            own = os.path.basename(place)[:-3]
            own = f'_{own}' if own in sys.modules else own
            spec = importlib.util.spec_from_file_location(own, place)
            module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
            sys.modules[own] = module  # where dataclasses and pickle look it up
            spec.loader.exec_module(module)  # type: ignore[union-attr]
        else:
            sys.path.insert(0, os.getcwd())
            module = importlib.import_module(place)
    except ValueError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise ValueError(f'{option}: {place} cannot be imported: {type(error).__name__}: {error}') from error
    function = getattr(module, name, None)
    if not callable(function):
        there = ', '.join(key for key, value in vars(module).items() if callable(value) and not key.startswith('_'))
        raise ValueError(f'{option}: {place} has no function {name!r}. It has: {there or "none"}.')
    return function


def functions_of(args: argparse.Namespace) -> Json:
    """Load the functions of the options ``pipeline``, ``predict`` and ``model``.

    Raises:
        ValueError: If one does not exist.
    """
    if args.model and not os.path.isfile(args.model):
        raise ValueError(f'--model: there is no file {args.model}.')
    return {
        'pipeline': load_function(args.pipeline, '--pipeline') if args.pipeline else None,
        'predict': load_function(args.predict, '--predict') if args.predict else None,
        'model': args.model,
    }


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command line; return the exit code."""
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(
        description='Find out why the exported model, or your code around it, gives wrong answers.',
        epilog='Exit code: 0 all is right, 1 a mismatch was found, 2 the comparison is not possible.',
    )
    parser.add_argument('folder', nargs='?', default=here, help='the artifact; default: the folder of this file')
    function = 'FILE.py:FUNCTION'
    parser.add_argument(
        '--pipeline',
        metavar=function,
        help='check your preprocessing: a function that takes the path of an image and returns the input of the '
        'network',
    )
    parser.add_argument(
        '--predict',
        metavar=function,
        help='check your whole prediction code: a function that takes the path of an image and returns probabilities, '
        'a class, (class, probability), or a dict with class, probability, probabilities, answered, prediction_set',
    )
    parser.add_argument('--model', metavar='FILE.onnx', help='check a graph that was converted or quantized again')
    parser.add_argument(
        '--stage',
        choices=('uint8', 'unit', 'normalized'),
        help='range of the values that --pipeline returns: uint8 (0 to 255), unit (0 to 1) or normalized; default: '
        'uint8 or normalized, whichever fits',
    )
    parser.add_argument(
        '--layout',
        choices=('NHWC', 'NCHW'),
        help='order of the axes that --pipeline returns; default: NHWC for uint8, either for floats',
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        metavar='X',
        help='largest difference of the outputs to accept, relative to the largest output; default: 0.001 for float32',
    )
    parser.add_argument(
        '--allow',
        action='append',
        default=[],
        metavar='NAME',
        help='do not count the finding NAME, such as opset, as a mismatch',
    )
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    args = parser.parse_args(arguments)
    try:
        report = verify(
            args.folder,
            **functions_of(args),
            stage=args.stage,
            layout=args.layout,
            tolerance=args.tolerance,
            allow=args.allow,
        )
    except (ValueError, ImportError, OSError) as error:
        print(f'verify: {error}', file=sys.stderr)
        return 2
    print(json.dumps(report.to_json(), indent=1) if args.json else report)
    return 0 if report.ok else 1


def _count(number: int, one: str, more: str) -> str:
    return f'{number} {one if number == 1 else more}'


if __name__ == '__main__':
    sys.exit(main())
