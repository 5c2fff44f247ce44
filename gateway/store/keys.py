"""Every key in Redis: its name, what lives there, how long, and what for. Nothing is written under another name.

| Key                  | Type   | Lives                    | Holds                                                     |
|----------------------|--------|--------------------------|-----------------------------------------------------------|
| fg:job:{id}          | hash   | retention, from a change | a job: the fields of `Job`, its caller, chunks, tickets   |
| fg:open:{id}         | hash   | retention, from a change | chunks under way -> state, ticket, failures, reason       |
| fg:settled:{id}      | hash   | retention, from a change | chunks that are done -> the ticket whose result counts    |
| fg:lease:{id}:{chunk}| string | seconds, renewed         | who runs a chunk; without it, the chunk is taken again    |
| fg:coordinator:{id}  | string | seconds, renewed         | the process that cuts a job's chunks into the queue       |
| fg:active            | zset   | retention, from a change | ids of jobs that are not over, by their creation          |
| fg:jobs              | zset   | retention, from a change | ids of all jobs, by their creation                        |
| fg:jobs:{owner}      | zset   | retention, from a change | ids of one caller's jobs, by their creation               |
| fg:owed              | zset   | retention, from a change | ids of jobs that the ledger does not have yet             |
| fg:webhooks          | zset   | retention, from a change | ids of jobs whose callback is owed, by the next try       |
| fg:limit:{who}:{win} | hash   | a window and its slice   | slices of a window -> what a caller used in each          |
| fg:running:{who}     | zset   | seconds, renewed         | leases of a caller's running requests, by when they end   |
| fg:idem:{caller}:{h} | string | 24 h                     | body's hash and job of an idempotency key                 |
| fg:answer:{name}     | string | 24 h                     | the answer to a call that came with an idempotency key    |
| fg:forecast:{digest} | string | cache_shared_s           | a forecast that other gateways may be asked for           |
| fg:blob:{id}         | hash   | retention, from a change | chunks and results, where no folder is shared             |
| fg:blobs             | string | retention, renewed       | the folder of chunks and results, where gateways share one|
| fg:worker:{id}       | string | seconds, renewed         | a worker's heartbeat                                      |
| fg:workers           | zset   | retention, from a change | ids of workers, by their last heartbeat                   |
| fg:queues            | zset   | retention, from a change | models that have a queue, by the last chunk put there     |
| fg:queue:{model}     | zset   | retention, from a change | arq's queue of one model's chunks, by priority and time   |
| fg:speed:{model}     | string | retention, from a change | tokens a second that chunks of a model run at             |
| arq:job:{ticket}     | string | until the job's deadline | arq's note of one chunk in a queue                        |
| arq:in-progress:{..} | string | longer than a chunk runs | arq's note that a worker has taken a chunk                |
| arq:retry:{ticket}   | string | a day                    | arq's count of starts                                     |

Channels: fg:on:job:{id} (a job changed), fg:on:cancel:{id} (its chunks shall stop), fg:on:work (a queue has work).
"""

from __future__ import annotations

from dataclasses import dataclass

IDEMPOTENCY_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Key:
    """A family of keys."""

    pattern: str

    def __call__(self, *parts: object) -> str:
        """The key of these parts, in the pattern's order."""
        name = self.pattern
        for part in parts:
            name = name.replace(name[name.index("{") : name.index("}") + 1], _plain(str(part)), 1)
        return name


def _plain(part: str) -> str:
    """A part that cannot be read as the pattern's own braces."""
    return part.replace("{", "(").replace("}", ")")


JOB = Key("fg:job:{id}")
OPEN = Key("fg:open:{id}")
SETTLED = Key("fg:settled:{id}")
LEASE = Key("fg:lease:{id}:{chunk}")
COORDINATOR = Key("fg:coordinator:{id}")
ACTIVE = Key("fg:active")
JOBS = Key("fg:jobs")
JOBS_OF = Key("fg:jobs:{owner}")
OWED = Key("fg:owed")
WEBHOOKS = Key("fg:webhooks")
LIMIT = Key("fg:limit:{who}:{win}")
RUNNING = Key("fg:running:{who}")
IDEMPOTENCY = Key("fg:idem:{caller}:{h}")
ANSWER = Key("fg:answer:{name}")
FORECAST = Key("fg:forecast:{digest}")
BLOB = Key("fg:blob:{id}")
BLOBS = Key("fg:blobs")
WORKER = Key("fg:worker:{id}")
WORKERS = Key("fg:workers")
QUEUES = Key("fg:queues")
QUEUE = Key("fg:queue:{model}")
SPEED = Key("fg:speed:{model}")
ARQ_JOB = Key("arq:job:{ticket}")
ARQ_IN_PROGRESS = Key("arq:in-progress:{ticket}")
ARQ_RETRY = Key("arq:retry:{ticket}")

KEYS = (
    JOB, OPEN, SETTLED, LEASE, COORDINATOR, ACTIVE, JOBS, JOBS_OF, OWED, WEBHOOKS, LIMIT, RUNNING, IDEMPOTENCY, ANSWER,
    FORECAST, BLOB, BLOBS, WORKER, WORKERS, QUEUES, QUEUE, SPEED, ARQ_JOB, ARQ_IN_PROGRESS, ARQ_RETRY,
)  # fmt: skip

CHANNELS = "fg:on:"
JOB_CHANGED = Key("fg:on:job:{id}")
CANCELLED = Key("fg:on:cancel:{id}")
WORK = Key("fg:on:work")
