"""A dataset folder, put on the Hugging Face Hub with its user's own token."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from synthc.runtime.errors import RunError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a variable
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def check_name(repository: str) -> None:
    """Raise RunError where a name is none of a repository: `org/name`."""
    if not _NAME.fullmatch(repository) or ".." in repository or "--" in repository:
        raise RunError(
            f"`{repository}` is no name of a dataset on the Hub", hint="it is called `org/name`"
        )


def check(repository: str, token: str, *, replace: bool) -> None:
    """Raise RunError where nothing can be pushed, before anything is written for it.

    Where the repository is there, `replace` allows to replace its data and its card.
    """
    if not re.fullmatch(r"[!-~]+", token):
        raise RunError(
            f"what {TOKEN} holds is no token: there are spaces, line breaks or odd signs in it"
        )
    with _told(repository, token) as api:
        if api.repo_exists(repository, repo_type="dataset") and not replace:
            raise RunError(
                f"there is a dataset {repository} on the Hub already",
                hint="`--force` replaces its data and its card; what it was stays in its history",
            )


def push(folder: Path, repository: str, token: str, *, public: bool) -> str:
    """Put a folder into a dataset's repository, in the place of the data in it; its address.

    A repository that is not there is made: private, unless it is to be `public`. Raises RunError, in
    which the token does not stand.
    """
    with _told(repository, token) as api:
        there = api.repo_exists(repository, repo_type="dataset")
        if not there:
            api.create_repo(repository, repo_type="dataset", private=not public)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            repo_type="dataset",
            commit_message="synthc export",
            delete_patterns=["data/*.parquet"] if there else None,
        )
        return f"{_without_user(api.endpoint)}/datasets/{repository}"


@contextlib.contextmanager
def _told(repository: str, token: str) -> Iterator[HfApi]:
    """The Hub; what goes wrong with it is told as a RunError."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(token=token, library_name="synthc")
    try:
        yield api
    except RunError:
        raise
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        said = _line(error.server_message or str(error), token)
        raise _refused(repository, status, said) from None
    except OSError as error:  # no network, or none that leads there
        offline = isinstance(error, OfflineModeIsEnabled)
        why = "HF_HUB_OFFLINE is set" if offline else _first_reason(error)
        raise RunError(
            f"the Hub at {_without_user(api.endpoint)} cannot be reached: {_line(why, token)}",
            hint="the dataset was not pushed; `--to FOLDER` writes it here",
        ) from None
    except Exception as error:  # noqa: BLE001 - whatever the client's libraries raise
        raise RunError(f"{repository} could not be pushed: {_line(str(error), token)}") from None


def _first_reason(error: BaseException) -> str:
    """What the system said, below all that its callers made of it."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _refused(repository: str, status: int | None, said: str) -> RunError:
    match status:
        case 401:
            hint = f"a new one can be made at https://huggingface.co/settings/tokens, for {TOKEN}"
            return RunError(f"the Hub does not take the token in {TOKEN}: {said}", hint=hint)
        case 403:
            hint = "it needs the permission to write there"
            return RunError(
                f"the token in {TOKEN} may not write to {repository}: {said}", hint=hint
            )
        case _:
            return RunError(f"the Hub refused {repository} (HTTP {status}): {said}")


def _line(text: str, token: str) -> str:
    """A message of unknown origin on one line, without the token."""
    line = " ".join(re.sub(r"Bearer [^'\"]*", "Bearer …", text.replace(token, "…")).split())
    return line if len(line) <= 300 else f"{line[:300]}…"


def _without_user(url: str) -> str:
    return re.sub(r"://[^/@]*@", "://", url)
