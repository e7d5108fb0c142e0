"""Any Hugging Face masked language model, loaded safely and asked for the predictions at chosen positions only.

The released RobBERT tokenizers lack `model_max_length`, and families differ in where their head sits. Both are
settled here once, so that scoring and probing treat BERT, RoBERTa, DistilBERT, ModernBERT and DeBERTa alike.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.models.packed_attention import PACKED, packing_of, sent
from robbertje_lib.models.quiet import quiet

ScoringPrecision = Literal["float32", "bfloat16"]

# Tokenizers without a stored limit report 1e30; no model has this many positions.
NO_LIMIT = 1_000_000
# A CPU spends up to a tenth of a pass on copies into the grid of packed attention.
LITTLE_PADDING = 0.1
# These mask attention with a float32 minimum, which autocast cannot express in bfloat16 (transformers 5).
FLOAT32_ONLY = ("deberta",)


@dataclass(frozen=True)
class MaskedLM:
    """A masked language model in eval mode, with its fast tokenizer.

    `maximum_length` counts positions, special tokens included. `gather_at` is the module after which only the
    selected positions go on; None means that this model cannot be split, and that the head runs everywhere.
    `first_position` is where positions start in a model that takes sequences packed in one row; None means that it
    takes them padded only. `kernel_choice` is the file of a run that keeps which kernels its models are scored with.
    `model` may be any module that takes `input_ids` and `attention_mask` and gives `logits`, such as one that runs on
    ONNX.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    maximum_length: int
    device: torch.device
    gather_at: nn.Module | None = field(repr=False)
    first_position: int | None = None
    kernel_choice: Path | None = None

    def logits(
        self, input_ids: Tensor, rows: Tensor, columns: Tensor, lengths: Tensor, precision: ScoringPrecision = "float32"
    ) -> Tensor:
        """Logits at the positions (rows[i], columns[i]), and nowhere else.

        `input_ids`: (batch, width) int64, padded on the right; `lengths`: (batch,) real tokens of each row; all on the
        processor. Result: (n_selected, vocabulary) float32 on the model's device, which is not waited for. A batch
        with padding to speak of runs as one row of real tokens where the model can. The last layer's feed-forward
        part and the head see the selected positions only, which is where most of the saving over a plain forward
        pass comes from. Raises `UserError` if this family cannot run in `precision`.
        """
        if precision == "bfloat16" and self.model.config.model_type in FLOAT32_ONLY:
            raise UserError(f"{self.name}: models of type {FLOAT32_ONLY[0]} cannot run in bfloat16; use float32")
        # Without padding there is neither a mask nor a packing: attention then takes its faster path.
        real = torch.arange(input_ids.shape[1]) < lengths[:, None]
        inputs: dict[str, Any] = {"input_ids": input_ids}
        if self.first_position is not None and self._packing_pays(1 - real.sum().item() / real.numel()):
            packing = packing_of(lengths.numpy(), self.first_position)
            rows, columns = torch.zeros_like(rows), packing.starts[rows] + columns
            inputs = {"input_ids": input_ids[real][None], "position_ids": packing.position_ids}
            inputs["packing"] = packing.to(self.device)
        elif not real.all():
            inputs["attention_mask"] = real.long()
        inputs = {name: sent(t, self.device) if isinstance(t, Tensor) else t for name, t in inputs.items()}
        rows, columns = sent(rows, self.device), sent(columns, self.device)
        low = torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bfloat16")
        with torch.inference_mode(), low, _gathering(self.gather_at, rows, columns):
            logits = self.model(**inputs).logits
            return (logits[0] if self.gather_at is not None else logits[rows, columns]).float()

    def _packing_pays(self, padding: float) -> bool:
        return padding > (LITTLE_PADDING if self.device.type == "cpu" else 0)

    def special_ids(self) -> set[int]:
        """Token ids that are never scored: `<s>`, `</s>`, padding, mask and the like, but not the unknown token."""
        return set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}


def load_masked_lm(source: str | Path, name: str | None = None) -> MaskedLM:
    """Load a masked language model and its fast tokenizer from a folder or a hub id.

    Weights come from safetensors only and no code from the model's repository is run. Raises `UserError` if
    `source` cannot be reached, holds pickled weights only, is no masked language model, or lacks a fast
    tokenizer or a mask token.
    """
    source = str(source)
    _check_folder(source)
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, trust_remote_code=False)
            model, report = AutoModelForMaskedLM.from_pretrained(
                source,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                dtype=torch.float32,
            )
        except (OSError, ValueError, KeyError, ImportError, TypeError, AttributeError, SafetensorError) as error:
            raise UserError(load_failure(source, error)) from None
    if report["missing_keys"]:
        raise UserError(
            f"{source}: no trained weights for {sorted(report['missing_keys'])[0]} (and perhaps more); "
            "a model with a masked-language-modelling head is needed"
        )
    return wrap(model, tokenizer, name or Path(source).name)


