"""Which series run next: a pure decision without clock, event loop or process.

The unit is one series with all its channels, an `Item`. Items wait in an order: requests take turns, and a request
that was served goes to the back. A cut is what one free worker is given at once: a few groups, each of one model,
horizon class and length bucket, which together fill the token budget.

The rules of a cut, in this order:
1. The item that stands first is taken, whatever its size.
2. Items that an earlier cut passed over are due. They are taken in order; if the budget does not hold them all, the
   cut is made.
3. The budget is filled with riders: items of the groups that are already in the cut, the cheapest to add. Then the
   next oldest item is taken, and its riders, and so on until one does not fit.

Of the groups of a cut the cheapest runs first, so that nothing small waits behind what is huge in its own cut.

An item is passed over when a cut leaves it behind and takes one that stands later in the order. Rule 1 passes nobody
over, rule 2 takes due items in order only, and rule 3 begins when no due item is left: so no item is passed over in
more than one cut. Series that learn from each other are as one item, which stands where the first of them does: their
forecasts would otherwise depend on the cuts.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush

import msgspec

from adapters.base import Series
from catalog.card import Batching, ModelCard

_SLACK = 1e-9  # sums of fractions are not exact


class BatchKey(msgspec.Struct, frozen=True, kw_only=True):
    """What series must share to run in one call of an adapter."""

    model: str
    horizon_class: int
    bucket: int  # observations: the longest context of this length bucket
    controls: tuple[float, int, float, bool] | None = None  # of sampling: temperature, top_k, top_p, copula
    family: tuple[int, int] | None = None  # request and group whose series may see each other

    def __str__(self) -> str:
        controls = "" if self.controls is None else "/t{:g}-k{}-p{:g}-c{:d}".format(*self.controls)
        together = "" if self.family is None else "/cross-learning"
        return f"{self.model}/h{self.horizon_class}/{self.bucket}{controls}{together}"


class Item(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One series that waits: number `index` of the request `request`."""

    request: int
    index: int
    key: BatchKey
    rows: int
    row_tokens: float  # of one row at its own length
    batching: Batching
    series: Series

    @property
    def tokens(self) -> float:
        return self.rows * self.row_tokens


