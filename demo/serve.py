"""Serve an artifact of ``hybridcls export`` over HTTP, many requests a batch: its runtime.py and litserve are enough.

python demo/serve.py DIR
curl -F image=@cat.jpg http://127.0.0.1:8000/predict
"""

import argparse
import importlib.util
import os

import litserve
import numpy as np
from fastapi import Request
from fastapi.responses import JSONResponse


class Classifier(litserve.LitAPI):
    """Answers as ``runtime.py`` does; a request without an image costs no other one of its batch the answer."""

    def setup(self, device):
        """Load the artifact, once a process."""
        spec = importlib.util.spec_from_file_location('runtime', os.path.join(self.folder, 'runtime.py'))
        runtime = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(runtime)
        runtime.Image.MAX_IMAGE_PIXELS = 2**25  # Pillow refuses twice as many: a small file may unfold to gigabytes
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
    server = litserve.LitServer(
        api,
        accelerator='cpu',
        workers_per_device=workers,
        max_payload_size=int(max_mb * 2**20),
        disable_openapi_url=True,
    )

    @server.app.middleware('http')
    async def take_forms_alone(request, answer):
        kind = request.headers.get('content-type', '')
        if request.method == 'POST' and not (kind.startswith('multipart/form-data') and 'boundary=' in kind):
            return JSONResponse({'detail': 'expected a form (multipart/form-data) with the field "image"'}, 415)
        return await answer(request)

    return server


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
    build_server(args.folder, args.batch_size, args.wait, args.workers, args.max_mb).run(
        host=args.host, port=args.port, generate_client_file=False
    )
