"""Models as ONNX files, with float32 and with int8 weights, to be run without PyTorch.

Exported by torch itself: Optimum's exporter (optimum-onnx 0.1.0) still holds transformers below version 5.
A file takes `input_ids` and `attention_mask` (batch, length) int64 and gives `logits` (batch, length, vocabulary).
"""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor
from transformers.modeling_outputs import MaskedLMOutput

from robbertje_lib.experiment.artefacts import atomic_path, remove
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.masked_lm import MaskedLM
from robbertje_lib.models.quiet import quiet

Inputs = dict[str, Tensor]  # by the names of `INPUTS`
INPUTS = ("input_ids", "attention_mask")
TOLERANCE = 1e-4  # of the logits, relative to the largest one where that is above 1


class OnnxModel(torch.nn.Module):
    """An ONNX file in a model's place: it runs on the processor, with as many threads as torch uses."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors alone
        self.path = path
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> MaskedLMOutput:
        """Logits (batch, length, vocabulary) float32 of `INPUTS`, which lie on the processor."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        values = self.session.run(["logits"], dict(zip(INPUTS, (input_ids.numpy(), mask.numpy()), strict=True)))
        return MaskedLMOutput(logits=torch.from_numpy(values[0]))


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


def export_model(run: Run, model: MaskedLM, exporter: Exporter) -> dict[str, MaskedLM]:
    """Export `model` below the run's folder and load it back: `fp32` and `int8`. Raises `UserError`."""
    name = model.name.strip("/").replace("/", "--")
    paths = {"fp32": run.paths.onnx(name), "int8": run.paths.onnx(f"{name}.int8")}
    exporter.export(model, paths["fp32"])
    quantise(paths["fp32"], paths["int8"])
    return {form: run_on_onnx(model, path) for form, path in paths.items()}


def run_on_onnx(model: MaskedLM, path: Path) -> MaskedLM:
    """`model` as the ONNX file at `path` computes it, on the processor and with the head at every position."""
    return replace(model, model=OnnxModel(path), device=torch.device("cpu"), gather_at=None, first_position=None)


def _example(model: MaskedLM) -> Inputs:
    """Two made-up sequences, the second one padded: (2, 7), or as many positions as there are."""
    width = min(7, model.maximum_length)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, len(model.tokenizer), (2, width), generator=generator)
    ids[ids == model.tokenizer.pad_token_id] = model.tokenizer.mask_token_id
    mask = torch.ones_like(ids)
    ids[1, 4:], mask[1, 4:] = model.tokenizer.pad_token_id, 0
    return {"input_ids": ids, "attention_mask": mask}


def _trace(model: MaskedLM, exported: torch.nn.Module, example: Inputs) -> torch.onnx.ONNXProgram:
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


def _check(name: str, model: torch.nn.Module, exported: OnnxModel, example: Inputs) -> None:
    alone = {key: value[:1, :3] for key, value in example.items()}
    for batch in (example, alone):
        with torch.inference_mode():
            expected = model(**batch).logits
        real = batch["attention_mask"].bool()
        difference = float((exported(**batch).logits - expected)[real].abs().max())
        if not difference <= TOLERANCE * max(1.0, float(expected[real].abs().max())):
            raise UserError(f"{name}: logits in ONNX differ from torch's by {difference:.2g}; it was not exported")


def _first_line(error: Exception) -> str:
    cause: Any = error.__cause__ or error
    return next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
