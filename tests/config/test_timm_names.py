"""Tests of the names of networks that are read without importing timm."""

import pytest
import timm

from thaw.config.timm_names import check_backbone, timm_names
from thaw.runtime.errors import UserError


def test_all_names_of_timm_are_known():
    assert set(timm.list_models(include_tags=False)) < timm_names()
    assert all(map(timm.is_model, timm_names()))
    assert "tv_resnet50" in timm_names(), "a deprecated name that timm still accepts"


@pytest.mark.parametrize("name", ["resnet50", "resnet50.a1_in1k", "hf-hub:me/mine", "local-dir:outputs/latest"])
def test_names_that_are_accepted(name):
    check_backbone(name)


@pytest.mark.parametrize(
    ("name", "near"), [("resnte18", "resnet18"), ("tniy", "tiny"), ("convnextv2-tiny", "convnextv2_tiny")]
)
def test_unknown_names_are_refused_with_the_nearest(name, near):
    with pytest.raises(UserError) as refused:
        check_backbone(name, ("tiny",))
    assert refused.value.code == 2 and near in refused.value.line
