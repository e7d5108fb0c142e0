"""What the students save: parameters, bytes, latency of one sentence, throughput of batches, fine-tuning time.

Models take turns within one run, so that whatever else the machine does falls on all of them alike. Throughput
counts real tokens, never padding. The model runs without a language-modelling head, as a task would use it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from robbertje_lib.artefacts import read_json, write_json
from robbertje_lib.masked_lm import MaskedLM, evaluated_models, load_evaluated
from robbertje_lib.modelling import parameter_count
from robbertje_lib.provenance import hardware
from robbertje_lib.pseudo_perplexity import held_out_lines
from robbertje_lib.run import Run
from robbertje_lib.scoring import Progress


def measure_models(run: Run, also: str = "", progress: Progress = print) -> dict[str, Any]:
    """Measure every model of the run on the same held-out lines; write `efficiency.json`.

    `also` names further masked language models to measure, folders or hub ids with spaces between them.
    """
    settings = run.profile.efficiency
    lines = held_out_lines(run, settings.lines)
    sources = evaluated_models(run) | {name: name for name in also.split()}
    models = {name: load_evaluated(run, name) for name in sources}
    timings = time_models(models, lines, settings.batch_size, settings.repeats)
    results: dict[str, Any] = {}
    for name, model in models.items():
        results[name] = {
            "parameters": parameter_count(model.model),
            "encoder_parameters": encoder_parameters(model.model),
            "bytes": weight_bytes(Path(sources[name]), model.model),
            **timings[name],
            "truncated_lines": _truncated(model, lines),
            "finetuning_seconds": finetuning_seconds(run, name),
        }
        progress(
            f"{name}: {results[name]['parameters']:,} parameters, "
            f"{results[name]['latency_ms']['median']:.1f} ms a sentence, "
            f"{results[name]['throughput_tokens_per_second']['median']:,.0f} tokens/s"
        )
    summary = {
        "models": results,
        "lines": len(lines),
        "repeats": settings.repeats,
        "batch_size": settings.batch_size,
        "threads": torch.get_num_threads(),
        "machine": hardware(),
    }
    write_json(run.paths.result("efficiency.json"), summary)
    return summary


def encoder_parameters(model: PreTrainedModel) -> int:
    """Parameters without embeddings and head: those that cost time at every token."""
    base = model.base_model
    embeddings = sum(p.numel() for name, p in base.named_parameters() if "embeddings" in name.split("."))
    return parameter_count(base) - embeddings


def weight_bytes(folder: Path, model: PreTrainedModel) -> int:
    """Size of the safetensors files on disk; of a hub model, what its parameters take in memory."""
    files = list(folder.glob("*.safetensors"))
    if files:
        return sum(file.stat().st_size for file in files)
    return sum(p.numel() * p.element_size() for p in model.parameters())


def time_models(
    models: Mapping[str, MaskedLM], lines: Sequence[str], batch_size: int, repeats: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Median, low and high over `repeats` rounds of `latency_ms` and `throughput_tokens_per_second`.

    Latency: milliseconds a sentence, mean over the lines one by one. Throughput: real tokens a second, special
    tokens included, in batches of lines of like length. Lines are cut at a model's maximum; each round times every
    model once, the order turned by one from round to round.
    """
    latency: dict[str, list[float]] = {name: [] for name in models}
    throughput: dict[str, list[float]] = {name: [] for name in models}
    singles = {name: _batches(model, lines, 1) for name, model in models.items()}
    batches = {name: _batches(model, lines, batch_size) for name, model in models.items()}
    for name, model in models.items():  # first runs allocate memory and choose kernels
        _seconds(model, singles[name][:2] + batches[name][:1])
    names = list(models)
    for repeat in range(repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            latency[name].append(1000 * _seconds(models[name], singles[name]) / len(lines))
            tokens = sum(int(batch["attention_mask"].sum()) for batch in batches[name])
            throughput[name].append(tokens / _seconds(models[name], batches[name]))
    return {
        name: {"latency_ms": _spread(latency[name]), "throughput_tokens_per_second": _spread(throughput[name])}
        for name in names
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "low": min(values), "high": max(values)}


def _batches(model: MaskedLM, lines: Sequence[str], size: int) -> list[dict[str, torch.Tensor]]:
    lengths = np.array([len(ids) for ids in model.tokenizer(list(lines), verbose=False)["input_ids"]])
    order = np.argsort(lengths, kind="stable")
    options = {"padding": True, "truncation": True, "max_length": model.maximum_length, "return_tensors": "pt"}
    return [
        {
            key: value.to(model.device)
            for key, value in model.tokenizer([lines[i] for i in order[start : start + size]], **options).items()
            if key in ("input_ids", "attention_mask")
        }
        for start in range(0, len(order), size)
    ]


def _truncated(model: MaskedLM, lines: Sequence[str]) -> int:
    return sum(len(ids) > model.maximum_length for ids in model.tokenizer(list(lines), verbose=False)["input_ids"])


@torch.inference_mode()
def _seconds(model: MaskedLM, batches: Sequence[dict[str, torch.Tensor]]) -> float:
    wait: Callable[[], None] = torch.cuda.synchronize if model.device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    for batch in batches:
        model.model.base_model(**batch)
    wait()
    return time.perf_counter() - start


def finetuning_seconds(run: Run, model: str) -> dict[str, float]:
    """Median seconds of one fine-tuning run per task, from the scores that exist so far."""
    found: dict[str, float] = {}
    for task in run.profile.finetuning.tasks:
        path = run.paths.result("scores", f"{task}.json")
        if path.is_file():
            seconds = [row["seconds"] for row in read_json(path)["runs"] if row["model"] == model]
            if seconds:
                found[task] = median(seconds)
    return found


def summary_table(summary: dict[str, Any]) -> pd.DataFrame:
    """One row a model: size, speed, and how many times smaller and faster than the teacher it is."""
    models = summary["models"]
    teacher = models["teacher"]
    rows = {
        name: {
            "parameters (M)": m["parameters"] / 1e6,
            "encoder (M)": m["encoder_parameters"] / 1e6,
            "MB on disk": m["bytes"] / 1e6,
            "ms a sentence": m["latency_ms"]["median"],
            "low": m["latency_ms"]["low"],
            "high": m["latency_ms"]["high"],
            "tokens/s": m["throughput_tokens_per_second"]["median"],
            "times smaller": teacher["parameters"] / m["parameters"],
            "times faster": teacher["latency_ms"]["median"] / m["latency_ms"]["median"],
        }
        for name, m in models.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").round(2)


def finetuning_table(summary: dict[str, Any]) -> pd.DataFrame:
    """Median fine-tuning seconds per model (rows) and task (columns)."""
    return pd.DataFrame({name: m["finetuning_seconds"] for name, m in summary["models"].items()}).T.round(1)
