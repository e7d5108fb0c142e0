"""One fine-tuning run: a pre-trained model, a new head, the transformers `Trainer`, predictions.

The state that scored best on the validation split is kept in memory and put back at the end, so that early
stopping writes no checkpoints.
"""

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from safetensors import SafetensorError
from torch.utils.data import SequentialSampler
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.models.length_batches import by_length
from robbertje_lib.models.precision import choose_precision
from robbertje_lib.models.quiet import quiet
from robbertje_lib.tasks import SPLITS, TaskData
from robbertje_lib.tasks.encoding import Encoded, Encoder
from robbertje_lib.tasks.metrics import score

# The same for every model, whatever it was distilled with. RoBERTa drops attention weights too, which on a CPU
# takes a third of the time.
DROPOUT = {"hidden_dropout_prob": 0.1, "dropout": 0.1, "attention_probs_dropout_prob": 0.0, "attention_dropout": 0.0}
WARMUP = 0.06  # share of the updates, as RobBERT's die/dat recipe
EVALUATION_BATCH = 64

Prediction = str | list[str]


@dataclass(frozen=True)
class HyperParameters:
    learning_rate: float
    weight_decay: float
    accumulation: int
    epochs: float
    batch_size: int
    evaluations: int  # on the validation split, evenly spread over the run
    early_stopping: int  # evaluations without improvement before the run ends; 0 is off


@dataclass(frozen=True)
class Outcome:
    """Of one run: predictions per row (None for a split that was not read), validation score, seconds, updates."""

    validation_score: float
    validation: list[Prediction]
    test: list[Prediction] | None
    seconds: float
    updates: int


@dataclass(frozen=True)
class PretrainedModel:
    """A pre-trained model to fine-tune: a folder or hub id, with its tokenizer and length limit in tokens."""

    source: str
    revision: str | None
    tokenizer: PreTrainedTokenizerBase
    maximum_length: int


@dataclass
class EncodedTask:
    """A task's splits as one model reads them."""

    data: TaskData
    splits: dict[str, Encoded]

    @classmethod
    def of(cls, data: TaskData, encoder: Encoder) -> "EncodedTask":
        return cls(data, {split: encoder.encode(data.kind, data.splits[split], data.labels) for split in SPLITS})

    @cached_property
    def gold(self) -> dict[str, list[Prediction]]:
        column = "labels" if self.data.kind == "token_classification" else "label"
        return {split: list(self.data.splits[split][column]) for split in SPLITS}

    def counts(self) -> dict[str, dict[str, int]]:
        """What did not fit the model, per split."""
        return {split: dict(encoded.counts) for split, encoded in self.splits.items()}


def fine_tune(pretrained: PretrainedModel, task: EncodedTask, hyper: HyperParameters, seed: int, test: bool) -> Outcome:
    """Train on the train split, keep the best state by validation, predict validation and, if asked, test.

    The head's weights, dropout and the order of examples follow from `seed` (the Trainer seeds the global
    generators; nothing else here draws from them).
    """
    features = task.splits["train"].features
    batches = math.ceil(len(features) / hyper.batch_size)
    updates = max(1, round(hyper.epochs * math.ceil(batches / hyper.accumulation)))
    token_level = task.data.kind == "token_classification"
    model = build_model(pretrained, token_level, task.data.labels, seed)
    collator = DataCollatorForTokenClassification if token_level else DataCollatorWithPadding
    with tempfile.TemporaryDirectory() as unused:
        trainer = _Trainer(
            model=model,
            args=_arguments(unused, hyper, updates, seed),
            train_dataset=features,
            data_collator=collator(pretrained.tokenizer),
            processing_class=pretrained.tokenizer,
            preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
        )
        trainer.remove_callback(PrinterCallback)
        keeper = _BestState(trainer, task, max(1, math.ceil(updates / hyper.evaluations)), hyper.early_stopping)
        trainer.add_callback(keeper)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        keeper.restore()
        return Outcome(
            keeper.best_score,
            keeper.best_predictions,
            predict(trainer, task, "test") if test else None,
            seconds,
            trainer.state.global_step,
        )


