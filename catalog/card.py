"""Model cards: all that is promised of a model before it is loaded.

A card is a TOML file, one model each. The gateway validates requests, batches and prices work from the card alone;
it never asks a loaded model what it can do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

CovariateUse = Literal["native", "regression", "ignored"]
Level = Annotated[float, Meta(gt=0.0, lt=1.0)]
Positive = Annotated[int, Meta(ge=1)]

CARDS = Path(__file__).parent / "cards"
BUNDLED = Path(__file__).parent / "bundled"


class CatalogError(ValueError):
    """A card or an alias that cannot stand: the message names the file and the fault."""


class Weights(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where one set of weights lies: a repository of the hub, looked for in local folders first."""

    repository: str
    revision: str = "main"  # a commit where known, so that a pull today is the pull of tomorrow
    files: tuple[str, ...] = ("config.json", "model.safetensors")
    bundled: str | None = None  # folder below catalog/bundled, for weights that ship with the package


class Licence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Licence of the weights. A model whose licence is not commercial is off until the operator accepts it."""

    id: str
    url: str = ""
    commercial: bool = True


class Covariates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model does with each kind of covariate."""

    past: CovariateUse = "ignored"
    future: CovariateUse = "regression"
    static: CovariateUse = "ignored"
    future_only: bool = False  # a covariate may be known over the horizon without its past
    categorical: bool = False  # past and future covariates may be strings


