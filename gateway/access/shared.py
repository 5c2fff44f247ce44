"""What callers use, counted in Redis: one count for all gateways, by Redis' own clock.

Requests that meet their limits together are asked for together. A trip to Redis starts when the one before is back,
never by a timer: alone a request waits for nobody, and in a crowd it costs a share of a trip. Within a trip, requests
of one caller that ask for the same are one question: for so many, how many may?
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from redis.exceptions import NoScriptError, RedisError

from gateway.access.windows import Rule, Standing, Verdict
from gateway.store.connection import Redis
from gateway.store.keys import LIMIT, RUNNING

TIMEOUT_S = 0.5  # from the question to its answer: a caller rather goes uncounted than waits
LEASE_S = 30.0  # of a running request: what a killed gateway was running stops counting after this

# All or nothing for each of the requests that ask alike. KEYS: of each question one hash a window, and perhaps the zset
# of running requests. ARGV: the ms of a lease, the number of questions; of each its windows, the requests, the limit of
# running ones (0: none); of each window its slice in ms, slices, limit and what one request takes; the leases.
# Answers of each question: requests that were let in, running before; of each window used before, ms until its oldest
# part returns, the slice, ms until the first that was not let in fits (-1: never, 0: it does).
TAKE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local key, at, answers = 1, 3, {}
for question = 1, tonumber(ARGV[2]) do
  local n, times, most = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  at = at + 3
  local taken, running, windows = times, 0, {}
  for i = 1, n do
    local slice, slices = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
    local limit, amount = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    at = at + 4
    local current = math.floor(now / slice)
    local kept = redis.call('HGETALL', KEYS[key])
    local counts, used, oldest = {}, 0, nil
    for j = 1, #kept, 2 do
      local slot, count = tonumber(kept[j]), tonumber(kept[j + 1])
      if slot < current - slices then
        redis.call('HDEL', KEYS[key], kept[j])
      elseif count > 0 then
        used = used + count
        counts[slot] = count
        if not oldest or slot < oldest then oldest = slot end
      end
    end
    if amount > 0 then
      taken = math.min(taken, math.floor((limit - used) / amount))
    elseif used > limit then
      taken = 0
    end
    local reset = oldest and (oldest + slices + 1) * slice - now or 0
    windows[i] = {key = KEYS[key], slice = slice, slices = slices, limit = limit, amount = amount, counts = counts,
                  used = used, reset = reset, current = current}
    key = key + 1
  end
  if most > 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[key], '-inf', now)
    running = redis.call('ZCARD', KEYS[key])
    taken = math.min(taken, most - running)
  end
  taken = math.max(0, taken)
  local answer = {taken, running}
  for _, w in ipairs(windows) do
    local added, wait = taken * w.amount, 0
    if added > 0 then
      redis.call('HINCRBY', w.key, w.current, added)
      redis.call('PEXPIRE', w.key, w.slice * (w.slices + 1))
      w.counts[w.current] = (w.counts[w.current] or 0) + added
    end
    if taken < times and w.used + added + w.amount > w.limit then
      wait = -1
      if w.amount <= w.limit then
        local slots, left = {}, w.used + added
        for slot in pairs(w.counts) do slots[#slots + 1] = slot end
        table.sort(slots)
        for _, slot in ipairs(slots) do
          left = left - w.counts[slot]
          if left + w.amount <= w.limit then
            wait = (slot + w.slices + 1) * w.slice - now
            break
          end
        end
      end
    end
    for _, number in ipairs({w.used, w.reset, w.current, wait}) do answer[#answer + 1] = number end
  end
  if most > 0 then
    for i = 0, taken - 1 do redis.call('ZADD', KEYS[key], now + tonumber(ARGV[1]), ARGV[at + i]) end
    if taken > 0 then redis.call('PEXPIRE', KEYS[key], tonumber(ARGV[1])) end
    key, at = key + 1, at + times
  end
  answers[question] = answer
end
return answers
"""

# KEYS: of each request the zset of running ones, then hashes of windows. ARGV: the number of requests; of each the
# lease to end ('': none) and its hashes; of each hash the slice's number and the amount to give back, below 0 to take.
SETTLE = """
local key, at = 1, 2
for request = 1, tonumber(ARGV[1]) do
  if ARGV[at] ~= '' then redis.call('ZREM', KEYS[key], ARGV[at]) end
  local n = tonumber(ARGV[at + 1])
  key, at = key + 1, at + 2
  for i = 1, n do
    local slot, amount = ARGV[at], tonumber(ARGV[at + 1])
    local count = tonumber(redis.call('HGET', KEYS[key], slot) or '0')
    if amount ~= 0 and (count > 0 or amount < 0) then
      redis.call('HINCRBY', KEYS[key], slot, -math.min(amount, count))
    end
    key, at = key + 1, at + 2
  end
end
return 1
"""

