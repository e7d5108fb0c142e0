"""What the students save: parameters, bytes, latency of one sentence, throughput of batches, fine-tuning time.

Models take turns within one run, so that whatever else the machine does falls on all of them alike. Throughput
counts real tokens, never padding. The model runs without a language-modelling head, as a task would use it.

Each model is also exported to ONNX, with float32 and with int8 weights. These forms and torch's are compared with
the head, as a file that stands for itself: size, speed, and what of the masked-LM loss is lost.
"""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch
from transformers import PreTrainedModel

from robbertje_lib.evaluation.lines import cut_lines, held_out_lines
from robbertje_lib.evaluation.onnx_export import INPUTS, Exporter, Inputs, OnnxModel, export_model
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.provenance import hardware
from robbertje_lib.experiment.results.efficiency import (
    EfficiencyResult,
    FormCosts,
    FormLosses,
    ModelCosts,
    Spread,
    Timing,
)
from robbertje_lib.experiment.results.finetuning import TaskScores
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.evaluated import evaluated_models, load_evaluated
from robbertje_lib.models.length_batches import Integers, batches_of_rows
from robbertje_lib.models.log_probs import Floats, Queries, Report, log_probs_of, predictions
from robbertje_lib.models.masked_lm import MaskedLM
from robbertje_lib.models.shapes import parameter_count

LINES_ONE_BY_ONE = 50  # whose mean is the latency; more would take most of the stage
ENCODER = "encoder"  # a model in torch without its head
TOKENS_A_LINE = 2  # masked on average, each in a copy of its line
PAUSE = 0.005  # seconds; the threads of whatever ran before go on waiting actively for a while
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Timed:
    """What is timed: `forward` takes `Inputs`; `singles` hold a line each, `batches` lines of like length."""

    forward: Callable[..., Any]
    singles: list[Inputs]
    batches: list[Inputs]
    device: torch.device


@dataclass(frozen=True)
class FormScores:
    """One form's answers for masked tokens, and what sets them apart from the first form's (None for that one)."""

    line: Integers  # of each masked token: (masked,)
    nats: Floats  # negative log-probability of the token: (masked,)
    top1_agreement: float | None  # share of masked tokens with the same best guess
    largest_logit_difference: float | None

    def table(self, model: str, form: str) -> pa.Table:
        """A row a line that has a masked token, under the names of model and form."""
        lines, index = np.unique(self.line, return_inverse=True)
        return pa.table(
            {
                "model": [model] * len(lines),
                "form": [form] * len(lines),
                "line": lines,
                "masked_tokens": np.bincount(index),
                "nats": np.bincount(index, self.nats),
            }
        )


def measure_models(run: Run, also: str = "", progress: Report = print) -> EfficiencyResult:
    """Measure the teacher and every student on the same held-out lines; write `efficiency.json`, the ONNX files, and
    every form's loss by line in `form_losses.parquet`.

    A student is measured by its first replicate: the others have its size and its speed. `also` names further masked
    language models to measure, folders or hub ids with spaces between them. A model that cannot be exported has the
    form `torch` alone, and the reason under `not_exported`.
    """
    settings = run.profile.efficiency
    lines = [line.text for line in held_out_lines(run, settings.lines)]
    own = evaluated_models(run)
    folders = {group: own[group] for group in run.profile.groups} | {name: name for name in also.split()}
    models = {name: load_evaluated(run, name) for name in folders}
    forms, not_exported = _export(run, models, progress)
    timings = _time(forms, lines, settings.batch_size, settings.repeats)
    costs: dict[str, ModelCosts] = {}
    losses: list[pa.Table] = []
    for name, model in models.items():
        scores = score_forms(forms[name], lines, run.profile.seed)
        losses += [scored.table(name, form) for form, scored in scores.items()]
        size = weight_bytes(Path(folders[name]), model.model)
        encoded = model.tokenizer(lines, verbose=False)["input_ids"]
        costs[name] = ModelCosts(
            parameters=parameter_count(model.model),
            encoder_parameters=encoder_parameters(model.model),
            bytes=size,
            timing=timings[name, ENCODER],
            truncated_lines=sum(len(ids) > model.maximum_length for ids in encoded),
            finetuning_seconds=finetuning_seconds(run, name),
            forms={form: _costs(of, size, timings[name, form], scores[form]) for form, of in forms[name].items()},
        )
        told = costs[name].timing
        progress(
            f"{name}: {costs[name].parameters:,} parameters, {told.latency_ms.median:.1f} ms a sentence, "
            f"{told.throughput_tokens_per_second.median:,.0f} tokens/s"
        )
    FormLosses.write(run, pa.concat_tables(losses))
    result = EfficiencyResult(
        models=costs,
        not_exported=not_exported,
        lines=len(lines),
        repeats=settings.repeats,
        batch_size=settings.batch_size,
        threads=torch.get_num_threads(),
        machine=hardware(),
    )
    result.write(run)
    return result


