"""Orders in which frameworks store the axes of a weight, told from shapes alone; ours is PyTorch's (out, in, *kernel)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from ticketguard.graph.matching import Shape

# A permutation as `numpy.transpose` takes it: from stored to (out, in, *kernel).
Order = tuple[int, ...]


def stored_orders(wanted: Iterable[Shape], stored: Iterable[Shape]) -> dict[int, Order]:
    """The order in which weights of each rank are stored, by rank; ranks stored as ours are left out.

    `wanted`: shapes of the registered layers, `stored`: of a suspect's weights. Another order is taken only where it accounts
    for every registered layer of its rank, and ours does not. So no shape of a single tensor decides, and nothing else does:
    square matrices alone say nothing about their order.
    """
    registered, given = _by_rank(wanted), _by_rank(stored)
    found = {}
    for rank, shapes in registered.items():
        theirs = given.get(rank, Counter())
        if shapes <= theirs:
            continue
        for axes in _orders(rank):
            if shapes <= _turned(theirs, axes):
                found[rank] = axes
                break
    return found


def turned(shape: Shape, axes: Order) -> Shape:
    """The shape after the transposition `axes`."""
    return tuple(shape[axis] for axis in axes)


def _orders(rank: int) -> Collection[Order]:
    """(in, out, *kernel); (*kernel, in, out) as Keras and Flax; (out, *kernel, in) as TensorFlow Lite; (*kernel, out, in)."""
    kernel = tuple(range(2, rank))
    first = tuple(range(rank - 2))
    middle = tuple(range(1, rank - 1))
    orders = ((1, 0, *kernel), (rank - 1, rank - 2, *first), (0, rank - 1, *middle), (rank - 2, rank - 1, *first))
    return list(dict.fromkeys(axes for axes in orders if axes != tuple(range(rank))))


def _by_rank(shapes: Iterable[Shape]) -> dict[int, Counter[Shape]]:
    found: dict[int, Counter[Shape]] = {}
    for shape in shapes:
        if len(shape) >= 2:
            found.setdefault(len(shape), Counter())[shape] += 1
    return found


def _turned(shapes: Counter[Shape], axes: Order) -> Counter[Shape]:
    found: Counter[Shape] = Counter()
    for shape, count in shapes.items():
        found[turned(shape, axes)] += count
    return found
