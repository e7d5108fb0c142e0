"""One fine-tuning run: a pre-trained model or a control, a new head, the transformers `Trainer`, predictions.

The Trainer keeps the state that scored best on the validation split, on disk while it trains, and puts it back at the
end. A run that is scored once, at its end, writes nothing. A run that stays at chance is started again.
"""

import gc
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from torch.utils.data import SequentialSampler
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DataCollator,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from robbertje_lib.evaluation.chance import above_chance
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import derived_seed
from robbertje_lib.experiment.results.base import ResultFile
from robbertje_lib.experiment.results.finetuning import HyperParameters
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.devices import Precision, choose_precision
from robbertje_lib.models.length_batches import by_length
from robbertje_lib.models.quiet import quiet
from robbertje_lib.tasks import TaskData
from robbertje_lib.tasks.encoding import Encoded, Encoder
from robbertje_lib.tasks.metrics import task_score

# What the families call dropout of hidden states and of attention. A head without a rate of its own takes the former.
DROPOUT = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"),
    *("embedding_dropout", "mlp_dropout"),
)
WARMUP = 0.06  # share of the updates, as RobBERT's die/dat recipe
EVALUATION_BATCH = 64
FLOAT32 = Precision("fp32")
TRIED_BATCHES = 8  # in turn, while the precision is chosen

Prediction = str | list[str]


class Outcome(ResultFile):
    """What one run came to; kept among the checkpoints until its grid is done."""

    where: ClassVar[str] = "finetuning-{task}/{key}.json"

    validation: float  # the task's metric
    answers: dict[str, list[Prediction]]  # test set -> a row each; empty where none was read
    seconds: float  # of training, in the attempt that is kept
    updates: int
    restarts: int  # attempts after the first
    at_chance: bool  # whether the attempt that is kept stayed there

    @classmethod
    def path(cls, run: Run, **names: str) -> Path:
        return run.paths.checkpoints(cls.where.format(**names))


@dataclass(frozen=True)
class PretrainedModel:
    """A pre-trained model to fine-tune: a folder or hub id, with its tokenizer.

    `random`: only its configuration and tokenizer are taken, its weights are drawn anew with the seed of each run.
    """

    source: str
    tokenizer: PreTrainedTokenizerBase
    random: bool = False
    dropout: float | None = None  # of hidden states and attention; None: what the configuration says


