"""The configuration keeps its fields, and refuses ones that cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def make(**fields: Any) -> Any:
    from moe_retrieval.model.configuration import MoEBertConfig

    return MoEBertConfig(num_hidden_layers=4, **fields)


def test_without_fields_it_is_a_dense_model_with_one_expert_in_every_layer() -> None:
    config = make()
    assert (config.experts, config.domains, config.moe_layers, config.routing) == (
        ["general"],
        {},
        [0, 1, 2, 3],
        "index",
    )


def test_saved_fields_come_back(tmp_path: Path) -> None:
    from transformers import AutoConfig

    config = make(experts=["general", "cvd"], domains={"stroke": "cvd"}, moe_layers=[2])
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is type(config)
    assert (again.experts, again.domains, again.moe_layers) == (["general", "cvd"], {"stroke": "cvd"}, [2])


def test_two_configurations_do_not_share_their_lists() -> None:
    make().experts.append("cvd")
    assert make().experts == ["general"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"experts": ["general", "a", "a"]}, "same name"),
        ({"domains": {"cvd": "nobody"}}, "nobody"),
        ({"moe_layers": [4]}, "moe_layers"),
        ({"moe_layers": [1, 1]}, "moe_layers"),
        ({"routing": "guess"}, "'guess' is not one of"),
        ({"is_decoder": True}, "decoder"),
    ],
)
def test_an_impossible_field_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(**fields)
