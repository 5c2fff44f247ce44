"""The scripts that change jobs: each is one step for everybody. All can be repeated, as a broken connection may ask."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.store.connection import Redis

OVER = """
local status = redis.call('HGET', KEYS[1], 'status')
local over = (not status) or (status ~= 'queued' and status ~= 'running')
"""

# KEYS job active jobs owner's idempotency changed work owed; ARGV id created retention body idempotency_s fields...
CREATE = """
if KEYS[5] ~= '' then
  local claim = redis.call('GET', KEYS[5])
  if claim then return claim end
  redis.call('SET', KEYS[5], ARGV[4] .. ':' .. ARGV[1], 'EX', ARGV[5])
end
for i = 6, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
for i = 2, 4 do
  if KEYS[i] ~= '' then
    redis.call('ZADD', KEYS[i], ARGV[2], ARGV[1])
    redis.call('PEXPIRE', KEYS[i], ARGV[3])
    if i > 2 then redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', ARGV[2] - 2 * ARGV[3] / 1000) end
  end
end
if KEYS[8] ~= '' then
  redis.call('ZADD', KEYS[8], ARGV[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[8], ARGV[3])
end
redis.call('PUBLISH', KEYS[7], ARGV[1])
return false
"""

# KEYS job active webhooks open settled changed cancelled; ARGV id status code error now retention
FINISH = (
    OVER
    + """
if over then return 0 end
redis.call('HSET', KEYS[1], 'status', ARGV[2], 'finished', ARGV[5])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'code', ARGV[3], 'error', ARGV[4]) end
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('HEXISTS', KEYS[1], 'callback_url') == 1 then
  redis.call('ZADD', KEYS[3], ARGV[5], ARGV[1])
  redis.call('PEXPIRE', KEYS[3], ARGV[6])
end
for _, key in ipairs({KEYS[1], KEYS[4], KEYS[5]}) do redis.call('PEXPIRE', key, ARGV[6]) end
redis.call('PUBLISH', KEYS[6], '')
redis.call('PUBLISH', KEYS[7], '')
return 1
"""
)

# KEYS coordinator job open settled active; ARGV token lease retention
HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for i = 2, 5 do redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
return 1
"""

# KEYS coordinator; ARGV token
LEAVE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""

# KEYS job open settled coordinator; ARGV chunk token
OPEN = (
    OVER
    + """
if over or redis.call('GET', KEYS[4]) ~= ARGV[2] or redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then return false end
local ticket = redis.call('HINCRBY', KEYS[1], 'ticket', 1)
local known = redis.call('HGET', KEYS[2], ARGV[1])
local rest = known and string.match(known, '^%a|%d+(|.*)$') or '|0||'
redis.call('HSET', KEYS[2], ARGV[1], 'q|' .. ticket .. rest)
redis.call('PEXPIRE', KEYS[2], redis.call('PTTL', KEYS[1]))
if tonumber(redis.call('HGET', KEYS[1], 'next') or 0) <= tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'next', ARGV[1] + 1)
end
return ticket
"""
)

# KEYS job open lease changed; ARGV chunk ticket worker lease now
TAKE = (
    OVER
    + """
if over then return 'over' end
local known = redis.call('HGET', KEYS[2], ARGV[1])
if not known then return 'gone' end
local state, ticket, rest = string.match(known, '^(%a)|(%d+)(|.*)$')
if ticket ~= ARGV[2] then return 'gone' end
if state == 'r' and redis.call('GET', KEYS[3]) ~= ARGV[3] then return 'gone' end
redis.call('HSET', KEYS[2], ARGV[1], 'r|' .. ticket .. rest)
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
if status == 'queued' then
  redis.call('HSET', KEYS[1], 'status', 'running', 'started', ARGV[5])
  redis.call('PUBLISH', KEYS[4], '')
end
return 'ours'
"""
)

