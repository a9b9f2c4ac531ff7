"""Training steps as CUDA graphs: a small network on a large GPU waits for its kernels to be launched, not for arithmetic.

Recorded once, hundreds of launches become one. The kernels and their order stay the same, and so do the bits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor], Tensor]

# Steps that run as they are before recording: kernels get loaded and the optimizer's memory allocated outside the graph.
WARM_UP = 3


class RecordedStep:
    """A training step `step(images, labels) -> loss` that runs as it is at first and as a CUDA graph from then on.

    A batch of another shape than the recorded one runs as it is. So does everything when the step cannot be recorded, because
    it waits for the device, or when it draws random numbers there, as dropout does. The loss is overwritten by the next call.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._draws = False
        self._images = self._labels = self._loss = torch.empty(0)

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """One step on a batch; returns its loss, on the device."""
        if self._calls < WARM_UP:
            loss = self._aside(images, labels)
        else:
            if self._calls == WARM_UP and not self._draws:
                self._record(images, labels)
            loss = self._replay(images, labels)
        self._calls += 1
        return loss

    def _aside(self, images: Tensor, labels: Tensor) -> Tensor:
        """The step on a stream of its own, as recording asks for."""
        before = torch.cuda.get_rng_state()
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            loss = self._step(images, labels)
        here.wait_stream(aside)
        # A recording that fails half-way leaves the generator unusable for the plain step that follows.
        self._draws |= not torch.equal(before, torch.cuda.get_rng_state())
        return loss

    def _record(self, images: Tensor, labels: Tensor) -> None:
        """Record the step without running it; on failure, leave no graph."""
        self._images, self._labels = images.clone(), labels.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._loss = self._step(self._images, self._labels)
        except RuntimeError:
            torch.cuda.synchronize()
            return
        self._graph = graph

    def _replay(self, images: Tensor, labels: Tensor) -> Tensor:
        if self._graph is None or images.shape != self._images.shape:
            return self._step(images, labels)
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()
        return self._loss
