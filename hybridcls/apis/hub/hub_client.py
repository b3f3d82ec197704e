"""The calls of the Hugging Face Hub that models need, with one-sentence errors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Optional

from hybridcls.hub_cache import why_unreachable

from .place import Place

__all__ = ['check_login', 'download', 'names_in', 'upload']

_LOGIN = 'Type: hf auth login (or set HF_TOKEN)'


def check_login(caller: str, place: Place) -> None:
    """Raise unless something can be uploaded: the Hub answers, and someone is logged in.

    Raises:
        ConnectionError: If it does not answer, or ``HF_HUB_OFFLINE`` is set.
        PermissionError: If no one is logged in.
    """
    from huggingface_hub import get_token

    why = why_unreachable()
    if why:
        raise ConnectionError(f'{caller}: {place} is on the Hugging Face Hub, and {why}. {_folder(place)}')
    if not get_token():
        raise PermissionError(
            f'{caller}: {place} is on the Hugging Face Hub, and no one is logged in. {_LOGIN}. {_folder(place)}'
        )


def upload(caller: str, folder: Path, place: Place, private: Optional[bool], message: str) -> str:
    """Make the repository unless it is there, and commit the files of a folder to it; return the commit's address."""
    from huggingface_hub import HfApi

    with _sentences(caller, place):
        api = HfApi(library_name='hybridcls')
        api.create_repo(place.name, private=private, exist_ok=True, repo_type='model')
        commit = api.upload_folder(
            repo_id=place.name, folder_path=folder, commit_message=message, revision=place.revision
        )
    return str(commit.commit_url)


def names_in(caller: str, place: Place) -> list[str]:
    """Return the names of all files of a repository."""
    from huggingface_hub import HfApi

    with _sentences(caller, place):
        return HfApi(library_name='hybridcls').list_repo_files(place.name, revision=place.revision)


def download(caller: str, place: Place, names: Sequence[str]) -> Path:
    """Fetch files of a repository into the Hub's cache, of which those that are there stay; return their folder.

    Without a network the cache alone is looked in.

    Raises:
        ConnectionError: If they are not there, and the Hub does not answer.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    why = why_unreachable()
    paths = []
    with _sentences(caller, place):
        for name in names:
            try:
                paths.append(
                    hf_hub_download(
                        place.name, name, revision=place.revision, library_name='hybridcls', local_files_only=bool(why)
                    )
                )
            except LocalEntryNotFoundError as error:
                raise ConnectionError(
                    f'{caller}: {place} is on the Hugging Face Hub, {name} of it is not in the cache, and '
                    f'{why or _first_line(error)}. {_folder(place)}'
                ) from error
    folder = Path(paths[0])
    for _ in Path(names[0]).parts:
        folder = folder.parent
    return folder


@contextmanager
def _sentences(caller: str, place: Place) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except ConnectionError:
        raise
    except errors.GatedRepoError as error:
        raise PermissionError(f'{caller}: {place} is gated: ask for access on its page, then {_LOGIN}.') from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(f'{caller}: {place.name} has no revision {place.revision!r} on the Hub.') from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f'{caller}: {place} is not on the Hub, or private and not yours. {_LOGIN} for a private one.'
        ) from error
    except errors.EntryNotFoundError as error:
        raise FileNotFoundError(f'{caller}: {place} lacks a file ({_first_line(error)}).') from error
    except errors.HFValidationError as error:
        raise ValueError(f'{caller}: expected OWNER/NAME as the Hub takes them, got {place} ({error}).') from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, 'status_code', None)
        advice = f' {_LOGIN} as someone who may write there.' if status in (401, 403) else ''
        raise ConnectionError(f'{caller}: the Hub refuses {place}: {_first_line(error)}.{advice}') from error
    except OSError as error:  # what is left of it: connections that break
        raise ConnectionError(f'{caller}: {place}: {type(error).__name__}: {_first_line(error)}.') from error


def _folder(place: Place) -> str:
    return f'For a folder of this machine type ./{place.name}'


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip('.')
