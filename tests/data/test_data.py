from __future__ import annotations

import gzip
import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ticketguard.data import DATASETS, Dataset, cifar, idx, load
from ticketguard.data.dataset import moments
from ticketguard.data.pickles import load_pickle
from ticketguard.errors import DataError, StorageError, UsageError

RECORDS = (6, 4)
PIXELS = 3072


def small(layouts):
    return tuple(replace(layout, records=RECORDS) for layout in layouts)


@pytest.fixture
def few_records(monkeypatch):
    monkeypatch.setattr(cifar, "CIFAR10", small(cifar.CIFAR10))
    monkeypatch.setattr(cifar, "CIFAR100", small(cifar.CIFAR100))


def batch(seed, count, classes):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, PIXELS), dtype=np.uint8), generator.integers(0, classes, count)


def write_binary(folder, layout, classes):
    folder.mkdir(parents=True)
    for seed, name in enumerate((*layout.train, *layout.test)):
        data, labels = batch(seed, RECORDS[0] if name in layout.train else RECORDS[1], classes)
        columns = [labels[:, None].astype(np.uint8)]
        if layout.label_bytes == 2:
            columns.insert(0, np.zeros_like(columns[0]))
        (folder / name).write_bytes(np.concatenate([*columns, data], axis=1).tobytes())


def write_python(folder, layout, classes):
    folder.mkdir(parents=True)
    for seed, name in enumerate((*layout.train, *layout.test)):
        data, labels = batch(seed, RECORDS[0] if name in layout.train else RECORDS[1], classes)
        content = {b"data": data, layout.key.encode(): [int(label) for label in labels], b"batch_label": b"x"}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.usefixtures("few_records")
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_both_official_layouts_hold_the_same_data(tmp_path, name):
    binary, python = small(getattr(cifar, name.upper()))
    classes = 10 if name == "cifar10" else 100
    write_binary(tmp_path / "b" / binary.folders[0], binary, classes)
    write_python(tmp_path / "p" / python.folders[0], python, classes)
    if name == "cifar100":
        names = [f"class{i:02d}" for i in range(100)]
        (tmp_path / "b" / binary.folders[0] / "fine_label_names.txt").write_text("\n".join(names))
        meta = {b"fine_label_names": [entry.encode() for entry in names]}
        (tmp_path / "p" / python.folders[0] / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    first, second = load(name, tmp_path / "b"), load(name, tmp_path / "p" / python.folders[0])
    assert first.digest == second.digest
    assert first.shape == (3, 32, 32)
    assert len(first.train_images) == RECORDS[0] * len(binary.train)
    data, labels = batch(0, RECORDS[0], classes)
    np.testing.assert_array_equal(first.train_images[: RECORDS[0]].reshape(-1, PIXELS), data)
    np.testing.assert_array_equal(first.train_labels[: RECORDS[0]], labels)


@pytest.mark.usefixtures("few_records")
def test_missing_and_damaged_cifar_files_are_named(tmp_path):
    with pytest.raises(
        DataError, match=r"data_batch_1.bin not found: looked in .* people get it from https://www.cs.toronto"
    ):
        load("cifar10", tmp_path)
    layout = small(cifar.CIFAR10)[0]
    folder = tmp_path / layout.folders[0]
    write_binary(folder, layout, 10)
    whole = (folder / "data_batch_2.bin").read_bytes()
    (folder / "data_batch_2.bin").write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"data_batch_2.bin is damaged \(18437 bytes, expected 18438\)"):
        load("cifar10", tmp_path)
    (folder / "data_batch_2.bin").write_bytes(b"\xff" + whole[1:])
    with pytest.raises(DataError, match="a label outside 0 to 9"):
        load("cifar10", tmp_path)


# What Python 2 wrote: protocol 0 with byte strings, as in the official archive.
PYTHON2 = (
    b"(dp0\nS'data'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntS'b'\ntRp4\n"
    b"(I1\n(I6\nI3072\ntcnumpy\ndtype\np5\n(S'u1'\nI0\nI1\ntRp6\n(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'"
    + rb"\x07" * (6 * PIXELS)
    + b"'\ntbsS'labels'\n(lI0\naI1\naI2\naI3\naI4\naI5\nas."
)


@pytest.mark.usefixtures("few_records")
def test_files_written_by_python_2_are_read(tmp_path):
    layout = small(cifar.CIFAR10)[1]
    write_python(tmp_path / layout.folders[0], layout, 10)
    (tmp_path / layout.folders[0] / "data_batch_1").write_bytes(PYTHON2)
    dataset = load("cifar10", tmp_path)
    assert (dataset.train_images[:6] == 7).all()
    assert dataset.train_labels[:6].tolist() == [0, 1, 2, 3, 4, 5]


class Runs:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


