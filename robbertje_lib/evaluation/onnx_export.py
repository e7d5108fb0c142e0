"""Models as ONNX files, with float32 and with int8 weights, to be run without PyTorch.

Exported by torch itself: Optimum's exporter (optimum-onnx 0.1.0) still holds transformers below version 5.
A file takes `input_ids` and `attention_mask` (batch, length) int64 and gives `logits` (batch, length, vocabulary).
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from robbertje_lib.experiment.artefacts import atomic_path, remove
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.masked_lm import MaskedLM
from robbertje_lib.models.quiet import quiet
from robbertje_lib.statistics.resampling import bootstrapped_scores, ratio

Batch = dict[str, Tensor]
INPUTS = ("input_ids", "attention_mask")
MASKED_SHARE = 0.15
RESAMPLES = 1000
TOLERANCE = 1e-4  # of the logits, relative to the largest one where that is above 1


class OnnxModel:
    """An ONNX file, loaded to run on the processor with as many threads as torch uses."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors alone
        self.path = path
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (batch, length, vocabulary) float32 of `INPUTS`, which lie on the processor."""
        return torch.from_numpy(self.session.run(["logits"], {name: batch[name].numpy() for name in INPUTS})[0])


class Exporter:
    """Writes models as ONNX. Models of one shape share a traced graph, in which only the weights are exchanged."""

    def __init__(self) -> None:
        self._programs: dict[str, torch.onnx.ONNXProgram] = {}

    def export(self, model: MaskedLM, path: Path) -> None:
        """Write `model` with float32 weights to `path`, once its logits are found to be those of torch.

        Raises `UserError` if this family cannot be exported, or computes something else in ONNX.
        """
        # Tracing changes nothing, but a model on a GPU would be traced for the GPU.
        exported = model.model if model.device.type == "cpu" else copy.deepcopy(model.model).cpu()
        example = _example(model)
        shape = {key: value for key, value in exported.config.to_dict().items() if key != "_name_or_path"}
        key = json.dumps([type(exported).__name__, model.maximum_length, shape], sort_keys=True, default=str)
        if key not in self._programs:
            self._programs[key] = _trace(model, exported, example)
        program = self._programs[key]
        weights = exported.state_dict()  # tied ones under every name they have, of which the graph keeps one
        program.apply_weights({name: weights[name] for name in program.model.graph.initializers if name in weights})
        with atomic_path(path) as temporary:
            program.save(str(temporary), external_data=False)
            _check(model.name, exported, OnnxModel(temporary), example)


def quantise(source: Path, target: Path) -> None:
    """Write the model `source` with int8 weights to `target`: matrix products run in 8-bit integers.

    Each output neuron has a scale of its own. Activations stay float32 in between and get their scale anew at every
    product ("dynamic"), so that no text is needed to calibrate them.
    """
    prepared = target.with_suffix(".prepared")
    try:
        # Folds the transposed weights; without it the language-modelling head would stay in float32.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        with atomic_path(target) as temporary, quiet():
            quantize_dynamic(str(prepared), str(temporary), weight_type=QuantType.QInt8, per_channel=True)
    finally:
        remove(prepared)


def export_model(run: Run, model: MaskedLM, exporter: Exporter) -> dict[str, OnnxModel]:
    """Export `model` below the run's folder and load it back: `fp32` and `int8`. Raises `UserError`."""
    name = model.name.strip("/").replace("/", "--")
    paths = {"fp32": run.paths.onnx(name), "int8": run.paths.onnx(f"{name}.int8")}
    exporter.export(model, paths["fp32"])
    quantise(paths["fp32"], paths["int8"])
    return {form: OnnxModel(path) for form, path in paths.items()}


def _example(model: MaskedLM) -> Batch:
    """Two made-up sequences, the second one padded: (2, 7), or as many positions as there are."""
    width = min(7, model.maximum_length)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, len(model.tokenizer), (2, width), generator=generator)
    ids[ids == model.tokenizer.pad_token_id] = model.tokenizer.mask_token_id
    mask = torch.ones_like(ids)
    ids[1, 4:], mask[1, 4:] = model.tokenizer.pad_token_id, 0
    return {"input_ids": ids, "attention_mask": mask}


def _trace(model: MaskedLM, exported: torch.nn.Module, example: Batch) -> torch.onnx.ONNXProgram:
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=model.maximum_length)}
    try:
        with quiet(), torch.inference_mode(False), torch.no_grad():
            program = torch.onnx.export(
                exported,
                kwargs=example,
                dynamic_shapes=dict.fromkeys(INPUTS, axes),
                output_names=["logits"],
                dynamo=True,
                optimize=False,  # keeps the weights' names, and onnxruntime optimises what it loads
                verbose=False,
            )
    except Exception as error:  # whatever the model's own code makes of being traced
        raise UserError(f"{model.name} cannot be exported to ONNX ({_first_line(error)})") from None
    assert program is not None
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with the paths of this machine
    return program


