"""Measures what a token takes in each kind of work of a profile, in a process of its own.

    python -m robbertje_lib.workflow.speed_measurement PROFILE FILE CORES

The profile's teacher, and one student of each shape and recipe, are trained for some updates on random tokens, by the
very functions of the stages; models of each shape are asked and fine-tuned. FILE gets a `MachineSpeed`.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import psutil
import torch
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification

from robbertje_lib.corpus.tokenization import train_tokenizer
from robbertje_lib.distillation.job import TrainingState
from robbertje_lib.distillation.student import distil
from robbertje_lib.distillation.teacher import train_teacher
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.artefacts import atomic_path
from robbertje_lib.experiment.profile import HubTeacher, Profile, Recipe, TeacherTraining
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.devices import choose_precision, training_device
from robbertje_lib.models.log_probs import Queries, token_log_probs
from robbertje_lib.models.masked_lm import wrap
from robbertje_lib.models.shapes import decayed_parameters, random_model, save_model, student_config
from robbertje_lib.workflow.amounts import PER_SECOND, SEQUENCE, Amounts
from robbertje_lib.workflow.machine_speed import MachineSpeed

SECONDS = 3.0  # to measure in, in all, on the machine where `amounts` was measured
PASSES = 0.12  # of these, for each model's scoring, and as many for its fine-tuning
FEWEST_UPDATES, MOST_UPDATES = 5, 24
SMALLEST_UPDATE = 64  # tokens
FEWEST_QUERIES = 4
GPU_TIMES = 100  # as fast as that machine, where there is a GPU: with less to do it would wait for its kernels
BATCH = 16  # examples, in fine-tuning
KERNEL_SECONDS = 2.5  # of a stage's start, before and after its imports
NEVER = 1e9  # seconds between two checkpoints


def measure(profile: Profile, folder: Path, cores: int, start: float) -> Iterator[MachineSpeed]:
    """The speed of this machine, as far as it is known, after each measurement. start: seconds a stage takes to start.

    Files are written below `folder`. Raises `UnknownWork` as `amounts` does.
    """
    amounts = Amounts(profile)
    kinds = amounts.trained_kinds
    each = (SECONDS - 2 * PASSES * (1 + len(profile.shapes))) / (1 + len(kinds))
    # Where a few updates would take long, training is told roughly, from what passes take.
    kinds = {kind: model for kind, model in kinds.items() if _fits(amounts, f"30_distillation-{model}", each)}
    run = Run(_shortened(amounts, each, folder), paths.RunPaths("speed", folder))
    tokenizer = _write_text(run, amounts)
    models = _random_models(run, amounts, tokenizer)
    speed = MachineSpeed(start=start, seconds={})
    _set_threads(max(1, cores // 2))  # the stages that do not train share the machine by halves
    for name, model in models.items():
        size = amounts.teacher if name == "teacher" else amounts.student(profile.shapes[name])
        tokens = _affordable(size.operations(1.0))
        yield (speed := speed.with_pace(f"score {name}", _scoring(model, tokenizer, profile, tokens)))
        yield (speed := speed.with_pace(f"finetune {name}", _finetuning(model.config, profile, tokens // 3)))
    _set_threads(cores)
    if isinstance(profile.teacher, TeacherTraining) and _fits(amounts, "20_teacher", each):
        yield (speed := speed.with_pace("train teacher", _training(partial(train_teacher, run), each, profile.teacher)))
    if kinds:  # random weights do: what students learn does not matter
        save_model(models["teacher"], tokenizer, run.paths.model("teacher"))
    for kind, model in kinds.items():
        yield (speed := speed.with_pace(f"train {kind}", _training(partial(distil, run, model), each)))


def _fits(amounts: Amounts, stage: str, seconds: float) -> bool:
    faster = GPU_TIMES if training_device().type == "cuda" else 1
    return FEWEST_UPDATES * SMALLEST_UPDATE * amounts.of(stage)[0].reference < 2 * faster * seconds


def _affordable(operations: float) -> int:
    """How many tokens of so many operations a model can read in PASSES seconds."""
    return int(PASSES * PER_SECOND * (GPU_TIMES if training_device().type == "cuda" else 1) / operations)


def _set_threads(count: int) -> None:
    os.environ["ROBBERTJE_THREADS"] = str(count)
    training_device()


def _shortened(amounts: Amounts, seconds: float, folder: Path) -> Profile:
    """The profile with a few updates of each training, none larger than fits the time."""
    profile = amounts.profile
    teacher: Any = profile.teacher
    if isinstance(teacher, TeacherTraining):
        update, updates = _update(seconds / amounts.of("20_teacher")[0].reference, teacher.tokens_per_update)
        teacher = teacher.model_copy(update={"tokens": update * updates, "tokens_per_update": update})
    else:  # random weights in its place: nothing is downloaded
        teacher = HubTeacher.model_construct(hub=str(paths.RunPaths("speed", folder).model("teacher")), revision=None)
    recipes = dict(profile.recipes)
    for kind, model in amounts.trained_kinds.items():
        name, unit = kind.split()[1], amounts.of(f"30_distillation-{model}")[0]
        recipes[name] = _short_recipe(profile.recipes[name], seconds / unit.reference, SEQUENCE[profile.text])
    students = {name: student.model_copy(update={"update_size": None}) for name, student in profile.students.items()}
    return profile.model_copy(update={"teacher": teacher, "recipes": recipes, "students": students})


def _short_recipe(recipe: Recipe, tokens: float, sequence: int) -> Recipe:
    unit = 1 if recipe.batching == "tokens" else sequence
    wanted, updates = _update(tokens, recipe.update_size * unit)
    update = max(1, wanted // unit)
    changes = {"batch_size": min(recipe.batch_size, update), "update_size": update}
    return recipe.model_copy(update={**changes, "amount": updates, "amount_unit": "updates"})


def _update(tokens: float, wanted: int) -> tuple[int, int]:
    """Of so many tokens in all: tokens of an update, at most as many as are wanted, and how many updates."""
    update = min(wanted, max(SMALLEST_UPDATE, int(tokens / FEWEST_UPDATES)))
    return update, max(FEWEST_UPDATES, min(MOST_UPDATES, int(tokens / update)))


def _write_text(run: Run, amounts: Amounts) -> PreTrainedTokenizerFast:
    """A tokenizer of as many words as the profile's has pieces, and stores of random ones."""
    vocabulary, sequence = amounts.teacher.vocabulary, SEQUENCE[run.profile.text]
    settings = run.profile.tokenizer.model_copy(update={"kind": "word", "vocabulary": vocabulary})
    tokenizer = train_tokenizer([" ".join(f"w{number}" for number in range(vocabulary))], settings)
    tokenizer.save_pretrained(run.paths.tokenizer)
    generator = np.random.default_rng(run.profile.seed)
    for store in (run.paths.teacher_text, *(run.paths.corpus(*arm) for arm in run.profile.arms)):
        _write_store(store, _random_lines(3000, sequence, vocabulary, generator))
    _write_store(run.paths.held_out, _random_lines(1, sequence, vocabulary, generator))
    return tokenizer


