"""Orders of axes are told from the shapes of all registered layers of a rank together, and never from one alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ticketguard.graph.axes import stored_orders, turned

CONVOLUTIONS = [(16, 3, 3, 3), (16, 16, 3, 3), (32, 16, 1, 1), (10, 64)]


def stored(axes):
    """The shapes as a framework stores them whose weights `axes`, by rank, transpose to ours."""
    return [turned(shape, tuple(np.argsort(axes.get(len(shape), range(len(shape)))))) for shape in CONVOLUTIONS]


def test_orders_of_the_known_frameworks_are_told():
    swapped, keras, lite = (1, 0, 2, 3), (3, 2, 0, 1), (0, 3, 1, 2)
    for axes in (swapped, keras, lite, (2, 3, 0, 1)):
        assert stored_orders(CONVOLUTIONS, stored({4: axes})) == {4: axes}
        assert stored_orders(CONVOLUTIONS, stored({4: axes, 2: (1, 0)})) == {4: axes, 2: (1, 0)}
    assert stored({4: keras})[0] == (3, 3, 3, 16)


def test_our_own_order_wins_where_it_explains_every_shape():
    assert stored_orders(CONVOLUTIONS, CONVOLUTIONS) == {}
    assert stored_orders([(8, 8, 3, 3)], [(8, 8, 3, 3)]) == {}
    assert stored_orders(CONVOLUTIONS, [*CONVOLUTIONS, *stored({4: (1, 0, 2, 3)})]) == {}


def test_one_shape_that_does_not_fit_turns_nothing():
    shapes = stored({4: (1, 0, 2, 3)})
    assert stored_orders(CONVOLUTIONS, [*shapes[:2], (7, 7, 3, 3), shapes[3]]) == {}
    assert stored_orders(CONVOLUTIONS, shapes[1:]) == {}
    assert stored_orders(CONVOLUTIONS, []) == {}
    assert stored_orders([], shapes) == {}


@given(st.lists(st.lists(st.integers(1, 4), min_size=2, max_size=5).map(tuple), max_size=5), st.randoms())
def test_whatever_is_told_explains_every_registered_shape(shapes, random):
    given_shapes = [tuple(random.sample(shape, len(shape))) for shape in shapes]
    for rank, axes in stored_orders(shapes, given_shapes).items():
        left = [turned(shape, axes) for shape in given_shapes if len(shape) == rank]
        for shape in shapes:
            if len(shape) == rank:
                left.remove(shape)