# KEYS: zsets of running requests. ARGV: the ms of a lease, then one lease a key.
RENEW = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
for i = 1, #KEYS do
  redis.call('ZADD', KEYS[i], 'XX', now + tonumber(ARGV[1]), ARGV[i + 1])
  redis.call('PEXPIRE', KEYS[i], tonumber(ARGV[1]))
end
return 1
"""

LEASE_MS = int(LEASE_S * 1e3)

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


class AwayError(Exception):
    """Redis did not answer, or not in time; the text names the reason."""


class Question(NamedTuple):
    """What one request asks for. Requests whose questions are equal are let in or not in the order they came."""

    subject: str
    rules: tuple[Rule, ...]
    amounts: tuple[int, ...]  # one a rule
    most: int  # requests that may run at a time; 0: any


class Return(NamedTuple):
    """What one request gives back when it is over."""

    subject: str
    lease: str  # "": it has none
    amounts: tuple[tuple[Rule, int, int], ...]  # rule, the number of the slice, and how much


class _Told(NamedTuple):
    """What the script tells of one window."""

    rule: Rule
    amount: int
    used: int  # before
    reset_ms: int
    slot: int
    wait_ms: int


class Trips(Generic[Asked, Answered]):
    """Carries questions to Redis, all that wait in one trip."""

    def __init__(self, carry: Callable[[Sequence[Asked]], Awaitable[Sequence[Answered]]]) -> None:
        """`carry` answers some questions, in their order."""
        self._carry = carry
        self._waiting: list[tuple[Asked, asyncio.Future[Answered]]] = []
        self._since = 0.0  # when the first that waits came
        self._under_way: asyncio.Task[None] | None = None

    def ask(self, asked: Asked) -> asyncio.Future[Answered]:
        """The answer, or AwayError."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answered] = loop.create_future()
        if not self._waiting:
            self._since = loop.time()
        self._waiting.append((asked, answer))
        if self._under_way is None:
            self._under_way = loop.create_task(self._run())
        return answer

    async def finish(self) -> None:
        """Wait until nothing is under way, for a bounded time."""
        if self._under_way is not None:
            await asyncio.wait([self._under_way], timeout=TIMEOUT_S)

    async def _run(self) -> None:
        try:
            while self._waiting:
                carried, self._waiting = self._waiting, []
                try:
                    async with asyncio.timeout_at(self._since + TIMEOUT_S):
                        answers = await self._carry([asked for asked, _ in carried])
                except Exception as exc:
                    carried, self._waiting = carried + self._waiting, []  # those that wait need not try the same
                    for _, answer in carried:
                        if not answer.done():
                            answer.set_exception(_seen(exc))
                else:
                    for (_, answer), found in zip(carried, answers, strict=True):
                        if not answer.done():
                            answer.set_result(found)
        finally:
            self._under_way = None


def _seen(exc: Exception) -> Exception:
    """What each that waited is told, an exception of its own; a bug stays what it is."""
    away = isinstance(exc, (RedisError, OSError, TimeoutError))
    return AwayError(type(exc).__name__) if away else exc


class Line:
    """A connection of its own, for scripts that whoever calls them bounds in time.

    What a pool does to lend one at each call costs a third of it, and the library's own timeout, a task for each
    write, another third.
    """

    def __init__(self, redis: Redis) -> None:
        self._client: Any = redis.client()  # which has no types

    def script(self, text: str) -> Callable[[Sequence[str], Sequence[int | str]], Awaitable[Any]]:
        """Calls `text` with keys and arguments."""
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

        async def call(keys: Sequence[str], args: Sequence[int | str]) -> Any:
            client = await self._open()
            try:
                return await client.execute_command("EVALSHA", digest, len(keys), *keys, *args)
            except NoScriptError:  # a server that is new, or was started again
                return await client.execute_command("EVAL", text, len(keys), *keys, *args)

        return call

    async def close(self) -> None:
        """Give the connection back, as it was; a later call opens another."""
        if self._client.connection is not None:
            self._client.connection.socket_timeout = self._client.get_connection_kwargs().get("socket_timeout")
        await self._client.aclose()

    async def _open(self) -> Any:
        client = self._client
        if client.connection is None:
            client = await client.initialize()
            client.connection.socket_timeout = None
        return client


