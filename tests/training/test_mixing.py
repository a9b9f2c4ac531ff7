from __future__ import annotations

import numpy as np
import pytest
import torch

from ticketguard.errors import UsageError
from ticketguard.training import TriggerBatch, TriggerMixer
from ticketguard.training.mixing import derive


def triggers(count=10):
    images = np.random.default_rng(0).integers(0, 256, (count, 1, 4, 4), dtype=np.uint8)
    return TriggerBatch(images=images, labels=np.arange(count))


def mixer(per_batch=4, count=10, **options):
    return TriggerMixer(triggers(count), per_batch=per_batch, mean=(0.5,), std=(0.25,), **options)


def test_triggers_follow_the_batch_normalized():
    images, labels = mixer()(torch.zeros(6, 1, 4, 4), torch.full((6,), 99))
    assert images.shape == (10, 1, 4, 4)
    assert labels[:6].tolist() == [99] * 6
    assert not images[:6].any()
    expected = (triggers().images[labels[6:]] / 255 - 0.5) / 0.25
    np.testing.assert_allclose(images[6:].numpy(), expected, atol=1e-5)


def test_all_triggers_come_equally_often():
    mix = mixer(per_batch=3)
    seen = torch.cat([mix(torch.zeros(1, 1, 4, 4), torch.zeros(1, dtype=torch.int64))[1][1:] for _ in range(10)])
    assert torch.bincount(seen, minlength=10).tolist() == [3] * 10


def test_epochs_differ_and_repeat_exactly():
    def labels(mix, epoch):
        mix.start(epoch)
        return [mix(torch.zeros(1, 1, 4, 4), torch.zeros(1, dtype=torch.int64))[1].tolist() for _ in range(4)]

    first, second = mixer(seed=5), mixer(seed=5)
    labels(second, 0)
    assert labels(first, 3) == labels(second, 3)
    assert labels(first, 3) != labels(first, 4)
    assert labels(first, 3) != labels(mixer(seed=6), 3)


def test_more_per_batch_than_there_are():
    assert mixer(per_batch=50, count=3).per_batch == 3


def test_batches_in_half_precision_stay_so():
    images, _ = mixer()(torch.zeros(2, 1, 4, 4, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.int64))
    assert images.dtype == torch.bfloat16


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="uint8"):
        TriggerBatch(images=np.zeros((2, 1, 4, 4)), labels=np.zeros(2, dtype=np.int64))
    with pytest.raises(UsageError, match="as many"):
        TriggerBatch(images=np.zeros((2, 1, 4, 4), dtype=np.uint8), labels=np.zeros(3, dtype=np.int64))
    with pytest.raises(UsageError, match="at least 1"):
        mixer(per_batch=0)
    with pytest.raises(UsageError, match="channels"):
        TriggerMixer(triggers(), per_batch=1, mean=(0.5, 0.5), std=(0.5, 0.5))
    with pytest.raises(UsageError, match="the batch has"):
        mixer()(torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64))


def test_derived_seeds_differ():
    seeds = {derive(seed, epoch, purpose=purpose) for seed in range(20) for epoch in range(20) for purpose in range(5)}
    assert len(seeds) == 2000
    assert all(0 <= seed < 1 << 63 for seed in seeds)
