"""One fine-tuning run: a pre-trained model, a new head, the transformers `Trainer`, predictions.

The Trainer keeps the state that scored best on the validation split, on disk while it trains, and puts it back at the
end. A run that is scored once, at its end, writes nothing.
"""

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
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

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.results.base import ResultFile
from robbertje_lib.experiment.results.finetuning import HyperParameters
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.devices import choose_precision
from robbertje_lib.models.length_batches import by_length
from robbertje_lib.models.quiet import quiet
from robbertje_lib.tasks import SPLITS, TaskData
from robbertje_lib.tasks.encoding import Encoded, Encoder
from robbertje_lib.tasks.metrics import task_score

# The same for every model, whatever it was distilled with. RoBERTa drops attention weights too, which on a CPU
# takes a third of the time.
DROPOUT = {"hidden_dropout_prob": 0.1, "dropout": 0.1, "attention_probs_dropout_prob": 0.0, "attention_dropout": 0.0}
WARMUP = 0.06  # share of the updates, as RobBERT's die/dat recipe
EVALUATION_BATCH = 64

Prediction = str | list[str]


class Outcome(ResultFile):
    """What one run came to; kept among the checkpoints until its grid is done."""

    where: ClassVar[str] = "finetuning-{task}/{key}.json"

    validation: float  # the task's metric
    test: list[Prediction] | None  # a row each; None where the test split was not read
    seconds: float
    updates: int

    @classmethod
    def path(cls, run: Run, **names: str) -> Path:
        return run.paths.checkpoints(cls.where.format(**names))


@dataclass(frozen=True)
class PretrainedModel:
    """A pre-trained model to fine-tune: a folder or hub id, with its tokenizer."""

    source: str
    tokenizer: PreTrainedTokenizerBase


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

    @cached_property
    def orders(self) -> dict[str, np.ndarray]:
        """Features from short to long: neighbours of like length need little padding."""
        return {s: by_length([len(feature["input_ids"]) for feature in self.splits[s].features]) for s in SPLITS}

    def ordered(self, split: str) -> list[dict[str, Any]]:
        """The model inputs of a split, from short to long."""
        return [self.splits[split].features[i] for i in self.orders[split]]

    def answers(self, split: str, numbers: Sequence[Any]) -> list[Prediction]:
        """A label per row, or a list of labels per sentence: that of each word's first piece.

        numbers: the label that is likeliest for each feature of `ordered(split)`, or for each of its pieces.
        """
        encoded, labels = self.splits[split], self.data.labels
        of_feature = dict(zip(self.orders[split].tolist(), numbers, strict=True))
        if self.data.kind != "token_classification":
            return [labels[of_feature[feature]] for feature in range(len(of_feature))]
        sentences: list[list[str]] = [[] for _ in self.gold[split]]
        for feature, (row, firsts) in enumerate(zip(encoded.rows, encoded.first_pieces, strict=True)):
            sentences[row].extend(labels[number] for number in of_feature[feature][firsts])
        return list(sentences)

    def counts(self) -> dict[str, dict[str, int]]:
        """What did not fit the model, per split."""
        return {split: dict(encoded.counts) for split, encoded in self.splits.items()}


def fine_tune(pretrained: PretrainedModel, task: EncodedTask, hyper: HyperParameters, seed: int, test: bool) -> Outcome:
    """Train on the train split, keep the best state by validation and, if asked, test it.

    The head's weights, dropout and the order of examples follow from `seed` (the Trainer seeds the global
    generators; nothing else here draws from them).
    """
    features = task.splits["train"].features
    batches = math.ceil(len(features) / hyper.batch_size)
    updates = max(1, round(hyper.epochs * math.ceil(batches / hyper.accumulation)))
    token_level = task.data.kind == "token_classification"
    model = build_model(pretrained, token_level, task.data.labels, seed)
    collator = DataCollatorForTokenClassification if token_level else DataCollatorWithPadding

    def validate(scored: EvalPrediction) -> dict[str, float]:
        answers = task.answers("validation", scored.predictions)
        return {"score": task_score(task.data.task.metric, task.gold["validation"], answers)}

    with tempfile.TemporaryDirectory() as folder, quiet():
        trainer = _Trainer(
            model=model,
            args=_arguments(folder, hyper, updates, seed),
            train_dataset=features,
            eval_dataset=task.ordered("validation"),
            data_collator=collator(pretrained.tokenizer),
            processing_class=pretrained.tokenizer,
            preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
            compute_metrics=validate,
            callbacks=[EarlyStoppingCallback(hyper.early_stopping)] if hyper.early_stopping else [],
        )
        trainer.remove_callback(PrinterCallback)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        best = trainer.state.best_metric
        trainer.compute_metrics = None  # which knows the validation split only
        tested = task.answers("test", trainer.predict(task.ordered("test")).predictions) if test else None
        return Outcome(validation=best, test=tested, seconds=seconds, updates=trainer.state.global_step)


def build_model(pretrained: PretrainedModel, token_level: bool, labels: Sequence[str], seed: int) -> PreTrainedModel:
    """The pre-trained model with a new classification head. Raises `UserError` if it cannot be loaded."""
    family: Any = AutoModelForTokenClassification if token_level else AutoModelForSequenceClassification
    set_seed(seed)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(pretrained.source, trust_remote_code=False)
            config.update({name: rate for name, rate in DROPOUT.items() if hasattr(config, name)})
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
            )
    except (OSError, ValueError, SafetensorError) as error:
        what = f"model '{pretrained.source}' cannot be loaded ({error})"
        raise UserError(f"{what}; train it first or check its name") from None


@cache
def precision() -> str:
    """`bf16` or `fp32`: whichever is faster on this machine."""
    return choose_precision(torch.device("cuda" if torch.cuda.is_available() else "cpu")).name


class _Trainer(Trainer):
    # Grouping by length would also shuffle the evaluation split, and predictions would come back in that order.
    def _get_eval_sampler(self, eval_dataset: Any) -> SequentialSampler:
        return SequentialSampler(eval_dataset)


def _arguments(folder: str, hyper: HyperParameters, updates: int, seed: int) -> TrainingArguments:
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
        bf16=precision() == "bf16",
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
