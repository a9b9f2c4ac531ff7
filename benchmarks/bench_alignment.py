"""How long alignment takes, and what share of the channels it finds: `python benchmarks/bench_alignment.py [resnet20 ...]`.

Random masks, every channel group permuted at once. The reference in the same run is weight matching on single positions
(Ainsworth et al. 2022, "Git Re-Basin"), which needs the owner's whole mask where alignment needs cell counts only; the last
column is alignment's time divided by its time. Processor seconds of one process; set OMP_NUM_THREADS=1 for one core.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ticketguard.graph.alignment import align
from ticketguard.graph.cells import Layer, cell_counts, layer_of
from ticketguard.graph.layout import rearranged
from ticketguard.models import build
from ticketguard.tickets import Architecture
from ticketguard.tracing import symmetry_of

NETWORKS = {"resnet20": 32, "convnet": 32, "resnet50": 64}
CASES = ((0.19, 0.0), (0.012, 0.0), (0.19, 0.5))
MOST_FOR_PEER = 2_000_000


def seconds(
    layers: list[Layer], masks: dict[str, NDArray[np.bool_]], symmetry, suspect, truth
) -> tuple[float, float, int]:
    """Processor seconds of one alignment, the share of channels found, and the sweeps."""
    reference = {layer.name: cell_counts(layer, masks[layer.name]) for layer in layers}
    begin = time.process_time()
    found = align(reference, layers, symmetry, suspect)
    taken = time.process_time() - begin
    hits = sum(int((found.choice[group] == order).sum()) for group, order in truth.items())
    return taken, hits / sum(len(order) for order in truth.values()), found.sweeps


def run(name: str) -> None:
    size = NETWORKS[name]
    torch.manual_seed(0)
    module = build(Architecture(name=name, arguments={"classes": 10, "in_channels": 3, "image_size": size}))
    begin = time.process_time()
    symmetry = symmetry_of(module, torch.zeros(1, 3, size, size))
    print(f"{name}: {len(symmetry.groups)} groups, traced in {time.process_time() - begin:.1f} s")
    shapes = {key: tuple(value.shape) for key, value in module.state_dict().items() if value.ndim >= 2}
    layers = [layer_of(key, shape) for key, shape in shapes.items()]
    single = [replace(layer, cell=1) for layer in layers]
    for density, pruned in CASES:
        rng = np.random.default_rng(1)
        masks = {key: rng.random(shape) < density for key, shape in shapes.items()}
        weights = {key: (bits & (rng.random(bits.shape) >= pruned)).astype(np.float32) for key, bits in masks.items()}
        choice = {number: rng.permutation(group.size) for number, group in enumerate(symmetry.groups)}
        suspect = rearranged(weights, symmetry, choice)
        truth = {number: np.argsort(order) for number, order in choice.items()}
        taken, share, sweeps = seconds(layers, masks, symmetry, suspect, truth)
        line = (
            f"  kept {density:6.1%}, pruned {pruned:4.0%}: {taken:6.2f} s, {share:7.2%} of channels, {sweeps:2d} sweeps"
        )
        if sum(layer.positions for layer in layers) <= MOST_FOR_PEER:
            peer, peer_share, _ = seconds(single, masks, symmetry, suspect, truth)
            line += f"; on positions {peer:6.2f} s, {peer_share:7.2%}; ratio {taken / peer:.2f}"
        print(line)


if __name__ == "__main__":
    for chosen in sys.argv[1:] or list(NETWORKS):
        run(chosen)
