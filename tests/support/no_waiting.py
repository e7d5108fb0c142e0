"""A context in which nothing may wait for the device: what reads a tensor's values on the host raises.

It runs on a CPU, where such reading costs nothing: a GPU would have to finish all that it was given first.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = (
    "_local_scalar_dense",  # item(), float(), int(), bool(), tolist()
    "is_nonzero",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "equal",
)
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")


class Waited(AssertionError):
    """Something read values from the device."""


class _NoWaiting(TorchDispatchMode):
    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = operation.overloadpacket.__name__
        if name in WAITING:
            raise Waited(f"{operation} waits for the device")
        if name in INDEXING and any(isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in args[1]):
            raise Waited(f"{operation} by a mask waits for the device")
        if name == "repeat_interleave" and not (kwargs or {}).get("output_size"):
            raise Waited(f"{operation} without output_size waits for the device")
        return operation(*args, **(kwargs or {}))


@contextmanager
def no_waiting() -> Iterator[None]:
    """Raises `Waited` where a tensor's values would decide a shape or a number on the host.

    Values that go to the device in the middle of an update wait as well, if they are made from Python's numbers; a
    tensor made by `torch.tensor` or `new_tensor` raises too.
    """

    def refuse(*_: Any, **__: Any) -> Any:
        raise Waited("a tensor made from Python's numbers is copied to the device")

    made: Callable[..., Tensor] = torch.tensor
    torch.tensor = refuse  # type: ignore[assignment]
    Tensor.new_tensor, kept = refuse, Tensor.new_tensor  # type: ignore[method-assign,assignment]
    try:
        with _NoWaiting():
            yield
    finally:
        torch.tensor, Tensor.new_tensor = made, kept  # type: ignore[assignment,method-assign]
