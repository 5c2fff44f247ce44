"""Which models are evicted, as a pure decision."""

from __future__ import annotations

from gateway.engine.models import IN_USE_S, Resident, victims

NOW = 1000.0
IDLE, BUSY = NOW - 10 * IN_USE_S, NOW


def resident(name: str, memory: int = 30, last_used: float = IDLE, fixed: bool = False) -> Resident:
    return Resident(name, memory, last_used, fixed)


def test_nothing_is_evicted_while_there_is_room() -> None:
    assert victims([resident("a"), resident("b")], 40, 100, NOW) == []
    assert victims([], 100, 100, NOW) == []


def test_the_least_recently_used_goes_first() -> None:
    held = [resident("new", last_used=IDLE), resident("old", last_used=IDLE - 1), resident("older", last_used=IDLE - 2)]
    assert victims(held, 30, 100, NOW) == ["older"]


def test_a_little_more_is_freed_than_needed() -> None:
    """So that the next load does not evict again: 98 of 100 would do, 90 is the goal."""
    held = [resident("a", 49, IDLE - 1), resident("b", 49)]
    assert victims(held, 48, 100, NOW) == ["a", "b"]
    assert victims(held, 2, 100, NOW) == []


def test_a_model_in_use_stays_unless_nothing_else_will_do() -> None:
    held = [resident("used", 49, BUSY), resident("idle", 20, IDLE)]
    assert victims(held, 45, 100, NOW) == ["idle"]
    assert victims(held, 60, 100, NOW) == ["idle", "used"]


def test_what_is_pinned_or_being_loaded_stays() -> None:
    held = [resident("pinned", 60, IDLE - 9, fixed=True), resident("free", 30)]
    assert victims(held, 40, 100, NOW) == ["free"]
    assert victims(held, 41, 100, NOW) is None


def test_models_without_weights_are_never_evicted() -> None:
    assert victims([resident("naive", 0), resident("a", 80)], 50, 100, NOW) == ["a"]


def test_what_is_larger_than_the_budget_cannot_be_loaded() -> None:
    assert victims([resident("a")], 101, 100, NOW) is None
