"""A small teacher trained on the spot, for profiles that have no released one.

A masked language model this small, on this little text, stays on the plateau of the unigram distribution for
millions of tokens: it has to learn which positions matter from the 15% it predicts. The same weights trained
first as a causal language model, under a causal mask with every position predicting the next, leave that
plateau early, and keep what they learnt when the mask is lifted. `causal_share` is that phase's share.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from robbertje_lib.distillation.batching import Batch, Masking, Plan, TokenStore
from robbertje_lib.distillation.losses import Head, head_losses
from robbertje_lib.distillation.training import HeldOut, Job, Schedule, Show, UpdateCounts, train, training_device
from robbertje_lib.experiment.artefacts import remove, sha256, write_json
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import TeacherTraining
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.precision import choose_precision
from robbertje_lib.models.shapes import (
    build_teacher,
    decoder,
    head_features,
    hidden_states,
    parameter_count,
    save_model,
)


@dataclass(frozen=True)
class LanguageModelling:
    """Causal language modelling up to `causal_share` of the run, masked from there."""

    causal_share: float
    end: int  # id of `</s>`, which nothing follows
    parts: tuple[str, ...] = ()

    def phase(self, progress: float) -> str:
        return "causal" if progress < self.causal_share else "masked"

    def __call__(self, model: PreTrainedModel, batch: Batch, counts: UpdateCounts, phase: str) -> dict[str, Tensor]:
        """Nats per predicted token, averaged over the update."""
        causal = phase == "causal"
        hidden = hidden_states(model, batch.input_ids, batch.attention_mask, causal).flatten(0, 1)
        positions, targets, shares = batch.masked, batch.targets, 1 / counts.masked
        origin = batch.origin[: len(positions)]
        if causal:
            tokens = batch.input_ids.flatten()
            followed = tokens[batch.unmasked] != self.end
            positions, origin = batch.unmasked[followed], batch.origin[followed]
            targets, shares = tokens[positions + 1], 1 / (counts.tokens - counts.sequences)
        head = Head(head_features(model, hidden[positions]), *decoder(model))
        return {"loss": head_losses(head, targets, mlm_shares=shares[origin]).weighted}


def train_teacher(run: Run, checkpoint_seconds: float = 60.0, show: Show | None = None) -> dict[str, Any]:
    """Train the profile's teacher; write `models/teacher` and `results/teacher.json`, whose content is returned.

    It reads the text of every arm, so that none of them is nearer to the teacher than the others.
    Raises `UserError` if the profile takes a released teacher, or a token store is missing.
    """
    settings, profile, paths = run.profile.teacher, run.profile, run.paths
    if not isinstance(settings, TeacherTraining):
        raise UserError(f"profile {profile.name} takes the released teacher {settings.hub}; there is nothing to train")
    device = training_device()
    precision = choose_precision(device)
    print(f"teacher: {precision.name}, because {precision.reason}", flush=True)
    if not paths.tokenizer.is_dir():
        raise UserError(f"no tokenizer in {paths.tokenizer}; run notebook 10_corpus first, or `make reproduce`")
    tokenizer = AutoTokenizer.from_pretrained(paths.tokenizer)
    arms = [
        paths.corpus(selection, arm) for selection, arm in profile.arms if selection == profile.corpus.selections[0]
    ]
    store = TokenStore(arms, minimum_tokens=4)
    model = build_teacher(settings, tokenizer, profile.seed)
    job = Job(
        name="teacher",
        plan=Plan(store, "tokens", settings.tokens_per_update, profile.seed),
        masking=Masking(tokenizer, settings.mask_fraction),
        schedule=Schedule(
            amount=settings.tokens,
            amount_unit="tokens",
            batches_per_update=1,
            average_over="update",
            learning_rate=settings.learning_rate,
            warmup=settings.warmup,
            weight_decay=settings.weight_decay,
            betas=(0.9, 0.98),
            epsilon=1e-6,
            gradient_clip=1.0,
        ),
        held_out=HeldOut(paths.held_out, tokenizer, settings.tokens_per_update, profile.seed),
        checkpoints=paths.checkpoints("teacher"),
        fingerprint={
            "profile": profile.digest("seed", "corpus", "tokenizer", "teacher"),
            "text": store.fingerprint,
            "tokenizer": sha256(paths.tokenizer),
        },
        precision=precision,
        checkpoint_seconds=checkpoint_seconds,
        show=show,
    )
    progress = train(model, LanguageModelling(settings.causal_share, tokenizer.sep_token_id), job)
    result = {
        "parameters": parameter_count(model),
        "settings": settings.model_dump(mode="json"),
        "precision": {"name": precision.name, "reason": precision.reason},
        "phases": ["causal", "masked"],
        "dropped": dict(store.dropped),
        **progress.summary(),
    }
    save_model(model, tokenizer, paths.model("teacher"))
    write_json(paths.result("teacher.json"), result)
    remove(paths.checkpoints("teacher"))
    return result
