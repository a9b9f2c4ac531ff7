"""Services that change images before their network sees them."""

from __future__ import annotations

import numpy as np

from ticketguard.attacks.registry import ATTACKS, make


def test_input_transforms(victim) -> None:
    images = victim.dataset.test_images
    for name in [name for name in ATTACKS if name.startswith("input-")]:
        seen = []

        def answers(changed, seen=seen):
            seen.append(changed)
            return np.zeros(len(changed), np.int64)

        result = make(name).run(victim)
        assert result.hidden
        result.front(answers, images)
        assert seen[0].dtype == np.uint8
        assert seen[0].shape == images.shape
        assert not np.array_equal(seen[0], images)
    depth = make("input-depth", 2).transform(images, victim)
    assert len(np.unique(depth)) <= 4
