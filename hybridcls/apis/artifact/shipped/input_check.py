"""Find the preprocessing mistakes that explain a pipeline's outputs for the golden images."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

try:
    from .pixel_mistakes import (
        AS_TOLD,
        ORDERS,
        Finding,
        Geometry,
        Golden,
        Json,
        Pipeline,
        Simulator,
        affine,
        covering_geometry,
        grey_finding,
        order_finding,
        turns,
    )  # fmt: skip
except ImportError:  # beside the other files of an artifact
    from pixel_mistakes import (  # type: ignore[no-redef]
        AS_TOLD,
        ORDERS,
        Finding,
        Geometry,
        Golden,
        Json,
        Pipeline,
        Simulator,
        affine,
        covering_geometry,
        grey_finding,
        order_finding,
        turns,
    )  # fmt: skip

Array = np.ndarray
_EXACT, _CLOSE, _FAR = 0.35, 0.75, 1.6  # residuals in levels of 255 (root mean square)
_PIXELS = 8000  # of an image, for the search


class Explanation(NamedTuple):
    """The result of :meth:`Explainer.explain`: mismatches, notes, and the fitted scale of the values."""

    findings: list[Finding]
    notes: list[str]
    fit: Optional['Fit'] = None


class Fit(NamedTuple):
    """A linear fit of values to pixels: the user's channel c = gain[c] * pixels[order[c]] + offset[c].

    Args:
        residual: Root mean square of the remaining difference, in levels of 255.
        order: For each channel of the user, the channel of the pixels.
        gain, offset: One number for each channel of the user.
    """

    residual: float
    order: tuple[int, ...]
    gain: Array
    offset: Array

    def pixels(self, values: Array) -> Array:
        """Return the pixels (..., C) in 0..255 that correspond to values."""
        gain = np.where(self.gain == 0, 1, self.gain)
        levels = (values - self.offset) / gain
        result = np.empty_like(levels)
        result[..., list(self.order)] = levels
        return np.clip(result, 0, 255)


def fit_values(values: Array, pixels: Array) -> Fit:
    """Fit order, gain and offset of channels, (N, C) float each; rows whose pixels are NaN are ignored."""
    known = ~np.isnan(pixels).any(axis=1) & np.isfinite(values).all(axis=1)
    inner = known & (pixels > 0).all(axis=1) & (pixels < 255).all(axis=1)
    if inner.sum() > 0.3 * known.sum():  # floats may go beyond 0 and 255 where a filter overshoots
        known = inner
    values, pixels = values[known].astype(np.float64), pixels[known].astype(np.float64)
    count = values.shape[1]
    if len(values) < 2:
        return Fit(np.inf, tuple(range(count)), np.ones(count), np.zeros(count))
    mine, theirs = values - values.mean(0), pixels - pixels.mean(0)
    covariance = mine.T @ theirs / len(values)  # (user's, pixels')
    own, other = (mine**2).mean(0), (theirs**2).mean(0)
    with np.errstate(divide='ignore', invalid='ignore'):
        square = np.where(own[:, None] * other > 0, covariance**2 / (own[:, None] * other), 0)
    left = np.maximum(other * (1 - square), 0)
    if count == 3:
        order: tuple[int, ...]
        cost = {order: sum(left[c, k] for c, k in enumerate(order)) for order in ORDERS}
        order = min(
            ORDERS, key=lambda one: (cost[one] > 1.02 * cost[(0, 1, 2)] + 1e-3, cost[one] - 1e-9 * (one == (0, 1, 2)))
        )
        order = order if cost[order] < 0.9 * cost[(0, 1, 2)] - 1e-3 else (0, 1, 2)
    else:
        order = tuple(range(count))
    pairs = list(enumerate(order))
    gain = np.array([covariance[c, k] / other[k] if other[k] > 0 else 0.0 for c, k in pairs])
    offset = values.mean(0) - gain * pixels.mean(0)[list(order)]
    return Fit(float(np.sqrt(np.mean([left[c, k] for c, k in pairs]))), tuple(order), gain, offset)


# The layout


def as_images(values: Array, channels: int) -> tuple[Array, str]:
    """Convert the pipeline's output for an image to (h, w, C); return its layout too.

    Raises:
        ValueError: If no axis has the size of the channels.
    """
    array = np.asarray(values)
    batch = array.ndim == 4 and array.shape[0] == 1
    if batch:
        array = array[0]
    if array.ndim == 2 and channels == 1:
        return array[..., None], 'HW'
    if array.ndim == 3:
        for axis, layout in ((2, 'HWC'), (0, 'CHW'), (1, 'HCW')):
            if array.shape[axis] == channels:
                return np.moveaxis(array, axis, 2), ('N' if batch else '') + layout
    raise ValueError(f'{np.shape(values)}')


class Explainer(Simulator):
    """Search for the mistakes that explain the inputs that a pipeline returns for the golden images.

    Args:
        goldens: The golden images.
        sidecar: The content of model.json.
        stage: What the pipeline returns: ``'uint8'``, ``'unit'`` (0..1) or ``'normalized'``. Defaults to None: uint8 as
            the graph takes it, or normalized values.
        layout: ``'NHWC'`` or ``'NCHW'``. Defaults to None: that of the graph for uint8, any for floats.
    """

    def __init__(
        self, goldens: Sequence[Golden], sidecar: Json, stage: Optional[str] = None, layout: Optional[str] = None
    ) -> None:
        super().__init__(goldens, sidecar)
        self.stage, self.layout = stage, layout

    def explain(self, given: dict[str, Any]) -> Explanation:
        """Explain the outputs of a pipeline: an array for each golden image by name, or the error that it raised."""
        findings: list[Finding] = []
        notes: list[str] = []
        images, layout, dtype = self._arranged(given, findings)
        images = self._sized(images, findings) if images else images
        if not images:
            return Explanation(findings, notes)
        if (cast := self._cast(images, dtype)) is not None:
            return Explanation([*findings, cast], notes)
        images, turned = self._turned(images)
        findings += turned
        pipeline, fit = self._search(images)
        plain = tuple(self.plain(images))
        if fit.residual > _FAR:
            findings += [grey_finding(plain)] * pipeline.grey  # by other weights than those of Pillow
            findings.append(self._unexplained(pipeline, fit, plain))
            return Explanation(findings, notes, fit)
        if pipeline.geometry.name:
            findings.append(self.geometry_finding(pipeline.geometry, plain))
        elif pipeline.geometry.text != AS_TOLD:
            notes.append(
                'Sizes or crops are rounded differently than in the training, by one pixel: this does no harm.'
            )
        if pipeline.filter is not None:
            findings.append(self.filter_finding(pipeline.filter, plain))
        if pipeline.grey:
            findings.append(grey_finding(plain))
        elif fit.order != tuple(range(len(fit.order))):
            findings.append(order_finding(fit.order, plain))
        findings += self._name_scale(fit, dtype, layout, notes)
        findings += self._specials(images, pipeline, fit)
        return Explanation(findings, notes, fit)

    # Shape

    def _arranged(self, given: dict[str, Any], findings: list[Finding]) -> tuple[dict[str, Array], str, Any]:
        """Convert all outputs to (h, w, C)."""
        images: dict[str, Array] = {}
        layouts: dict[str, list[str]] = {}
        wrong: dict[str, list[str]] = {}
        dtype: Any = np.dtype(np.uint8)
        for name, value in given.items():
            if isinstance(value, Exception):
                wrong.setdefault(f'fails ({type(value).__name__}: {str(value)[:120]})', []).append(name)
                continue
            array = np.asarray(value)
            try:
                images[name], layout = as_images(array, self.channels)
                layouts.setdefault(layout, []).append(name)
                dtype = array.dtype
            except ValueError:
                shape = ' x '.join(map(str, array.shape)) or 'a number'
                wrong.setdefault(f'returns {shape}', []).append(name)
        for what, names in wrong.items():
            common = self.describe(names)
            advice = f'Return {self.height} x {self.width} x {self.channels} for every image'
            kind = 'failure'
            if what.startswith('returns'):
                kind = 'channels'
                if 'transparency' in common:
                    kind, advice = 'alpha', f'Put transparent images on the background {self.decode["background"]}'
                elif 'grey' in common:
                    kind, advice = 'grey', 'Repeat the channel of grey images three times'
                elif 'CMYK' in common:
                    kind, advice = 'cmyk', 'Convert CMYK images to RGB'
            findings.append(Finding(kind, f'The pipeline {what} for {common}. {advice}.', tuple(names)))
        if not images:
            return {}, '', dtype
        layout = max(layouts, key=lambda one: len(layouts[one]))
        return images, layout, dtype

    def _sized(self, images: dict[str, Array], findings: list[Finding]) -> dict[str, Array]:
        """Check that all images have the network's size; continue with another size if all images share it."""
        sizes = {image.shape[:2] for image in images.values()}
        wanted = (self.height, self.width)
        if sizes == {wanted}:
            return images
        got = ', '.join(f'{h} x {w}' for h, w in sorted(sizes)[:4])
        what = f'The size is {got} (height x width), the network takes {self.height} x {self.width}'
        if len(sizes) == 1:
            height, width = next(iter(sizes))
            advice = f'Resize and crop to {self.height} x {self.width}'
            findings.append(Finding('size', f'{what}. {advice}.', tuple(images)))
            self.resized(height, width)
            return images
        advice = 'Each image has its own size: end with a crop or a resize to the size of the network'
        right = {name: image for name, image in images.items() if image.shape[:2] == wanted}
        wrong = tuple(name for name in images if name not in right)
        findings.append(Finding('size', f'{what}, for {self.describe(wrong)}. {advice}.', wrong))
        return right

    def _cast(self, images: dict[str, Array], dtype: Any) -> Optional[Finding]:
        """Detect values that carry no information: not finite, constant, or integers cast from [0, 1]."""
        values = np.stack(list(images.values()))
        if not np.isfinite(values.astype(np.float64)).all():
            return Finding('not finite', 'The pipeline returns NaN or infinity.')
        if np.ptp(values) == 0:
            return Finding('constant', f'All values of all images are {values.flat[0]:g}.')
        if np.issubdtype(dtype, np.integer) and int(values.max()) - int(values.min()) <= 2:  # in int8 it may overflow
            return Finding(
                'range',
                f'The values are integers from {values.min()} to {values.max()}: values in 0..1 (or normalized ones) '
                'were rounded to integers. Leave out the division by 255; the graph takes 0..255.',
                tuple(images),
            )
        if np.issubdtype(dtype, np.integer) and self.right_size:
            right = np.stack([golden.input for golden in self.goldens if golden.name in images])
            if dtype == np.int8 and np.mean(right.astype(dtype) == values) > 0.8:
                return Finding(
                    'dtype',
                    'Pixels were cast to int8, whose largest value is 127. Leave the cast out: the graph takes uint8.',
                    tuple(images),
                )
            for mean, std in self.normalization:
                wrapped = ((right / 255 - mean) / std).astype(np.int64).astype(dtype)
                if np.mean(wrapped == values) > 0.8:
                    return Finding(
                        'dtype',
                        f'Normalized values were cast to {dtype}. Leave out the normalization, which the graph does, '
                        'or keep float32.',
                        tuple(images),
                    )
        return None

    def _turned(self, images: dict[str, Array]) -> tuple[dict[str, Array], list[Finding]]:
        """Undo flips, rotations and transpositions if that brings the images closer to the right ones."""
        names = self.plain(images)
        right = _rows([self.simulate(name, self.right_pipeline) for name in names])

        def residual(undo: Callable[[Array], Array]) -> float:
            return fit_values(_rows([undo(images[name]) for name in names]), right).residual

        first = residual(lambda image: image)
        if first < _FAR:
            return images, []
        found = [(residual(undo), name, what, undo) for name, what, undo, _ in turns(self.height == self.width)]
        best, name, what, undo = min(found, key=lambda one: one[0])
        if best > 0.6 * first:
            return images, []
        finding = Finding(name, f'The images are {what}. Undo that.', tuple(images), first)
        return {key: undo(image) for key, image in images.items()}, [finding]

    # Search

    def _search(self, images: dict[str, Array]) -> tuple[Pipeline, Fit]:
        """Return the simulated pipeline with the fewest mistakes that explains the plain images best.

        If several explain the other images equally well, JPEGs decide: they may be the only images that are larger than
        the network's size.
        """
        plain = self.plain(images)[:6]
        jpegs = [name for name in self.plain(images, loose=True) if name not in plain]
        jpegs = sorted(jpegs, key=lambda name: -self.read(self.golden(name)).size)[:2]
        values = _rows([images[name] for name in plain])
        right = self.right_pipeline
        if self.channels == 3 and _is_grey(values):
            right = right._replace(grey=not _is_grey(_rows([self.simulate(name, right) for name in plain])))
        tried: dict[tuple[int, int], tuple[Pipeline, Fit, float]] = {}

        def attempt(geometry: Geometry, filter: Any = None) -> float:
            key = id(geometry), id(filter)
            if key not in tried:
                pipeline = right._replace(geometry=geometry, filter=filter)
                fit = fit_values(values, _rows([self.simulate(name, pipeline) for name in plain]))
                apart = [_distance(fit.pixels(images[name]), self.simulate(name, pipeline)) for name in jpegs]
                tried[key] = pipeline, fit, max(apart, default=0.0)
            return tried[key][1].residual

        def nearest() -> float:
            return min(max(fit.residual, jpeg) for _, fit, jpeg in tried.values())

        attempt(right.geometry)
        if nearest() > _EXACT:
            for geometry in self.geometries:
                attempt(geometry)
        if nearest() > _EXACT:
            for one in self.other_filters:
                attempt(right.geometry, one)
        if nearest() > _EXACT:
            for geometry in sorted(self.geometries, key=attempt)[:5]:
                for one in self.other_filters:
                    attempt(geometry, one)
        if min(fit.residual for _, fit, _ in tried.values()) > _CLOSE:
            self._search_edges(images, attempt)
        best = min(fit.residual for _, fit, _ in tried.values())
        enough = [one for one in tried.values() if one[1].residual <= 1.25 * best + 0.05]
        least = min(jpeg for _, _, jpeg in enough)
        if least <= _CLOSE:
            enough = [one for one in enough if 0.3 * one[2] <= max(least, 0.3 * _EXACT)]
        pipeline, fit, jpeg = min(enough, key=lambda one: (one[0].mistakes, max(one[1].residual, one[2])))
        if pipeline.mistakes:  # a simulation must explain clearly more than what is right, up to rounding
            calm = min(
                (one for one in tried.values() if not one[0].mistakes), key=lambda one: max(one[1].residual, one[2])
            )
            apart = max(calm[1].residual, calm[2])
            share = 0.3 if apart <= _CLOSE else 0.6
            if apart <= _FAR and max(fit.residual, jpeg) > share * apart:
                pipeline, fit, _ = calm
        return pipeline, fit

    def _search_edges(self, images: dict[str, Array], attempt: Callable[..., float]) -> None:
        """Try all sizes to which an image may be resized before cropping; first on one image, for speed."""
        ways = [
            covering_geometry((edge, round(self.width * edge / self.height)), self.height, self.width)
            for edge in range(self.height, self.height + max(2, 3 * self.height // 4))
        ]
        name = max(self.plain(images), key=lambda one: min(self.read(self.golden(one)).shape[:2]))
        mine = _rows([images[name]])

        def residual(way: Geometry) -> float:
            return fit_values(mine, _rows([self.simulate(name, Pipeline(way))])).residual

        best = min(ways, key=residual)
        self._kept = ways  # attempts are known by the identity of what they try
        if attempt(best) > _EXACT:
            for one in self.other_filters:
                attempt(best, one)

    # Names

    def _name_scale(self, fit: Fit, dtype: Any, layout: str, notes: list[str]) -> Iterator[Finding]:
        """Name the scale of the values, and with it the matching layout."""
        forms = {'uint8': [(np.ones(self.channels), np.zeros(self.channels))],
                 'unit': [(np.full(self.channels, 1 / 255), np.zeros(self.channels))],
                 'normalized': [affine(mean, std) for mean, std in self.normalization]}  # fmt: skip
        allowed = [self.stage] if self.stage else ['uint8', 'normalized']
        fitting = [one for one, known in forms.items() if any(_near(fit, gain, offset) for gain, offset in known)]
        stage = next((one for one in allowed if one in fitting), None)
        if stage is None:
            yield self._wrong_scale(fit, allowed, fitting)
        else:
            said = {'uint8': '0..255', 'unit': '0..1', 'normalized': 'normalized with mean and std of model.json'}
            notes.append(f'The pipeline is compared as {dtype} {layout}, {said[stage]}.')
            if stage != 'uint8' and any(_by_256(fit, gain) for gain, _ in forms[stage]):
                yield Finding('range', 'The values are divided by 256. Divide by 255.')
            if stage == 'normalized' and not self.stage:
                notes.append(
                    'Normalized values are for a runtime of your own: the graph of this artifact takes uint8 and '
                    'normalizes it itself.'
                )
            if stage == 'uint8' and dtype != np.uint8 and not self.stage:
                notes.append(f'The graph takes uint8: convert your {dtype} by np.rint(x).astype(np.uint8).')
        wanted = self.layout or ('NHWC' if stage == 'uint8' or dtype == np.uint8 else None)
        if wanted and layout.replace('N', '') != wanted.replace('N', ''):
            advice = 'Leave out the transpose' if wanted == 'NHWC' else 'Transpose to channels, height, width'
            yield Finding('layout', f'The layout is {layout}, expected is {wanted}. {advice}.')

    def _wrong_scale(self, fit: Fit, allowed: Sequence[str], fitting: Sequence[str]) -> Finding:
        with np.errstate(divide='ignore', invalid='ignore'):
            mean, std = -fit.offset / fit.gain / 255, 1 / fit.gain / 255
        found = f'(mean {_numbers(mean)}, std {_numbers(std)} of 0..1)'
        own = [f'mean {_numbers(m)}, std {_numbers(s)}' for m, s in self.normalization]
        wanted = {'uint8': '0..255 uint8', 'unit': '0..1', 'normalized': f'normalized by {" or ".join(own)}'}
        takes = ' or '.join(wanted[one] for one in allowed)
        if 'normalized' in fitting:
            return Finding('normalization', f'The values are normalized {found}, expected is {takes}. Leave that out.')
        if 'unit' in fitting:
            if allowed == ['normalized']:
                return Finding(
                    'normalization',
                    f'Mean and std are missing: the values are 0..1, expected is {takes}. Subtract the mean and divide '
                    'by the std.',
                )
            return Finding(
                'range',
                f'The values are 0..1 (not 0..255, and without mean and std), expected is {takes}. Leave out the '
                'division by 255 (ToTensor). If your own runtime takes 0..1, add --stage unit.',
            )
        for name, what, gain, offset, advice in self.scales():
            if _near(fit, gain, offset):
                return Finding(name, f'{what} {found}, expected is {takes}. {advice}.')
        name = 'mean and std'
        for right_mean, right_std in self.normalization:
            if np.allclose(std, right_std, rtol=0.01):
                name = 'mean'
            elif np.allclose(mean, right_mean, atol=0.004):
                name = 'std'
        return Finding(
            name,
            f'The {name} of the values {"differ" if " " in name else "differs"} {found}, expected is {takes}. Use '
            'those of model.json, or leave the normalization to the graph.',
        )

    # Images with special properties

    def _specials(self, images: dict[str, Array], pipeline: Pipeline, fit: Fit) -> Iterator[Finding]:
        """Compare each image with the fitted pipeline, and name the kinds of images that are decoded wrongly."""
        explained: dict[tuple[str, str], list[str]] = {}
        left: dict[str, float] = {}
        for name in images:
            special = self.golden(name).traits
            mine = fit.pixels(images[name])
            residual = _distance(mine, self.simulate(name, pipeline))
            slack = max(_SLACK.get(one, 0.0) for one in (*special, 'JPEG' if 'JPEG' in special else 'else'))
            if residual <= 1.6 * fit.residual + slack:
                continue
            if pipeline.geometry.name and np.isnan(self.simulate(name, pipeline)).any():
                continue  # how it pads an image that is too small has no name
            found = [(_distance(mine, pixels), mistake, what) for mistake, what, pixels in self.decoded(name, pipeline)]
            best, mistake, what = min(found, default=(np.inf, '', ''))
            if best < max(0.35 * residual, min(1.5 * fit.residual + slack, 0.7 * residual)):
                explained.setdefault((mistake, what), []).append(name)
            else:
                left[name] = residual
        for (mistake, what), names in explained.items():
            yield self.decoding_finding(mistake, what, names)
        if left:
            yield self._leftover(images, left, pipeline, fit)

    def _leftover(self, images: dict[str, Array], left: dict[str, float], pipeline: Pipeline, fit: Fit) -> Finding:
        names, worst = list(left), max(left.values())
        levels = f'{worst:.2f} levels of 255 (root mean square)'
        if all('JPEG' in self.golden(name).traits for name in names):
            light = np.array([0.299, 0.587, 0.114])
            apart = [fit.pixels(images[name]) - self.simulate(name, pipeline) for name in names]
            chroma = self.channels == 3 and all(np.std(one @ light) < 0.35 * np.std(one) for one in apart)
            where = ', in colour and not in brightness: the chroma is upsampled differently' if chroma else ''
            return Finding(
                'JPEG decoder',
                f'Only JPEG images differ ({self.listed(names)}; by up to {levels}{where}): the JPEG decoder is '
                'another one, or has other settings. Decode with Pillow or OpenCV (libjpeg-turbo, exact DCT, fancy '
                'upsampling).',
                tuple(names),
                worst,
            )
        return Finding(
            'unexplained',
            f'{self.describe(names)}: the input differs by up to {levels}, and no known mistake explains it. Compare '
            'the output of your pipeline with golden.npz, step by step.',
            tuple(names),
            worst,
        )

    def _unexplained(self, pipeline: Pipeline, fit: Fit, plain: tuple[str, ...]) -> Finding:
        near = [pipeline.geometry.text] * bool(pipeline.geometry.name)
        near += [f'resizing with {pipeline.filter.text}'] if pipeline.filter else []
        return Finding(
            'unexplained',
            f'The input differs for all images, by {fit.residual:.1f} levels of 255 (root mean square), and no known '
            f'mistake explains it{"; the nearest is: " + " and ".join(near) if near else ""}. Compare the output of '
            f'your pipeline for {plain[0]} with golden.npz, step by step.',
            plain,
            fit.residual,
        )


# Differences (root mean square) between decoders of good quality, and by rounding
_SLACK = {'JPEG': 0.15, 'CMYK': 1.6, 'transparency': 1.0, '16 bits': 1.0, 'else': 0.5}


def _near(fit: Fit, gain: Array, offset: Array) -> bool:
    """Return whether values differ by at most about one level of 255, at 0 and at 255.

    If the channels are in another order, gain and offset may have been applied before or after the reordering.
    """
    order = list(fit.order)
    for scale, shift in ((gain, offset), (gain[order], offset[order])):
        low = fit.offset - shift
        high = low + 255 * (fit.gain - scale)
        if (np.maximum(np.abs(low), np.abs(high)) <= 1.2 * np.abs(scale)).all():
            return True
    return False


def _by_256(fit: Fit, gain: Array) -> bool:
    """Return whether levels were divided by 256 instead of 255, which only exact values can show."""
    return fit.residual < 0.1 and bool(np.allclose(fit.gain / gain, 255 / 256, rtol=0, atol=5e-4))


def _numbers(values: Array) -> str:
    values = np.atleast_1d(values)
    return ', '.join(f'{one:.3f}' for one in (values[:1] if np.ptp(values) < 5e-4 else values))


def _rows(images: Sequence[Array]) -> Array:
    """Return the pixels of images as rows (N, C); large images are subsampled."""
    rows = []
    for image in images:
        flat = image.reshape(-1, image.shape[-1])
        rows.append(flat[:: max(1, len(flat) // _PIXELS)])
    return np.concatenate(rows).astype(np.float64)


def _distance(first: Array, second: Array) -> float:
    apart = first.astype(np.float64) - second
    known = np.isfinite(apart)
    return float(np.sqrt(np.mean(apart[known] ** 2))) if known.any() else np.inf


def _is_grey(values: Array) -> bool:
    """Return whether all channels are equal up to a scale and an offset."""
    if values.std(axis=0).min() == 0:
        return False
    return bool(np.corrcoef(values.T).min() > 0.9999)
