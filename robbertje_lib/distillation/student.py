"""Distillation: a student learns from its teacher's distribution, from the text, and from the teacher's hidden states.

The objective is DistilBERT's (arXiv 1910.01108, section 2), as the released RobBERTje models were trained:

    L = 5 T^2 KL(teacher || student) + 2 L_mlm + 1 (1 - cos(h_student, h_teacher)),   T = 2
"""

import argparse
import json
import sys
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from robbertje_lib.distillation.batching import Batch, TokenStore
from robbertje_lib.distillation.job import Show, UpdateCounts
from robbertje_lib.distillation.losses import head_losses, head_of
from robbertje_lib.distillation.session import TrainingSession
from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.profile import Profile, Recipe, Student
from robbertje_lib.experiment.results.training import DistillationResult
from robbertje_lib.experiment.run import Run, open_run
from robbertje_lib.models.devices import Precision, processes
from robbertje_lib.models.shapes import build_student, freeze, hidden_states, load_teacher, ready_for, weights_digest


class DistillationLoss(NamedTuple):
    """`loss` is weighted and carries the gradient; the parts are averages before weighting, for reading only."""

    loss: Tensor
    kl: Tensor
    mlm: Tensor
    cosine: Tensor


def distillation_loss(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    batch: Batch,
    recipe: Recipe,
    counts: UpdateCounts | None = None,
    equal_pairs: Tensor | None = None,
) -> DistillationLoss:
    """The objective on one batch, its parts in nats.

    KL runs over all real tokens, or over the masked ones (`recipe.kl_positions`); MLM over the masked ones;
    the cosine of last hidden states over all real tokens. `counts` are what sums are divided by, and default to
    those of the whole pass, which is `batchmean` over its positions. `equal_pairs`: see `losses.head_losses`.
    """
    if counts is None:
        sizes = torch.tensor([batch.tokens, len(batch.masked), len(batch.rows)], device=batch.origin.device)
        counts = UpdateCounts(*sizes[:, None].expand(-1, batch.joined))
    of_token = (1 / counts.tokens).index_select(0, batch.origin)
    of_masked = (1 / counts.masked).index_select(0, batch.origin[: len(batch.masked)])
    kl_shares = of_masked if recipe.kl_positions == "masked" else of_token
    predicted = len(kl_shares)
    # Masked first, so that they form a slice.
    positions = torch.cat([batch.masked, batch.unmasked])
    own = hidden_states(student, batch.input_ids, batch.packing).index_select(0, positions)
    with torch.no_grad():
        aim = hidden_states(teacher, batch.input_ids, batch.packing).index_select(0, positions)
        teacher_head = head_of(teacher, aim[:predicted])
    heads = head_losses(
        head_of(student, own[:predicted]),
        batch.targets,
        teacher_head,
        weight_kl=recipe.weight_kl,
        weight_mlm=recipe.weight_mlm,
        temperature=recipe.temperature,
        kl_shares=kl_shares,
        mlm_shares=of_masked,
        equal_pairs=equal_pairs,
    )
    cosine = ((1 - functional.cosine_similarity(own.float(), aim.float(), dim=-1)) * of_token).sum()
    return DistillationLoss(heads.weighted + recipe.weight_cosine * cosine, heads.kl, heads.mlm, cosine.detach())


def pair_ids(pairs: list[tuple[str, str]], tokenizer: PreTrainedTokenizerFast, device: torch.device) -> Tensor | None:
    """Token ids of `equal_pairs`: (pairs, 2), or None if there are none. A leading space counts: " hij".

    Raises `UserError` for a text that is not exactly one token.
    """
    ids = [[tokenizer(text, add_special_tokens=False).input_ids for text in pair] for pair in pairs]
    for pair, tokens in zip(pairs, ids, strict=True):
        for text, pieces in zip(pair, tokens, strict=True):
            if len(pieces) != 1:
                raise UserError(
                    f"equal_pairs: '{text}' is {len(pieces)} tokens; name single tokens, leading space included"
                )
    return torch.tensor(ids, device=device).squeeze(-1) if ids else None


