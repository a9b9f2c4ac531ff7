"""Training speed against the usual way: a DataLoader with per-image augmentation, fp32, and torch.optim.SGD.

    python benchmarks/bench_training.py --data-dir data --images 4096 --repeats 3
    python benchmarks/bench_training.py --accuracy --epochs 10 --images 20000 --data-dir data
    python benchmarks/bench_training.py --accuracy --epochs 12 --digits --arch convnet --batch-size 64 --seeds 5

Both sides train the same network on the same images with the same batch size, in alternating order, in one process. The
reference is written here, as most tutorials write it. Printed: images/s of both sides, their ratio, and the share of a step
that mask enforcement takes. `--accuracy` trains both to the end, over `--seeds` seeds, and prints the final accuracies.
Without CIFAR-10 files, random images of the same size are used for the speeds.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ticketguard.data import Dataset as Images
from ticketguard.data import load
from ticketguard.masks import Mask
from ticketguard.models import build, fitted, prunable
from ticketguard.tickets import Architecture
from ticketguard.training import RECIPES, MaskEnforcer, Recipe, evaluate, fit
from ticketguard.training.augment import FLIPS, PADDING, plan_epoch
from ticketguard.training.devices import resolve_device
from ticketguard.training.loop import _Run


class AugmentedImages(Dataset):
    """Image by image: pad, crop, flip, scale, normalize."""

    def __init__(self, data: Images) -> None:
        self.images = torch.from_numpy(data.train_images)
        self.labels = data.train_labels
        self.mean = torch.tensor(data.mean).view(-1, 1, 1)
        self.std = torch.tensor(data.std).view(-1, 1, 1)
        self.padding, self.flips = PADDING[data.augment], FLIPS[data.augment]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        height, width = image.shape[1:]
        padded = F.pad(image, (self.padding,) * 4)
        top, left = torch.randint(0, 2 * self.padding + 1, (2,)).tolist()
        image = padded[:, top : top + height, left : left + width]
        if self.flips and torch.rand(()) < 0.5:
            image = image.flip(2)
        return (image.float() / 255 - self.mean) / self.std, int(self.labels[index])


def reference(module: nn.Module, data: Images, recipe: Recipe, mask: Mask, device: torch.device, workers: int) -> float:
    """Images per second of the usual loop over `recipe.epochs` epochs, masks multiplied layer by layer."""
    module.to(device).train()
    loader = DataLoader(
        AugmentedImages(data), batch_size=recipe.batch_size, shuffle=True, drop_last=True, num_workers=workers
    )
    optimizer = torch.optim.SGD(
        module.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )  # fmt: skip
    parameters = dict(module.named_parameters())
    masks = {name: torch.from_numpy(bits.astype(np.float32)).to(device) for name, bits in mask.items()}
    started, seen = time.perf_counter(), 0
    for epoch in range(recipe.epochs):
        for step, (images, labels) in enumerate(loader):
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(epoch + step / len(loader))
            optimizer.zero_grad()
            loss = F.cross_entropy(module(images.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for name, kept in masks.items():
                    parameters[name].mul_(kept)
            seen += len(images)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return seen / (time.perf_counter() - started)


def ours(
    module: nn.Module, data: Images, recipe: Recipe, mask: Mask, device: torch.device, seed: int = 0
) -> tuple[float, float]:
    """Images per second of `ticketguard.training.fit`, from its own reports: of all epochs, and of the last one alone.

    The first epoch also holds what comes once: recording the step on a GPU, compiling where that is asked for.
    """
    speeds: list[float] = []
    fit(
        module, data, recipe, seed=seed, mask=mask, device=device.type, threads=torch.get_num_threads(),
        on_epoch=lambda report: speeds.append(report.images_per_second),
    )  # fmt: skip
    return len(speeds) / sum(1 / speed for speed in speeds), speeds[-1]


def bare(module: nn.Module, data: Images, recipe: Recipe, device: torch.device, mask: Mask | None = None) -> float:
    """Images per second of the same step over and over on one batch that lies on the device, without masks or with."""
    run = _Run(module, data, recipe, seed=0, mask=mask, triggers=None, loss=None, state=None, device=device.type)
    plan = plan_epoch(len(run.batches), run.augmentation, torch.Generator().manual_seed(0), device)
    images, labels = run.batches.take(plan, 0, recipe.batch_size)
    module.train()

    def steps(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            loss = run.step(images, labels)
        float(loss)
        return time.perf_counter() - started

    steps(5)
    count = len(run.batches) // recipe.batch_size
    return count * recipe.batch_size / steps(count)


def enforcement_seconds(module: nn.Module, mask: Mask, repeats: int = 200) -> float:
    """Seconds of one `MaskEnforcer.apply` with momentum, median of many."""
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9)
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    enforcer = MaskEnforcer(module, mask, optimizer=optimizer)
    optimizer.step()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        enforcer.apply()
        if optimizer.param_groups[0]["params"][0].is_cuda:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def enforcement_share(setting: Setting, speed: float) -> float:
    """Percent of a training step that masks take, at `speed` images a second.

    On a GPU the step is recorded, and its launches cost nothing: so it is run with masks and without, in turn. On a CPU the
    difference would drown in the noise, and enforcement is timed by itself.
    """
    if setting.device.type != "cuda":
        return 100 * enforcement_seconds(setting.module(), setting.mask) * speed / setting.recipe.batch_size
    pairs = [
        [bare(setting.module(), setting.data, setting.recipe, setting.device, mask) for mask in (setting.mask, None)]
        for _ in range(5)
    ]
    return 100 * (1 - statistics.median(masked / free for masked, free in pairs))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What both sides train: network, images, recipe, masks, device."""

    architecture: Architecture
    data: Images
    recipe: Recipe
    mask: Mask
    device: torch.device
    workers: int

    def module(self, seed: int = 0) -> nn.Module:
        """The network at its initialization for a seed, which also sets PyTorch's generator."""
        torch.manual_seed(seed)
        return build(self.architecture)


