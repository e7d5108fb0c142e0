"""What the students save: parameters, bytes, latency of one sentence, throughput of batches, fine-tuning time.

Models take turns within one run, so that whatever else the machine does falls on all of them alike. Throughput
counts real tokens, never padding. The model runs without a language-modelling head, as a task would use it.

Each model is also exported to ONNX, with float32 and with int8 weights. These forms and torch's are compared with
the head, as a file that stands for itself: size, speed, and what of the masked-LM loss is lost.
"""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from robbertje_lib.evaluation.onnx_export import (
    INPUTS,
    Batch,
    Exporter,
    OnnxModel,
    export_model,
    mask_lines,
    score_loss,
)
from robbertje_lib.evaluation.pseudo_perplexity import held_out_lines
from robbertje_lib.experiment.artefacts import read_json, write_json
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.provenance import hardware
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.log_probs import Progress
from robbertje_lib.models.masked_lm import MaskedLM, evaluated_models, load_evaluated
from robbertje_lib.models.shapes import parameter_count

Key = TypeVar("Key", bound=Hashable)
LINES_ONE_BY_ONE = 50
PAUSE = 0.005  # seconds; the threads of whatever ran before go on waiting actively for a while
FORMS = {"torch": "torch", "fp32": "ONNX", "int8": "ONNX, int8"}


def measure_models(run: Run, also: str = "", progress: Progress = print) -> dict[str, Any]:
    """Measure every model of the run on the same held-out lines; write `efficiency.json` and the ONNX files.

    `also` names further masked language models to measure, folders or hub ids with spaces between them. A model that
    cannot be exported has `onnx: null`, and the reason under `not_exported`.
    """
    settings = run.profile.efficiency
    lines = held_out_lines(run, settings.lines)
    sources = evaluated_models(run) | {name: name for name in also.split()}
    models = {name: load_evaluated(run, name) for name in sources}
    exported, not_exported = _export(run, models, progress)
    forms: dict[tuple[str, str], Form] = {}
    for name, model in models.items():
        forms[name, "encoder"] = encoder_form(model, lines, settings.batch_size)
        for form, forward in _with_head(model, exported[name]).items():
            device = model.device if form == "torch" else torch.device("cpu")
            forms[name, form] = Form(forward, *_both(model, _some(lines), lines, settings.batch_size, device), device)
    timings = time_forms(forms, settings.repeats)
    results: dict[str, Any] = {}
    for name, model in models.items():
        size = weight_bytes(Path(sources[name]), model.model)
        onnx = _forms(model, exported[name], size, lines, settings.batch_size, run.profile.seed)
        for form in onnx:
            onnx[form] |= timings[name, form]
        results[name] = {
            "parameters": parameter_count(model.model),
            "encoder_parameters": encoder_parameters(model.model),
            "bytes": size,
            **timings[name, "encoder"],
            "truncated_lines": _truncated(model, lines),
            "finetuning_seconds": finetuning_seconds(run, name),
            "with_head": onnx.pop("torch"),
            "onnx": onnx or None,
        }
        progress(
            f"{name}: {results[name]['parameters']:,} parameters, "
            f"{results[name]['latency_ms']['median']:.1f} ms a sentence, "
            f"{results[name]['throughput_tokens_per_second']['median']:,.0f} tokens/s"
        )
    summary = {
        "models": results,
        "not_exported": not_exported,
        "lines": len(lines),
        "repeats": settings.repeats,
        "batch_size": settings.batch_size,
        "threads": torch.get_num_threads(),
        "machine": hardware().model_dump(),
    }
    write_json(run.paths.result("efficiency.json"), summary)
    return summary


def _export(
    run: Run, models: Mapping[str, MaskedLM], progress: Progress
) -> tuple[dict[str, dict[str, OnnxModel]], dict[str, str]]:
    """The ONNX forms of each model (none where it cannot be exported), and why not, by name."""
    exporter = Exporter()
    exported: dict[str, dict[str, OnnxModel]] = {}
    reasons: dict[str, str] = {}
    for name, model in models.items():
        try:
            exported[name] = export_model(run, model, exporter)
        except UserError as error:
            exported[name], reasons[name] = {}, str(error)
            progress(str(error))
    return exported, reasons


def _with_head(model: MaskedLM, exported: Mapping[str, OnnxModel]) -> dict[str, Callable[[Batch], torch.Tensor]]:
    """What gives logits for a batch: `torch`, and the ONNX forms there are."""
    return {"torch": lambda batch: model.model(**batch).logits} | {f: o.logits for f, o in exported.items()}