@dataclass(frozen=True)
class Distillation:
    """The objective as the training loop wants it."""

    teacher: PreTrainedModel
    recipe: Recipe
    equal_pairs: Tensor | None
    parts: tuple[str, ...] = ("kl", "mlm", "cosine")

    def phase(self, progress: float) -> str:
        return "masked"

    def __call__(self, model: PreTrainedModel, batch: Batch, counts: UpdateCounts, phase: str) -> dict[str, Tensor]:
        return distillation_loss(model, self.teacher, batch, self.recipe, counts, self.equal_pairs)._asdict()


def distil(run: Run, model: str, checkpoint_seconds: float = 60.0, show: Show | None = None) -> DistillationResult:
    """Distil a student once; write `models/<model>` and `results/distillation/<model>.json`, which is returned.

    model: a student such as `merged`, or a further distillation of it, `merged.2`, which has another seed and nothing
    else of its own. Resumes from a checkpoint of the same settings. Under `accelerate launch` all processes call this,
    and the main one writes. Raises `UserError` for an unknown model, for a teacher or a store that is missing, or as
    `training.train`.
    """
    profile, settings = run.profile, _to_train(run.profile, model)
    recipe, shape = profile.recipe_of(model), profile.shapes[settings.shape]
    session = TrainingSession.open(run, model, recipe, checkpoint_seconds, show)
    teacher = load_teacher(profile.teacher, run.paths.model("teacher"))
    decided_by = {
        "student": json.dumps(settings.one(mode="json")),
        "shape": shape.model_dump_json(),
        "recipe": recipe.model_dump_json(),
        "teacher": weights_digest(teacher),
    }
    student = build_student(shape, teacher, recipe, session.seed)
    folder, tokenizer = run.paths.corpus(settings.selection, settings.arm), session.tokenizer
    store = TokenStore(folder, recipe.minimum_tokens, tokenizer.unk_token_id)
    device = processes().device
    equal_pairs = pair_ids(recipe.equal_pairs, tokenizer, device)

    del teacher  # from here on there are only frozen copies: one, and two while the precision is chosen

    def objective_in(precision: Precision) -> Distillation:
        own = ready_for(load_teacher(profile.teacher, run.paths.model("teacher")), device)
        return Distillation(freeze(own, precision.dtype), recipe, equal_pairs)

    # Replicates and arms differ by their text and seed, and must not differ by their number type.
    kind = f"students-{settings.shape}-{settings.recipe}"
    outcome = session.train(student, objective_in, store, decided_by, kind)
    result = DistillationResult(
        student=model,
        seed=session.seed,
        arm=settings.arm,
        selection=settings.selection,
        shape=settings.shape,
        recipe=settings.recipe,
        recipe_settings=recipe,
        **dict(outcome),
    )
    session.finish(student, result)
    return result


def _to_train(profile: Profile, model: str) -> Student:
    if model in profile.students and profile.released(model):
        raise UserError(f"{model} is a released model; there is nothing to train")
    if model not in profile.trained:
        known = did_you_mean(model, profile.trained)
        raise UserError(f"no student '{model}' in profile {profile.name}: {known}")
    return profile.students[profile.student_of(model)]


def main() -> None:
    """One model on many devices: `accelerate launch -m robbertje_lib.distillation.student PROFILE MODEL`."""
    # Without a budget none is passed on: a run's frozen profile has its own.
    parser = argparse.ArgumentParser(description=main.__doc__, argument_default=argparse.SUPPRESS)
    parser.add_argument(
        "profile", help="a name in robbertje_lib/profiles, a YAML file, or papermill_runs/RUN/profile.yaml"
    )
    parser.add_argument("model", help="a student of that profile, or a replicate of one, such as merged.2")
    parser.add_argument("--budget", type=float, help="scales training, text and evaluation sizes together")
    arguments = vars(parser.parse_args())
    model = arguments.pop("model")
    try:
        distil(open_run(**arguments), model)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
