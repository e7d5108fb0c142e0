"""What is fine-tuned on a task: the models of a run, and their controls, with the task as each reads it.

A *control* has the configuration and the tokenizer of a model, and random weights: what it reaches once it is
fine-tuned like the model, pre-training did not give. There is one for the teacher's shape and one for each shape of a
student, whose configuration is that of the first student of that shape.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robbertje_lib.evaluation.finetuning_trainer import EncodedTask, PretrainedModel
from robbertje_lib.experiment import artefacts
from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.evaluated import evaluated_models
from robbertje_lib.models.masked_lm import load_masked_lm
from robbertje_lib.tasks import TaskData, ZeroShot
from robbertje_lib.tasks.encoding import Encoder


@dataclass(frozen=True)
class Contender:
    """One model or control of the grid, with the task as it reads it.

    `digest` stands for its weights and the examples; those of one `group` share their hyper-parameters. `zero_shot`:
    what it answers to the test split without fine-tuning, None where the task or a control has no such answers.
    """

    name: str
    group: str
    pretrained: PretrainedModel
    digest: str
    task: EncodedTask
    zero_shot: ZeroShot | None


def contenders_of(run: Run, data: TaskData, wanted: Sequence[str] = ()) -> list[Contender]:
    """The models and controls `wanted`, all of the run's where none is, with the task as each reads it.

    Raises `UserError`.
    """
    own = evaluated_models(run)
    controls = {control: own[model] for control, model in run.profile.controls.items()}
    known = {**own, **controls}
    examples = digest_of(data.kind, data.labels, *(rows.to_list() for rows in data.sets.values()))
    encoded: dict[str, EncodedTask] = {}
    read: dict[str, tuple[Any, str, str]] = {}  # source -> its tokenizer, a key of `encoded`, a digest of its weights
    contenders = []
    for name in wanted or known:
        if name not in known and "/" not in name and not Path(name).is_dir():
            raise UserError(f"no model '{name}' in this run: {did_you_mean(name, known)}, or give a folder or hub id")
        source, random = known.get(name, name), name in controls
        zero_shot = None
        if source not in read or not random:  # a control reads what its model has read
            loaded = load_masked_lm(source, name=name)
            encoder = _encoder(run, data, loaded.tokenizer, loaded.maximum_length)
            # Students share their teacher's tokenizer: each task is encoded once.
            tokenizer = digest_of(loaded.tokenizer.backend_tokenizer.to_str())
            key = digest_of(encoder.keep, encoder.label_pieces, loaded.maximum_length, tokenizer)
            if key not in encoded:
                encoded[key] = EncodedTask.of(data, encoder)
            weights = artefacts.sha256(Path(source)) if Path(source).is_dir() else source
            read[source] = loaded.tokenizer, key, weights
            if data.task.zero_shot and not random:
                zero_shot = data.task.zero_shot(loaded, data.test.to_list())
        own_tokenizer, key, weights = read[source]
        pretrained = PretrainedModel(source, own_tokenizer, random, run.profile.finetuning.dropout)
        digest = digest_of(weights, examples, key, random, pretrained.dropout)
        group = run.profile.student_of(name) if name in own else name
        contenders.append(Contender(name, group, pretrained, digest, encoded[key], zero_shot))
    return contenders


def _encoder(run: Run, data: TaskData, tokenizer: Any, maximum_length: int) -> Encoder:
    settings = run.profile.finetuning.tasks[data.task.name]
    return Encoder(
        tokenizer,
        maximum_length,
        keep=data.task.option(settings, "keep", data.task.keep),
        label_pieces=data.task.option(settings, "label_pieces", "first"),
    )


def digest_of(*parts: Any) -> str:
    """SHA-256 of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
