"""The choice whether W&B runs online or offline, made without a prompt."""

import netrc
import os
from urllib.parse import urlparse

from thaw.runtime.online import responds

SYNONYMS = {"dryrun": "offline", "run": "online"}  # values of WANDB_MODE that W&B also accepts


def choose_mode(mode: str) -> tuple[str, str]:
    """Return the mode to start W&B in, and the reason."""
    why = f"wandb={mode}"
    if mode == "auto" and (chosen := os.environ.get("WANDB_MODE")):
        mode, why = SYNONYMS.get(chosen, chosen), f"WANDB_MODE={chosen}"
    if mode not in ("auto", "online"):
        return mode, why
    url = os.environ.get("WANDB_BASE_URL") or default_server()
    host = urlparse(url).hostname
    if mode == "auto" and not has_login(host):
        return "offline", "not logged in: `wandb login`"
    if not responds(url):
        return "offline", f"{host} does not answer"
    return "online", "logged in" if mode == "auto" else why


def default_server() -> str:
    import wandb

    return wandb.Settings().base_url


def has_login(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
