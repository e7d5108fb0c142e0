"""What the training of the teacher and of a student have in common, before and after the loop."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from robbertje_lib.distillation.batching import Masking, Plan, TokenStore
from robbertje_lib.distillation.held_out import HeldOut
from robbertje_lib.distillation.job import Job, Objective, Show
from robbertje_lib.distillation.training import train
from robbertje_lib.distillation.trial import tried_precision
from robbertje_lib.experiment.artefacts import remove, sha256
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import Recipe
from robbertje_lib.experiment.results.training import PrecisionUsed, TrainingResult
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.devices import Precision, peak_memory, processes, training_device
from robbertje_lib.models.shapes import parameter_count, save_model


@dataclass(frozen=True)
class TrainingSession:
    """One model of a run in training: `teacher`, or one distillation of a student."""

    run: Run
    name: str
    recipe: Recipe
    checkpoint_seconds: float
    show: Show | None
    tokenizer: PreTrainedTokenizerFast

    @classmethod
    def open(cls, run: Run, name: str, recipe: Recipe, checkpoint_seconds: float, show: Show | None) -> Self:
        """Set up the device, and load the tokenizer. Raises `UserError` if there is none."""
        folder = run.paths.tokenizer
        if not folder.is_dir():
            raise UserError(f"no tokenizer in {folder}; run notebook 10_corpus first, or `make reproduce`")
        training_device()
        return cls(run, name, recipe, checkpoint_seconds, show, AutoTokenizer.from_pretrained(folder))

    @property
    def seed(self) -> int:
        """The model's own: of its initial weights, order, masks and dropout. Held-out lines are the same for all."""
        return self.run.profile.seed_of(self.name)

    def train(
        self,
        model: PreTrainedModel,
        objective_in: Callable[[Precision], Objective],
        store: TokenStore,
        decided_by: dict[str, str],
        kind: str,
    ) -> TrainingResult:
        """Choose the precision, say so, train `model` in place, as `training.train` does, and sum up how it went.

        objective_in: the objective, made ready for a precision. decided_by: what decides the weights besides seed,
        text, tokenizer and precision, by the name of each. kind: models of one kind have one precision throughout the
        run; what was found fastest is kept under this name.
        """
        paths = self.run.paths
        job = self._job(model.config.vocab_size, store, decided_by)
        precision = tried_precision(model, objective_in, job, paths.choice(kind))
        if processes().is_main_process:
            print(f"{self.name}: {precision.name}, because {precision.reason}", flush=True)
        job = replace(job, precision=precision, fingerprint={**job.fingerprint, "precision": precision.name})
        state = train(model, objective_in(precision), job)
        return TrainingResult(
            parameters=parameter_count(model),
            precision=PrecisionUsed(name=precision.name, reason=precision.reason),
            processes=processes().num_processes,
            dropped=dict(store.dropped),
            epoch_tokens=store.epoch_tokens,
            updates=state.update,
            tokens=state.tokens,
            sequences=state.sequences,
            epochs=state.epoch,
            wall_seconds=state.seconds,
            tokens_per_second=state.tokens_per_second,
            real_token_share=state.real_token_share,
            peak_rss_bytes=peak_memory(),
            curve=state.curve,
            held_out_curve=state.held_out_curve,
        )

    def _job(self, vocabulary: int, store: TokenStore, decided_by: dict[str, str]) -> Job:
        """Everything about the training but its precision."""
        paths, recipe = self.run.paths, without_epochs(self.recipe, store)
        common = {"seed": str(self.seed), "text": store.fingerprint, "tokenizer": sha256(paths.tokenizer)}
        counts = store.counts(vocabulary) if recipe.masking == "smoothed" else None
        return Job(
            name=self.name,
            plan=Plan(store, recipe.batching, recipe.batch_size, self.seed, recipe.order),
            masking=Masking(self.tokenizer, recipe.mask_fraction, counts, recipe.mask_smoothing),
            recipe=recipe,
            held_out=HeldOut(paths.held_out, self.tokenizer, self.run.profile.seed),
            checkpoints=paths.checkpoints(self.name),
            fingerprint={**decided_by, **common},
            precision=Precision("fp32"),
            checkpoint_seconds=self.checkpoint_seconds,
            show=self.show,
        )

    def finish(self, model: PreTrainedModel, result: TrainingResult) -> None:
        """Save model and result, then drop the checkpoints; in the main process alone."""
        if processes().is_main_process:
            save_model(model, self.tokenizer, self.run.paths.model(self.name))
            result.write(self.run, student=self.name)
            remove(self.run.paths.checkpoints(self.name))


def without_epochs(recipe: Recipe, store: TokenStore) -> Recipe:
    """The recipe with an amount in epochs told in what its batches count, sequences or tokens: it ends with a pass.

    So learning rate and progress go by updates of equal size, as in the published code.
    """
    if recipe.amount_unit != "epochs":
        return recipe
    amount = recipe.amount * {"sequences": len(store.rows), "tokens": store.epoch_tokens}[recipe.batching]
    return recipe.model_copy(update={"amount": amount, "amount_unit": recipe.batching})
