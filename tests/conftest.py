"""Settings of the tests: composed as train.py composes them, one thread, no network."""

import os
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "disabled"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import pytest
import torch

torch.set_num_threads(1)  # two threads on a busy core wait for one another

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def compose(tmp_path):
    """compose("lr=0.1", ...) -> Settings with a store of its own and one thread."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore

    import train
    from thaw.settings import Settings

    def composed(*overrides: str) -> Settings:
        ConfigStore.instance().store("schema", Settings)
        ConfigStore.instance().store("local", {})
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = hydra_compose("config", overrides=["threads=1", f"store.dir={tmp_path}/store", *overrides])
        return train.as_settings(cfg, list(overrides))

    return composed
