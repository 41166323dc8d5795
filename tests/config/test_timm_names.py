"""The names of networks that are known without timm being imported."""

import pytest
import timm

from thaw.config.timm_names import check_backbone, timm_names
from thaw.runtime.errors import UserError


def test_they_are_all_that_timm_takes():
    assert set(timm.list_models(include_tags=False)) < timm_names()
    assert all(map(timm.is_model, timm_names()))
    assert "tv_resnet50" in timm_names(), "a name of before, which timm still takes"


@pytest.mark.parametrize("name", ["resnet50", "resnet50.a1_in1k", "hf-hub:me/mine", "local-dir:outputs/latest"])
def test_names_that_may_be(name):
    check_backbone(name)


@pytest.mark.parametrize(
    ("name", "near"), [("resnte18", "resnet18"), ("tniy", "tiny"), ("convnextv2-tiny", "convnextv2_tiny")]
)
def test_a_name_that_is_none_is_refused_with_the_nearest(name, near):
    with pytest.raises(UserError) as refused:
        check_backbone(name, ("tiny",))
    assert refused.value.code == 2 and near in refused.value.line
