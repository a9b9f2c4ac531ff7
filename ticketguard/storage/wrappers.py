"""The names that wrappers put around a network: before its parameters' names, and around its state dict in a file."""

from __future__ import annotations

# What DistributedDataParallel and torch.compile call the module inside.
MODULES = ("module", "_orig_mod")
# Our own reader, before an ONNX matrix that is read both ways.
TRANSPOSED = "transposed"
# What stands before parameter names: of these, and of Lightning and Hugging Face modules.
PREFIXES = (*MODULES, "model", "net", "network", "_forward_module", "state_dict", TRANSPOSED)
# Under which key a checkpoint holds its state dict, in the order in which they are tried.
KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params")
