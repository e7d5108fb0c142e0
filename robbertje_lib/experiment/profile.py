"""Profiles: one YAML file says everything that differs between a two-second test and the paper.

A profile is validated whole before anything runs. Fields marked `Scaled` shrink together with a budget
below 1 (`make reproduce PROFILE=mini BUDGET=0.05`): training steps, text and evaluation sizes.
"""

import copy
import functools
import hashlib
import json
import operator
import os
import re
import reprlib
import zlib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

import numpy as np
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from robbertje_lib.experiment import artefacts, paths
from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.sources import catalogue


@dataclass(frozen=True)
class Scaled:
    """Marks a field that a budget multiplies; the result never falls below `minimum`."""

    minimum: int | float


Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy, torch and transformers all take
MOST_SEEDS = 1000  # more is a slip
Replicates = Annotated[int, Field(gt=0, le=MOST_SEEDS)]
# Students, tasks and profiles name files; a shape and a recipe appear in tables.
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,60}$")]


def _distinct(values: Sequence[Any]) -> Sequence[Any]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{'null' if value is None else repr(value)} is listed twice; list it once")
    return values


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"range [{bounds[0]:g}, {bounds[1]:g}] is upside down; give the lower bound first")
    return bounds


def _sizes(size: Any) -> Any:
    """One size stands for the list that holds it alone; several are kept in ascending order, each once."""
    if size == []:
        raise ValueError("is empty; give a size, or null for all")
    if isinstance(size, list):
        return _ascending(_distinct(size)) if all(one is None or type(one) is int for one in size) else size
    return [size]


def _ascending(sizes: Sequence[int | None]) -> list[int | None]:
    """None, which is all there is, comes last."""
    return sorted(sizes, key=lambda size: (size is None, size or 0))


def _counted(seeds: Any) -> Any:
    """`seeds: 5` stands for the seeds 1 to 5."""
    if type(seeds) is not int:
        return seeds
    if not 1 <= seeds <= MOST_SEEDS:
        raise ValueError(f"{seeds} seeds cannot be; give 1 to {MOST_SEEDS}, or list them")
    return list(range(1, seeds + 1))


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class HubDataset:
    """A dataset of the hub as a source of text: `hub:ORG/NAME@REVISION[:CONFIG]`, or a folder `hub:./NAME[:CONFIG]`."""

    name: str
    revision: str | None
    config: str | None

    @staticmethod
    def place(source: str) -> str:
        """Name and revision, or the folder."""
        return source.removeprefix("hub:").partition(":")[0]

    @classmethod
    def parse(cls, source: str) -> Self:
        """Raises `ValueError` for another form, or a folder that is not there."""
        place, config = cls.place(source), source.removeprefix("hub:").partition(":")[2]
        name, _, revision = place.partition("@")
        if is_folder(place):
            if not (is_there(place) and Path(place).is_dir()):
                raise ValueError(f"no folder '{place}'; name one that holds parquet files")
            name, revision = place, ""
        elif not (revision and re.fullmatch(r"[\w.-]+/[\w.-]+", name)):
            raise ValueError(f"'{source}' is not hub:ORG/NAME@REVISION or hub:ORG/NAME@REVISION:CONFIG; write it so")
        return cls(name, revision or None, config or None)


# Files of `results/corpus/` and folders of `corpus/` that hold no arm.
NO_ARMS = ("documents", "held_out", "teacher")


class Corpus(Section):
    """Text, its held-out part, and its arms: the same text in different orders (paper, section on pre-training data).

    The paper: OSCAR, 1000 MB an arm, merged with probability 0.5. MB are 10^6 bytes of UTF-8, newlines included.
    """

    # Groups of `sources`, `known_answer`, a folder or file of the user's, or `hub:ORG/NAME@REVISION[:CONFIG]`.
    sources: list[str] = Field(min_length=1)
    arms: Annotated[list[Name], AfterValidator(_distinct)] = Field(min_length=1)  # built for every selection
    arm_megabytes: Annotated[float, Field(gt=0), Scaled(0.02)]  # text each arm may take
    # `sentences`: cut at the ends of sentences; `source`: the lines of the source as they are, such as OSCAR's.
    lines: Literal["sentences", "source"] = "sentences"
    merge_probability: Fraction = 0.5  # of a document's next line to join the current one, in arms that merge
    selections: Annotated[list[Literal["head", "same_lines"]], AfterValidator(_distinct)] = Field(
        default=["head"], min_length=1
    )
    held_out_fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.1  # of the text, in whole books or files
    sample_lines: Positive = 10  # kept of each arm to be shown

    @field_validator("sources")
    @classmethod
    def _at_hand(cls, sources: list[str]) -> list[str]:
        for source in sources:
            known = ["known_answer", *catalogue()]
            if source.startswith("hub:"):
                HubDataset.parse(source)
            elif source not in known and not is_there(source):
                raise ValueError(f"no source '{source}': {did_you_mean(source, known)} (your own text: ./file.txt)")
        return list(_distinct(sources))

    @field_validator("arms")
    @classmethod
    def _free(cls, arms: list[str]) -> list[str]:
        for arm in arms:
            if arm in NO_ARMS:
                raise ValueError(f"'{arm}' is reserved; rename the arm")
        return arms

    @model_validator(mode="after")
    def _lines_that_can_be_judged(self) -> Self:
        """Text that comes with the project is cleaned sentence by sentence, by faults that a paragraph may have."""
        if self.lines == "source" and (curated := [source for source in self.sources if source in catalogue()]):
            raise ValueError(f"lines: 'source' does not go with the source '{curated[0]}'; say sentences")
        return self

    def own_files(self) -> list[Path]:
        """The user's own files among the sources, those in folders included, in a fixed order."""
        places = [HubDataset.place(source) if source.startswith("hub:") else source for source in self.sources]
        own = [Path(place) for place in places if "/" in place and (place in self.sources or is_folder(place))]
        return [
            file for path in own for file in ([path] if path.is_file() else sorted(path.rglob("*"))) if file.is_file()
        ]


