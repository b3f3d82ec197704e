"""The page of ``hybridcls demo``, made with gradio and without external resources."""

import io
import os
import traceback
from dataclasses import replace
from html import escape
from typing import Any, Optional

from PIL import Image

from .answer_html import CSS, Thumbnail, answer_html, data_uri, images_html, message_html
from .asked_model import AskedModel, Said
from .neighbours import Neighbour, Neighbours
from .shown_answer import shown_answer

__all__ = ['Page', 'make_app']

_FONTS = ['system-ui', 'Segoe UI', 'Roboto', 'Helvetica', 'Arial', 'sans-serif']
_MONO = ['ui-monospace', 'Consolas', 'monospace']
# Whatever a page of gradio would fetch from elsewhere (fonts, scripts), the browser does not: nothing leaves.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; frame-ancestors 'self'; form-action 'self'"
)
_INVITATION = 'Drop an image, or click to choose one.'
_SECONDS_KEPT = 600
_MOST_PIXELS = 64 * 10**6  # 192 MB as RGB, and several times as much while it is resized
_THUMBNAIL = 192


class Page:
    """The function of the page, from an image file to HTML, without gradio.

    Args:
        model (AskedModel): The model.
        neighbours (Neighbours, optional): A search of an index. Defaults to None.
        top_k (int): How many classes are shown. Defaults to 5.
        k (int): How many neighbours are shown. Defaults to 6.
    """

    def __init__(self, model: AskedModel, neighbours: Optional[Neighbours] = None, top_k: int = 5, k: int = 6) -> None:
        self.model, self.neighbours, self.top_k, self.k = model, neighbours, top_k, k

    @property
    def about(self) -> str:
        """A line about the model, for the top of the page."""
        of = self.model.described
        parts = [
            f'{len(of.classes):,} class{"es" * (len(of.classes) != 1)}' if of.classes else 'embeddings, no classes'
        ]
        parts += ['several labels an image'] * of.multi_label
        if of.calibration is not None:
            parts.append('calibrated')
            parts += ['answers “unknown” below a threshold'] * (of.calibration.get('risk') is not None)
        if self.neighbours is not None:
            parts.append(f'{len(self.neighbours):,} images in the index')
        return ' · '.join(parts)

    def answer(self, path: Optional[str]) -> tuple[str, str]:
        """Return the prediction for an image file, and the image itself, as HTML.

        An error never ends the page: then the answer is a sentence, and there is no image.
        """
        if not path:
            return message_html(_INVITATION), ''
        try:
            with open(path, 'rb') as file:
                content = file.read()
            _check_pixels(content)
            said = self.model.ask(content)
            shown = shown_answer(said.answer, self.model.described, self.top_k)
            if not self.model.described.classes and self.neighbours is None:
                shown = replace(shown, why=f'{shown.why} With --index FILE the page shows which.')
            return answer_html(shown, self._neighbours(said)), images_html(said.read, said.seen)
        except (ValueError, OSError) as error:
            return message_html(f'{os.path.basename(path)} cannot be answered: {_reason(error, path)}'), ''
        except Exception as error:  # a bug is for whoever runs the page, not for whoever looks at it
            traceback.print_exc()
            name = os.path.basename(path)
            return message_html(
                f'{name} cannot be answered: {type(error).__name__}. The terminal of hybridcls demo says more.'
            ), ''

    def _neighbours(self, said: Said) -> Optional[list[Thumbnail]]:
        if self.neighbours is None or said.embedding is None:
            return None
        return [self._thumbnail(one) for one in self.neighbours.find(said.embedding, self.k)]

    def _thumbnail(self, one: Neighbour) -> Thumbnail:
        try:
            image = data_uri(self.model.read(one.place), _THUMBNAIL)
        except (ValueError, OSError):
            image = None
        return Thumbnail(one.label, one.similarity, one.place, image)


def make_app(page: Page, max_mb: float, hosts: Optional[list[str]] = None) -> Any:
    """Return the page as an application for a server (ASGI).

    Args:
        page (Page): What it does.
        max_mb (float): The largest file that is taken, in MiB.
        hosts (list[str], optional): The names that the page may be asked by, so that a page of elsewhere cannot ask it
            under a name of its own. Defaults to None: any.
    """
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'  # gradio reads it when it is imported
    import gradio
    from fastapi import FastAPI, Request
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    title = f'{page.model.name} · hybridcls'
    with gradio.Blocks(title=title, analytics_enabled=False, delete_cache=(_SECONDS_KEPT, _SECONDS_KEPT)) as blocks:
        gradio.HTML(f'<div class=hc><h2>{escape(page.model.name)}</h2><p class=subdued>{escape(page.about)}</p></div>')
        with gradio.Row(equal_height=False):
            with gradio.Column(scale=2, min_width=280):
                file = gradio.File(label=f'An image, at most {max_mb:g} MB', type='filepath', height=180)
                images = gradio.HTML('')
            with gradio.Column(scale=3, min_width=280):
                answer = gradio.HTML(message_html(_INVITATION), min_height=120)
        take = file.async_move_resource_to_block_cache

        async def take_uploads_alone(path: Any) -> Any:
            """Refuse an address, which gradio would fetch from elsewhere."""
            if '://' in str(path):
                raise ValueError(f'expected an uploaded file, got {path}')
            return await take(path)

        file.async_move_resource_to_block_cache = take_uploads_alone
        file.change(
            page.answer,
            file,
            [answer, images], api_visibility='private', show_progress='minimal', concurrency_limit=1,
        )  # fmt: skip
    # gradio refuses files that were not uploaded once a page is launched, and a mounted one never is: without this line
    # whoever reaches the page can look at any image of this machine, by its path.
    blocks.has_launched = True
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware('http')
    async def with_policy(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers['Content-Security-Policy'] = _POLICY
        response.headers['Referrer-Policy'] = 'no-referrer'
        return response

    if hosts is not None:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    return gradio.mount_gradio_app(
        app,
        blocks,
        path='/',
        max_file_size=int(max_mb * 2**20),
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        css=CSS,
        theme=gradio.themes.Default(font=_FONTS, font_mono=_MONO),
    )


def _check_pixels(content: bytes) -> None:
    """Raise for an image that is small as a file but huge when decoded."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
    except Exception:  # of a format of another library, or damaged: the model says so
        return
    if width * height > _MOST_PIXELS:
        raise ValueError(
            f'it has {width:,} × {height:,} pixels, and the page takes {_MOST_PIXELS // 10**6} million at most.'
        )


def _reason(error: Exception, path: str) -> str:
    """Return why an image cannot be read, in a sentence without technical details."""
    text = (str(error).strip().splitlines() or ['it cannot be read'])[0]
    text = text.replace(path, 'it').removeprefix('LoadImage: ').removeprefix('cannot read an image in memory: ')
    return text if text.endswith(('.', '!', '?')) else f'{text}.'
