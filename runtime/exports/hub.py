"""A dataset folder, put on the Hugging Face Hub with its user's own token."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from synthc.runtime.errors import RunError

TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a variable
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def check_name(repository: str) -> None:
    """Raise RunError where a name is none of a repository: `org/name`."""
    if not _NAME.fullmatch(repository) or ".." in repository or "--" in repository:
        raise RunError(
            f"`{repository}` is no name of a dataset on the Hub", hint="it is called `org/name`"
        )


def push(folder: Path, repository: str, token: str, *, public: bool, replace: bool) -> str:
    """Put a folder into a dataset's repository, which is made where it is not there; its address.

    One that is made is private unless it is to be `public`. Where there is one, `replace` allows to
    replace its data and its card. Raises RunError, in which the token does not stand.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(token=token, library_name="synthc")
    try:
        if api.repo_exists(repository, repo_type="dataset"):
            if not replace:
                raise RunError(
                    f"there is a dataset {repository} on the Hub already",
                    hint="`--force` replaces its data and its card; what it was stays in its history",
                )
        else:
            api.create_repo(repository, repo_type="dataset", private=not public)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            repo_type="dataset",
            commit_message="synthc export",
            delete_patterns=["data/*.parquet"] if replace else None,
        )
    except RunError:
        raise
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        said = _line(error.server_message or str(error), token)
        raise _refused(repository, status, said) from None
    except OSError as error:  # no network, or none that leads there
        raise RunError(
            f"the Hub at {_without_user(api.endpoint)} cannot be reached: {_line(str(error), token)}",
            hint="the dataset was not pushed; `--to FOLDER` writes it here",
        ) from None
    except Exception as error:  # noqa: BLE001 - whatever the client's libraries raise
        raise RunError(f"{repository} could not be pushed: {_line(str(error), token)}") from None
    return f"{_without_user(api.endpoint)}/datasets/{repository}"


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
    line = " ".join(text.replace(token, "…").split())
    return line if len(line) <= 300 else f"{line[:300]}…"


def _without_user(url: str) -> str:
    return re.sub(r"://[^/@]*@", "://", url)