class Tokenizer(Section):
    """How text becomes tokens, where the teacher is trained here; of a released teacher, its own tokenizer is taken.

    `bpe`: byte-level BPE as RobBERT; `word`: one token a word, so that token and word coincide.
    """

    kind: Literal["bpe", "word"] = "bpe"
    vocabulary: Positive = 8000  # entries, special tokens included
    maximum_length: Annotated[int, Field(ge=8)] = 128  # positions, special tokens included

    @model_validator(mode="after")
    def _holds_every_byte(self) -> Self:
        if self.kind == "bpe" and self.vocabulary < 300:
            raise ValueError(f"vocabulary {self.vocabulary} is too small for byte-level BPE; give at least 300")
        return self


class TeacherTraining(Section):
    """A small RoBERTa, trained first as a causal and then as a masked language model.

    It reads all training documents once, whatever arms there are, each next line of a document joined to the current
    one with `join_probability`. That is a setting of its own, so that no setting of an arm reaches the teacher. At 0
    the teacher would see one sentence a sequence: its later positions would stay untrained, and students that read
    merged lines would be taught there by noise.
    """

    layers: Positive
    heads: Positive  # a layer; they divide `hidden`
    hidden: Positive  # width of the embeddings and of every layer
    feed_forward: Positive  # width within a layer
    join_probability: Fraction = 0.5
    tokens: Annotated[int, Field(gt=0), Scaled(20_000)]  # real tokens seen in all
    causal_share: Fraction = 0.5  # of `tokens`, seen in the causal phase
    tokens_per_update: Positive = 2048
    learning_rate: Rate = 1e-3  # the highest, at the end of the warm-up
    warmup: Fraction = 0.05  # of the updates
    weight_decay: NotNegative = 0.01
    dropout: Fraction = 0.0
    mask_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.15  # of the tokens, in the masked phase


def is_there(path: str | Path) -> bool:
    """Whether a path exists. Not where its name is too long, holds a zero byte, or its user is none: pathlib raises."""
    return os.path.exists(os.path.expanduser(path))  # noqa: PTH110, PTH111


def is_folder(hub: str) -> bool:
    """Whether what stands where a hub id is expected is a folder of the user's: it starts with `/`, `~`, `.`."""
    return hub.startswith(("/", "~", "./", "../"))


def _fixed(revision: str | None, info: ValidationInfo) -> str | None:
    """A hub id needs a revision, so that the same profile means the same weights; a folder must be there."""
    if (hub := info.data.get("hub")) is None:
        if revision and "hub" in info.data:  # else `hub` itself is wrong
            raise ValueError("goes with `hub`, which is missing; add it, or leave both out")
    elif not is_folder(hub):
        if not revision:
            raise ValueError("is missing; add it")
    elif not (is_there(hub) and Path(hub).expanduser().is_dir()):
        raise ValueError(f"no folder '{hub}' beside the profile; name one written by save_pretrained, or a hub id")
    return revision


Revision = Annotated[str | None, AfterValidator(_fixed)]
HubId = Annotated[str, Field(pattern=r"^([\w-][\w.-]*/[\w.-]+|[/~.].*)$")]


class HubTeacher(Section):
    """A released masked language model: of the hub at a fixed revision, or a folder written by `save_pretrained`."""

    hub: HubId
    revision: Revision = Field(default=None, validate_default=True)


def _teacher_kind(value: Any) -> str:
    hub = "hub" in value if isinstance(value, dict) else isinstance(value, HubTeacher)
    return "teacher from the hub" if hub else "trained teacher"