def wrap(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> MaskedLM:
    """A model and tokenizer already in memory, ready for scoring. Raises `UserError` if they do not fit."""
    _check_tokenizer(name, tokenizer, model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.eval().to(device)
    gather_at = _find_gather_point(model, tokenizer)
    padded = MaskedLM(name, model, tokenizer, _maximum_length(tokenizer, model), device, gather_at)
    return replace(padded, first_position=_find_first_position(padded))


def _check_folder(source: str) -> None:
    folder = Path(source)
    looks_local = source.startswith((".", "/", "~")) or source.count("/") > 1
    if looks_local and not folder.is_dir():
        raise UserError(f"no model folder {source}; train it first (`make reproduce`) or name a hub model")
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"{source} holds no config.json; give a folder written by save_pretrained")
        if not any(folder.glob("*.safetensors")):
            raise UserError(
                f"{source} holds no *.safetensors weights; pickled weights are refused: "
                "load the model where you trust it and save it again with save_pretrained"
            )


def load_failure(source: str, error: Exception) -> str:
    """Why a model cannot be loaded, and what to do: one line."""
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if Path(source).is_dir():
        return (
            f"{source} is not a masked language model that can be loaded: {first}; "
            "if a run made it, delete it and run `make reproduce` again"
        )
    return (
        f"cannot load '{source}' from the Hugging Face hub ({first}); check the name and the network, or give a folder"
    )


def _check_tokenizer(source: str, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"{source}: only a slow tokenizer; words cannot be told apart, save a tokenizer.json with it")
    for kind in ("mask_token", "pad_token"):
        if getattr(tokenizer, kind, None) is None:
            raise UserError(f"{source}: the tokenizer has no {kind}; set it in tokenizer_config.json")
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise UserError(
            f"{source}: the tokenizer has {len(tokenizer)} tokens but the model only {rows}; they do not match"
        )


def _position_table(model: PreTrainedModel) -> nn.Embedding | None:
    named = model.named_modules()
    return next((m for n, m in named if n.endswith("position_embeddings") and isinstance(m, nn.Embedding)), None)


def _first_position(table: nn.Embedding) -> int:
    return 0 if table.padding_idx is None else table.padding_idx + 1


def _maximum_length(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> int:
    """Positions the model can take: the tokenizer's limit where it is credible, never more than the embeddings hold.

    RoBERTa counts positions from padding_idx + 1, so that 514 rows hold 512 tokens; its position embedding
    carries a padding_idx, which tells these families from the others.
    """
    limits = [int(tokenizer.model_max_length)] if tokenizer.model_max_length < NO_LIMIT else []
    table = _position_table(model)
    if table is not None:
        limits.append(table.num_embeddings - _first_position(table))
    elif getattr(model.config, "max_position_embeddings", None):
        limits.append(model.config.max_position_embeddings)
    return min(limits, default=512)


def _gather_points(model: PreTrainedModel) -> Iterator[nn.Module]:
    """Modules whose output could be cut down to the selected positions, the most saving first.

    After the last layer's attention everything is computed position by position in post-norm encoders.
    """
    for name in (
        "encoder.layer.{}.attention.output",  # BERT, RoBERTa, DeBERTa and their kin
        "transformer.layer.{}.sa_layer_norm",  # DistilBERT
    ):
        with contextlib.suppress(AttributeError):
            yield model.base_model.get_submodule(name.format(model.config.num_hidden_layers - 1))
    yield model.base_model


def _find_gather_point(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> nn.Module | None:
    """The first gather point that leaves the logits of a small random batch as they are; None if there is none."""
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(0, len(tokenizer), (3, 6))).to(model.device)
    ids[ids == tokenizer.pad_token_id] = tokenizer.mask_token_id
    rows, columns = (torch.tensor(p, device=model.device) for p in ([2, 0, 0, 1], [1, 0, 5, 3]))
    with torch.inference_mode():
        expected = model(input_ids=ids).logits[rows, columns]
        for module in _gather_points(model):
            with contextlib.suppress(RuntimeError, IndexError, TypeError), _gathering(module, rows, columns):
                gathered = model(input_ids=ids).logits[0]
                if gathered.shape == expected.shape and torch.allclose(gathered, expected, atol=1e-4, rtol=1e-4):
                    return module
    return None


def _find_first_position(padded: MaskedLM) -> int | None:
    """Where positions start, if sequences packed in one row give the logits of padded ones; else None.

    Models without a table of positions stay padded: they look at a window around each token, which a batch as small
    as this one would not show.
    """
    table = _position_table(padded.model)
    if table is None:
        return None
    rng = np.random.default_rng(0)
    batch = [rng.integers(0, len(padded.tokenizer), (3, 6)), [2, 0, 0, 1], [1, 0, 5, 3], [6, 5, 3]]
    ids, rows, columns, lengths = (torch.tensor(np.array(values)) for values in batch)
    ids[ids == padded.tokenizer.pad_token_id] = padded.tokenizer.mask_token_id
    ids[torch.arange(6) >= lengths[:, None]] = padded.tokenizer.pad_token_id
    expected = padded.logits(ids, rows, columns, lengths)
    before = padded.model.config._attn_implementation
    packed = replace(padded, first_position=_first_position(table))
    with contextlib.suppress(RuntimeError, IndexError, TypeError, ValueError), quiet():
        padded.model.set_attn_implementation(PACKED)
        if torch.allclose(packed.logits(ids, rows, columns, lengths), expected, atol=1e-4, rtol=1e-4):
            return packed.first_position
    padded.model.set_attn_implementation(before)
    return None


@contextlib.contextmanager
def _gathering(module: nn.Module | None, rows: Tensor, columns: Tensor) -> Iterator[None]:
    """While open, `module` hands on only the positions (rows, columns), as one row: (1, n_selected, hidden)."""

    def gather(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return output[rows, columns].unsqueeze(0)
        output["last_hidden_state"] = output["last_hidden_state"][rows, columns].unsqueeze(0)
        return output

    if module is None:
        yield
        return
    handle = module.register_forward_hook(gather)
    try:
        yield
    finally:
        handle.remove()
