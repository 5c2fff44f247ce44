"""A network's pass on a GPU: one CUDA graph for each bucket of shapes, and copies that wait for nobody.

A small pass is a few hundred kernels of some microseconds each, and launching them one by one takes longer than
running them. A graph launches all at once, but holds the shapes and addresses that it was captured with: inputs are
padded to a bucket of rows and tokens, and copied to where the graph reads them. A large pass is left as it is: there
the kernels are what takes time, and padding would add to it.

What may be captured is a function of tensors alone, which looks at none of their numbers: `if mask.all()`, `.item()`
or `.cpu()` would wait for the device in the middle of the capture. Such choices belong to the caller, as constants.

None of the parts that need a GPU has run on one yet: `tests/conformance/test_cuda.py` and `bench_cuda` are for the
day when one is at hand. `bucket`, the cache and the padding are tested without.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from adapters.base import Device

log = logging.getLogger(__name__)

MOST_GRAPHS = 64  # rows and tokens by powers of two are fewer in practice; each holds its inputs and outputs
WARM_UPS = 3  # runs before a capture, as CUDA's libraries allocate and choose kernels in their first ones

# Tensors and then constants to tensors, all on the device; rows are the first axis of each.
Function = Callable[..., tuple[Tensor, ...]]
Replay = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]


class Capture(Protocol):
    """How a function becomes a graph."""

    def __call__(self, function: Function, inputs: Sequence[Tensor], constants: tuple[Hashable, ...]) -> Replay:
        """A graph of `function` for inputs of these shapes; raises RuntimeError where the device cannot hold it."""
        ...


def prepare(device: Device) -> None:
    """Make `device`, a GPU, this process's own, and let its float32 products be TF32 only where that is asked for."""
    place = torch.device(device.name)
    if place.index is not None:  # "cuda" is whichever the process has
        torch.cuda.set_device(place)
    torch.set_float32_matmul_precision("high" if device.tf32 else "highest")


def bucket(rows: int, tokens: int, most: int) -> tuple[int, int] | None:
    """Rows and tokens padded to powers of two; None where together they would be more than `most`."""
    padded = _power_of_two(rows), _power_of_two(tokens)
    return padded if padded[0] * padded[1] <= most else None


def padded(tensor: Tensor, shape: Sequence[int], value: float = 0) -> Tensor:
    """`tensor` in the first corner of a tensor whose first axes are of `shape`, `value` in the rest."""
    missing = [0, 0] * (tensor.dim() - len(shape))  # the last axis comes first
    for size, wanted in reversed(list(zip(tensor.shape, shape, strict=False))):
        missing += [0, wanted - size]
    return pad(tensor, missing, value=value) if any(missing) else tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """`tensor` of the host on `device`; it arrives in the order of the device's work, and nobody waits for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def fetched(tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """`tensors` of a device on the host, waiting once for all of them."""
    if not any(tensor.is_cuda for tensor in tensors):
        return tuple(tensors)
    found = tuple(torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors)
    for here, there in zip(found, tensors, strict=True):
        here.copy_(there, non_blocking=True)
    torch.cuda.current_stream().synchronize()
    return found


class CudaCapture:
    """The `Capture` of a GPU.

    All graphs of one have one pool of memory: they run one after the other, and each one's outputs are fetched before
    the next begins, so that what one leaves behind another may write over.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Function, inputs: Sequence[Tensor], constants: tuple[Hashable, ...]) -> Replay:
        """Warm up beside the stream that others use, then record."""
        own = [sent(tensor, self._device) for tensor in inputs]
        here = torch.cuda.current_stream(self._device)
        aside = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch left it so
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                function(*own, *constants)
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            outputs = function(*own, *constants)

        def replay(given: Sequence[Tensor]) -> tuple[Tensor, ...]:
            for there, here in zip(own, given, strict=True):
                there.copy_(here.pin_memory(), non_blocking=True)
            graph.replay()
            return outputs

        return replay


class Graphs:
    """A function by graphs: captured when shapes and constants come for the first time, replayed ever after.

    Where a capture fails, calls of its kind run without one, and the log says so once. The least used graph goes when
    there are more than `most`.
    """

    def __init__(
        self, function: Function, device: torch.device, capture: Capture | None = None, most: int = MOST_GRAPHS
    ) -> None:
        """`capture`: None for that of CUDA."""
        self._function = function
        self._device = device
        self._capture = capture or CudaCapture(device)
        self._most = most
        self._graphs: OrderedDict[Hashable, Replay | None] = OrderedDict()

    @torch.inference_mode()
    def __call__(self, inputs: Sequence[Tensor], *constants: Hashable) -> tuple[Tensor, ...]:
        """`function(*inputs, *constants)`: from tensors of the host to tensors of the host."""
        kind = (*((tuple(tensor.shape), tensor.dtype) for tensor in inputs), constants)
        if kind not in self._graphs:
            self._graphs[kind] = self._captured(inputs, constants)
            if len(self._graphs) > self._most:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(kind)
        replay = self._graphs[kind]
        return self.eager(inputs, *constants) if replay is None else fetched(replay(inputs))

    @torch.inference_mode()
    def eager(self, inputs: Sequence[Tensor], *constants: Hashable) -> tuple[Tensor, ...]:
        """The same without a graph, for shapes that will hardly come again or are too large to gain by one."""
        return fetched(self._function(*(sent(tensor, self._device) for tensor in inputs), *constants))

    def _captured(self, inputs: Sequence[Tensor], constants: tuple[Hashable, ...]) -> Replay | None:
        try:
            return self._capture(self._function, inputs, constants)
        except RuntimeError as exc:
            shapes = ", ".join("x".join(map(str, tensor.shape)) for tensor in inputs)
            log.warning("no CUDA graph for inputs of %s: %s", shapes, exc)
            return None


def _power_of_two(size: int) -> int:
    return 1 << (size - 1).bit_length()