# The key `hub` decides, so that a misspelt key is reported against the right list of keys.
Teacher = Annotated[
    Annotated[TeacherTraining, Tag("trained teacher")] | Annotated[HubTeacher, Tag("teacher from the hub")],
    Discriminator(_teacher_kind),
]
TEACHERS = {"trained teacher": TeacherTraining, "teacher from the hub": HubTeacher}


class Shape(Section):
    """A student's architecture; the hidden size is the teacher's, as the cosine loss needs."""

    layers: Positive
    heads: Positive  # a layer
    feed_forward: Positive  # width within a layer
    teacher_layers: list[Annotated[int, Field(ge=0)]] = []  # copied by recipes that start from the teacher


class Recipe(Section):
    """How a student is trained. `as_published` holds the released models' settings; each difference is one field.

    The loss is weight_kl * KL(teacher, student) at `temperature` + weight_mlm * MLM + weight_cosine * cosine distance.
    """

    initialisation: Literal["random", "teacher_layers"]
    freeze_positions: bool
    masking: Literal["smoothed", "uniform"]  # smoothed: drawn with weight count^-0.7
    kl_positions: Literal["all", "masked"]
    minimum_tokens: Annotated[int, Field(ge=0)]  # sequences shorter than this, specials included, are dropped
    # `random`: sequences are drawn anew every epoch, as the released models'; `document`: neighbours in the text stay
    # neighbours, within a batch and from one to the next.
    order: Literal["random", "document"] = "random"
    precision: Literal["auto", "float32"] = "auto"  # `auto`: what is fastest on the machine at hand
    batching: Literal["sequences", "tokens"]  # what `batch_size` and `update_size` count
    batch_size: Positive  # per forward pass
    update_size: Positive  # per optimizer update
    normalisation: Literal["micro_batch", "update"]  # what a loss term is averaged over
    learning_rate: Rate  # the highest, at the end of the warm-up
    warmup: Fraction  # of the updates
    weight_decay: NotNegative
    adam_betas: tuple[Momentum, Momentum] = Field(default=(0.9, 0.98), strict=False)
    adam_epsilon: Rate = 1e-6
    gradient_clip: Rate = 5.0  # largest norm of an update's gradient
    temperature: Rate = 2.0
    weight_kl: NotNegative = 5.0
    weight_mlm: NotNegative = 2.0
    weight_cosine: NotNegative = 1.0
    mask_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.15  # of the tokens
    mask_smoothing: NotNegative = 0.7  # the exponent of `smoothed`
    dropout: Fraction = 0.1
    # How many of `amount_unit` to train on. Epochs are passes over text that a budget has made shorter already.
    amount: Annotated[int, Field(gt=0), Scaled(1)]
    amount_unit: Literal["tokens", "updates", "sequences", "epochs"]
    equal_pairs: list[tuple[str, str]] = Field(default=[], strict=False)  # FairDistillation: averaged teacher logits

    @model_validator(mode="after")
    def _update_holds_a_batch(self) -> Self:
        if self.update_size < self.batch_size:
            raise ValueError(f"update_size {self.update_size} is below batch_size {self.batch_size}; raise it")
        return self


LAST_STAGE = "90_claims_and_figures"  # which reads all others
CONTROL = "random_"  # begins the name of a control: random weights in the shape of a model
RELEASED = "released"  # stands where the recipe does, for students that are not ours
# Names in tables and files that are no student's: `unigram` and what follows it are models without a network.
RESERVED = (
    *("teacher", "tokenizer", "unigram"),
    *("majority", "word_tag", "word_list", "tf_idf", "bigram_rule", "shared_ngrams"),
)


class Student(Section):
    """A student to distil, or with `hub` a released one, of which arm and shape only say what it is."""

    arm: Name  # one of `corpus.arms`; of a released student any arm that there is
    shape: str
    hub: HubId | None = Field(default=None, exclude_if=lambda value: value is None)
    revision: Revision = Field(default=None, validate_default=True, exclude_if=lambda value: value is None)
    recipe: str = Field(default=RELEASED, validate_default=True)
    selection: Literal["head", "same_lines"] = "head"
    # The recipe's own, where it is another for this student alone, as the paper's for its shuffled one.
    update_size: Positive | None = Field(default=None, exclude_if=lambda value: value is None)
    replicates: Replicates | None = None  # how often it is distilled, where that is not as often as the profile says

    @field_validator("recipe")
    @classmethod
    def _trained_or_released(cls, recipe: str, info: ValidationInfo) -> str:
        released = info.data.get("hub") is not None
        if "hub" in info.data and released != (recipe == RELEASED):
            raise ValueError(
                "a released student has none; leave it out" if released else "is missing; add it, or `hub`"
            )
        return recipe

    def one(self, mode: str = "python") -> dict[str, Any]:
        """What one distillation follows from: everything but how many there are."""
        return self.model_dump(mode=mode, exclude={"replicates"})

    @property
    def released(self) -> HubTeacher | None:
        """Where the weights come from, if they are not trained here."""
        return HubTeacher(hub=self.hub, revision=self.revision) if self.hub else None


