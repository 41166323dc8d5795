"""Settings of the tests: composed as train.py composes them, one thread, no network."""

import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "disabled"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import pytest
import torch

torch.set_num_threads(1)  # two threads on a busy core wait for one another


@pytest.fixture
def compose(tmp_path):
    """compose("lr=0.1", ...) -> Settings with a store of its own and one thread."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    import train
    from thaw import shell
    from thaw.settings import Settings

    def composed(*overrides: str) -> Settings:
        typed = shell.tidy(["threads=1", f"store.dir={tmp_path}/store", *overrides], train.CONF)
        train.register(typed.backbones)
        with initialize_config_dir(str(train.CONF), version_base="1.3"):
            return train.as_settings(hydra_compose("config", overrides=typed.argv), typed.argv)

    return composed
