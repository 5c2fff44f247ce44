"""One copy of a model's weights for all processes of a machine that serve it, mapped and never written.

The weights that a network computes with are seldom those of the checkpoint's file: they are folded, joined and turned
when they are loaded, so that every process would hold its own. Here the first process writes what it made into a file,
every other finds that it made the same, and all map the file and drop their copy. Nothing of an adapter needs to know:
a tensor stays the object it was and gets another memory.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

ALIGNMENT = 64  # bytes; what the widest vector instructions like
SMALLEST = 4096  # bytes of a storage below which sharing saves nothing
LIBRARIES = frozenset({"adapters", "chronos", "timesfm", "transformers"})  # whose objects may hold weights


def share(model: object, file: Path) -> int:
    """Let the weights of `model` that lie in this process' memory lie in `file`; how many bytes that are.

    `file` is there and empty, or holds what another process wrote; where that is another model's, `model` keeps its
    own memory and the answer is 0. Should a library write to a weight, the page that it writes to becomes this
    process' own. Raises OSError where the file cannot be written.
    """
    held = _storages(model)
    contents = [_bytes(tensors[0]) for tensors in held]
    if not contents:
        return 0
    mapped = _mapped(file, contents)
    if mapped is None:
        return 0
    for tensors, memory in zip(held, mapped, strict=True):
        for tensor in tensors:
            tensor.data = memory.view(tensor.dtype).as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())
    return sum(len(content) for content in contents)


def _storages(model: object) -> list[list[Tensor]]:
    """Tensors in this process' memory by the storage that they are views of, in the order of the search."""
    found: dict[int, list[Tensor]] = {}
    for tensor in _tensors(model, type(model).__module__.partition(".")[0], set()):
        if tensor.device.type == "cpu" and tensor.layout is torch.strided:
            storage = tensor.untyped_storage()
            if storage.nbytes() >= SMALLEST:
                found.setdefault(storage.data_ptr(), []).append(tensor)
    return list(found.values())


def _tensors(thing: object, own: str, seen: set[int]) -> Iterator[Tensor]:
    """All tensors that `thing` holds, each once. `own`: the package whose objects are looked into besides LIBRARIES."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, Mapping):
        for value in thing.values():
            yield from _tensors(value, own, seen)
    elif isinstance(thing, Sequence) and not isinstance(thing, str | bytes):
        for value in thing:
            yield from _tensors(value, own, seen)
    elif isinstance(thing, torch.nn.Module) or type(thing).__module__.partition(".")[0] in {own, *LIBRARIES}:
        for value in _attributes(thing):
            yield from _tensors(value, own, seen)


def _attributes(thing: object) -> Iterator[object]:
    yield from getattr(thing, "__dict__", {}).values()
    for kind in type(thing).__mro__:
        for name in getattr(kind, "__slots__", ()):
            yield getattr(thing, name, None)


def _bytes(tensor: Tensor) -> Tensor:
    """Everything that a tensor's storage holds, (bytes,) uint8."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())


def _mapped(file: Path, contents: Sequence[Tensor]) -> list[Tensor] | None:
    """The memory of `file`, one piece a content; nothing where it holds something else."""
    places, size = _layout(contents)
    with file.open("r+b") as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        if os.fstat(opened.fileno()).st_size < size:  # empty, or its writer died
            for at, content in zip(places, contents, strict=True):
                opened.seek(at)
                opened.write(content.numpy().data)
            opened.flush()
            opened.truncate(size)
        fcntl.flock(opened, fcntl.LOCK_UN)  # closing the file would not: the mapping keeps it open
        if os.fstat(opened.fileno()).st_size != size:
            return None
        memory = mmap.mmap(opened.fileno(), size, access=mmap.ACCESS_COPY)
    # A storage of its own each, so that the offsets of the tensors that are views of it stay what they were.
    pieces = [
        torch.frombuffer(memory, dtype=torch.uint8, count=len(content), offset=at)
        for at, content in zip(places, contents, strict=True)
    ]
    same = all(torch.equal(piece, content) for piece, content in zip(pieces, contents, strict=True))
    return pieces if same else None


def _layout(contents: Sequence[Tensor]) -> tuple[list[int], int]:
    """Where each content begins in the file, and the file's size."""
    places, end = [], 0
    for content in contents:
        places.append(end)
        end += -(-len(content) // ALIGNMENT) * ALIGNMENT
    return places, end