class PseudoPerplexity(Section):
    """Pseudo-perplexity on held-out text."""

    lines: Annotated[int, Field(gt=0), Scaled(20)]  # drawn from the held-out documents
    tokens_per_batch: Positive = 2048  # positions in a forward pass; tens of thousands suit a GPU


class TaskSettings(Section):
    """One fine-tuning task: where its examples come from, and the most of each split, in examples; None takes all.

    `train` is one size or several; `[50, null]` is 50 and all. A budget shrinks numbers, and leaves all as it is.
    """

    data: str  # where the examples come from, such as `bol_reviews`, `held_out` or `known_answer`
    # Several sizes give a learning curve; the largest is what claims are about first.
    train: Annotated[list[Positive | None], BeforeValidator(_sizes), Scaled(60)] = [None]
    validation: Annotated[int | None, Field(gt=0), Scaled(40)] = None
    test: Annotated[int | None, Field(gt=0), Scaled(60)] = None
    options: dict[str, str | int | float | bool] = {}  # `file` is one of the user's own

    @field_validator("options")
    @classmethod
    def _file_at_hand(cls, options: dict[str, str | int | float | bool]) -> dict[str, str | int | float | bool]:
        file = str(options.get("file", "."))
        if "file" in options and not (is_there(file) and Path(file).is_file()):
            raise ValueError(f"no file '{file}'; name one that is there")
        return options

    def own_files(self) -> list[Path]:
        """The user's own file, where the task reads one."""
        return [Path(str(self.options["file"]))] if "file" in self.options else []

    @property
    def sizes(self) -> dict[str, int | None]:
        """The most examples of each split."""
        return {"train": self.train[-1], "validation": self.validation, "test": self.test}


class Finetuning(Section):
    """How every model is fine-tuned on every task: a random search per model, then a run a seed."""

    tasks: dict[str, TaskSettings] = Field(min_length=1)
    # The seeds themselves, or how many: 5 for 1 to 5. A seed a replicate is the better use of the time.
    seeds: Annotated[list[Seed], BeforeValidator(_counted), AfterValidator(_distinct)] = Field(
        default=[1], min_length=1
    )
    epochs: Rate = 3.0
    batch_size: Positive = 16  # examples
    trials: Positive = 1  # random-search draws per model, judged on the validation split
    # Ranges of the random search: the learning rate is drawn log-uniformly, the weight decay uniformly.
    learning_rate: Annotated[tuple[Rate, Rate], AfterValidator(_ordered)] = Field(default=(5e-5, 5e-5), strict=False)
    weight_decay: Annotated[tuple[NotNegative, NotNegative], AfterValidator(_ordered)] = Field(
        default=(0.01, 0.01), strict=False
    )
    accumulation: list[Positive] = Field(default=[1], min_length=1)  # batches an update, one drawn per trial
    dropout: Fraction | None = None  # of hidden states and attention; None: the model's own
    early_stopping: Annotated[int, Field(ge=0)] = 0  # evaluations without improvement; 0 is off
    evaluations: Positive = 1  # on the validation split, per run
    restarts: Annotated[int, Field(ge=0, le=10)] = 3  # the most of a run that stays at chance; 0 is off


PRONOUN, PROFESSION = "<mask>", "<T>"  # slots of a template


def check_template(template: str) -> str:
    """The template. Raises `ValueError` unless it has one slot for the pronoun and one for the profession."""
    if template.count(PRONOUN) != 1 or template.count(PROFESSION) != 1:
        raise ValueError(f"template '{template}' must hold {PRONOUN} once and {PROFESSION} once")
    return template


class GenderBias(Section):
    """The probes for gender bias."""

    templates: list[Annotated[str, AfterValidator(check_template)]] = Field(min_length=1)
    planted_strength: Fraction = 1.0  # of the bias in known-answer Dutch; 0 plants none
    crows_pairs: Annotated[int, Field(ge=0), Scaled(40)] = 262  # gender pairs scored, on real text; 0 scores none


class SmallestDifferences(Section):
    """The smallest difference of interest, in each unit: a smaller one is no evidence, whichever way it points."""

    score: Rate = 0.01  # accuracy or F1, 0 to 1
    nats: Rate = 0.01  # per token
    speed: Rate = 0.01  # natural logarithm of a ratio: 1 %
    bias: Rate = 0.1  # share of the teacher's
    trade_off: Rate = 0.03  # the score that a student may lose against its teacher and still be "as good"