@torch.inference_mode()
def _forms(
    model: MaskedLM, exported: Mapping[str, OnnxModel], size: int, lines: Sequence[str], batch_size: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Bytes and loss of every form of one model, `torch` first."""
    forwards = _with_head(model, exported)
    masked = mask_lines(model, lines, batch_size, seed)

    def on_device(batch: Batch) -> torch.Tensor:
        return forwards["torch"]({key: value.to(model.device) for key, value in batch.items()}).cpu()

    scores = score_loss(forwards | {"torch": on_device}, masked, seed)
    sizes = {"torch": size} | {form: onnx.path.stat().st_size for form, onnx in exported.items()}
    masked_tokens = sum(map(len, masked.targets))
    return {form: {"bytes": sizes[form], "masked_tokens": masked_tokens, **scores[form]} for form in scores}


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


@dataclass(frozen=True)
class Form:
    """One way to run a model: `forward` takes a batch; `singles` hold a line each, `batches` lines of like length."""

    forward: Callable[[Batch], Any]
    singles: list[Batch]
    batches: list[Batch]
    device: torch.device


def encoder_form(model: MaskedLM, lines: Sequence[str], batch_size: int) -> Form:
    """The model without its head, in torch."""
    singles, batches = _both(model, lines, lines, batch_size, model.device)
    return Form(lambda batch: model.model.base_model(**batch), singles, batches, model.device)


def time_forms(forms: Mapping[Key, Form], repeats: int) -> dict[Key, dict[str, dict[str, float]]]:
    """Median, low and high over `repeats` rounds of `latency_ms` and `throughput_tokens_per_second`.

    Latency: milliseconds a sentence, mean over the lines one by one. Throughput: real tokens a second, special
    tokens included, in batches of lines of like length. Lines are cut at a model's maximum; each round times every
    form once, and starts with another one.
    """
    latency: dict[Key, list[float]] = {name: [] for name in forms}
    throughput: dict[Key, list[float]] = {name: [] for name in forms}
    for form in forms.values():  # first runs allocate memory and choose kernels
        _seconds(form, form.singles[:2] + form.batches[:1])
    names = list(forms)
    for repeat in range(repeats):
        start = repeat * len(names) // repeats
        for name in names[start:] + names[:start]:
            form = forms[name]
            latency[name].append(1000 * _seconds(form, form.singles) / len(form.singles))
            tokens = sum(int(batch["attention_mask"].sum()) for batch in form.batches)
            throughput[name].append(tokens / _seconds(form, form.batches))
    return {
        name: {"latency_ms": _spread(latency[name]), "throughput_tokens_per_second": _spread(throughput[name])}
        for name in names
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "low": min(values), "high": max(values)}


def _some(lines: Sequence[str]) -> Sequence[str]:
    """Evenly chosen lines: the forms with a head are timed one by one on fewer, which keeps the stage short."""
    return lines[:: -(-len(lines) // LINES_ONE_BY_ONE)]


def _both(
    model: MaskedLM, singles: Sequence[str], lines: Sequence[str], batch_size: int, device: torch.device
) -> tuple[list[Batch], list[Batch]]:
    return _batches(model, singles, 1, device), _batches(model, lines, batch_size, device)


def _batches(model: MaskedLM, lines: Sequence[str], size: int, device: torch.device) -> list[Batch]:
    lengths = np.array([len(ids) for ids in model.tokenizer(list(lines), verbose=False)["input_ids"]])
    order = np.argsort(lengths, kind="stable")
    options = {"padding": True, "truncation": True, "max_length": model.maximum_length, "return_tensors": "pt"}
    return [
        {
            key: value.to(device)
            for key, value in model.tokenizer([lines[i] for i in order[start : start + size]], **options).items()
            if key in INPUTS
        }
        for start in range(0, len(order), size)
    ]


def _truncated(model: MaskedLM, lines: Sequence[str]) -> int:
    return sum(len(ids) > model.maximum_length for ids in model.tokenizer(list(lines), verbose=False)["input_ids"])


@torch.inference_mode()
def _seconds(form: Form, batches: Sequence[Batch]) -> float:
    wait: Callable[[], None] = torch.cuda.synchronize if form.device.type == "cuda" else lambda: None
    time.sleep(PAUSE)
    wait()
    start = time.perf_counter()
    for batch in batches:
        form.forward(batch)
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
            "MB as int8": m["onnx"]["int8"]["bytes"] / 1e6 if m["onnx"] else None,
            "ms a sentence": m["latency_ms"]["median"],
            "low": m["latency_ms"]["low"],
            "high": m["latency_ms"]["high"],
            "tokens/s": m["throughput_tokens_per_second"]["median"],
            "times smaller": teacher["parameters"] / m["parameters"],
            "times faster": teacher["latency_ms"]["median"] / m["latency_ms"]["median"],
        }
        for name, m in models.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").round({"tokens/s": 0}).round(2).astype({"tokens/s": int})


def forms_table(summary: dict[str, Any]) -> pd.DataFrame:
    """One row a model and form, all with the language-modelling head: size, speed, and what the form loses.

    `times faster` is against the same model in torch; losses are in nats a masked token, differences from torch with
    their 95 % interval; `same guess` is the share of masked tokens, in %, with the same most probable token.
    """
    rows = {}
    for name, m in summary["models"].items():
        for form, values in {"torch": m["with_head"], **(m["onnx"] or {})}.items():
            low, high = values.get("loss_difference_interval", (None, None))
            agreement = values.get("top1_agreement")
            rows[name, FORMS[form]] = {
                "MB": values["bytes"] / 1e6,
                "ms a sentence": values["latency_ms"]["median"],
                "low": values["latency_ms"]["low"],
                "high": values["latency_ms"]["high"],
                "times faster": m["with_head"]["latency_ms"]["median"] / values["latency_ms"]["median"],
                "tokens/s": values["throughput_tokens_per_second"]["median"],
                "loss": values["loss"],
                "difference": values.get("loss_difference"),
                "95 % low": low,
                "95 % high": high,
                "same guess, %": None if agreement is None else 100 * agreement,
            }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(table.index, names=["model", "form"])
    table = table.round({"MB": 2, "tokens/s": 0, "times faster": 2, "same guess, %": 1}).round(4)
    return (table + 0.0).astype({"tokens/s": int})  # + 0.0: no minus before what has been rounded to nothing


def finetuning_table(summary: dict[str, Any]) -> pd.DataFrame:
    """Median fine-tuning seconds per model (rows) and task (columns)."""
    return pd.DataFrame({name: m["finetuning_seconds"] for name, m in summary["models"].items()}).T.round(1)