class Group(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Items that run in one call of an adapter."""

    key: BatchKey
    items: tuple[Item, ...]

    @property
    def tokens(self) -> float:
        return sum(i.tokens for i in self.items)

    @property
    def padded_tokens(self) -> float:
        """Tokens computed: every row is as long as the longest."""
        return sum(i.rows for i in self.items) * max(i.row_tokens for i in self.items)


def length_bucket(batching: Batching, length: int) -> int:
    """The shortest bucket, doubled until it holds `length` observations."""
    shortest = batching.shortest_bucket
    return shortest << (-(-length // shortest) - 1).bit_length()


def item_of(card: ModelCard, series: Series, request: int = 0, index: int = 0) -> Item:
    """Key and price of one series; seeds, levels and the horizon within its class change neither."""
    batching = card.batching
    rows, length = series.target.shape
    if card.covariates.past == "native":  # each is a row beside the channels
        rows += len(series.past)
    horizon_class = card.horizon_class(series.horizon)
    factor = batching.horizon_factors[horizon_class] if batching.horizon_factors else 1.0
    draw = series.sampling
    key = BatchKey(
        model=card.id,
        horizon_class=horizon_class,
        # Series that learn from each other must meet, whatever their lengths.
        bucket=length_bucket(batching, card.max_context if series.cross_learning else length),
        controls=(draw.temperature, draw.top_k, draw.top_p, draw.copula) if draw else None,
        family=(request, series.group) if series.cross_learning else None,
    )
    row_tokens = (-(-length // batching.patch) + batching.overhead) * factor
    return Item(
        request=request, index=index, key=key, rows=rows, row_tokens=row_tokens, batching=batching, series=series
    )


class BatchQueue:
    """Items that wait, by request, and the cuts that are made of them."""

    def __init__(self) -> None:
        self._requests: OrderedDict[int, _Request] = OrderedDict()  # by place
        self._holders: dict[BatchKey, dict[int, _Request]] = {}  # requests that wait with items of a key
        self._tokens: dict[str, float] = {}
        self._length = 0
        self._front = self._back = 0  # the next places before and after all others

    def __len__(self) -> int:
        return self._length

    def tokens(self) -> dict[str, float]:
        """Tokens that wait, by model."""
        return dict(self._tokens)

    def push(self, items: Iterable[Item]) -> None:
        """Let items wait behind the others of their request, and a new request behind all others."""
        for item in items:
            self._insert(item)

    def restore(self, items: Iterable[Item]) -> None:
        """Put items that a cut took, but that never ran, back to the front in their order; they are due."""
        restored: dict[int, _Request] = {}
        for item in items:
            request = restored[item.request] = self._insert(item)
            request.due_until = max(request.due_until, item.index + 1)
        for request_id, request in reversed(restored.items()):
            self._front -= 1
            request.place = self._front
            self._requests.move_to_end(request_id, last=False)

    def withdraw(self, request: int) -> None:
        """Forget what still waits of a request."""
        found = self._requests.get(request)
        while found is not None and found.head is not None:
            self._remove(found, found.head)

    def cut(self, gpu: bool = False) -> tuple[Group, ...]:
        """Take what one free worker, which may have a GPU, shall run next; nothing if nothing waits."""
        draft, walk = _Draft(gpu), _Walk()
        first = next(iter(self._requests.values()), None)
        if first is not None and first.head is not None:
            self._take(first, first.head, draft, walk)
        due = [r for r in self._requests.values() if r.due() is not None]
        if all(self._take(*found, draft, walk) for found in walk.in_turn(due, _Request.due)):
            self._fill(draft, walk)
        walk.mark_passed_over(self._requests.values())
        for request in walk.served():
            if request.head is not None:
                self._back += 1
                request.place = self._back
                self._requests.move_to_end(request.head.request)
        return draft.groups()

    def _fill(self, draft: _Draft, walk: _Walk) -> None:
        """Rule 3."""
        for key in draft.keys:
            self._take_riders(key, draft, walk)
        for request, oldest in walk.in_turn(self._requests.values(), _Request.first):
            if not self._take(request, oldest, draft, walk):
                return
            self._take_riders(oldest.key, draft, walk)

    def _take_riders(self, key: BatchKey, draft: _Draft, walk: _Walk) -> None:
        holders = sorted(self._holders.get(key, {}).values(), key=lambda r: r.place)
        for found in walk.in_turn(holders, lambda r: r.first_of(key)):
            if not self._take(*found, draft, walk):
                return

    def _take(self, request: _Request, item: Item, draft: _Draft, walk: _Walk) -> bool:
        """Move one item from the queue into the cut, if it fits, and with it all that it learns from."""
        fits = draft.add(item)
        if fits:
            walk.took(request, item)
            self._remove(request, item)
            while item.key.family is not None and (other := request.first_of(item.key)) is not None:
                draft.add(other, above_budget=True)
                self._remove(request, other)
        return fits

    def _insert(self, item: Item) -> _Request:
        request = self._requests.get(item.request)
        if request is None:
            self._back += 1
            request = self._requests[item.request] = _Request(self._back)
        request.insert(item)
        self._holders.setdefault(item.key, {})[item.request] = request
        self._tokens[item.key.model] = self._tokens.get(item.key.model, 0.0) + item.tokens
        self._length += 1
        return request

    def _remove(self, request: _Request, item: Item) -> None:
        """Take the first item of a lane out."""
        request.remove(item)
        self._length -= 1
        self._tokens[item.key.model] -= item.tokens
        if self._tokens[item.key.model] < _SLACK:
            del self._tokens[item.key.model]
        if item.key not in request.lanes:
            del self._holders[item.key][item.request]
            if not self._holders[item.key]:
                del self._holders[item.key]
        if request.head is None:
            del self._requests[item.request]


class _Request:
    """What waits of one request: a lane of items in order for each key.

    Items below `due_until` were passed over.
    """

    __slots__ = ("due_until", "head", "lanes", "place")

    def __init__(self, place: int) -> None:
        self.place = place
        self.lanes: dict[BatchKey, deque[Item]] = {}
        self.head: Item | None = None
        self.due_until = 0

    def insert(self, item: Item) -> None:
        lane = self.lanes.setdefault(item.key, deque())
        if lane and lane[-1].index > item.index:  # restored: back to its place
            self.lanes[item.key] = deque(sorted([*lane, item], key=lambda i: i.index))
        else:
            lane.append(item)
        if self.head is None or item.index < self.head.index:
            self.head = item

    def remove(self, item: Item) -> None:
        lane = self.lanes[item.key]
        lane.popleft()
        if not lane:
            del self.lanes[item.key]
        if item is self.head:
            self.head = min((lane[0] for lane in self.lanes.values()), key=lambda i: i.index, default=None)

    def first(self) -> Item | None:
        return self.head

    def first_of(self, key: BatchKey) -> Item | None:
        lane = self.lanes.get(key)
        return lane[0] if lane else None

    def due(self) -> Item | None:
        return self.head if self.head is not None and self.head.index < self.due_until else None


class _Walk:
    """The order of the items during one cut.

    An item's turn is how many places it stands behind the first waiting item of its request; items of one turn
    stand in the order of their requests.
    """

    def __init__(self) -> None:
        self._bases: dict[_Request, int] = {}  # index of the item whose turn is 0, of requests that were touched
        self._served: set[_Request] = set()
        self._last = (-1, 0)  # turn and place of the latest item taken

    def in_turn(
        self, requests: Iterable[_Request], pick: Callable[[_Request], Item | None]
    ) -> Iterator[tuple[_Request, Item]]:
        """What `pick` finds in each of `requests`, in order; the caller takes an item or stops.

        `requests` stand by place, so that those of turn 0 need no sorting.
        """
        later: list[tuple[int, int, _Request]] = []
        for request in list(requests):
            item = pick(request)
            if item is not None and self._turn(request, item) == 0:
                yield request, item
                item = pick(request)
            if item is not None:
                heappush(later, (self._turn(request, item), request.place, request))
        while later:
            turn, _, request = heappop(later)
            item = pick(request)
            if item is not None and self._turn(request, item) == turn:
                yield request, item
                item = pick(request)
            if item is not None:
                heappush(later, (self._turn(request, item), request.place, request))

    def took(self, request: _Request, item: Item) -> None:
        self._last = max(self._last, (self._turn(request, item), request.place))
        self._served.add(request)

    def served(self) -> list[_Request]:
        """Requests of which an item was taken, in order."""
        return sorted(self._served, key=lambda r: r.place)

    def mark_passed_over(self, requests: Iterable[_Request]) -> None:
        """Make every item due that stands before the latest item taken."""
        turn, place = self._last
        for request in requests:
            if turn == 0 and request.place > place:
                return
            if request.head is not None:
                base = self._bases.get(request, request.head.index)
                request.due_until = max(request.due_until, base + turn + (request.place < place))

    def _turn(self, request: _Request, item: Item) -> int:
        base = self._bases.get(request)
        if base is None:
            assert request.head is not None
            base = self._bases[request] = request.head.index
        return item.index - base


class _Draft:
    """A cut in the making and how much of the budget it uses."""

    def __init__(self, gpu: bool) -> None:
        self._gpu = gpu
        self._groups: dict[BatchKey, _DraftGroup] = {}
        self._used = 0.0  # sum over groups of padded tokens by the budget of their model

    def add(self, item: Item, above_budget: bool = False) -> bool:
        """Add `item` if it fits; the first one always does, and so does one that is to be `above_budget`."""
        group = self._groups.get(item.key)
        rows, longest = item.rows, item.row_tokens
        before = 0.0
        if group is not None:
            rows, longest = rows + group.rows, max(longest, group.longest)
            before = group.used
        used = rows * longest / item.batching.budget(self._gpu)
        total = self._used - before + used
        full = total > 1 + _SLACK or rows > item.batching.max_series
        if self._groups and full and not above_budget:
            return False
        if group is None:
            group = self._groups[item.key] = _DraftGroup()
        group.items.append(item)
        group.rows, group.longest, group.used = rows, longest, used
        self._used = total
        return True

    @property
    def keys(self) -> list[BatchKey]:
        return list(self._groups)

    def groups(self) -> tuple[Group, ...]:
        """The cheapest first: a small series then waits for no more than the batch that ran when it came."""
        cheap = sorted(self._groups.items(), key=lambda pair: pair[1].used)
        return tuple(Group(key=key, items=tuple(g.items)) for key, g in cheap)


class _DraftGroup:
    __slots__ = ("items", "longest", "rows", "used")

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.rows = 0
        self.longest = 0.0
        self.used = 0.0
