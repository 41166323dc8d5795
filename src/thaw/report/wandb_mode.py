"""Choose whether W&B runs online or offline, without ever prompting."""

import netrc
import os
from urllib.parse import urlparse

from thaw.runtime.online import answers


def choose_mode(mode: str) -> tuple[str, str]:
    """The mode to start W&B in, and why."""
    if mode != "auto":
        return mode, f"wandb={mode}"
    if chosen := os.environ.get("WANDB_MODE"):
        return chosen, f"WANDB_MODE={chosen}"
    url = os.environ.get("WANDB_BASE_URL") or default_server()
    host = urlparse(url).hostname
    if not has_login(host):
        return "offline", "no login; `wandb login` makes one"
    if not answers(url):
        return "offline", f"{host} does not answer"
    return "online", "logged in"


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