@dataclass
class EncodedTask:
    """A task's splits and further test sets as one model reads them."""

    data: TaskData
    sets: dict[str, Encoded]

    @classmethod
    def of(cls, data: TaskData, encoder: Encoder) -> "EncodedTask":
        return cls(data, {name: encoder.encode(data.kind, rows, data.labels) for name, rows in data.sets.items()})

    @cached_property
    def gold(self) -> dict[str, list[Prediction]]:
        column = "labels" if self.data.kind == "token_classification" else "label"
        return {name: list(rows[column]) for name, rows in self.data.sets.items()}

    @cached_property
    def orders(self) -> dict[str, np.ndarray]:
        """Features from short to long: neighbours of like length need little padding."""
        lengths = {name: [len(one["input_ids"]) for one in encoded.features] for name, encoded in self.sets.items()}
        return {name: by_length(of_set) for name, of_set in lengths.items()}

    def training(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        """The model inputs of some rows of the training split, in the split's order."""
        wanted, encoded = set(rows), self.sets["train"]
        return [feature for feature, row in zip(encoded.features, encoded.rows, strict=True) if row in wanted]

    def ordered(self, name: str) -> list[dict[str, Any]]:
        """The model inputs of a set, from short to long."""
        return [self.sets[name].features[i] for i in self.orders[name]]

    def answers(self, name: str, numbers: Sequence[Any]) -> list[Prediction]:
        """A label per row, or a list of labels per sentence: that of each word's first piece.

        numbers: the label that is likeliest for each feature of `ordered(name)`, or for each of its pieces.
        """
        encoded, labels = self.sets[name], self.data.labels
        of_feature = dict(zip(self.orders[name].tolist(), numbers, strict=True))
        if self.data.kind != "token_classification":
            return [labels[of_feature[feature]] for feature in range(len(of_feature))]
        sentences: list[list[str]] = [[] for _ in self.gold[name]]
        for feature, (row, firsts) in enumerate(zip(encoded.rows, encoded.first_pieces, strict=True)):
            sentences[row].extend(labels[number] for number in of_feature[feature][firsts])
        return list(sentences)

    def counts(self) -> dict[str, dict[str, int]]:
        """What did not fit the model, per set."""
        return {name: dict(encoded.counts) for name, encoded in self.sets.items()}


@dataclass
class _Attempt:
    """A model once it is trained, which can be asked."""

    trainer: Trainer
    task: EncodedTask
    validation: float
    at_chance: bool
    seconds: float

    def answers(self, name: str) -> list[Prediction]:
        return self.task.answers(name, self.trainer.predict(self.task.ordered(name)).predictions)


@contextmanager
def _frozen() -> Iterator[None]:
    """What is there already is not looked through by the garbage collector, which accelerate calls in every run.

    For a small model, that is a third of the time of a run.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()  # what the run left behind, and nothing else
        gc.unfreeze()


@_frozen()
def fine_tune(
    pretrained: PretrainedModel,
    task: EncodedTask,
    hyper: HyperParameters,
    seed: int,
    rows: Sequence[int],
    tests: Sequence[str],
    restarts: int = 0,
    precision: Precision = FLOAT32,
) -> Outcome:
    """Train on the given rows of the training split, keep the best state by validation and answer the test sets named.

    The head's weights (a control's weights altogether), dropout and the order of examples follow from `seed` (the
    Trainer seeds the global generators; nothing else here draws from them). A run that stays at chance is started
    again, at most `restarts` times, with seeds that follow from this one. The first attempt that leaves it is kept, or
    the best on the validation split where none does; only what is kept reads a test set.
    """
    with quiet():
        best, again = _attempt(pretrained, task, hyper, seed, rows, precision), 0
        while best.at_chance and again < restarts:
            again += 1
            other = _attempt(pretrained, task, hyper, derived_seed(seed, "restart", again), rows, precision)
            best = max(best, other, key=lambda attempt: (not attempt.at_chance, attempt.validation))
        return Outcome(
            validation=best.validation,
            answers={name: best.answers(name) for name in tests},
            seconds=best.seconds,
            updates=best.trainer.state.global_step,
            restarts=again,
            at_chance=best.at_chance,
        )


def _attempt(
    pretrained: PretrainedModel,
    task: EncodedTask,
    hyper: HyperParameters,
    seed: int,
    rows: Sequence[int],
    precision: Precision,
) -> _Attempt:
    features = task.training(rows)
    batches = math.ceil(len(features) / hyper.batch_size)
    updates = max(1, round(hyper.epochs * math.ceil(batches / hyper.accumulation)))
    token_level = task.data.kind == "token_classification"
    outside = task.data.labels.index("O") if task.data.task.metric == "f1" and "O" in task.data.labels else None
    evaluations: list[tuple[float, bool]] = []  # score, and whether it is above chance

    def validate(scored: EvalPrediction) -> dict[str, float]:
        answers = task.answers("validation", scored.predictions)
        score = task_score(task.data.task.metric, task.gold["validation"], answers)
        evaluations.append((score, above_chance(scored.predictions, scored.label_ids, outside)))
        return {"score": score}

    with tempfile.TemporaryDirectory() as folder:
        trainer = _Trainer(
            model=build_model(pretrained, token_level, task.data.labels, seed),
            args=_arguments(folder, hyper, updates, seed, precision),
            train_dataset=features,
            eval_dataset=task.ordered("validation"),
            data_collator=_collator(pretrained, token_level),
            processing_class=pretrained.tokenizer,
            preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
            compute_metrics=validate,
            callbacks=[EarlyStoppingCallback(hyper.early_stopping)] if hyper.early_stopping else [],
        )
        trainer.remove_callback(PrinterCallback)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    trainer.compute_metrics = None  # which knows the validation split only
    # The first of equals is the state that the Trainer kept.
    validation, left_chance = max(evaluations, key=lambda entry: entry[0])
    return _Attempt(trainer, task, validation, not left_chance, seconds)


def build_model(pretrained: PretrainedModel, token_level: bool, labels: Sequence[str], seed: int) -> PreTrainedModel:
    """The model with a new classification head. Raises `UserError` if it cannot be loaded."""
    family: Any = AutoModelForTokenClassification if token_level else AutoModelForSequenceClassification
    # On a CPU the backward pass of PyTorch's fused attention is the slower one for short texts.
    how = {"dtype": torch.float32, "attn_implementation": None if torch.cuda.is_available() else "eager"}
    set_seed(seed)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(pretrained.source, trust_remote_code=False)
            if pretrained.dropout is not None:
                config.update({name: pretrained.dropout for name in DROPOUT if hasattr(config, name)})
            config.id2label = dict(enumerate(labels))
            config.label2id = {label: number for number, label in enumerate(labels)}
            if pretrained.random:
                return family.from_config(config, trust_remote_code=False, **how)
            return family.from_pretrained(
                pretrained.source, config=config, use_safetensors=True, trust_remote_code=False, **how
            )
    except (OSError, ValueError, SafetensorError) as error:
        what = f"model '{pretrained.source}' cannot be loaded ({error})"
        raise UserError(f"{what}; train it first or check its name") from None


def precision(pretrained: PretrainedModel, task: EncodedTask, batch_size: int, kept: Path | None = None) -> Precision:
    """The precision of all fine-tuning on a task, by `choose_precision`: tried on one model and its first batches.

    `kept`: the file that keeps the choice. Every run seeds its generators anew, so that none sees of a trial.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def tried(precision: Precision) -> Iterator[None]:
        token_level = task.data.kind == "token_classification"
        model = build_model(pretrained, token_level, task.data.labels, seed=0).train()
        features, collate = task.sets["train"].features, _collator(pretrained, token_level)
        for at in cycle(range(0, min(len(features), TRIED_BATCHES * batch_size), batch_size)):
            with precision.autocast(device):
                loss = model(**collate(features[at : at + batch_size])).loss
            loss.backward()
            model.zero_grad()
            yield

    return choose_precision(device, tried=tried, kept=kept)