class SharedCounts:
    """The windows and running requests of all callers, as every gateway on one Redis counts them."""

    def __init__(self, redis: Redis) -> None:
        self._lines = questions, returns = Line(redis), Line(redis)
        self._take_script = questions.script(TAKE)
        self._settle_script = returns.script(SETTLE)
        self._renew_script = returns.script(RENEW)
        self._takes = Trips(self._carry_takes)
        self._returns = Trips(self._carry_returns)

    def take(self, question: Question, lease: str | None) -> asyncio.Future[tuple[Verdict, int]]:
        """Take what a question asks for, and how many requests of its caller ran before; or AwayError.

        The verdict may leave it out: nothing is taken then, and where nothing is exceeded too many are running.
        """
        return self._takes.ask((question, lease))

    def give_back(self, returned: Return) -> None:
        """Set right what a request took, in the background. Without Redis it leaves with its window."""
        self._returns.ask(returned).add_done_callback(lambda answer: answer.cancelled() or answer.exception())

    async def renew(self, leases: Mapping[str, str]) -> None:
        """Keep leases, each of a subject, from ending; raises AwayError."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._renew_script([RUNNING(s) for s in leases.values()], [LEASE_MS, *leases])
        except (RedisError, OSError, TimeoutError) as exc:
            raise AwayError(type(exc).__name__) from exc

    async def close(self) -> None:
        """Finish what is on its way, and give the connections back; later questions open others."""
        await self._takes.finish()
        await self._returns.finish()
        for line in self._lines:
            await line.close()

    async def _carry_takes(self, asked: Sequence[tuple[Question, str | None]]) -> list[tuple[Verdict, int]]:
        leases: dict[Question, list[str]] = {}
        for question, lease in asked:
            leases.setdefault(question, []).append(lease or "")
        keys: list[str] = []
        args: list[int | str] = [LEASE_MS, len(leases)]
        for question, its in leases.items():
            subject, rules, amounts, most = question
            keys += [LIMIT(subject, rule.window.name) for rule in rules]
            args += (len(rules), len(its), most)
            for (window, limit), amount in zip(rules, amounts, strict=True):
                args += (int(window.slice_s * 1e3), window.slices, limit, amount)
            if most:
                keys.append(RUNNING(subject))
                args += its
        answers: list[list[int]] = await self._take_script(keys, args)
        found = {q: _verdicts(q, answer) for q, answer in zip(leases, answers, strict=True)}
        return [next(found[question]) for question, _ in asked]

    async def _carry_returns(self, returned: Sequence[Return]) -> list[None]:
        keys: list[str] = []
        args: list[int | str] = [len(returned)]
        for subject, lease, amounts in returned:
            keys.append(RUNNING(subject))
            args += (lease, len(amounts))
            for rule, slot, amount in amounts:
                keys.append(LIMIT(subject, rule.window.name))
                args += (slot, amount)
        await self._settle_script(keys, args)
        return [None] * len(returned)


def _verdicts(question: Question, answer: Sequence[int]) -> Iterator[tuple[Verdict, int]]:
    """What the script's numbers mean for each request that asked, in their order; without end."""
    taken, running, *numbers = answer
    asked = zip(question.rules, question.amounts, strict=True)
    windows = [_Told(rule, amount, *numbers[4 * i : 4 * i + 4]) for i, (rule, amount) in enumerate(asked)]
    slices = tuple([told.slot for told in windows])

    def standings(requests: int) -> tuple[Standing, ...]:
        found = []
        for rule, amount, used, reset_ms, _, _ in windows:
            added = requests * amount
            whole_s = rule.window.seconds + rule.window.slice_s if added else 0.0
            found.append(Standing(rule, used + added, reset_ms / 1e3 if used else whole_s))
        return tuple(found)

    for before in range(taken):
        yield Verdict(standings(before + 1), slices=slices), running + before
    left_out = Verdict(standings(taken), slices=slices)
    waits = [(math.inf if told.wait_ms < 0 else told.wait_ms / 1e3, told.rule) for told in windows if told.wait_ms]
    if waits:
        wait_s, exceeded = max(waits, key=lambda found: found[0])
        left_out = left_out._replace(exceeded=exceeded, retry_after_s=None if wait_s == math.inf else wait_s)
    while True:
        yield left_out, running + taken
