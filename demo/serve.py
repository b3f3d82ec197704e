"""Serve an artifact of ``hybridcls export`` over HTTP, many requests a batch: its runtime.py and litserve are enough.

python demo/serve.py DIR
curl -F image=@cat.jpg http://127.0.0.1:8000/predict
"""

import argparse
import importlib.util
import os
import signal
import warnings

import litserve
import numpy as np
from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect


def runtime_of(folder):
    """Return the module runtime.py of an artifact."""
    spec = importlib.util.spec_from_file_location('runtime', os.path.join(folder, 'runtime.py'))
    runtime = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runtime)
    return runtime


class Classifier(litserve.LitAPI):
    """Answers as ``runtime.py`` does; a request without an image costs no other one of its batch the answer."""

    def setup(self, device):
        """Load the artifact, once a process."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C reaches this process too, which the server's own ends
        runtime = runtime_of(self.folder)
        runtime.Image.MAX_IMAGE_PIXELS = 2**25  # Pillow refuses twice as many: a small file may unfold to gigabytes
        warnings.simplefilter('ignore', runtime.Image.DecompressionBombWarning)  # of those between the two numbers
        self.model = runtime.Model(self.folder)

    def decode_request(self, request: Request):
        """Return the image as the network takes it, or the answer to who sent none."""
        try:
            return self.model.prepare(request['image'].file.read())
        except (ValueError, KeyError, AttributeError, TypeError) as error:  # raised here, it would fail the whole batch
            reason = str(error).split(' <')[0] if isinstance(error, ValueError) else 'there is none'
            return JSONResponse({'detail': f'expected an image in the form field "image": {reason}'}, 400)

    def batch(self, inputs):
        """Leave images and refusals in their list."""
        return inputs

    def predict(self, inputs):
        """Answer for all images of a batch at once."""
        batch = inputs if isinstance(inputs, list) else [inputs]
        images = [one for one in batch if isinstance(one, np.ndarray)]
        answers = iter(self.model.decide(self.model.run(np.stack(images))) if images else ())
        outputs = [next(answers) | {'batch': len(images)} if isinstance(one, np.ndarray) else one for one in batch]
        return outputs if isinstance(inputs, list) else outputs[0]


def build_server(folder, batch_size=16, wait=0.01, workers=1, max_mb=10):
    """Return a server of ``workers`` processes; a batch waits at most ``wait`` seconds for more requests."""
    api = Classifier(max_batch_size=batch_size, batch_timeout=wait if batch_size > 1 else 0)
    api.folder = os.path.abspath(folder)

    async def take_forms_alone(request, answer):
        if request.method != 'POST':
            return await answer(request)
        kind = request.headers.get('content-type', '')
        if not (kind.startswith('multipart/form-data') and 'boundary=' in kind):
            return JSONResponse({'detail': 'expected a form (multipart/form-data) with the field "image"'}, 415)
        try:  # litserve answers with 500 to a form that it cannot read, and logs a traceback
            await request.body()
            await (await request.form()).close()
        except HTTPException as error:
            got = f'more than {max_mb:g} MB' if error.status_code == 413 else f'a broken form ({error.detail})'
            return JSONResponse(
                {'detail': f'expected an image in the form field "image", got {got}'}, error.status_code
            )
        except ClientDisconnect:
            return JSONResponse({'detail': 'the request ended too early'}, 400)  # nobody is left to read it
        return await answer(request)

    return litserve.LitServer(
        api,
        accelerator='cpu',
        workers_per_device=workers,
        max_payload_size=int(max_mb * 2**20),
        disable_openapi_url=True,
        middlewares=[(BaseHTTPMiddleware, {'dispatch': take_forms_alone})],  # within the one that counts the bytes
    )


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', metavar='DIR', help='the artifact')
    parser.add_argument('--host', default='127.0.0.1', help='default: 127.0.0.1, this machine alone')
    parser.add_argument('--port', type=int, default=8000, help='default: 8000')
    parser.add_argument('--batch-size', type=int, default=16, help='requests a batch at most; default: 16')
    parser.add_argument('--wait', type=float, default=0.01, help='seconds that a batch waits for more; default: 0.01')
    parser.add_argument('--workers', type=int, default=1, help='processes that predict; default: 1')
    parser.add_argument('--max-mb', type=float, default=10, help='largest upload; default: 10')
    args = parser.parse_args()
    for name in ('batch_size', 'workers', 'max_mb'):
        if not getattr(args, name) > 0:
            parser.error(f'expected --{name.replace("_", "-")} above 0, got {getattr(args, name)}.')
    if not (args.wait >= 0 and 0 < args.port < 2**16):
        parser.error(f'expected --wait of at least 0 and --port from 1 to 65535, got {args.wait} and {args.port}.')
    try:  # before the processes start, each of which would end with a traceback
        runtime_of(args.folder).read_sidecar(args.folder)
    except (OSError, ValueError) as error:
        parser.error(f'expected the folder of an artifact, got {args.folder}: {error}')

    process = os.getpid()

    def stop(*_):
        """End as Ctrl+C does, or else the processes that this one has forked outlive it."""
        if os.getpid() != process:
            os._exit(0)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    build_server(args.folder, args.batch_size, args.wait, args.workers, args.max_mb).run(
        host=args.host, port=args.port, generate_client_file=False
    )
