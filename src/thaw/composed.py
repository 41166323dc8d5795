"""What Hydra composed, made into plain dataclasses; nothing behind this knows that there was a yaml."""

from pathlib import Path

from thaw import shell
from thaw.settings import Settings, check

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"


def as_settings(cfg, overrides: list[str]) -> Settings:
    """The composed configuration as plain dataclasses, values checked."""
    from omegaconf.errors import OmegaConfBaseException

    try:
        settings = structured(cfg)
    except OmegaConfBaseException as error:  # data.root=???
        raise shell.explain(error, overrides, CONF) from None
    check(settings)
    return anchored(settings)


def structured(cfg) -> Settings:
    from omegaconf import OmegaConf

    return OmegaConf.to_object(cfg)


def plain(cfg) -> dict:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(cfg, resolve=True)


def anchored(settings: Settings) -> Settings:
    """Paths of our own outputs are those of the repository wherever the command is started."""
    settings.store.dir = str(ROOT / Path(settings.store.dir).expanduser())
    settings.wandb.dir = str(ROOT / Path(settings.wandb.dir).expanduser())
    return settings