def build_model(pretrained: PretrainedModel, token_level: bool, labels: Sequence[str], seed: int) -> PreTrainedModel:
    """The pre-trained model with a new classification head. Raises `UserError` if it cannot be loaded."""
    family = AutoModelForTokenClassification if token_level else AutoModelForSequenceClassification
    set_seed(seed)
    try:
        with quiet():
            return _load(family, pretrained, labels)
    except (OSError, ValueError, SafetensorError) as error:
        what = f"model '{pretrained.source}' cannot be loaded ({error})"
        raise UserError(f"{what}; train it first or check its name") from None


def _load(family: Any, pretrained: PretrainedModel, labels: Sequence[str]) -> PreTrainedModel:
    options = {"revision": pretrained.revision} if pretrained.revision else {}
    config = AutoConfig.from_pretrained(pretrained.source, trust_remote_code=False, **options)
    for name, rate in DROPOUT.items():
        if hasattr(config, name):
            setattr(config, name, rate)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    return family.from_pretrained(
        pretrained.source,
        config=config,
        use_safetensors=True,
        trust_remote_code=False,
        dtype=torch.float32,
        # On a CPU the backward pass of PyTorch's fused attention is the slower one for short texts.
        attn_implementation=None if torch.cuda.is_available() else "eager",
        **options,
    )


@cache
def precision() -> str:
    """`bf16` or `fp32`: whichever is faster on this machine."""
    return choose_precision(torch.device("cuda" if torch.cuda.is_available() else "cpu")).name


def predict(trainer: Trainer, task: EncodedTask, split: str) -> list[Prediction]:
    """A label per row, or a list of labels per sentence: that of each word's first piece."""
    encoded, labels = task.splits[split], task.data.labels
    # Neighbours of like length need little padding; the order is put back below.
    order = by_length([len(feature["input_ids"]) for feature in encoded.features])
    ordered = trainer.predict([encoded.features[i] for i in order]).predictions
    best: list[Any] = [None] * len(order)
    for place, index in enumerate(order):
        best[index] = ordered[place]
    if task.data.kind != "token_classification":
        return [labels[number] for number in best]
    sentences: list[list[str]] = [[] for _ in range(len(task.gold[split]))]
    for row, firsts, numbers in zip(encoded.rows, encoded.first_pieces, best, strict=True):
        sentences[row].extend(labels[number] for number in numbers[firsts])
    return list(sentences)


class _Trainer(Trainer):
    # Grouping by length would also shuffle the evaluation split, and predictions would come back in that order.
    def _get_eval_sampler(self, eval_dataset: Any) -> SequentialSampler:
        return SequentialSampler(eval_dataset)


class _BestState(TrainerCallback):
    """Scores the validation split now and then, keeps the best weights, and stops a run that stands still."""

    def __init__(self, trainer: Trainer, task: EncodedTask, every: int, patience: int) -> None:
        self.trainer, self.task, self.every, self.patience = trainer, task, every, patience
        self.best_score, self.best_step, self.scored_at, self.stale = -1.0, 0, 0, 0
        self.best_predictions: list[Prediction] = []
        self.best_weights: dict[str, torch.Tensor] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.every == 0 and state.global_step < state.max_steps:
            self._score(keep=True)
            control.should_training_stop |= 0 < self.patience <= self.stale

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step != self.scored_at:
            self._score(keep=False)

    def _score(self, keep: bool) -> None:
        predictions = predict(self.trainer, self.task, "validation")
        value = score(self.task.data.task.metric, self.task.gold["validation"], predictions)
        self.scored_at = self.trainer.state.global_step
        self.stale += 1
        if value > self.best_score:
            self.best_score, self.best_predictions, self.stale = value, predictions, 0
            self.best_step = self.scored_at
            # The last state is in the model already: no copy.
            weights = self.trainer.model.state_dict() if keep else {}
            self.best_weights = {name: weight.detach().clone() for name, weight in weights.items()}

    def restore(self) -> None:
        """Put the best weights back into the model."""
        if self.best_weights:
            self.trainer.model.load_state_dict(self.best_weights)


def _arguments(folder: str, hyper: HyperParameters, updates: int, seed: int) -> TrainingArguments:
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
        bf16=precision() == "bf16",
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        data_seed=seed,
        save_strategy="no",
        eval_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
