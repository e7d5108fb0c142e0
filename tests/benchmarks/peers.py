"""TextBrewer set to the objective of the released models, as near as it can be: its own loop, losses and matches.

Yang et al. 2020, arXiv 2002.12620; 0.2.1.post1 is the last on PyPI. `.venv/bin/pip install -e .[bench]`.
"""

import importlib
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from robbertje_lib.experiment.profile import Recipe
from tests.benchmarks.frame import installed
from tests.support.published_batch import Padded

DIFFERS = (
    "cross-entropy to the teacher's softened distribution, which has the gradient of KL; float32, padded batches of 5 "
    "one by one; the weights it would save at the end are not written"
)
MISSING = "not installed; `.venv/bin/pip install -e .[bench]`"


def name() -> str | None:
    """`TextBrewer 0.2.1.post1`, or None where it is not installed."""
    version = installed("textbrewer")
    return f"TextBrewer {version}" if version else None


def distiller(teacher: PreTrainedModel, student: PreTrainedModel, recipe: Recipe, batches: int, device: str) -> Any:
    """Its `GeneralDistiller`, for updates of so many batches; nothing is written to disk."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # it compares strings by `is`
        textbrewer = importlib.import_module("textbrewer")

    class Unsaved(textbrewer.GeneralDistiller):  # type: ignore[name-defined, misc]
        def save_and_callback(self, *arguments: Any) -> None:
            """Without this every call of `train` would end in a pickle on disk."""

    training = textbrewer.TrainingConfig(
        gradient_accumulation_steps=batches, ckpt_steps=10**9, output_dir=tempfile.gettempdir(), device=device
    )
    last = {"layer_T": 0, "layer_S": 0, "feature": "hidden"}
    objective = textbrewer.DistillationConfig(
        temperature=recipe.temperature,
        kd_loss_type="ce",
        kd_loss_weight=recipe.weight_kl * recipe.temperature**2,
        hard_label_weight=recipe.weight_mlm,
        intermediate_matches=[{**last, "loss": "cos", "weight": recipe.weight_cosine}],
    )
    return Unsaved(training, objective, teacher, student, _adapted, _adapted)


def peer_batches(batches: Sequence[Padded]) -> list[dict[str, dict[str, torch.Tensor]]]:
    """What its loop iterates over. The teacher gets no labels, or it would compute a loss for nothing."""
    inputs = [{"input_ids": b.input_ids, "attention_mask": b.attention_mask} for b in batches]
    return [{"teacher": i, "student": {**i, "labels": b.labels}} for i, b in zip(inputs, batches, strict=True)]


def update(own: Any, optimizer: torch.optim.Optimizer, batches: Sequence[Padded], clip: float) -> None:
    """One update by its own training loop."""
    own.train(optimizer, peer_batches(batches), num_steps=1, max_grad_norm=clip, output_hidden_states=True)


def _adapted(batch: dict[str, torch.Tensor], outputs: Any) -> dict[str, Any]:
    mask = batch["attention_mask"]
    told = {"logits": outputs.logits, "logits_mask": mask, "hidden": [outputs.hidden_states[-1]], "inputs_mask": mask}
    return told if outputs.loss is None else {**told, "losses": outputs.loss}
