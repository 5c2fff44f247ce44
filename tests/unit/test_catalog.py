"""Cards and names: what a catalog promises before a model is loaded."""

import msgspec
import pytest

from catalog import Catalog, CatalogError, ModelCard, load_cards, merged
from catalog.card import CARDS

MINIMAL = {
    "id": "a/one",
    "title": "One",
    "family": "f",
    "licence": {"id": "MIT"},
    "max_context": 10,
    "max_horizon": 5,
}


def card(**fields):
    return msgspec.convert({**MINIMAL, **fields}, ModelCard)


def test_every_packaged_card_reads_and_names_are_unique():
    catalog = Catalog(load_cards(CARDS))
    assert len(catalog) >= 15
    for c in catalog:
        assert catalog.get(c.id) is c
        assert all(catalog.get(alias) is c for alias in c.aliases)
        assert c.default_quantile_levels == (0.1, 0.5, 0.9)


def test_every_row_of_the_published_table_has_a_card():
    catalog = Catalog(load_cards(CARDS))
    ids = [f"amazon/chronos-bolt-{s}" for s in ("tiny", "mini", "small", "base")]
    ids += [f"amazon/chronos-t5-{s}" for s in ("tiny", "mini", "small", "base", "large")]
    ids += ["amazon/chronos-2", "autogluon/chronos-2-small", "google/timesfm-2.0-500m-pytorch"]
    ids += ["google/timesfm-2.5-200m-pytorch", "google/timesfm-3.0-pytorch"]
    ids += [f"NeoQuasar/Kronos-{s}" for s in ("mini", "small", "base")]
    assert [i for i in ids if catalog.get(i) is None] == []
    assert catalog.get("timesfm2").id == catalog.get("timesfm").id == "google/timesfm-2.0-500m-pytorch"


def test_two_cards_cannot_claim_one_name():
    with pytest.raises(CatalogError, match="claimed by a/one and by b/two"):
        Catalog([card(aliases=["x"]), card(id="b/two", aliases=["x"])])


def test_an_operator_alias_and_default_must_point_somewhere():
    assert Catalog([card()], {"mine": "a/one"}, "mine").default.id == "a/one"
    with pytest.raises(CatalogError, match="nowhere"):
        Catalog([card()], {"mine": "nowhere"})
    with pytest.raises(CatalogError, match="nowhere"):
        Catalog([card()], default="nowhere")


def test_nearest_names_help_with_a_typo():
    catalog = Catalog(load_cards(CARDS))
    assert catalog.nearest("amazon/chronos-bolt-smal")[0] == "amazon/chronos-bolt-small"
    assert "chronos-bolt-tiny" in catalog.nearest("bolt-tiny")[0]


def test_operator_tables_replace_fields_or_add_cards():
    packaged = [card()]
    tables = {"a/one": {"max_horizon": 99}, "c/new": {k: v for k, v in MINIMAL.items() if k != "id"}}
    one, new = merged(packaged, tables)
    assert (one.max_horizon, one.title, new.id) == (99, "One", "c/new")
    with pytest.raises(CatalogError, match=r"models\.'a/one'.*unknown"):
        list(merged(packaged, {"a/one": {"max_horizn": 1}}))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"quantile_levels": [0.9, 0.5]}, "ascend"),
        ({"quantile_levels": [0.1, 0.9]}, "0.5"),
        ({"batching": {"horizon_classes": [64], "horizon_factors": [1.0]}}, "factor"),
        ({"native_horizon": 6}, "native_horizon"),
    ],
)
def test_relations_that_types_cannot_state_are_checked(fields, words):
    with pytest.raises(CatalogError, match=words):
        Catalog([card(**fields)])


def test_horizon_classes():
    c = card(batching={"horizon_classes": [64, 128], "horizon_factors": [1, 10, 19]})
    assert [c.horizon_class(h) for h in (1, 64, 65, 128, 129)] == [0, 0, 1, 1, 2]


def test_a_gpu_takes_larger_batches_of_a_model_whose_card_says_so():
    assert card().batching.budget(gpu=True) == card().batching.budget(gpu=False) == 1024
    larger = card(batching={"token_budget": 100, "gpu_token_budget": 5000}).batching
    assert (larger.budget(gpu=False), larger.budget(gpu=True)) == (100, 5000)
