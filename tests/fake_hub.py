"""The part of the Hugging Face Hub's protocol that its library uses to push and pull a model, on this machine alone."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

TOKEN = 'hf_of_the_owner'


class FakeHub:
    """Repositories by name, each a list of commits: the files of each commit by path.

    Attributes:
        repos (dict): Repositories: ``private`` and ``commits``.
        asked (list[str]): Method and path of every request.
    """

    def __init__(self):
        self.repos, self.blobs, self.asked = {}, {}, []
        hub = self

        class Handler(_Handler):
            def __init__(self, *arguments):
                self.hub = hub
                super().__init__(*arguments)

        self.server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.address = f'http://127.0.0.1:{self.server.server_port}'
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def files(self, repo, revision='main'):
        """The files of a commit; None if there is no such revision."""
        commits = self.repos[repo]['commits']
        if revision == 'main':
            return commits[-1] if commits else {}
        return next((files for files in commits if sha_of(files) == revision), None)

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def sha_of(files):
    """The name of a commit: 40 hex digits."""
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def log_message(self, *arguments):
        pass

    def reply(self, status, content=b'', **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {'Content-Length': str(len(body)), **headers}.items():
            self.send_header(name.replace('_', '-'), value)
        self.end_headers()
        if self.command != 'HEAD':
            self.wfile.write(body)

    def refuse(self, status, code, message):
        self.reply(status, b'', X_Error_Code=code, X_Error_Message=message)

    @property
    def is_owner(self):
        return self.headers.get('Authorization') == f'Bearer {TOKEN}'

    def do_GET(self):
        self.hub.asked.append(f'{self.command} {self.path}')
        path = self.path.partition('?')[0]
        if path == '/':
            return self.reply(200)
        info = re.fullmatch(r'/api/models/([^/]+/[^/]+)(/revision/([^/]+)|/tree/([^/]+))?', path)
        file = re.fullmatch(r'/([^/]+/[^/]+)/resolve/([^/]+)/(.+)', path)
        repo = (info or file)[1] if info or file else None
        if repo not in self.hub.repos or (self.hub.repos[repo]['private'] and not self.is_owner):
            return self.refuse(401 if not self.is_owner else 404, 'RepoNotFound', 'Repository not found')
        revision = (info[3] or info[4] or 'main') if info else file[2]
        files = self.hub.files(repo, revision)
        if files is None:
            return self.refuse(404, 'RevisionNotFound', f'Invalid rev id: {revision}')
        if info and info[4]:
            return self.reply(200, [dict(type='file', path=name, size=len(data), oid=hashlib.sha1(data).hexdigest())
                                    for name, data in files.items()])  # fmt: skip
        if info:
            siblings = [dict(rfilename=name) for name in files]
            return self.reply(200, dict(id=repo, sha=sha_of(files), siblings=siblings, private=False, tags=[]))
        if file[3] not in files:
            return self.refuse(404, 'EntryNotFound', 'Entry not found')
        data = files[file[3]]
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        return self.reply(200, data, ETag=etag, X_Repo_Commit=sha_of(files))

    do_HEAD = do_GET

    def do_PUT(self):
        self.hub.blobs[self.path.rpartition('/')[2]] = self.rfile.read(int(self.headers['Content-Length']))
        self.reply(200)

    def do_POST(self):
        self.hub.asked.append(f'POST {self.path}')
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        if not self.is_owner:
            return self.refuse(401, 'Unauthorized', 'Invalid username or password.')
        if self.path == '/api/repos/create':
            asked = json.loads(body)
            repo = f'{asked.get("organization") or "owner"}/{asked["name"]}'
            if not repo.startswith('owner/'):
                return self.refuse(403, 'Forbidden', f'You do not have the rights to create a model under {repo}')
            is_private = bool(asked.get('private')) or asked.get('visibility') == 'private'  # newer versions' key
            there = repo in self.hub.repos
            self.hub.repos.setdefault(repo, dict(private=is_private, commits=[]))
            return self.reply(409 if there else 200, dict(url=f'{self.hub.address}/{repo}', id=repo, name=repo))
        if self.path == '/api/validate-yaml':
            return self.reply(200, dict(errors=[], warnings=[]))
        if self.path.endswith('/info/lfs/objects/batch'):
            objects = [
                dict(one, actions=dict(upload=dict(href=f'{self.hub.address}/upload/{one["oid"]}')))
                for one in json.loads(body)['objects']
            ]
            return self.reply(200, dict(transfer='basic', objects=objects))
        step = re.fullmatch(r'/api/models/([^/]+/[^/]+)/(preupload|commit)/[^/?]+.*', self.path)
        if step and step[2] == 'preupload':
            modes = [
                dict(path=one['path'], shouldIgnore=False, oid=None,
                     uploadMode='lfs' if one['path'].endswith('.safetensors') else 'regular')
                for one in json.loads(body)['files']
            ]  # fmt: skip
            return self.reply(200, dict(files=modes))
        if step:
            files = dict(self.hub.files(step[1]))
            for line in body.decode().splitlines():
                one = json.loads(line)
                if one['key'] == 'file':
                    files[one['value']['path']] = base64.b64decode(one['value']['content'])
                elif one['key'] == 'lfsFile':
                    files[one['value']['path']] = self.hub.blobs[one['value']['oid']]
            self.hub.repos[step[1]]['commits'].append(files)
            url = f'{self.hub.address}/{step[1]}/commit/{sha_of(files)}'
            return self.reply(200, dict(commitUrl=url, commitOid=sha_of(files), success=True))
        return self.refuse(404, 'NotFound', self.path)


@pytest.fixture
def fake_hub(monkeypatch, tmp_path):
    """A Hub of its own for a test, which the library takes for the real one; its owner is logged in."""
    hub = FakeHub()
    for name, value in dict(
        ENDPOINT=hub.address, HUGGINGFACE_CO_URL_TEMPLATE=hub.address + '/{repo_id}/resolve/{revision}/{filename}',
        HF_HUB_OFFLINE=False, HF_HUB_DISABLE_XET=True, HF_HUB_CACHE=str(tmp_path / 'hub_cache'),
        HF_TOKEN_PATH=str(tmp_path / 'no_token'), HF_HUB_DISABLE_PROGRESS_BARS=True,
    ).items():  # fmt: skip
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv('HF_TOKEN', TOKEN)
    yield hub
    hub.close()
