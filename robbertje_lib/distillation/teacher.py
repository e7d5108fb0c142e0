"""A small teacher trained on the spot, for profiles that have no released one.

A masked language model this small, on this little text, stays on the plateau of the unigram distribution for
millions of tokens: it has to learn which positions matter from the 15% it predicts. The same weights trained
first as a causal language model, under a causal mask with every position predicting the next, leave that
plateau early, and keep what they learnt when the mask is lifted. `causal_share` is that phase's share.
"""

from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from robbertje_lib.distillation.batching import Batch, TokenStore
from robbertje_lib.distillation.job import Show, UpdateCounts
from robbertje_lib.distillation.losses import head_losses, head_of
from robbertje_lib.distillation.session import TrainingSession
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import Recipe, TeacherTraining
from robbertje_lib.experiment.results.training import TeacherResult
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.shapes import build_teacher, hidden_states


@dataclass(frozen=True)
class LanguageModelling:
    """Causal language modelling up to `causal_share` of the run, masked from there."""

    causal_share: float
    parts: tuple[str, ...] = ()

    def phase(self, progress: float) -> str:
        return "causal" if progress < self.causal_share else "masked"

    def __call__(self, model: PreTrainedModel, batch: Batch, counts: UpdateCounts, phase: str) -> dict[str, Tensor]:
        """Nats per predicted token, averaged over the update."""
        causal = phase == "causal"
        hidden = hidden_states(model, batch.input_ids, batch.packing, causal)
        positions, targets, shares = batch.masked, batch.targets, 1 / counts.masked
        origin = batch.origin[: len(positions)]
        if causal:
            # Nothing is masked: `origin` has the order of the row.
            positions, origin = batch.followed, batch.origin.index_select(0, batch.followed)
            targets, shares = batch.input_ids.index_select(0, positions + 1), 1 / (counts.tokens - counts.sequences)
        head, shares = head_of(model, hidden.index_select(0, positions)), shares.index_select(0, origin)
        return {"loss": head_losses(head, targets, mlm_shares=shares).weighted}


def train_teacher(run: Run, checkpoint_seconds: float = 60.0, show: Show | None = None) -> TeacherResult:
    """Train the profile's teacher; write `models/teacher` and `results/teacher.json`, which is returned.

    It reads the training documents in a store of its own, whatever arms there are: none is nearer to the teacher than
    another, and another `merge_probability` has the same teacher. Resumes from a checkpoint of the same settings.
    Raises `UserError` if the profile takes a released teacher, a store is missing, or as `training.train`.
    """
    profile, settings = run.profile, run.profile.teacher
    if not isinstance(settings, TeacherTraining):
        raise UserError(f"profile {profile.name} takes the released teacher {settings.hub}; there is nothing to train")
    recipe = _recipe(settings)
    session = TrainingSession.open(run, "teacher", recipe, checkpoint_seconds, show)
    store = TokenStore(run.paths.teacher_text, recipe.minimum_tokens)
    model = build_teacher(settings, session.tokenizer, session.seed)
    outcome = session.train(
        model,
        lambda precision: LanguageModelling(settings.causal_share),
        store,
        {"teacher": settings.model_dump_json()},
        kind="teacher",
    )
    result = TeacherResult(settings=settings, **dict(outcome))
    session.finish(model, result)
    return result


def _recipe(settings: TeacherTraining) -> Recipe:
    """How the teacher is trained, as a student's recipe says it; its only loss is the text's."""
    return Recipe(
        initialisation="random",
        freeze_positions=False,
        masking="uniform",
        kl_positions="all",
        minimum_tokens=4,
        batching="tokens",
        batch_size=settings.tokens_per_update,
        update_size=settings.tokens_per_update,
        normalisation="update",
        gradient_clip=1.0,
        weight_kl=0.0,
        weight_mlm=1.0,
        weight_cosine=0.0,
        amount=settings.tokens,
        amount_unit="tokens",
        **settings.model_dump(include={"learning_rate", "warmup", "weight_decay", "dropout", "mask_fraction"}),
    )
