"""Finds, on a CPU, where a GPU would have to be waited for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Their results, or the size of these, are known only when the device has come to them.
WAITING = {
    "_local_scalar_dense",  # float(x), int(x), bool(x), x.item()
    "is_nonzero",
    "equal",
    "nonzero",
    "masked_select",
    "bincount",
    "_unique2",
    "unique_dim",
    "unique_consecutive",
}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}  # a mask says only later how many it chooses


class Waits(AssertionError):
    """An operation that waits for the device."""


class NoWaiting(TorchDispatchMode):
    """Inside, an operation that would wait for a GPU raises `Waits`; that of `backward`, too."""

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        name = function.overloadpacket.__name__  # type: ignore[attr-defined]
        by_mask = name in INDEXING and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in arguments[1]
        )
        sized_by_data = name == "repeat_interleave" and (options or {}).get("output_size") is None
        if name in WAITING or by_mask or sized_by_data:
            raise Waits(f"{function} waits for the device")
        return function(*arguments, **(options or {}))