class Significance(Section):
    """The tests of every comparison of two models."""

    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05  # of Holm's adjusted p
    permutations: Positive = 10_000  # a permutation test
    bootstrap: Positive = 2000  # resamples an interval is drawn from
    smallest: SmallestDifferences = SmallestDifferences()


class Efficiency(Section):
    """Timing of the models: latency on single lines and throughput on batches."""

    lines: Annotated[int, Field(gt=0), Scaled(8)] = 200  # timed
    repeats: Positive = 5  # of every timing
    batch_size: Positive = 32  # lines a forward pass, for throughput


class Profile(Section):
    """One experiment, whole: what text, which models, how they are trained, and how they are judged.

    Sizes count real tokens, `<s>` and `</s>` included, where they say tokens; megabytes are 10^6 bytes; learning
    rates are those of AdamW. All randomness derives from `seed`, but for fine-tuning, which has `finetuning.seeds`.
    """

    name: Name  # of the YAML file, and of the run's folder
    description: str
    text: Literal["real", "known_answer"]  # what may be concluded; stamped on every figure
    seed: Seed
    replicates: Replicates = 1  # distillations of each student, alike but for chance
    corpus: Corpus
    tokenizer: Tokenizer
    teacher: Teacher
    shapes: dict[Name, Shape]
    recipes: dict[Name, Recipe]
    students: dict[Name, Student] = Field(min_length=1)
    pseudo_perplexity: PseudoPerplexity
    finetuning: Finetuning
    gender_bias: GenderBias
    significance: Significance = Significance()
    efficiency: Efficiency = Efficiency()
    budget: Annotated[float, Field(gt=0, le=1)] = 1.0  # what every `Scaled` field has been multiplied by

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if fault := next(self._misfits(), None):
            raise ValueError(fault)
        return self

    def _misfits(self) -> Iterator[str]:
        """What does not fit together, each in a line."""
        for name, student in self.students.items():
            if name in RESERVED or name.startswith(CONTROL):
                yield f"students: '{name}' is reserved; rename the student"
            if student.released and (student.replicates or 1) > 1:
                yield f"students.{name}.replicates: a released student is there once; leave it out"
            if student.released and student.update_size:
                yield f"students.{name}.update_size: a released student is not trained; leave it out"
            for kind, wanted, known in (
                ("shape", student.shape, self.shapes),
                ("recipe", student.recipe, [RELEASED] if student.released else self.recipes),
                ("selection", student.selection, self.corpus.selections),
            ):
                if wanted not in known:
                    yield f"students.{name}.{kind}: '{wanted}' is not defined; {did_you_mean(wanted, known)}"
            if student.released:
                continue
            if student.arm not in self.corpus.arms:
                nearest = did_you_mean(student.arm, self.corpus.arms)
                yield f"students.{name}.arm: '{student.arm}' is not listed in corpus.arms; {nearest}"
            recipe, named = self.recipes[student.recipe], self.shapes[student.shape].teacher_layers
            if student.update_size and student.update_size < recipe.batch_size:
                yield f"students.{name}.update_size: below the recipe's batch_size {recipe.batch_size}; raise it"
            if recipe.initialisation == "teacher_layers" and not named:
                copies = f"recipe '{student.recipe}' copies teacher layers; name them"
                yield f"shapes.{student.shape}.teacher_layers: {copies}"
            if recipe.minimum_tokens > self.tokenizer.maximum_length:
                yield f"recipes.{student.recipe}.minimum_tokens: above tokenizer.maximum_length; lower it"
        if "teacher" in self.shapes:
            yield "shapes: 'teacher' is reserved; rename the shape"
        for shape in self.shapes if self.finetuning.dropout is None else ():
            of_shape = [of for of in self.students.values() if of.shape == shape and not of.released]
            if len({self.recipes[student.recipe].dropout for student in of_shape}) > 1:  # they share a control
                yield f"finetuning.dropout: recipes of shape {shape} differ in dropout; name one for all"
        if isinstance(self.teacher, TeacherTraining):
            yield from self._misfits_of_teacher(self.teacher)
        for task, settings in self.finetuning.tasks.items():
            if (settings.data == "known_answer") != (self.text == "known_answer"):
                wanted = "say known_answer" if self.text == "known_answer" else "name data that is real"
                yield f"finetuning.tasks.{task}.data: '{settings.data}' does not go with text: {self.text}; {wanted}"
        if self.text == "known_answer" and self.corpus.sources != ["known_answer"]:
            yield "corpus.sources: text 'known_answer' takes the source 'known_answer' alone"
        if self.text != "known_answer" and "known_answer" in self.corpus.sources:
            yield "text: a profile that reads 'known_answer' must say text: known_answer"

    def _misfits_of_teacher(self, teacher: TeacherTraining) -> Iterator[str]:
        for where, heads in [("teacher", teacher.heads), *((f"shapes.{n}", s.heads) for n, s in self.shapes.items())]:
            if teacher.hidden % heads:
                yield f"{where}.heads: {heads} does not divide teacher.hidden {teacher.hidden}"
        for name, shape in self.shapes.items():
            named = shape.teacher_layers
            if beyond := [layer for layer in named if layer >= teacher.layers]:
                yield f"shapes.{name}.teacher_layers: {beyond[0]} but the teacher has {teacher.layers} layers"
            if named and len(named) != shape.layers:
                yield f"shapes.{name}.teacher_layers: {len(named)} named for {shape.layers} layers"

    @property
    def run_name(self) -> str:
        return self.name if self.budget == 1 else f"{self.name}-budget{self.budget:g}"

    @property
    def stamp(self) -> str:
        """What every figure says of its origin."""
        budget = "" if self.budget == 1 else f", budget {self.budget:g}"
        return f"profile {self.name}{budget} ({self.origin})"

    @property
    def origin(self) -> str:
        """What the text is, and thereby what may be concluded."""
        return "real Dutch" if self.text == "real" else "known-answer Dutch, not a replication"

    def replicates_of(self, student: str) -> list[str]:
        """The models that a student is: `merged`, and for further distillations `merged.2`, `merged.3`, and so on."""
        settings = self.students[student]
        count = 1 if settings.released else settings.replicates or self.replicates
        return [student, *(f"{student}.{number}" for number in range(2, count + 1))]

    @property
    def groups(self) -> dict[str, list[str]]:
        """What is compared -> its models: the teacher, and each student with its replicates."""
        return {"teacher": ["teacher"], **{student: self.replicates_of(student) for student in self.students}}

    @property
    def models(self) -> list[str]:
        """Every model that is evaluated, teacher first, the replicates of a student together."""
        return [model for models in self.groups.values() for model in models]

    @property
    def trained(self) -> list[str]:
        """The models that are distilled here: first every student once, then again, so that arms take turns."""
        models = [model for model in self.models if model != "teacher" and not self.released(model)]
        return sorted(models, key=self.replicate_of)

    @staticmethod
    def student_of(model: str) -> str:
        """The student that a model is a distillation of: `merged` of `merged.2`; the teacher stays the teacher."""
        return model.partition(".")[0]

    @staticmethod
    def replicate_of(model: str) -> int:
        """Which of a student's distillations a model is, from 1."""
        return int(model.partition(".")[2] or 1)

    def seed_of(self, model: str) -> int:
        """The seed of a model's training: initial weights where they are random, order, masks and dropout.

        The teacher's is the profile's own. That of a distillation follows from it, the student's name and the number of
        the replicate: tests take all distillations for independent, so no two share what chance gives them.
        """
        if model == "teacher":
            return self.seed
        return derived_seed(self.seed, self.student_of(model), self.replicate_of(model))

    def recipe_of(self, student: str) -> Recipe:
        """How a student (or one of its models) is trained: its recipe, with an update size of its own if it has one."""
        settings = self.students[self.student_of(student)]
        changed = {"update_size": settings.update_size} if settings.update_size else {}
        return self.recipes[settings.recipe].model_copy(update=changed)

    @property
    def controls(self) -> dict[str, str]:
        """Control -> a model whose shape it has, with random weights: one for each shape, the teacher's too."""
        controls = {f"{CONTROL}teacher": "teacher"}
        for name, student in self.students.items():
            controls.setdefault(f"{CONTROL}{student.shape}", name)
        return controls

    def control_of(self, group: str) -> str:
        """The control of the teacher, or of a student."""
        return f"{CONTROL}{'teacher' if group == 'teacher' else self.students[group].shape}"

    def finetuning_seeds(self, model: str) -> list[int]:
        """The seeds of a model's fine-tuning runs, no other model's: runs of two models are not paired.

        Each follows from one of `finetuning.seeds`, the name and a number. What is there once (teacher, control,
        student of one replicate) has as many runs as the most replicated student, and two at the least, as one says
        nothing of how much runs differ. Seeds given to notebook 50 by hand are taken as they are, by all models alike.
        """
        name, given = self.student_of(model), self.finetuning.seeds
        once = name not in self.students or len(self.replicates_of(name)) == 1
        runs = max(2 if len(given) == 1 else 1, *(len(models) for models in self.groups.values()))
        numbers = range(1, runs + 1) if once else [self.replicate_of(model)]
        return [derived_seed(seed, name, number) for number in numbers for seed in given]

    def released(self, model: str) -> HubTeacher | None:
        """Where one of `models` was released, or None if it is trained here."""
        if model == "teacher":
            return self.teacher if isinstance(self.teacher, HubTeacher) else None
        return self.students[self.student_of(model)].released

    @property
    def arms(self) -> list[tuple[str, str]]:
        """The (selection, arm) pairs to build, in the profile's order."""
        return [(selection, arm) for selection in self.corpus.selections for arm in self.corpus.arms]

    @property
    def stages(self) -> list[str]:
        """Every stage of a run, in the order of the paper."""
        return [
            "10_corpus",
            *(["20_teacher"] if isinstance(self.teacher, TeacherTraining) else []),
            *(f"30_distillation-{student}" for student in self.trained),
            "40_pseudo_perplexity",
            *(f"50_finetuning-{task}" for task in self.finetuning.tasks),
            "60_gender_bias",
            "70_significance",
            "80_efficiency",
            LAST_STAGE,
        ]

    def digest(self, *sections: str) -> str:
        """SHA-256 of the named sections (all of them if none is named), for provenance and reruns.

        A section is a path such as `tokenizer` or `students.merged`; of a student, without how often it is distilled,
        which says nothing of one distillation.
        """
        content = self.model_dump(mode="json")
        if sections:
            content["students"] = {name: student.one(mode="json") for name, student in self.students.items()}
            content = {section: functools.reduce(operator.getitem, section.split("."), content) for section in sections}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def derived_seed(seed: int, name: str, number: int) -> int:
    """The seed of the `number`-th run of what has this name: no other name or number has the same."""
    return int(np.random.SeedSequence([seed, number, zlib.crc32(name.encode())]).generate_state(1)[0])


