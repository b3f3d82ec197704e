"""The page without a browser: an image file becomes HTML, whatever is in it; an error becomes a sentence."""

import io
import os
import re

import pytest
from PIL import Image
from tiny_artifact import calibration_of, write_tiny_artifact

from hybridcls.apis.demo.asked_model import Artifact
from hybridcls.apis.demo.page import Page, make_app

pytest.importorskip('onnx', reason='the extra export is not installed')
pytest.importorskip('onnxruntime', reason='the extra export is not installed')
COLOR = (40, 90, 30)


def image_file(path, color=COLOR, mode='RGB', size=(20, 30), **options):
    Image.new(mode, size, color).save(path, **options)
    return str(path)


@pytest.fixture
def artifact(tmp_path):
    return write_tiny_artifact(tmp_path / 'artifact')


def asked(page, path):
    """All that the page shows of an image."""
    return ''.join(page.answer(path))


def _png(color):
    buffer = io.BytesIO()
    Image.new('RGB', (20, 30), color).save(buffer, 'PNG')
    return buffer.getvalue()


def text_of(html):
    """What a browser shows."""
    return re.sub(r'<[^>]+>', ' ', html).replace('\u00a0', ' ')


def test_an_answer_is_escaped_and_asks_for_nothing(artifact, tmp_path):
    html = asked(Page(Artifact(artifact), top_k=4), image_file(tmp_path / 'a.png'))
    assert '<b>' not in html
    assert '&lt;b&gt;' in html
    assert '青' in html
    assert 'as read, 20 × 30' in html
    assert 'as the network sees it, 8 × 8' in html
    assert not re.search(r'(src|href)="(?!data:image/)', html)


def test_unknown(tmp_path):
    page = Page(Artifact(write_tiny_artifact(tmp_path / 'a', calibration=calibration_of(0.9999))))
    assert page.about == '4 classes · calibrated · answers “unknown” below a threshold'
    html = asked(page, image_file(tmp_path / 'a.png', (10, 10, 10)))
    assert '<h2 class=unknown dir=auto>unknown</h2>' in html
    assert 'below the threshold > 99.9 %' in text_of(html).replace('&gt;', '>')
    page = Page(Artifact(write_tiny_artifact(tmp_path / 'b', calibration=calibration_of(0.1))))
    assert '<h2 dir=auto>grün</h2>' in asked(page, image_file(tmp_path / 'b.png', (10, 200, 10)))


def test_several_labels_and_no_classes(tmp_path):
    page = Page(Artifact(write_tiny_artifact(tmp_path / 'a', multi_label=True)))
    assert page.about == '4 classes · several labels an image'
    assert 'These classes are at or above their thresholds' in asked(page, image_file(tmp_path / 'a.png', (90, 90, 0)))
    page = Page(Artifact(write_tiny_artifact(tmp_path / 'b', classes=())))
    assert page.about == 'embeddings, no classes'
    assert 'With --index FILE the page shows which.' in asked(page, image_file(tmp_path / 'b.png'))


@pytest.mark.parametrize(
    ('name', 'mode', 'color', 'options'),
    [
        ('a.jpg', 'CMYK', (10, 200, 30, 0), {}),
        ('a.tif', 'I;16', 30000, {}),
        ('a.png', 'LA', (80, 0), {}),
        ('a.gif', 'P', 3, {}),
        ('a.jpg', 'RGB', COLOR, dict(exif=b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0')),
        ('ein Bild 猫.webp', 'RGBA', (1, 2, 3, 4), {}),
    ],
)
def test_images_of_every_mode(artifact, tmp_path, name, mode, color, options):
    html = asked(Page(Artifact(artifact)), image_file(tmp_path / name, color, mode, **options))
    assert 'as read, 30 × 20' in html if options else 'as read, 20 × 30' in html


def test_wrong_files_are_a_sentence(artifact, tmp_path, capsys, monkeypatch):
    page = Page(Artifact(artifact))
    (tmp_path / 'notes.txt').write_text('no image')
    (tmp_path / 'empty.png').touch()
    for name in ('notes.txt', 'empty.png'):
        said = text_of(asked(page, str(tmp_path / name)))
        assert said.strip() == f'{name} cannot be answered: its bytes are not an image that Pillow can read here.'
    (tmp_path / 'cut.png').write_bytes(_png(COLOR)[:60])
    said = text_of(asked(page, str(tmp_path / 'cut.png')))
    assert said.strip().startswith('cut.png cannot be answered: ')
    assert '0x' not in said
    assert str(tmp_path) not in said
    large = image_file(tmp_path / 'large.png', 0, '1', (16000, 8000))
    assert 'it has 16,000 × 8,000 pixels, and the page takes 64 million at most.' in asked(page, large)
    assert 'Drop an image' in asked(page, None)
    assert 'Traceback' not in capsys.readouterr().err
    monkeypatch.setattr(page.model, 'ask', lambda content: 1 / 0)
    assert 'ZeroDivisionError. The terminal of hybridcls demo says more.' in asked(page, str(tmp_path / 'notes.txt'))
    assert 'Traceback' in capsys.readouterr().err


def test_the_application(artifact):
    pytest.importorskip('gradio', reason='the extra demo is not installed')
    from starlette.testclient import TestClient

    app = make_app(Page(Artifact(artifact)), 0.001, ['localhost', 'testserver'])
    with TestClient(app) as client:
        answer = client.get('/')
        assert answer.status_code == 200
        assert "default-src 'self'" in answer.headers['Content-Security-Policy']
        assert 'fonts.googleapis' not in answer.text
        assert client.get('/', headers=dict(Host='elsewhere.example')).status_code == 400
        large = client.post('/gradio_api/upload', files=dict(files=('a.png', b'x' * 4000)))
        assert large.status_code == 413


def test_only_uploaded_files_are_read(artifact, tmp_path, monkeypatch):
    """Whoever reaches the page sends the path of the file: one that was not uploaded is a file of this machine."""
    pytest.importorskip('gradio', reason='the extra demo is not installed')
    from starlette.testclient import TestClient

    (tmp_path / 'uploads').mkdir()
    monkeypatch.setenv('GRADIO_TEMP_DIR', str(tmp_path / 'uploads'))
    private = image_file(tmp_path / 'private.png', 0)
    fetched = []
    monkeypatch.setattr('gradio.processing_utils.async_ssrf_protected_download', lambda url, **_: fetched.append(url))
    app = make_app(Page(Artifact(artifact)), 1, ['testserver'])
    with TestClient(app) as client:

        def ask(path, **more):
            data = [dict(path=path, meta=dict(_type='gradio.FileData'), **more)]
            return client.post('/gradio_api/run/answer', json=dict(data=data, fn_index=0, session_hash='a')).text

        with open(private, 'rb') as file:
            uploaded = client.post('/gradio_api/upload', files=dict(files=('a.png', file))).json()[0]
        assert 'as read' in ask(uploaded)
        for path in (private, os.path.relpath(private), 'https://example.com/a.png'):
            assert ask(path) == '{"error":null}'
            assert 'as read' not in ask(path, is_stream=True)
    assert fetched == []
