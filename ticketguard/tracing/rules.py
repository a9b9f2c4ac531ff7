"""The table of rules: ATen operation -> how it carries channels."""

from __future__ import annotations

import torch
from torch.fx import Node

from ticketguard.tracing import layers, shapes
from ticketguard.tracing.atoms import Rule, fixed, opname

RULES: dict[str, Rule] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), layers.convolution),
    **dict.fromkeys(("matmul", "mm", "bmm"), layers.matmul),
    **dict.fromkeys(("layer_norm", "rms_norm"), layers.layer_norm),
    **dict.fromkeys(
        ("dropout", "clone", "contiguous", "to", "_to_copy", "detach", "alias", "feature_dropout"), layers.identity
    ),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "logsumexp", "norm"), shapes.reduction),
    **dict.fromkeys(("softmax", "log_softmax", "_softmax", "_log_softmax"), layers.softmax),
    **dict.fromkeys(
        ("view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten", "_unsafe_view"), shapes.reshape
    ),
    **dict.fromkeys(("permute", "transpose", "swapaxes", "t", "numpy_T"), shapes.permute),
    **dict.fromkeys(("slice", "select"), shapes.cut),
    **dict.fromkeys(("cat", "concat", "concatenate"), shapes.concatenation),
    **dict.fromkeys(("pad", "constant_pad_nd"), shapes.pad),
    **dict.fromkeys(("expand", "expand_as"), shapes.expand),
    "linear": layers.linear,
    "scaled_dot_product_attention": layers.attention,
    "batch_norm": layers.batch_norm,
    "instance_norm": layers.instance_norm,
    "group_norm": layers.group_norm,
    "embedding": layers.embedding,
    "prelu": layers.prelu,
}
UNTAGGED = {
    "hardswish",
    "hardsigmoid",
    "hardtanh",
    "relu6",
    "silu",
    "mish",
    "elu",
    "selu",
    "celu",
    "gelu",
    "softplus",
    "threshold",
    "log_sigmoid",
    "logsigmoid",
    "rrelu",
    "softshrink",
    "hardshrink",
}
SPATIAL = ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "upsample_", "lp_pool")


def rule_for(node: Node) -> Rule:
    """The rule of an operation; `fixed` when none is known."""
    name = opname(node).rstrip("_")
    if name in RULES:
        return RULES[name]
    if name.startswith(SPATIAL):
        return shapes.spatial
    if name in UNTAGGED or torch.Tag.pointwise in getattr(node.target, "tags", ()):
        return layers.pointwise
    return fixed