# KEYS job open lease; ARGV chunk ticket worker lease
RENEW = (
    OVER
    + """
if over then return 'over' end
local known = redis.call('HGET', KEYS[2], ARGV[1])
if not known or string.match(known, '^r|(%d+)|') ~= ARGV[2] then return 'gone' end
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
return 'ours'
"""
)

# KEYS job open settled lease changed; ARGV chunk ticket done failed input output code reason retention
SETTLE = (
    OVER
    + """
local first = redis.call('HGET', KEYS[3], ARGV[1])
if first then return first == ARGV[2] and 1 or 0 end
if over then return 0 end
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[3], ARGV[9])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[4])
redis.call('HINCRBY', KEYS[1], 'done', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'failed', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'input_tokens', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'output_tokens', ARGV[6])
if ARGV[7] ~= '' and redis.call('HSETNX', KEYS[1], 'code', ARGV[7]) == 1 then
  redis.call('HSET', KEYS[1], 'error', ARGV[8])
end
redis.call('PUBLISH', KEYS[5], '')
return 1
"""
)

# KEYS open lease changed; ARGV chunk ticket failed code reason
GIVE_BACK = """
local known = redis.call('HGET', KEYS[1], ARGV[1])
if not known then return 0 end
local state, ticket, failures, rest = string.match(known, '^(%a)|(%d+)|(%d+)(|.*)$')
if ticket ~= ARGV[2] or state == 'w' then return 0 end
if ARGV[3] == '1' then rest = '|' .. ARGV[4] .. '|' .. ARGV[5] end
redis.call('HSET', KEYS[1], ARGV[1], 'w|' .. ticket .. '|' .. (failures + ARGV[3]) .. rest)
redis.call('DEL', KEYS[2])
redis.call('PUBLISH', KEYS[3], '')
return 1
"""

# KEYS webhooks; ARGV now until
CLAIM = """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 1)
if #due == 0 then return false end
redis.call('ZADD', KEYS[1], ARGV[2], due[1])
return due[1]
"""

Names = Sequence[str]
Parts = Sequence[str | bytes | float]


class Scripts:
    """The scripts, loaded where they are missing."""

    def __init__(self, redis: Redis) -> None:
        self._create = redis.register_script(CREATE)
        self._finish = redis.register_script(FINISH)
        self._hold = redis.register_script(HOLD)
        self._leave = redis.register_script(LEAVE)
        self._open = redis.register_script(OPEN)
        self._take = redis.register_script(TAKE)
        self._renew = redis.register_script(RENEW)
        self._settle = redis.register_script(SETTLE)
        self._give_back = redis.register_script(GIVE_BACK)
        self._claim = redis.register_script(CLAIM)

    async def create(self, *, keys: Names, args: Parts) -> bytes | None:
        found: bytes | None = await self._create(keys=keys, args=args)
        return found

    async def finish(self, *, keys: Names, args: Parts) -> int:
        return int(await self._finish(keys=keys, args=args))

    async def hold(self, *, keys: Names, args: Parts) -> int:
        return int(await self._hold(keys=keys, args=args))

    async def leave(self, *, keys: Names, args: Parts) -> int:
        return int(await self._leave(keys=keys, args=args))

    async def open(self, *, keys: Names, args: Parts) -> int | None:
        found: int | None = await self._open(keys=keys, args=args)
        return found

    async def take(self, *, keys: Names, args: Parts) -> bytes:
        found: bytes = await self._take(keys=keys, args=args)
        return found

    async def renew(self, *, keys: Names, args: Parts) -> bytes:
        found: bytes = await self._renew(keys=keys, args=args)
        return found

    async def settle(self, *, keys: Names, args: Parts) -> int:
        return int(await self._settle(keys=keys, args=args))

    async def give_back(self, *, keys: Names, args: Parts) -> int:
        return int(await self._give_back(keys=keys, args=args))

    async def claim(self, *, keys: Names, args: Parts) -> bytes | None:
        found: bytes | None = await self._claim(keys=keys, args=args)
        return found
