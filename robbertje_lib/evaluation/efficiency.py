"""What the students save: parameters, bytes, latency of one sentence, throughput of batches, fine-tuning time.

Models take turns within one run, so that whatever else the machine does falls on all of them alike. Throughput
counts real tokens, never padding. The model runs without a language-modelling head, as a task would use it.

Each model is also exported to ONNX, with float32 and with int8 weights. These forms and torch's are compared with
the head, as a file that stands for itself: size, speed, and what of the masked-LM loss is lost.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import pyarrow as pa
import torch
from transformers import PreTrainedModel

from robbertje_lib.evaluation.forms import FormScores, score_forms
from robbertje_lib.evaluation.held_out import held_out_lines
from robbertje_lib.evaluation.onnx_export import Exporter, OnnxModel, export_model
from robbertje_lib.evaluation.timing import time_in_turns, with_head, without_head
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.provenance import hardware
from robbertje_lib.experiment.results.efficiency import (
    EfficiencyResult,
    FormCosts,
    FormLosses,
    ModelCosts,
    Timing,
)
from robbertje_lib.experiment.results.finetuning import TaskScores
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.evaluated import evaluated_models, load_evaluated
from robbertje_lib.models.log_probs import Report
from robbertje_lib.models.masked_lm import MaskedLM
from robbertje_lib.models.shapes import parameter_count

LINES_ONE_BY_ONE = 50  # of the forms with a head, which keeps the stage short
ENCODER = "encoder"  # a model in torch without its head


def measure_models(run: Run, also: str = "", progress: Report = print) -> EfficiencyResult:
    """Measure every model of the run on the same held-out lines; write `efficiency.json`, the ONNX files, and every
    form's loss by line in `form_losses.parquet`.

    `also` names further masked language models to measure, folders or hub ids with spaces between them. A model that
    cannot be exported has the form `torch` alone, and the reason under `not_exported`.
    """
    settings = run.profile.efficiency
    lines = held_out_lines(run, settings.lines)
    folders = evaluated_models(run) | {name: name for name in also.split()}
    models = {name: load_evaluated(run, name) for name in folders}
    forms, not_exported = _export(run, models, progress)
    timings = _time(forms, lines, settings.batch_size, settings.repeats)
    costs: dict[str, ModelCosts] = {}
    losses: list[pa.Table] = []
    for name, model in models.items():
        scores = score_forms(forms[name], lines, run.profile.seed)
        losses += [scored.table(name, form) for form, scored in scores.items()]
        size = weight_bytes(Path(folders[name]), model.model)
        costs[name] = ModelCosts(
            parameters=parameter_count(model.model),
            encoder_parameters=encoder_parameters(model.model),
            bytes=size,
            timing=timings[name, ENCODER],
            truncated_lines=_truncated(model, lines),
            finetuning_seconds=finetuning_seconds(run, name),
            forms={form: _costs(of, size, timings[name, form], scores[form]) for form, of in forms[name].items()},
        )
        progress(_told(name, costs[name]))
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
    timed = {(name, ENCODER): without_head(of["torch"], lines, batch_size) for name, of in forms.items()}
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


def _told(name: str, costs: ModelCosts) -> str:
    latency, throughput = costs.timing.latency_ms.median, costs.timing.throughput_tokens_per_second.median
    return f"{name}: {costs.parameters:,} parameters, {latency:.1f} ms a sentence, {throughput:,.0f} tokens/s"


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


def _truncated(model: MaskedLM, lines: list[str]) -> int:
    return sum(len(ids) > model.maximum_length for ids in model.tokenizer(lines, verbose=False)["input_ids"])


def finetuning_seconds(run: Run, model: str) -> dict[str, float]:
    """Median seconds of one fine-tuning run per task, from the scores that exist so far."""
    by_task = {
        task: [row.seconds for row in TaskScores.read(run, task=task).runs if row.model == model]
        for task in run.profile.finetuning.tasks
        if TaskScores.exists(run, task=task)
    }
    return {task: median(seconds) for task, seconds in by_task.items() if seconds}
