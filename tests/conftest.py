"""Settings for tests, composed as in train.py but with one thread and without a network."""

import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "disabled"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import pytest
import torch

torch.set_num_threads(1)  # two threads on a busy core wait for each other


@pytest.fixture
def compose(tmp_path):
    """Return a function compose("lr=0.1", ...) -> Settings with a new store and one thread."""
    from thaw.config.compose import compose_settings

    return lambda *overrides: compose_settings(["threads=1", f"store.dir={tmp_path}/store", *overrides])
