"""Fetch from the Hugging Face hub what a network needs: its config.json, and weights as safetensors only.

timm's own way falls back to a pickle where the hub has no safetensors.
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
from thaw.runtime.online import answers

NAMES = (WEIGHTS, "open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")


def fetch_config(repository: str, source: str) -> Path:
    """Return the folder in which the config.json of a repository lies now. Errors: as `fetch`."""
    return fetch(repository, (CONFIG,), source).parent


def given_weights(repository: str | None, source: str) -> dict:
    """Return for timm's pretrained_cfg the weights of a repository of the hub, in the place of where they would lie.

    Errors: timm knows of none that are safetensors, exit 6; as `fetch`.
    """
    if not repository:
        what = "timm has no weights of it as safetensors, and pickles are never opened"
        raise UserError(6, f"{source}: {what}; give backbone.weights=FILE.safetensors or none")
    weights = read_weights(fetch(repository, NAMES, source), source)
    elsewhere = dict.fromkeys(("url", "file", "hf_hub_id", "hf_hub_filename", "source"))
    return elsewhere | {"custom_load": False, "state_dict": weights}


def fetch(repository: str, names: tuple[str, ...], source: str) -> Path:
    """Return the first of these files that a repository (OWNER/NAME, or with @REVISION) has, from the cache or fetched.

    Errors: no such repository, exit 2; none of them, exit 6; it cannot be reached, exit 5.
    """
    if not answers(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True  # what is cached is used, what is not fails at once instead of in a minute
    owner_name, _, revision = repository.partition("@")
    for name in names:
        try:
            return Path(hf_hub_download(owner_name, name, revision=revision or None))
        except LocalEntryNotFoundError:
            what = source.removeprefix("backbone=")
            raise UserError(
                5,
                f"cannot get the weights of {what} (no network?): take backbone=lite0, whose ImageNet weights are "
                "installed, give backbone.weights=FILE.safetensors, or set HF_HOME to a cache that has them",
            ) from None
        except EntryNotFoundError:
            continue
        except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise UserError(2, f"{source}: no such repository on the hub ({first_line(error)})") from None
        except OSError as error:
            if is_machine_error(error):
                raise
            raise UserError(5, f"{source}: the hub does not give it ({first_line(error)})") from None
    what = f"{repository} on the hub has no {names[0]}"
    raise UserError(6, f"{source}: {what}; pickles are never opened: take another, or convert it")