def _export(
    run: Run, models: Mapping[str, MaskedLM], progress: Report
) -> tuple[dict[str, dict[str, MaskedLM]], dict[str, str]]:
    """The forms of each model, `torch` first and alone where it cannot be exported; and why not, by name."""
    exporter = Exporter()
    forms = {name: {"torch": model} for name, model in models.items()}
    reasons: dict[str, str] = {}
    for name, model in models.items():
        try:
            forms[name] |= export_model(run, model, exporter)
        except UserError as error:
            reasons[name] = str(error)
            progress(str(error))
    return forms, reasons


def _time(
    forms: Mapping[str, Mapping[str, MaskedLM]], lines: Sequence[str], batch_size: int, repeats: int
) -> dict[tuple[str, str], Timing]:
    """By model and form, the form `ENCODER` of each model included."""
    some = lines[:: -(-len(lines) // LINES_ONE_BY_ONE)]
    timed = {(name, ENCODER): without_head(of["torch"], some, lines, batch_size) for name, of in forms.items()}
    for name, of in forms.items():
        timed |= {(name, form): with_head(model, some, lines, batch_size) for form, model in of.items()}
    return time_in_turns(timed, repeats)


def _costs(form: MaskedLM, weights: int, timing: Timing, scores: FormScores) -> FormCosts:
    return FormCosts(
        bytes=form.model.path.stat().st_size if isinstance(form.model, OnnxModel) else weights,
        timing=timing,
        masked_tokens=len(scores.nats),
        loss=float(scores.nats.mean()),
        top1_agreement=scores.top1_agreement,
        largest_logit_difference=scores.largest_logit_difference,
    )


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


def finetuning_seconds(run: Run, group: str) -> dict[str, float]:
    """Median seconds of a run on the largest training split, of all replicates, per task with scores so far."""
    models = run.profile.groups.get(group, [])
    scores = [TaskScores.read(run, task=t) for t in run.profile.finetuning.tasks if TaskScores.exists(run, task=t)]
    by_task = {s.task: [r.seconds for r in s.runs if r.model in models and r.train == s.largest] for s in scores}
    return {task: median(seconds) for task, seconds in by_task.items() if seconds}


def with_head(model: MaskedLM, singles: Sequence[str], lines: Sequence[str], batch_size: int) -> Timed:
    """The model as it is, its head at every position; `singles` one by one, `lines` in batches."""
    return Timed(model.model, _batches(model, singles, 1), _batches(model, lines, batch_size), model.device)


def without_head(model: MaskedLM, singles: Sequence[str], lines: Sequence[str], batch_size: int) -> Timed:
    """The model without its head, as a task would use it."""
    return replace(with_head(model, singles, lines, batch_size), forward=model.model.base_model)


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
        name: Timing(
            latency_ms=_spread(latency[name]),
            latency_ms_by_round=latency[name],
            throughput_tokens_per_second=_spread(throughput[name]),
        )
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


def score_forms(forms: Mapping[str, MaskedLM], lines: Sequence[str], seed: int) -> dict[str, FormScores]:
    """Mask tokens of `lines` one at a time, the same for every form, and compare each form with the first one.

    Drawn with `seed` from all tokens alike, so that the mean over them estimates the log of the corpus'
    pseudo-perplexity. Raises `UserError` if no line holds a token.
    """
    first, model = next(iter(forms.items()))
    tokens = cut_lines(model, lines)
    wanted = min(TOKENS_A_LINE * len(lines), len(tokens.line))
    drawn = np.sort(np.random.default_rng(seed).choice(len(tokens.line), wanted, replace=False))
    position = tokens.position[drawn]
    queries = Queries(tokens.window[drawn], position, position + 1)
    nats = {form: np.empty(wanted) for form in forms}
    same, largest = dict.fromkeys(forms, 0), dict.fromkeys(forms, 0.0)
    answers = (predictions(model, tokens.sequences, queries) for model in forms.values())
    for batches in zip(*answers, strict=True):
        reference = batches[0][1].cpu()
        for form, (batch, logits, targets) in zip(forms, batches, strict=True):
            nats[form][batch] = -log_probs_of(logits, targets).cpu().numpy()
            same[form] += int((logits.cpu().argmax(1) == reference.argmax(1)).sum())
            largest[form] = max(largest[form], float((logits.cpu() - reference).abs().max()))
    return {
        form: FormScores(
            tokens.line[drawn],
            nats[form],
            None if form == first else same[form] / wanted,
            None if form == first else largest[form],
        )
        for form in forms
    }