HOSTILE = {
    "system": lambda mark: {b"data": Runs(__import__("os").system, f"touch {mark}")},
    "eval": lambda mark: Runs(eval, f"open({str(mark)!r}, 'w')"),
    "numpy-load": lambda mark: {b"data": Runs(np.load, str(mark))},
    "object-array": lambda mark: {b"data": np.array([None, object], dtype=object)},
    "huge-array": lambda mark: {b"data": Runs(np.ndarray, (1 << 50,))},
}


@pytest.mark.usefixtures("few_records")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_pickle_that_would_run_code_is_refused(tmp_path, name):
    mark = tmp_path / "mark"
    layout = small(cifar.CIFAR10)[1]
    write_python(tmp_path / layout.folders[0], layout, 10)
    (tmp_path / layout.folders[0] / "data_batch_3").write_bytes(pickle.dumps(HOSTILE[name](mark), protocol=2))
    with pytest.raises(DataError, match="data_batch_3 is damaged"):
        load("cifar10", tmp_path)
    assert not mark.exists()


def test_damaged_pickles_never_escape_as_other_errors(tmp_path):
    whole = pickle.dumps({b"data": np.zeros((2, 30), dtype=np.uint8), b"labels": [1, 2]}, protocol=2)
    generator = np.random.default_rng(5)
    refused = 0
    for _ in range(2000):
        broken = bytearray(whole[: generator.integers(0, len(whole))] if generator.random() < 0.3 else whole)
        for position in generator.integers(0, max(len(broken), 1), 3 if broken else 0):
            broken[position] = generator.integers(0, 256)
        try:
            load_pickle(bytes(broken), where=tmp_path / "batch", source="there")
        except DataError:
            refused += 1
    assert refused > 1000


def write_idx(path, array, *, packed=False):
    header = bytes([0, 0, 8, array.ndim]) + b"".join(extent.to_bytes(4, "big") for extent in array.shape)
    data = header + array.astype(np.uint8).tobytes()
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(data))
    else:
        path.write_bytes(data)


@pytest.mark.parametrize("packed", [False, True])
def test_fashion_mnist_from_idx_files(tmp_path, packed):
    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (5, 28, 28)), np.array([0, 9, 3, 3, 1])
    for split in ("train", "t10k"):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte", images, packed=packed)
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte", labels, packed=packed)
    dataset = load("fashion-mnist", tmp_path)
    np.testing.assert_array_equal(dataset.train_images[:, 0], images)
    assert dataset.test_labels.tolist() == labels.tolist()
    assert dataset.shape == (1, 28, 28)


def test_damaged_idx_files_are_named(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte"
    write_idx(path, np.zeros((2, 3, 3)))
    assert idx.read_idx(path, dimensions=3).shape == (2, 3, 3)
    for broken, message in (
        (b"", "not an idx file"),
        (path.read_bytes()[:-1], "17 bytes of data, its header says 18"),
        (b"\0\0\x0d" + path.read_bytes()[3:], "not an idx file"),
    ):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=message):
            idx.read_idx(path, dimensions=3)
    packed = tmp_path / "x.gz"
    packed.write_bytes(gzip.compress(b"abc")[:-3])
    with pytest.raises(DataError, match=r"x\.gz is damaged"):
        idx.read_idx(packed, dimensions=1)


