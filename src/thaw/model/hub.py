"""Fetch a network's config.json and weights from the Hugging Face hub, as safetensors only.

timm's own loader falls back to a pickle if the hub has no safetensors.
"""

from pathlib import Path

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from thaw.model.saved import CONFIG, WEIGHTS
from thaw.model.weights import read_weights
from thaw.runtime.errors import UserError, first_line
from thaw.runtime.failures import is_machine_error
from thaw.runtime.online import responds

NAMES = (WEIGHTS, "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")


def fetch_config(repository: str, source: str) -> Path:
    """Fetch the config.json of a repository and return its folder. Raise UserError as `fetch`."""
    return fetch(repository, (CONFIG,), source).parent


def given_weights(repository: str | None, source: str) -> dict:
    """Return entries for timm's pretrained_cfg that hold a hub repository's weights instead of their address.

    Raise UserError: exit 6 if timm knows no repository of the network, else as `fetch`.
    """
    if not repository:
        what = "timm has no safetensors weights for it, and pickles are never opened"
        raise UserError(6, f"{source}: {what}; set backbone.weights=FILE.safetensors or backbone.weights=none")
    weights = read_weights(fetch(repository, NAMES, source), source)
    addresses = dict.fromkeys(("url", "file", "hf_hub_id", "hf_hub_filename", "source"))
    return addresses | {"custom_load": False, "state_dict": weights}


def fetch(repository: str, names: tuple[str, ...], source: str) -> Path:
    """Return the first of these files that a repository (OWNER/NAME or OWNER/NAME@REVISION) has, fetched if not cached.

    Raise UserError: exit 2 if the repository does not exist, exit 5 if it cannot be reached, exit 6 if it has no such
    file.
    """
    if not responds(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True  # else a file that is not cached fails only after a minute
    owner_name, _, revision = repository.partition("@")
    for name in names:
        try:
            return Path(hf_hub_download(owner_name, name, revision=revision or None))
        except LocalEntryNotFoundError:
            what = source.removeprefix("backbone=")
            raise UserError(
                5,
                f"cannot get the weights of {what} (no network?): use backbone=lite0, whose ImageNet weights are "
                "installed, set backbone.weights=FILE.safetensors, or set HF_HOME to a cache that has them",
            ) from None
        except EntryNotFoundError:
            continue
        except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise UserError(2, f"{source}: the hub has no such repository ({first_line(error)})") from None
        except OSError as error:
            if is_machine_error(error):
                raise
            raise UserError(5, f"{source}: fetching from the hub failed ({first_line(error)})") from None
    what = f"{repository} on the hub has no {names[0]}"
    raise UserError(6, f"{source}: {what}; pickles are never opened: use another repository, or convert it")