def _check(name: str, model: torch.nn.Module, exported: OnnxModel, example: Batch) -> None:
    alone = {key: value[:1, :3] for key, value in example.items()}
    for batch in (example, alone):
        with torch.inference_mode():
            expected = model(**batch).logits
        real = batch["attention_mask"].bool()
        difference = float((exported.logits(batch) - expected)[real].abs().max())
        if not difference <= TOLERANCE * max(1.0, float(expected[real].abs().max())):
            raise UserError(f"{name}: logits in ONNX differ from torch's by {difference:.2g}; it was not exported")


def _first_line(error: Exception) -> str:
    cause: Any = error.__cause__ or error
    return next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)


@dataclass(frozen=True)
class MaskedLines:
    """Batches of lines with some tokens masked: for each batch its rows, columns and tokens, and the line of each."""

    batches: list[Batch]
    places: list[tuple[Tensor, Tensor]]  # (masked,) int64 each
    targets: list[Tensor]  # (masked,) int64
    lines: list[Tensor]  # (masked,) int64


def mask_lines(model: MaskedLM, lines: Sequence[str], batch_size: int, seed: int) -> MaskedLines:
    """Mask 15 % of each line's tokens, at least one, drawn with `seed`; lines in batches of like length.

    Lines are cut at the model's maximum; a line without a token is left out. Raises `UserError` if all are.
    """
    rng, special = np.random.default_rng(seed), list(model.special_ids())
    encoded = model.tokenizer(list(lines), truncation=True, max_length=model.maximum_length, verbose=False)
    drawn = []
    for number, ids in enumerate(map(np.array, encoded["input_ids"])):
        real = np.flatnonzero(~np.isin(ids, special))
        if len(real):
            masked = rng.choice(real, max(1, round(MASKED_SHARE * len(real))), replace=False)
            drawn.append((number, torch.from_numpy(ids), torch.from_numpy(np.sort(masked))))
    if not drawn:
        raise UserError(f"none of {len(lines)} lines holds a token to mask; check the held-out text")
    drawn.sort(key=lambda line: len(line[1]))
    made = MaskedLines([], [], [], [])
    for start in range(0, len(drawn), batch_size):
        numbers, sequences, columns = zip(*drawn[start : start + batch_size], strict=True)
        ids = pad_sequence(sequences, batch_first=True, padding_value=model.tokenizer.pad_token_id)
        mask = pad_sequence([torch.ones_like(sequence) for sequence in sequences], batch_first=True)
        rows = torch.cat([torch.full_like(c, row) for row, c in enumerate(columns)])
        made.places.append((rows, torch.cat(columns)))
        made.targets.append(ids[made.places[-1]])
        made.lines.append(torch.tensor(numbers)[rows])
        ids[made.places[-1]] = model.tokenizer.mask_token_id
        made.batches.append({"input_ids": ids, "attention_mask": mask})
    return made


def score_loss(
    forms: Mapping[str, Callable[[Batch], Tensor]], masked: MaskedLines, seed: int
) -> dict[str, dict[str, Any]]:
    """Masked-LM loss of every form on the same masks, and what sets it apart from the first one.

    `forms` give logits (batch, length, vocabulary) on the processor. Per form: `loss` in nats a masked token; but for
    the first also `loss_difference` with its 95 % bootstrap interval over lines, `top1_agreement` (share of masked
    tokens with the same best guess) and `largest_logit_difference`.
    """
    losses: dict[str, list[Tensor]] = {form: [] for form in forms}
    agreements: dict[str, list[Tensor]] = {form: [] for form in forms}
    largest = dict.fromkeys(forms, 0.0)
    first = next(iter(forms))
    for batch, places, targets in zip(masked.batches, masked.places, masked.targets, strict=True):
        logits = {form: forward(batch)[places] for form, forward in forms.items()}
        for form, found in logits.items():
            losses[form].append(torch.nn.functional.cross_entropy(found, targets, reduction="none"))
            agreements[form].append(found.argmax(1) == logits[first].argmax(1))
            largest[form] = max(largest[form], float((found - logits[first]).abs().max()))
    lines = torch.cat(masked.lines).numpy()
    loss = {form: torch.cat(values).double().numpy() for form, values in losses.items()}
    scores: dict[str, dict[str, Any]] = {form: {"loss": float(values.mean())} for form, values in loss.items()}
    for form in list(forms)[1:]:
        extra = loss[form] - loss[first]
        counts = np.column_stack([np.bincount(lines, extra), np.bincount(lines)])
        drawn = bootstrapped_scores(counts[counts[:, 1] > 0], ratio, RESAMPLES, np.random.default_rng(seed))
        scores[form] |= {
            "loss_difference": float(extra.mean()),
            "loss_difference_interval": np.percentile(drawn, [2.5, 97.5]).tolist(),
            "top1_agreement": float(torch.cat(agreements[form]).double().mean()),
            "largest_logit_difference": largest[form],
        }
    return scores
