"""Try a trained model in the browser: drop an image, and see the answer and the reasons for it.

The command serves a page on this machine that works offline. Other machines cannot reach it, unless you set --host. It
needs the extra `demo` (gradio).
"""

import os
import signal
import socket
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hybridcls.checks import check_file, check_installed, check_number

from .calibration_options import add_calibration_options
from .device import add_device_option
from .image_options import check_model
from .json_output import print_json, tell

if TYPE_CHECKING:
    from hybridcls.apis.demo.asked_model import AskedModel

__all__ = ['HELP', 'add_arguments', 'run']

HELP = 'try a trained model in the browser: drop an image, see the answer'
_PORT, _PORTS_TRIED = 7860, 50
_LOOPBACK = ('127.0.0.1', 'localhost', '::1')


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument(
        'checkpoint',
        metavar='MODEL',
        help='checkpoint file; work dir: its best checkpoint, or the last one if there is no best; or folder of an '
        'exported model (`hybridcls export`)',
    )
    parser.add_argument(
        '--index', metavar='FILE', help='also show the most similar images of this index (`hybridcls embed`)'
    )
    parser.add_argument('--top-k', type=int, default=5, metavar='K', help='number of classes to show; default: 5')
    parser.add_argument(
        '--neighbours', type=int, default=6, metavar='K', help='number of similar images to show; default: 6'
    )
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen on; default: 127.0.0.1, which only this machine can reach',
    )
    parser.add_argument(
        '--port', type=int, help=f'port to listen on, or 0 for any free port; default: {_PORT}, or the next free one'
    )
    parser.add_argument(
        '--max-mb', type=float, default=20, metavar='MB', help='largest file that the page accepts, in MB; default: 20'
    )
    parser.add_argument('--config', help='config of the model, for a checkpoint without one (bare weights)')
    add_calibration_options(parser)
    add_device_option(parser)
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='allow the checkpoint to run the code that it contains; it may run any command with your rights',
    )


def run(args: Namespace) -> int:
    """Serve the page until it is interrupted."""
    _check(args)
    listener = _listen(args.host, args.port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` ends it as Ctrl+C does
    # Set before gradio is imported: what is uploaded lies here, and is gone when the page is closed.
    with tempfile.TemporaryDirectory(prefix='hybridcls_demo_') as uploads, suppress(KeyboardInterrupt):
        os.environ['GRADIO_TEMP_DIR'] = uploads
        _serve(args, listener)
    return 0


def _check(args: Namespace) -> None:
    """Find what can be found wrong without the imports that take seconds."""
    check_model('demo', args)
    for name, least in (('top_k', 1), ('neighbours', 1)):
        check_number('demo', f'--{name.replace("_", "-")}', getattr(args, name), least, integer=True)
    check_number('demo', '--max-mb', args.max_mb, 0, low_open=True)
    if args.port is not None:
        check_number('demo', '--port', args.port, 0, 65535, integer=True)
    if args.index is not None:
        check_file('demo', 'index', args.index, 'Type: hybridcls embed MODEL IMAGES --out FILE.npz')
    check_installed('demo', 'gradio', 'the page', 'demo')


def _listen(host: str, port: int | None) -> socket.socket:
    """Take the port, before the seconds of the imports.

    Raises:
        OSError: If the address cannot be had, or a port that was asked for is taken.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ValueError(
            f'demo: expected --host to be an address of this machine, got {host!r} ({error.strerror}).'
        ) from error
    reasons = ''
    for one in [port] if port is not None else range(_PORT, _PORT + _PORTS_TRIED):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address[0], one, *address[2:]))
            listener.listen(128)
        except OSError as error:
            listener.close()
            reasons = str(error.strerror)
            continue
        if port is None and one != _PORT:
            tell(f'Port {_PORT} is in use; listening on {one}.', sys.stderr)
        return listener
    what = f'port {port}' if port is not None else f'a port of {_PORT} to {_PORT + _PORTS_TRIED - 1}'
    raise OSError(f'demo: cannot listen on {what} of {host} ({reasons}). Choose another with --port (0: any).')


def _serve(args: Namespace, listener: socket.socket) -> None:
    model = _opened(args)
    tell(model.why, sys.stderr)
    from hybridcls.apis.demo.neighbours import Neighbours
    from hybridcls.apis.demo.page import Page, make_app

    neighbours = None if args.index is None else Neighbours(args.index, model.about)
    page = Page(model, neighbours, args.top_k, args.neighbours)
    is_local = args.host in _LOOPBACK
    app = make_app(page, args.max_mb, [*_LOOPBACK, '[::1]'] if is_local else None)
    import uvicorn

    port = listener.getsockname()[1]
    name = f'[{args.host}]' if ':' in args.host else args.host
    url = f'http://{name}:{port}'
    if not is_local:
        tell(
            f'Warning: everyone who can reach this machine at {args.host} can use the page. There is no password, and '
            'nothing is encrypted. Without --host, only this machine can reach the page.',
            sys.stderr,
        )
    if args.json:
        print_json(dict(command='demo', url=url, model=args.checkpoint, why=model.why))
    tell(f'{page.about}\nOpen {url} (Ctrl+C ends it)', sys.stderr)
    uvicorn.Server(uvicorn.Config(app, log_level='warning', access_log=False)).run(sockets=[listener])


def _opened(args: Namespace) -> 'AskedModel':
    from hybridcls.apis.demo.asked_model import Artifact, Checkpoint, is_artifact

    folder = Path(os.path.expanduser(args.checkpoint))
    if is_artifact(folder):
        given = [f'--{name}' for name in ('config', 'calibration') if getattr(args, name) is not None]
        if given:
            raise ValueError(f'demo: {" and ".join(given)}: an exported model has its own. Leave it out.')
        return Artifact(folder, args.trust_checkpoint)
    from .image_options import open_model

    args.amp = None
    return Checkpoint(open_model(args, args.checkpoint, None, calibration=args.calibration))