def load_profile(name: str, budget: float | None = None) -> Profile:
    """Read, validate and scale a profile.

    `name` is one of `profiles/*.yaml`, the path of a YAML file, or the frozen profile of a run, which has its budget
    already. budget: 1 if none is given. Raises `UserError` with every fault of the file on one line.
    """
    path, raw = read_profile(name)
    if path.name == paths.FROZEN_PROFILE and "budget" in raw:
        return _load_frozen(path, raw, budget)
    if "budget" in raw:
        raise UserError(f"{path.name}: budget: is no setting of a profile; say BUDGET=0.05")
    profile = parse_profile(raw, 1.0 if budget is None else budget, where=path.name)
    if profile.name != path.stem:
        # Results lie under the profile's name: a copied file would overwrite those of its model.
        raise UserError(f"{path.name}: name: is '{profile.name}'; call file and profile the same")
    return profile


def _load_frozen(path: Path, raw: dict[str, Any], budget: float | None) -> Profile:
    profile = _validated(raw, where=str(path))
    if profile.run_name != path.parent.name:
        raise UserError(f"{path}: is that of run {profile.run_name}; `make reproduce` writes the right one")
    if budget not in {None, profile.budget}:
        raise UserError(
            f"{path}: is at budget {profile.budget:g}, not {budget:g}; ask for that, or for another profile"
        )
    return profile


