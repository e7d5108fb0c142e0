"""How fast models answer, one sentence at a time and in batches; they take turns, so that noise falls on all alike."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, TypeVar

import torch

from robbertje_lib.evaluation.onnx_export import INPUTS, Inputs
from robbertje_lib.experiment.results.efficiency import Spread, Timing
from robbertje_lib.models.length_batches import batches_of_rows
from robbertje_lib.models.masked_lm import MaskedLM

Key = TypeVar("Key", bound=Hashable)
PAUSE = 0.005  # seconds; the threads of whatever ran before go on waiting actively for a while


@dataclass(frozen=True)
class Timed:
    """What is timed: `forward` takes `Inputs`; `singles` hold a line each, `batches` lines of like length."""

    forward: Callable[..., Any]
    singles: list[Inputs]
    batches: list[Inputs]
    device: torch.device


def with_head(model: MaskedLM, singles: Sequence[str], lines: Sequence[str], batch_size: int) -> Timed:
    """The model as it is, its head at every position; `singles` one by one, `lines` in batches."""
    return Timed(model.model, _batches(model, singles, 1), _batches(model, lines, batch_size), model.device)


def without_head(model: MaskedLM, lines: Sequence[str], batch_size: int) -> Timed:
    """The model without its head, as a task would use it."""
    return replace(with_head(model, lines, lines, batch_size), forward=model.model.base_model)


@torch.inference_mode()
def run_seconds(timed: Timed, batches: Sequence[Inputs]) -> float:
    """Seconds to run `batches`."""
    wait: Callable[[], None] = torch.cuda.synchronize if timed.device.type == "cuda" else lambda: None
    time.sleep(PAUSE)
    wait()
    start = time.perf_counter()
    for batch in batches:
        timed.forward(**batch)
    wait()
    return time.perf_counter() - start


def time_in_turns(
    timed: Mapping[Key, Timed], repeats: int, seconds: Callable[[Timed, Sequence[Inputs]], float] = run_seconds
) -> dict[Key, Timing]:
    """Latency and throughput of each over `repeats` rounds.

    Latency is the mean over lines one by one. Every round times each once, and starts with another one. `seconds`
    says how long some batches take.
    """
    latency: dict[Key, list[float]] = {name: [] for name in timed}
    throughput: dict[Key, list[float]] = {name: [] for name in timed}
    for one in timed.values():  # first runs allocate memory and choose kernels
        seconds(one, one.singles[:2] + one.batches[:1])
    names = list(timed)
    for repeat in range(repeats):
        start = repeat * len(names) // repeats
        for name in names[start:] + names[:start]:
            one = timed[name]
            latency[name].append(1000 * seconds(one, one.singles) / len(one.singles))
            tokens = sum(int(batch["attention_mask"].sum()) for batch in one.batches)
            throughput[name].append(tokens / seconds(one, one.batches))
    return {
        name: Timing(latency_ms=_spread(latency[name]), throughput_tokens_per_second=_spread(throughput[name]))
        for name in names
    }


def _spread(values: Sequence[float]) -> Spread:
    return Spread(median=median(values), low=min(values), high=max(values))


def _batches(model: MaskedLM, lines: Sequence[str], size: int) -> list[Inputs]:
    """Lines of like length together, cut at the model's maximum."""
    lengths = [len(ids) for ids in model.tokenizer(list(lines), verbose=False)["input_ids"]]
    options = {"padding": True, "truncation": True, "max_length": model.maximum_length, "return_tensors": "pt"}
    encoded = (model.tokenizer([lines[i] for i in rows], **options) for rows in batches_of_rows(lengths, size))
    return [{name: batch[name].to(model.device) for name in INPUTS} for batch in encoded]