def test_image_folders(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (6, 5), (label * 100, number, 7)).save(tmp_path / split / name / f"{number}.png")
    dataset = load("folder", tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.train_images.shape == (6, 3, 5, 6)
    assert dataset.train_images[4, :, 0, 0].tolist() == [100, 1, 7]
    assert dataset.test_labels.tolist() == [0, 0, 1, 1]
    (tmp_path / "train" / "cat" / "1.png").write_bytes(b"\x89PNG nonsense")
    with pytest.raises(DataError, match=r"1.png is damaged"):
        load("folder", tmp_path)
    Image.new("RGB", (9, 9)).save(tmp_path / "train" / "cat" / "1.png")
    with pytest.raises(DataError, match="differs from the first"):
        load("folder", tmp_path)


def test_image_folder_needs_both_splits_and_known_classes(tmp_path):
    with pytest.raises(DataError, match="train/<class>/"):
        load("folder", tmp_path)
    (tmp_path / "train" / "a").mkdir(parents=True)
    (tmp_path / "test" / "b").mkdir(parents=True)
    with pytest.raises(DataError, match="without training images: b"):
        load("folder", tmp_path)


def test_a_class_without_test_images_is_none_and_one_that_nobody_may_read_is_refused(tmp_path, monkeypatch):
    for name in ("train/a", "train/b", "test/a"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name / "1.png")
    assert load("folder", tmp_path).test_labels.tolist() == [0]
    closed, every = tmp_path / "train" / "b", type(tmp_path).iterdir

    def refuse(folder):
        if folder == closed:
            raise PermissionError(13, "Permission denied")
        return every(folder)

    monkeypatch.setattr(type(tmp_path), "iterdir", refuse)
    with pytest.raises(StorageError, match=r"train/b: cannot be read: permission denied"):
        load("folder", tmp_path)


def test_tiny_imagenet(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    for name in ("n02", "n01"):
        (root / "train" / name / "images").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(root / "train" / name / "images" / f"{name}_0.JPEG")
    (root / "val" / "images").mkdir(parents=True)
    Image.new("L", (4, 4), 200).save(root / "val" / "images" / "val_0.JPEG")
    (root / "wnids.txt").write_text("n02\nn01\n")
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t4\t4\n")
    dataset = load("tiny-imagenet", tmp_path)
    assert dataset.classes == ("n01", "n02")
    assert dataset.test_labels.tolist() == [1]
    (root / "val" / "val_annotations.txt").write_text("val_1.JPEG\tn02\n")
    with pytest.raises(DataError, match=r"val_1\.JPEG not found; people get it from http"):
        load("tiny-imagenet", tmp_path)
    (root / "val" / "val_annotations.txt").write_text("../../etc/passwd\tn02\n")
    with pytest.raises(DataError, match=r"val_annotations\.txt is damaged"):
        load("tiny-imagenet", tmp_path)


def test_digits_are_bundled_split_and_scaled():
    pytest.importorskip("sklearn")
    dataset = load("digits")
    assert len(dataset.train_images) == 1438
    assert len(dataset.test_images) == 359
    assert dataset.train_images.max() == 255
    assert dataset.digest == load("digits").digest
    assert np.unique(dataset.test_labels).size == 10


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r"ticketguard\[demo\]"):
        load("digits")


def test_requests_that_make_no_sense(tmp_path):
    with pytest.raises(UsageError, match="unknown data set"):
        load("imagenet")
    with pytest.raises(UsageError, match="say which directory"):
        load("cifar10")
    with pytest.raises(DataError, match="no directory"):
        load("cifar10", tmp_path / "nowhere")


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"digits"}))
def test_every_data_set_says_what_is_missing(tmp_path, name):
    with pytest.raises(DataError, match=str(tmp_path)):
        load(name, tmp_path)


def plain(**changes):
    generator = np.random.default_rng(0)
    fields = {
        "name": "plain",
        "train_images": generator.integers(0, 256, (10, 1, 2, 2), dtype=np.uint8),
        "train_labels": np.arange(10) % 2,
        "test_images": np.zeros((4, 1, 2, 2), dtype=np.uint8),
        "test_labels": np.zeros(4, dtype=np.int64),
        "classes": ("a", "b"),
        "mean": (0.5,),
        "std": (0.5,),
    }
    return Dataset(**{**fields, **changes})


def test_subset_is_seeded_and_keeps_the_test_images():
    whole = plain()
    part = whole.subset(4, seed=3)
    assert part.digest == whole.subset(4, seed=3).digest != whole.digest
    assert len(part.train_images) == 4
    assert part.test_images is whole.test_images
    for limit in (0, 11):
        with pytest.raises(UsageError, match="cannot take"):
            whole.subset(limit)


@pytest.mark.parametrize(
    "changes",
    [
        {"train_labels": np.full(10, 2)},
        {"train_labels": np.zeros(9, dtype=np.int64)},
        {"train_images": np.zeros((10, 1, 2, 2))},
        {"test_images": np.zeros((4, 1, 3, 2), dtype=np.uint8)},
        {"mean": (0.5, 0.5)},
        {"mean": ()},
        {"std": (0.5, 0.5, 0.5)},
        {"std": (0.0,)},
        {"std": (-1.0,)},
        {"std": (float("inf"),)},
        {"std": (float("nan"),)},
        {"mean": (float("nan"),)},
        {"test_images": np.zeros((0, 1, 2, 2), dtype=np.uint8), "test_labels": np.zeros(0, dtype=np.int64)},
    ],
)
def test_inconsistent_arrays_are_refused(changes):
    with pytest.raises(DataError):
        plain(**changes)


def test_a_data_set_is_one_line_and_equal_to_itself():
    whole = plain()
    assert whole == whole
    assert len({whole, plain()}) == 2
    assert repr(whole) == "Dataset(plain, 10 + 4 images of 1 x 2 x 2, 2 classes)"


def test_every_change_changes_the_digest():
    whole = plain()
    flipped = whole.train_images.copy()
    flipped[3, 0, 1, 1] ^= 1
    others = [plain(train_images=flipped), plain(classes=("a", "c")), plain(train_labels=np.zeros(10, dtype=np.int64))]
    assert len({whole.digest, *(other.digest for other in others)}) == 4


def test_moments_agree_with_numpy():
    images = np.random.default_rng(0).integers(0, 256, (7, 3, 5, 5), dtype=np.uint8)
    mean, std = moments(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 2, 3)), atol=1e-4)
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 2, 3)), atol=1e-4)