def images_for(directory: Path | None, count: int) -> Images:
    """CIFAR-10 from `directory`, or random images of its shape."""
    if directory is not None:
        return load("cifar10", directory, limit=count)
    generator = np.random.default_rng(0)

    def pixels(n: int) -> np.ndarray:
        return generator.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)

    return Images(
        name="random", train_images=pixels(count), train_labels=np.arange(count) % 10, test_images=pixels(500),
        test_labels=np.arange(500) % 10, classes=tuple("0123456789"), mean=(0.5,) * 3, std=(0.25,) * 3, augment="crop-flip",
    )  # fmt: skip


def compare_speed(setting: Setting, repeats: int) -> None:
    """Print medians over `repeats` alternating runs of both sides, and what the masks cost."""
    usual, fast, last, alone = [], [], [], []
    for _ in range(repeats):
        usual.append(
            reference(setting.module(), setting.data, setting.recipe, setting.mask, setting.device, setting.workers)
        )
        whole, end = ours(setting.module(), setting.data, setting.recipe, setting.mask, setting.device)
        fast.append(whole)
        last.append(end)
        alone.append(bare(setting.module(), setting.data, setting.recipe, setting.device))
    ratio = statistics.median(a / b for a, b in zip(fast, usual, strict=True))
    share = enforcement_share(setting, statistics.median(fast))
    print(f"DataLoader fp32 loop    {statistics.median(usual):8.0f} images/s  ({setting.workers} workers)")
    print(f"ticketguard fit         {statistics.median(fast):8.0f} images/s")
    print(f"ratio                   {ratio:8.2f}             (bar: 1.7 on two CPU cores, 8 on a GPU)")
    print(f"its last epoch alone    {statistics.median(last):8.0f} images/s")
    print(f"same step, nothing else {statistics.median(alone):8.0f} images/s  (masks off, one batch on the device)")
    part = statistics.median(fast) / statistics.median(alone)
    print(f"share of that           {100 * part:8.1f} %           (bar on a GPU: 60 %)")
    print(f"mask enforcement        {share:8.2f} % of a step (bar: 3 %)")


def compare_accuracy(setting: Setting, seeds: int) -> None:
    """Print the final test accuracies of both sides after the whole recipe, mean over seeds."""
    data, usual, fast = setting.data, [], []
    for seed in range(seeds):
        module = setting.module(seed)
        reference(module, data, setting.recipe, setting.mask, setting.device, setting.workers)
        usual.append(evaluate(module, data.test_images, data.test_labels, data, precision="fp32"))
        module = setting.module(seed)
        ours(module, data, setting.recipe, setting.mask, setting.device, seed)
        fast.append(evaluate(module, data.test_images, data.test_labels, data, precision="fp32"))
        print(f"seed {seed}: {usual[-1]:.2f} % usual, {fast[-1]:.2f} % ours", flush=True)
    a, b = statistics.mean(usual), statistics.mean(fast)
    print(f"final accuracy          {a:.2f} % usual, {b:.2f} % ours, {b - a:+.2f} points (bar: 0.5), mean of {seeds}")


def main() -> None:
    """Parse, set up, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--data-dir", type=Path, default=None, help="directory with CIFAR-10; random images without")
    parser.add_argument(
        "--digits", action="store_true", help="scikit-learn's digits instead, shifted by up to one pixel"
    )
    parser.add_argument("--seeds", type=int, default=1, help="training runs per side for --accuracy")
    parser.add_argument("--images", type=int, default=2560)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="worker processes of the DataLoader")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true", help="our side with torch.compile")
    parser.add_argument("--accuracy", action="store_true", help="train both sides to the end and compare accuracies")
    options = parser.parse_args()
    device = resolve_device(options.device)
    data = replace(load("digits"), augment="shift") if options.digits else images_for(options.data_dir, options.images)
    architecture = fitted(options.arch, shape=data.shape, classes=len(data.classes))
    module = build(architecture)
    generator = np.random.default_rng(0)
    mask = Mask({name: generator.random(module.get_parameter(name).shape) < 0.2 for name in prunable(module)})
    recipe = replace(RECIPES["short"], epochs=options.epochs, rewind_epoch=0, batch_size=options.batch_size,
                     evaluate_every=options.epochs, warmup=min(1.0, options.epochs / 2), compiled=options.compile)  # fmt: skip
    setting = Setting(
        architecture=architecture, data=data, recipe=recipe, mask=mask,
        device=device, workers=options.workers,
    )  # fmt: skip
    print(
        f"{options.arch}, {len(data.train_images)} {data.name} images, batch {options.batch_size}, {options.epochs} epoch(s)"
    )
    print(
        f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, {platform.processor() or platform.machine()}"
    )
    if options.accuracy:
        compare_accuracy(setting, options.seeds)
    else:
        compare_speed(setting, options.repeats)


if __name__ == "__main__":
    main()