def freeze_profile(profile: Profile, path: Path) -> None:
    """Write a profile as `load_profile` takes it, whole or not at all; left alone if the file says the same."""
    head = "# The profile of this run, validated and scaled. `make reproduce` writes it, and every stage reads it.\n"
    content = yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    if not path.is_file() or path.read_text(encoding="utf-8") != head + content:
        with artefacts.atomic_path(path) as temporary:
            temporary.write_text(head + content, encoding="utf-8")


def read_profile(name: str) -> tuple[Path, dict[str, Any]]:
    """The file of a profile and the mapping it holds, not validated, the user's own text by absolute paths.

    A path that begins with `papermill_runs/` is one below the output root: so notebooks name the profile of their run.
    Raises `UserError` if there is no such file, or something else than a mapping in it.
    """
    known = {path.stem: path for path in paths.PROFILES.glob("*.yaml")}
    path = Path(name) if name.endswith((".yaml", ".yml")) else known.get(name)
    if path and path.parts[0] == "papermill_runs":
        path = paths.output_root() / path
    if path is None or not (is_there(path) and path.is_file()):
        raise UserError(f"no profile '{name}': {did_you_mean(name, known)}")
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected a mapping of sections such as 'corpus:'")
    return path, beside(raw, path.parent)


def read_yaml(text: str, where: str) -> Any:
    """What a YAML text stands for, without tags that build objects. Raises `UserError`, which begins with `where`."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid YAML: {error}") from None


def beside(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`raw` with the user's own files and folders (text, models, a task's file) taken from `folder`, the profile's.

    What has another form than expected stays as it is, for the validation to tell.
    """
    raw = copy.deepcopy(raw)
    corpus, students = raw.get("corpus"), raw.get("students")
    if isinstance(corpus, dict) and isinstance(corpus.get("sources"), list):
        corpus["sources"] = [_source_beside(source, folder) for source in corpus["sources"]]
    for model in [raw.get("teacher"), *(students.values() if isinstance(students, dict) else [])]:
        if isinstance(model, dict) and isinstance(model.get("hub"), str) and is_folder(model["hub"]):
            model["hub"] = _absolute(model["hub"], folder)
    finetuning = raw.get("finetuning")
    tasks = finetuning.get("tasks") if isinstance(finetuning, dict) else None
    for task in tasks.values() if isinstance(tasks, dict) else ():
        options = task.get("options") if isinstance(task, dict) else None
        if isinstance(options, dict) and isinstance(options.get("file"), str):
            options["file"] = _absolute(options["file"], folder)
    return raw