def _random_lines(count: int, mean: int, vocabulary: int, generator: np.random.Generator) -> list[list[int]]:
    """Token ids of lines of different lengths between `<s>` (0) and `</s>` (2); the first five ids are special."""
    lengths = generator.integers(mean // 2, 2 * mean, count)
    return [[0, *generator.integers(5, vocabulary, length).tolist(), 2] for length in lengths]


def _write_store(folder: Path, lines: list[list[int]]) -> None:
    features = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))})
    datasets.Dataset.from_dict({"input_ids": lines}, features=features).save_to_disk(str(folder))


def _random_models(run: Run, amounts: Amounts, tokenizer: PreTrainedTokenizerFast) -> dict[str, PreTrainedModel]:
    """A model of every shape."""
    size = amounts.teacher
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=_heads(run.profile, size.hidden),
        intermediate_size=size.feed_forward,
        max_position_embeddings=tokenizer.model_max_length + 2,
        type_vocab_size=1,
    )
    teacher = random_model(config, seed=0)
    shapes = {name: student_config(shape, teacher.config, 0.0) for name, shape in run.profile.shapes.items()}
    return {"teacher": teacher, **{name: random_model(config, seed=0) for name, config in shapes.items()}}


def _heads(profile: Profile, hidden: int) -> int:
    return profile.teacher.heads if isinstance(profile.teacher, TeacherTraining) else max(1, hidden // 64)


class _Enough(Exception):
    """Ends a training whose time is up."""


def _training(train: Callable[..., Any], seconds: float, teacher: TeacherTraining | None = None) -> float:
    """Seconds a token of `train(show=...)`, which is stopped at a held-out loss once it has had its time."""
    causal: list[float] = []
    masked: list[float] = []

    def show(state: TrainingState) -> None:
        # No held-out loss is made in the causal phase; later there is one each time, whose seconds do not count.
        curve = [point for point in state.curve if point.phase == "causal"]
        causal[:] = [(b.seconds - a.seconds) / (b.tokens - a.tokens) for a, b in pairwise(curve)]
        judged = [point for point in state.held_out_curve if point.update > 0]
        spent = [(b.training_seconds - a.training_seconds, b.tokens - a.tokens) for a, b in pairwise(judged)]
        masked[:] = [passed / tokens for passed, tokens in spent if tokens]
        if len(masked) >= FEWEST_UPDATES and state.seconds > 2 * seconds:
            raise _Enough

    with suppress(_Enough):
        train(checkpoint_seconds=NEVER, show=show)
    share = teacher.causal_share if teacher and causal else 0.0
    return share * statistics.median(causal or [0.0]) + (1 - share) * statistics.median(masked)


def _scoring(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, profile: Profile, tokens: int) -> float:
    """Seconds a position, in float32 as stage 40 asks. tokens: about as many positions are asked at a time."""
    generator = np.random.default_rng(profile.seed)
    lines = [np.array(line) for line in _random_lines(60, SEQUENCE[profile.text], len(tokenizer), generator)]
    sequence = np.concatenate([np.full(len(line) - 2, number) for number, line in enumerate(lines)])
    position = np.concatenate([np.arange(1, len(line) - 1) for line in lines])
    positions = 0
    lm = wrap(model, tokenizer, "random")
    few = FEWEST_QUERIES

    def ask() -> None:
        nonlocal positions
        asked = Queries(sequence[:few], position[:few], position[:few] + 1)
        token_log_probs(lm, lines, asked, profile.pseudo_perplexity.tokens_per_batch)
        positions = sum(len(lines[number]) for number in asked.sequence)

    ask()
    few = max(FEWEST_QUERIES, min(len(position), tokens // (SEQUENCE[profile.text] + 2)))
    return _typical(ask) / positions


def _finetuning(config: RobertaConfig, profile: Profile, tokens: int) -> float:
    """Seconds a token of an epoch: forward, backward and update, with a head for two classes.

    tokens: a batch has no more, and at most BATCH examples.
    """
    device = training_device()
    precision = choose_precision(device)
    model = RobertaForSequenceClassification._from_config(config, attn_implementation="eager").to(device).train()
    decayed, free = decayed_parameters(model)
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": free, "weight_decay": 0.0}], fused=True)
    length = min(2 * SEQUENCE[profile.text], profile.tokenizer.maximum_length)
    examples = max(1, min(BATCH, tokens // length))
    ids = torch.randint(5, config.vocab_size, (examples, length), device=device)
    labels = torch.arange(examples, device=device) % 2

    def update() -> None:
        with precision.autocast(device):
            logits = model(input_ids=ids).logits
        functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    update()
    return _typical(update) / ids.numel()


def _typical(work: Callable[[], None]) -> float:
    """The median time of `work`, done again and again for PASSES seconds; once at the least."""
    times: list[float] = []
    while not times or sum(times) < PASSES:
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def main() -> None:
    """The command line."""
    settings, file, cores = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    profile = Profile.model_validate_json(settings.read_text(encoding="utf-8"))
    # Imports are part of what a stage takes to start.
    start = KERNEL_SECONDS + time.time() - psutil.Process().create_time()
    os.environ["ROBBERTJE_OUTPUT"] = str(file.parent)
    for speed in measure(profile, file.parent, cores, start):
        with atomic_path(file) as temporary:
            temporary.write_text(speed.model_dump_json(), encoding="utf-8")


if __name__ == "__main__":
    main()
