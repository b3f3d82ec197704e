"""Read the state of a git repository, for the record of a training."""

import subprocess
from pathlib import Path
from typing import Any, Optional

__all__ = ['git_state']

_SECONDS = 5


def git_state(path: Path) -> Optional[dict[str, Any]]:
    """Return ``folder``, ``commit`` and ``dirty`` (whether tracked files have changed) of the repository of a path.

    Args:
        path (Path): A folder; or a file, which the repository has to hold: an installed package inside the folder of
            another project is none of its files.

    Returns:
        dict, optional: None without git, a repository or a commit, or where git does not answer within 5 seconds.
    """
    folder = path if path.is_dir() else path.parent
    if folder != path and _git(folder, 'ls-files', '--error-unmatch', path.name) is None:
        return None
    top, commit = _git(folder, 'rev-parse', '--show-toplevel'), _git(folder, 'rev-parse', 'HEAD')
    changed = _git(folder, 'status', '--porcelain', '--untracked-files=no')
    if not top or not commit or changed is None:
        return None
    return dict(folder=top, commit=commit, dirty=bool(changed))


def _git(folder: Path, *arguments: str) -> Optional[str]:
    try:
        # Without the lock that git takes to refresh its index: a commit of the user's at this moment would fail.
        ended = subprocess.run(
            ['git', '--no-optional-locks', *arguments], cwd=folder, capture_output=True, timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.decode(errors='replace').strip()