def _source_beside(source: Any, folder: Path) -> Any:
    if not isinstance(source, str) or "/" not in source:
        return source
    kind, place = ("hub:", source[4:]) if source.startswith("hub:") else ("", source)
    return source if kind and not is_folder(place) else kind + _absolute(place, folder)


def _absolute(place: str, folder: Path) -> str:
    return os.path.abspath(folder / os.path.expanduser(place))  # noqa: PTH100, PTH111 - as in `is_there`


class _Loader(yaml.SafeLoader):
    """Plain YAML: no tags that build objects (as `SafeLoader`), and no key twice, of which the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def parse_profile(raw: dict[str, Any], budget: float = 1.0, where: str = "profile") -> Profile:
    """Validate the mapping `raw` and scale it to `budget`. Raises `UserError`."""
    if not 0 < budget <= 1:
        raise UserError(f"BUDGET {budget:g}: must lie above 0 and at most 1")
    if float(f"{budget:g}") != budget:
        raise UserError(f"BUDGET {budget}: at most six digits, as it names the folder of the run")
    profile = _validated(raw, where)
    return _validated({**scale(profile, budget).model_dump(), "budget": budget}, where)


def _validated(raw: dict[str, Any], where: str) -> Profile:
    try:
        return Profile.model_validate(raw)
    except ValidationError as error:
        faults = [_explain(fault) for fault in error.errors()]
        more = [f"and {len(faults) - 5} more"] if len(faults) > 5 else []
        raise UserError(f"{where}: {'; '.join(faults[:5] + more)}") from None


def scale(section: Any, budget: float) -> Any:
    """A copy of `section` in which every `Scaled` field is multiplied by `budget`, down to its minimum."""
    if isinstance(section, dict):
        return {key: scale(value, budget) for key, value in section.items()}
    if not isinstance(section, Section) or getattr(section, "amount_unit", None) == "epochs":
        return section
    changed: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        scaled = next((m for m in field.metadata if isinstance(m, Scaled)), None)
        if scaled is None:
            changed[name] = scale(value, budget)
        elif value is not None:
            # A value already below the floor stays: a budget only ever shrinks. Sizes that become one are one.
            changed[name] = _scaled(value, budget, scaled.minimum)
    return section.model_copy(update=changed)


def _scaled(value: Any, budget: float, minimum: int | float) -> Any:
    if isinstance(value, list):
        return _ascending(list({None if one is None else _scaled(one, budget, minimum) for one in value}))
    target = max(value * budget, min(minimum, value))
    return round(target) if isinstance(value, int) else target


def _explain(error: Any) -> str:
    """One fault that pydantic found, in a line that names the key as the file spells it."""
    location = error["loc"]
    where = ".".join(_shown(str(part)) for part in location if part not in TEACHERS and part != "[key]")
    if error["type"] == "extra_forbidden":
        return f"unknown key '{where}': {did_you_mean(str(location[-1]), _keys_beside(location))}"
    if error["type"] == "missing":
        return f"{where}: is missing; add it"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"{where}: {message}" if where else message
    if error["type"] == "literal_error":
        allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        return f"{where}: {reprlib.repr(error['input'])} is not known; {did_you_mean(str(error['input']), allowed)}"
    if where == "name" or "[key]" in location:
        message = "names start with a letter and hold a-z, 0-9 and _ only"
    if error["type"] == "float_type" and re.fullmatch(r"\d+e-?\d+", str(error["input"])):
        message += " (YAML reads 1e-3 as text; write 1.0e-3)"
    if error["type"] == "string_type" and type(error["input"]) in {int, float}:
        message += " (YAML reads this as a number; put it in quotes)"
    return f"{where}: {message}, not {reprlib.repr(error['input'])}"


def _shown(part: str) -> str:
    return part if len(part) <= 60 else part[:57] + "..."


def _keys_beside(location: tuple[Any, ...]) -> list[str]:
    """The keys allowed where an unknown one was found, by walking the models along `location`."""
    annotation: Any = Profile
    for part in location[:-1]:
        if part in TEACHERS:
            annotation = TEACHERS[part]
        elif isinstance(annotation, type) and issubclass(annotation, Section):
            annotation = annotation.model_fields[part].annotation
        elif get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
    return list(annotation.model_fields) if isinstance(annotation, type) and issubclass(annotation, Section) else []
