"""How much pruning and add-on a QR code in the topology survives, and how fast its position is found.

    python benchmarks/bench_qr.py

A random ResNet-20 ticket at 19.4 % density, normal weights, 20 seeds; magnitude pruning is global over all masked layers,
add-on gives a share of the pruned weights of every layer values of the layer's own spread. Every suspect is read four times:
the paper's way (a kernel with an edge is dark) and as `read-qr` does (one, two, three edges in turn), each as it is and under
the owner's threshold, which drops weights smaller than nine tenths of the owner's own.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time

import numpy as np

from ticketguard.masks import Mask, keep_largest
from ticketguard.models import MODELS, prunable
from ticketguard.signatures import qr
from ticketguard.signatures.labels import place_weights
from ticketguard.signatures.position import Place, agreement, project
from ticketguard.signatures.symbols import Code

TEXT = "0123456789ab"
DENSITY = 0.194
SEEDS = 20
PRUNED = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
ADDED = (0.005, 0.01, 0.02, 0.05, 0.1)
# Column, edges that make a kernel dark, whether the owner's threshold is used.
READINGS: tuple[tuple[str, tuple[int, ...], bool], ...] = (
    ("paper", (1,), False),
    ("+threshold", (1,), True),
    ("read-qr", qr.LEAST, False),
    ("+threshold", qr.LEAST, True),
)
TRIES = 1000

Arrays = dict[str, np.ndarray]
Victim = tuple[Arrays, qr.Embedded]


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    """Shapes of a network's prunable parameters."""
    module = MODELS[name]()
    return {key: tuple(module.get_parameter(key).shape) for key in prunable(module)}


def labelled(shapes: dict[str, tuple[int, ...]], seed: int) -> Victim:
    """A random ticket with a code in it, and its weights."""
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    mask = Mask({name: rng.random(shape) < DENSITY for name, shape in shapes.items()})
    weights = {name: np.where(mask[name], array, 0.0) for name, array in weights.items()}
    done = qr.embed(mask, TEXT, generator=rng)
    return place_weights(weights, mask, done, rewind=None, generator=rng), done


def pruned(weights: Arrays, share: float) -> Arrays:
    """The share of the edges with the smallest magnitudes becomes zero."""
    kept = sum(int((array != 0).sum()) for array in weights.values())
    mask = keep_largest({name: np.abs(array) for name, array in weights.items()}, kept - round(share * kept))
    return {name: np.where(mask[name], array, 0.0) for name, array in weights.items()}


def added(weights: Arrays, share: float, rng: np.random.Generator) -> Arrays:
    """The share of each layer's pruned weights comes back with values of the layer's own spread."""
    found = {}
    for name, array in weights.items():
        flat = array.ravel().copy()
        empty = np.flatnonzero(flat == 0)
        chosen = rng.choice(empty, size=round(share * empty.size), replace=False)
        flat[chosen] = rng.normal(0.0, flat[flat != 0].std(), chosen.size)
        found[name] = flat.reshape(array.shape)
    return found


def robustness() -> None:
    """The decode table, and decodes on unrelated masks."""
    shapes = shapes_of("resnet20")
    attacks = [(f"pruned {share:.0%}", lambda w, _r, s=share: pruned(w, s)) for share in PRUNED]
    attacks += [(f"added {share:.1%}", lambda w, r, s=share: added(w, s, r)) for share in ADDED]
    victims = [labelled(shapes, seed) for seed in range(SEEDS)]
    agreed = np.mean([done.agreed for _, done in victims])
    edges = np.mean([done.added for _, done in victims])
    print(
        f"ResNet-20, {DENSITY:.1%} kept, {SEEDS} seeds; {agreed:.1%} of the modules right before, {edges:.0f} edges moved"
    )
    print(
        f"decoded, of {SEEDS}, by reading; wrong modules in the paper's reading; misread: another text, in any reading"
    )
    print(f"{'attack':<14}" + "".join(f"{name:>12}" for name, *_ in READINGS) + f"{'wrong modules':>15}{'misread':>9}")
    for name, attack in attacks:
        suspects = [attack(weights, np.random.default_rng(seed)) for seed, (weights, _) in enumerate(victims)]
        wrong = [
            qr.read(w, done.place, least=(1,), truth=done.code).wrong
            for w, (_, done) in zip(suspects, victims, strict=True)
        ]
        columns = [texts(suspects, victims, least, owned) for _, least, owned in READINGS]
        right = "".join(f"{sum(text == TEXT for text in column):>12}" for column in columns)
        misread = sum(text not in (TEXT, None) for column in columns for text in column)
        print(f"{name:<14}{right}{np.mean(wrong):>15.1%}{misread:>9}")
    unrelated(shapes, victims[0][1].place)


def texts(suspects: list[Arrays], victims: list[Victim], least: tuple[int, ...], owned: bool) -> list[str | None]:
    """What one kind of reading makes of every suspect."""
    found = []
    for suspect, (weights, done) in zip(suspects, victims, strict=True):
        threshold = qr.owner_threshold(weights, done.place) if owned else 0.0
        found.append(qr.read(suspect, done.place, least=least, threshold=threshold).text)
    return found


def unrelated(shapes: dict[str, tuple[int, ...]], place: Place) -> None:
    """Read masks that carry no code, each with one, two and three edges to a dark kernel."""
    rng = np.random.default_rng(0)
    shape = shapes[place.layer]
    found = sum(
        qr.read({place.layer: rng.random(shape) < rng.uniform(0.02, 0.3)}, place).text is not None for _ in range(TRIES)
    )
    print(f"unrelated masks that decode to anything, read three ways each: {found} of {TRIES}")


def sliding(projection: np.ndarray, modules: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The position search as a double loop over windows."""
    size = len(modules)
    rows, columns = projection.shape
    found = np.empty((rows - size + 1, columns - size + 1), dtype=np.int64)
    for row in range(found.shape[0]):
        for column in range(found.shape[1]):
            window = projection[row : row + size, column : column + size]
            found[row, column] = np.count_nonzero((window == modules) & free)
    return found


def projections() -> tuple[Code, dict[str, np.ndarray]]:
    """A code, and the projection of a random mask for every layer of ResNet-50 that is wide enough for it."""
    rng = np.random.default_rng(0)
    code = qr.encode(TEXT)
    size = len(code.modules)
    shapes = {name: shape for name, shape in shapes_of("resnet50").items() if min(shape[:2]) >= size}
    return code, {name: project(rng.random(shape) < DENSITY) for name, shape in shapes.items()}


def search_speed() -> None:
    """FFT against sliding windows on every layer of ResNet-50 that is wide enough."""
    code, images = projections()
    agreement(next(iter(images.values())), code.modules, code.free)
    start = time.process_time()
    fast = {name: agreement(image, code.modules, code.free) for name, image in images.items()}
    between = time.process_time()
    slow = {name: sliding(image, code.modules, code.free) for name, image in images.items()}
    end = time.process_time()
    same = all(np.array_equal(fast[name], slow[name]) for name in fast)
    print(
        f"ResNet-50, {len(images)} layers: FFT {between - start:.2f} s, sliding windows {end - between:.1f} s, "
        f"ratio {(end - between) / (between - start):.0f} (bar 50); every count the same: {same}"
    )


if __name__ == "__main__":
    robustness()
    search_speed()
