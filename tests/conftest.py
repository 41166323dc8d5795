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
    from thaw.config.compose import compose_settings

    return lambda *overrides: compose_settings(["threads=1", f"store.dir={tmp_path}/store", *overrides])