def _collator(pretrained: PretrainedModel, token_level: bool) -> DataCollator:
    family = DataCollatorForTokenClassification if token_level else DataCollatorWithPadding
    return family(pretrained.tokenizer)


class _Trainer(Trainer):
    # Grouping by length would also shuffle the evaluation split, and predictions would come back in that order.
    def _get_eval_sampler(self, eval_dataset: Any) -> SequentialSampler:
        return SequentialSampler(eval_dataset)


def _arguments(folder: str, hyper: HyperParameters, updates: int, seed: int, precision: Precision) -> TrainingArguments:
    several = hyper.evaluations > 1  # with one, at the end, the last state is the best
    return TrainingArguments(
        output_dir=folder,
        max_steps=updates,
        per_device_train_batch_size=hyper.batch_size,
        per_device_eval_batch_size=EVALUATION_BATCH,
        gradient_accumulation_steps=hyper.accumulation,
        learning_rate=hyper.learning_rate,
        weight_decay=hyper.weight_decay,
        warmup_steps=round(WARMUP * updates),
        lr_scheduler_type="linear",
        train_sampling_strategy="group_by_length",
        bf16=precision.name == "bf16",
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        data_seed=seed,
        eval_strategy="steps",
        eval_steps=max(1, math.ceil(updates / hyper.evaluations)),
        metric_for_best_model="score",
        greater_is_better=True,
        save_strategy="best" if several else "no",
        save_only_model=True,
        save_total_limit=1,
        load_best_model_at_end=several,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
