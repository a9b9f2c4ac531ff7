"""From an `Architecture` value to a module: registry names, and import paths `package.module:callable`."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ticketguard.errors import UsageError
from ticketguard.models.registry import MODELS
from ticketguard.tickets import Architecture

BUILD_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    AssertionError,
    MemoryError,
)


def build(architecture: Architecture) -> nn.Module:
    """A freshly initialized module of an architecture (torch's global generator decides the weights).

    Raises `UsageError` when the name is unknown, the import path cannot be imported, is not a model constructor, does not take
    the arguments, or fails with them.
    """
    constructor = _constructor(architecture.name)
    try:
        inspect.signature(constructor).bind(**architecture.arguments)
    except TypeError as error:
        raise UsageError(
            f"architecture {architecture.name}: arguments {dict(architecture.arguments)}: {error}"
        ) from error
    try:
        module = constructor(**architecture.arguments)
    except BUILD_ERRORS as error:
        # The arguments may come from a file that somebody else wrote.
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UsageError(f"architecture {architecture.name}: cannot be built with these arguments ({why})") from error
    if not isinstance(module, nn.Module):
        raise UsageError(f"architecture {architecture.name}: returned {type(module).__name__}, not a torch.nn.Module")
    return module


def outline(architecture: Architecture) -> nn.Module:
    """The module for those who look at its graph alone: one of ours without values (on PyTorch's meta device), in no memory.

    Anybody else's is built, as its code may need values. Raises as `build`.
    """
    if architecture.name not in MODELS:
        return build(architecture)
    with torch.device("meta"):
        return build(architecture)


def fitted(
    name: str, *, shape: tuple[int, int, int], classes: int, arguments: Mapping[str, Any] | None = None
) -> Architecture:
    """The architecture `name` for images of `shape` (C, H, W) and a number of classes.

    Of `in_channels`, `image_size` and `classes`, those that the constructor takes and `arguments` does not set are filled in.
    """
    values = {"in_channels": shape[0], "image_size": shape[1], "classes": classes}
    accepted = inspect.signature(_constructor(name)).parameters
    filled = {key: value for key, value in values.items() if key in accepted}
    return Architecture(name=name, arguments={**filled, **(arguments or {})})


def input_shape(architecture: Architecture) -> tuple[int, int, int]:
    """(C, H, W) of the images an architecture takes: its `in_channels` and `image_size`, given or default.

    Raises `UsageError` when the constructor has no such arguments: then only the data can tell.
    """
    parameters = inspect.signature(_constructor(architecture.name)).parameters
    values = []
    for key in ("in_channels", "image_size"):
        default = parameters[key].default if key in parameters else None
        value = architecture.arguments.get(key, default)
        if not isinstance(value, int) or value < 1:
            raise UsageError(f"architecture {architecture.name}: no argument {key} says what images it takes")
        values.append(value)
    channels, size = values
    return channels, size, size


def _constructor(name: str | None) -> Callable[..., nn.Module]:
    if name is None:
        raise UsageError(
            "this ticket does not say its architecture: give one by registry name or package.module:callable"
        )
    if name in MODELS:
        return MODELS[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise UsageError(
            f"unknown architecture {name!r}: one of {', '.join(MODELS)}, or an import path package.module:callable"
        )
    try:
        target: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise UsageError(f"architecture {name}: cannot be imported ({error}); is it on PYTHONPATH?") from error
    if not _makes_modules(target):
        raise UsageError(
            f"architecture {name}: not a torch.nn.Module class, nor a function annotated to return one (`-> torch.nn.Module`)"
        )
    constructor: Callable[..., nn.Module] = target
    return constructor


def _makes_modules(target: object) -> bool:
    """Whether calling `target` is building a network.

    The name may come from a file that somebody else wrote: without this check, `os:system` would be an architecture.
    """
    if inspect.isclass(target):
        return issubclass(target, nn.Module)
    if not inspect.isfunction(target):
        return False
    try:
        result = typing.get_type_hints(target).get("return")
    except (NameError, TypeError, AttributeError):
        return False
    return inspect.isclass(result) and issubclass(result, nn.Module)