class Sampling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether the model draws sample paths, and which controls of the draw it takes."""

    native: bool = False
    temperature: bool = False
    top_p: bool = False
    top_k: bool = False
    default_top_k: Annotated[int, Meta(ge=0)] = 0  # where the caller names none; 0: draw from all
    copula: bool = False  # paths drawn on demand from the quantile forecast


class Batching(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the engine prices and groups this model's work.

    A series costs `channels x (ceil(length / patch) + overhead)` tokens times the factor of its horizon class;
    series whose horizons fall into one class may share a batch.
    """

    pool: Literal["neural", "statistical"] = "neural"
    patch: Positive = 1  # observations a token
    overhead: int = 1  # tokens of every channel whatever its length
    token_budget: Positive = 1024  # padded tokens of one batch, where a core of a CPU saturates
    gpu_token_budget: Annotated[int, Meta(ge=0)] = 0  # the same on a GPU, within its memory; 0: no more than on a CPU
    max_series: Positive = 1024  # rows of one batch
    shortest_bucket: Positive = 16  # observations; shorter contexts share this length bucket
    horizon_classes: tuple[Positive, ...] = ()  # upper bounds, ascending; none: one class for all
    horizon_factors: tuple[float, ...] = ()  # price of each class relative to the first
    joint_channels: bool = False  # channels of a series are computed together and cannot be split

    def budget(self, gpu: bool) -> int:
        """Padded tokens of one batch."""
        return (self.gpu_token_budget if gpu else 0) or self.token_budget


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model: identity, limits, capabilities, licence and batching."""

    id: str
    aliases: tuple[str, ...] = ()
    title: str
    family: str
    summary: str = ""
    provider: str = "forecast-gateway"
    adapter: str | None = None  # "module:Class"; only packaged or operator cards name one, never a request
    adapter_options: dict[str, str | int | float | bool] = {}
    weights: dict[str, Weights] = {}
    licence: Licence
    parameters: int | None = None  # weights counted, for people and for the memory estimate

    max_context: Positive  # observations used at most
    max_horizon: Positive
    native_horizon: Positive | None = None  # steps of one pass; longer ones by the family's recursion
    joint_steps: bool = False  # steps are forecast together: the first ones depend on how many are asked
    quantile_levels: tuple[Level, ...] = ()  # trained levels; none: any level is computed
    default_quantile_levels: tuple[Level, ...] = (0.1, 0.5, 0.9)
    tails: Literal["native", "normal", "refuse"] = "normal"  # levels outside the trained ones
    point: Literal["mean", "median"] = "median"  # what `mean` in an answer holds
    multivariate: bool = False  # channels are forecast jointly; else one by one
    max_channels: Positive = 1024
    channel_names: tuple[str, ...] = ()  # the order that `inputs[].channels` names
    required_channels: tuple[str, ...] = ()  # of `channel_names`: those that no series can do without
    calendar_features: bool = False  # the model reads the time stamps of context and horizon
    covariates: Covariates = Covariates()
    missing_values: Literal["native", "interpolated", "refused"] = "native"
    missing_values_note: str = ""
    sampling: Sampling = Sampling()
    cross_learning: bool = False
    batching: Batching = Batching()

    @property
    def revision(self) -> str:
        """The weights' revisions, or the card's own name where a model has no weights."""
        return "+".join(w.revision for w in self.weights.values()) or "builtin"

    @property
    def capabilities(self) -> tuple[str, ...]:
        """Words that `GET /api/models?capability=` filters by."""
        words = ["quantiles"]
        words += ["multivariate"] * self.multivariate
        for kind in ("past", "future", "static"):
            if getattr(self.covariates, kind) != "ignored":
                words.append(f"{kind}_covariates")
        words += ["categorical_covariates"] * self.covariates.categorical
        words += ["samples"] * (self.sampling.native or self.sampling.copula)
        words += ["cross_learning"] * self.cross_learning
        words += ["missing_values"] * (self.missing_values != "refused")
        return tuple(words)

    def horizon_class(self, horizon: int) -> int:
        """Index of the horizon class that `horizon` steps fall into."""
        for i, bound in enumerate(self.batching.horizon_classes):
            if horizon <= bound:
                return i
        return len(self.batching.horizon_classes)


def _check(card: ModelCard, origin: str) -> ModelCard:
    """Relations between fields that types cannot state."""
    faults = []
    if list(card.quantile_levels) != sorted(set(card.quantile_levels)):
        faults.append("quantile_levels must ascend without repeats")
    if card.quantile_levels and 0.5 not in card.quantile_levels:
        faults.append("quantile_levels must hold 0.5")
    b = card.batching
    if list(b.horizon_classes) != sorted(set(b.horizon_classes)):
        faults.append("batching.horizon_classes must ascend without repeats")
    if b.horizon_factors and len(b.horizon_factors) != len(b.horizon_classes) + 1:
        faults.append("batching.horizon_factors needs one factor a class, the open last class included")
    if not set(card.required_channels) <= set(card.channel_names):
        faults.append("required_channels must be among channel_names")
    if card.native_horizon and card.native_horizon > card.max_horizon:
        faults.append("native_horizon exceeds max_horizon")
    if faults:
        raise CatalogError(f"{origin}: {'; '.join(faults)}")
    return card


def load_cards(folder: Path) -> Iterator[ModelCard]:
    """Read every `*.toml` of `folder` as a card, in file order; raises CatalogError naming the file."""
    for path in sorted(folder.glob("*.toml")):
        try:
            card = msgspec.toml.decode(path.read_bytes(), type=ModelCard, strict=True)
        except msgspec.DecodeError as exc:
            raise CatalogError(f"{path.name}: {exc}") from exc
        yield _check(card, path.name)


def merged(cards: Iterable[ModelCard], tables: Mapping[str, Mapping[str, object]]) -> Iterator[ModelCard]:
    """Packaged cards with the operator's `[models.<id>]` tables over them.

    A table of a known id replaces single fields of that card; a table of a new id is a whole card. Raises CatalogError
    naming the table.
    """
    packaged = {card.id: card for card in cards}
    for model_id in [*packaged, *(i for i in tables if i not in packaged)]:
        if model_id not in tables:
            yield packaged[model_id]
            continue
        fields: dict[str, object] = {}
        if model_id in packaged:
            fields |= msgspec.to_builtins(packaged[model_id])
        fields |= {**tables[model_id], "id": model_id}
        try:
            card = msgspec.convert(fields, ModelCard)
        except msgspec.ValidationError as exc:
            raise CatalogError(f"[models.{model_id!r}]: {exc}") from None
        yield _check(card, f"[models.{model_id!r}]")


class Catalog:
    """The cards by id and alias. Immutable: a change of configuration makes a new one."""

    def __init__(
        self, cards: Iterable[ModelCard], aliases: Mapping[str, str] | None = None, default: str | None = None
    ) -> None:
        """`aliases` maps further names to ids or aliases; a later card replaces an earlier one of the same id."""
        self._cards: dict[str, ModelCard] = {}
        for card in cards:
            self._cards[card.id] = _check(card, card.id)
        self._names: dict[str, str] = {}
        for card in self._cards.values():
            for name in (card.id, *card.aliases):
                holder = self._names.setdefault(name, card.id)
                if holder != card.id:
                    raise CatalogError(f"the name {name!r} is claimed by {holder} and by {card.id}")
        for name, target in (aliases or {}).items():
            if target not in self._names:
                raise CatalogError(f"alias {name!r} points to {target!r}, which no card holds")
            self._names[name] = self._names[target]
        if default is not None and default not in self._names:
            raise CatalogError(f"the default model {default!r} is in no card")
        self._default = self._names[default] if default else None

    def __iter__(self) -> Iterator[ModelCard]:
        return iter(self._cards.values())

    def __len__(self) -> int:
        return len(self._cards)

    @property
    def default(self) -> ModelCard | None:
        """The model of callers that name none."""
        return self._cards[self._default] if self._default else None

    def get(self, name: str) -> ModelCard | None:
        """The card of an id or alias, or None."""
        model_id = self._names.get(name)
        return self._cards[model_id] if model_id else None

    def names_of(self, card: ModelCard) -> tuple[str, ...]:
        """Every alias of `card`, the operator's included, without its id."""
        return tuple(n for n, i in self._names.items() if i == card.id and n != card.id)

    def nearest(self, name: str, count: int = 3) -> tuple[str, ...]:
        """Names that look like `name`, ids before aliases, for an error message."""
        lowered = {n.lower(): n for n in reversed(self._names)}
        close = difflib.get_close_matches(name.lower(), list(lowered), n=count, cutoff=0.5)
        short = {n.rsplit("/", 1)[-1]: n for n in lowered}
        close += [short[s] for s in difflib.get_close_matches(name.lower(), list(short), n=count, cutoff=0.6)]
        return tuple(dict.fromkeys(self._names[lowered[c]] for c in close))[:count]
