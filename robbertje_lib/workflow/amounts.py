"""How much work each stage of a profile is, told from its settings alone: what `make plan` reckons with.

Work is counted in parts. A part says what a unit of it is (a token that a model is trained on, a position that a model
is asked for), how many units there are, and what a unit takes on the machine where this was measured: 2 cores with
AVX512-BF16. `machine_speed` measures the units of models on the machine at hand; where nothing else is known, as for
the baselines or the figures, the seconds of that machine stand.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from robbertje_lib.corpus.arms import get_arm
from robbertje_lib.experiment.profile import HubTeacher, Profile, Shape, TeacherTraining, is_folder

Kind = Literal["train", "score", "finetune", "other"]

PER_SECOND = 6e10  # floating-point operations of small models, in training as in scoring
BYTES_PER_TOKEN = 4.4  # known-answer Dutch in words 4.5 to 4.8, novels and manifestos in 8,000 pieces 4.2
SEQUENCE = {"known_answer": 10, "real": 25}  # tokens of a line, `<s>` and `</s>` included
SQUARED = {"known_answer": 110, "real": 1000}  # mean square of the same
CORPUS_SECONDS = {"known_answer": 0.7, "real": 1.3}  # a megabyte of arms and of the teacher's text
# A text of a task, in tokens: those of known-answer Dutch as generated, of real data roughly.
EXAMPLE = {
    "known_answer": {"dbrd": 63, "die_dat": 12, "ner": 10, "pos": 10, "sick_nl": 18},
    "real": {"dbrd": 150, "die_dat": 30, "ner": 20, "pos": 20, "sick_nl": 28},
}
OTHER_EXAMPLE = 30  # of a task of one's own
ALL_EXAMPLES = 5000  # stands for "all there are" where two runs are compared, and is never an estimate
ASKED = {"word": 1.0, "bpe": 2.4}  # how often a token of a line is asked for, in all ways of counting
HELD_OUT = (11, 30_000, 1000)  # evaluations of a training, tokens of each, and tokens asked one by one
RUN_SECONDS = 0.4  # of a fine-tuning run, whatever its size
BASELINE_SECONDS = 0.002  # of the baselines of a task, an example
PROBE_POSITIONS = 15_000  # of the probes for gender bias but CrowS-Pairs
EXPORT_SECONDS = 4.0  # to export a model and to check and time its forms
TEST_SECONDS = 0.02  # 10,000 permutations of a pair of models on a task, with its intervals
FIGURE_SECONDS = 0.8
REPORT_SECONDS = 4.0  # claims, tables and the report
RELEASED = {"pdelobelle/robbert-v2-dutch-base": (12, 768, 3072, 40_000)}  # its configuration on the hub


class UnknownWork(Exception):
    """Why the work of a stage cannot be told, in a few words."""


@dataclass(frozen=True)
class Size:
    """What a model's passes cost by: layers, width, width within a layer, and vocabulary."""

    layers: int
    hidden: int
    feed_forward: int
    vocabulary: int

    def operations(self, predicted: float) -> float:
        """Floating-point operations of a token forward. predicted: the share of tokens that the LM head sees."""
        layers = self.layers * (4 * self.hidden**2 + 2 * self.hidden * self.feed_forward)
        return 2 * (layers + predicted * self.hidden * (self.hidden + self.vocabulary))


@dataclass(frozen=True)
class Part:
    """A part of a stage's work: `amount` units of `kind` and `what`.

    `what`: the model, or for training a student its shape and recipe. `unit`: all settings that decide what a unit
    takes, so that parts of two profiles can be told alike. `reference`: seconds a unit, where this was measured.
    """

    kind: Kind
    what: str
    unit: str
    amount: float
    reference: float

    @property
    def seconds(self) -> float:
        """On the machine where this was measured."""
        return self.amount * self.reference


@dataclass(frozen=True)
class Amounts:
    """The work of the stages of one profile."""

    profile: Profile

    def of(self, stage: str) -> list[Part]:
        """Raises `UnknownWork` where a model's size cannot be told without the network."""
        notebook, _, name = stage.partition("-")
        stages = {
            "10": self._corpus,
            "20": self._teacher,
            "30": lambda: self._student(name),
            "40": self._pseudo_perplexity,
            "50": lambda: self._finetuning(name),
            "60": self._gender_bias,
            "70": self._significance,
            "80": self._efficiency,
            "90": self._figures,
        }
        return list(stages[notebook[:2]]())

    def unsettled(self, stage: str) -> str:
        """What is not known before a stage reads its data, or nothing: such a stage is only compared with its like."""
        task = self.profile.finetuning.tasks.get(stage.partition("-")[2]) if stage.startswith("50") else None
        return "takes all examples that there are" if task and None in task.train else ""

    @cached_property
    def teacher(self) -> Size:
        settings, vocabulary = self.profile.teacher, self.profile.tokenizer.vocabulary
        if isinstance(settings, TeacherTraining):
            return Size(settings.layers, settings.hidden, settings.feed_forward, vocabulary)
        return _released(settings)

    def student(self, shape: Shape) -> Size:
        return Size(shape.layers, self.teacher.hidden, shape.feed_forward, self.teacher.vocabulary)

    def size_of(self, model: str) -> tuple[str, Size]:
        """Name and size of the shape of a model or control: `teacher`, or one of `shapes`."""
        model = self.profile.controls.get(model, model)
        if model == "teacher":
            return "teacher", self.teacher
        shape = self.profile.students[self.profile.student_of(model)].shape
        return shape, self.student(self.profile.shapes[shape])

    @property
    def trained_kinds(self) -> dict[str, str]:
        """`shape recipe` -> a student of that kind, for each kind that is trained here."""
        kinds: dict[str, str] = {}
        for model in self.profile.trained:
            settings = self.profile.students[self.profile.student_of(model)]
            kinds.setdefault(f"{settings.shape} {settings.recipe}", model)
        return kinds

    def _corpus(self) -> Iterator[Part]:
        corpus, text = self.profile.corpus, self.profile.text
        stores = len(self.profile.arms) + 4 * isinstance(self.profile.teacher, TeacherTraining)
        yield _other("corpus", text, stores * corpus.arm_megabytes, CORPUS_SECONDS[text])

    def _teacher(self) -> Iterator[Part]:
        settings = self.profile.teacher
        assert isinstance(settings, TeacherTraining)
        share, causal = settings.mask_fraction, settings.causal_share
        operations = 3 * self.teacher.operations(causal + (1 - causal) * share)
        unit = _unit(settings, "tokens", "learning_rate", "warmup", "weight_decay", size=self.teacher)
        yield Part("train", "teacher", unit, settings.tokens, operations / PER_SECOND)
        yield self._held_out("teacher", 1 - causal)

    def _student(self, model: str) -> Iterator[Part]:
        settings, recipe = self.profile.students[self.profile.student_of(model)], self.profile.recipe_of(model)
        predicted = 1.0 if recipe.kl_positions == "all" else recipe.mask_fraction
        size = self.student(self.profile.shapes[settings.shape])
        operations = 3 * size.operations(predicted) + self.teacher.operations(predicted)
        unit = _unit(
            recipe, "amount", "amount_unit", "update_size", "learning_rate", "warmup", size=size, teacher=self.teacher
        )
        what = f"{settings.shape} {settings.recipe}"
        yield Part("train", what, unit, self.tokens_seen(model), operations / PER_SECOND)
        yield self._held_out(model, 1.0)

    def tokens_seen(self, model: str) -> float:
        """Tokens that the training of a student sees, from an amount in tokens, sequences, updates or epochs."""
        recipe, settings = self.profile.recipe_of(model), self.profile.students[self.profile.student_of(model)]
        corpus = self.profile.corpus
        merged = 1 / (1 - corpus.merge_probability) if get_arm(settings.arm).merges else 1.0
        sequence = SEQUENCE[self.profile.text] * min(merged, self.profile.tokenizer.maximum_length)
        update = recipe.update_size * (1 if recipe.batching == "tokens" else sequence)
        epoch = corpus.arm_megabytes * 1e6 / BYTES_PER_TOKEN
        unit = {"tokens": 1.0, "sequences": sequence, "updates": update, "epochs": epoch}[recipe.amount_unit]
        return recipe.amount * unit

    def _held_out(self, model: str, share: float) -> Part:
        """The evaluations of a training. share: of it, in which they are made."""
        times, tokens, one_by_one = HELD_OUT
        corpus = self.profile.corpus
        there = corpus.held_out_fraction * 4 * corpus.arm_megabytes * 1e6 / BYTES_PER_TOKEN
        positions = min(tokens, there) + min(one_by_one, there) * SEQUENCE[self.profile.text]
        return self._scored(model, (1 + share * (times - 1)) * positions)

    def _scored(self, model: str, positions: float) -> Part:
        shape, size = self.size_of(model)
        return Part("score", shape, _unit(size=size), positions, size.operations(0.15) / PER_SECOND)

    def _pseudo_perplexity(self) -> Iterator[Part]:
        text, asked = self.profile.text, ASKED[self.profile.tokenizer.kind]
        for model in self.profile.models:
            yield self._scored(model, self.profile.pseudo_perplexity.lines * SQUARED[text] * asked)

    def _finetuning(self, task: str) -> Iterator[Part]:
        settings, tuning = self.profile.finetuning.tasks[task], self.profile.finetuning
        train, tokens = _numbers(settings.train), EXAMPLE[self.profile.text].get(task, OTHER_EXAMPLE)
        judged, tested = _numbers([settings.validation, settings.test])
        sizes = "all" if None in settings.train else "some"
        unit = {"dropout": tuning.dropout, "batch": tuning.batch_size, "task": task, "sizes": sizes}
        yield _other("baselines", sizes, sum(train) + tested, BASELINE_SECONDS)
        for name in (*self.profile.models, *self.profile.controls):
            shape, size = self.size_of(name)
            seeds = len(self.profile.finetuning_seeds(name))
            first = self.profile.student_of(name) == name and tuning.trials > 1
            searched = tuning.trials if first else 0
            examples = tuning.epochs * (seeds * sum(train) + searched * max(train))
            runs = seeds * len(train) + searched
            reference = 3 * size.operations(0) / PER_SECOND
            yield Part("finetune", shape, _unit(size=size, **unit), examples * tokens, reference)
            answered = runs * judged * tuning.evaluations + seeds * len(train) * tested
            yield self._scored(name, answered * tokens)
            yield _other("finetuning run", "", runs, RUN_SECONDS)

    def _gender_bias(self) -> Iterator[Part]:
        pairs = self.profile.gender_bias.crows_pairs if self.profile.text == "real" else 0
        for model in self.profile.models:
            yield self._scored(model, PROBE_POSITIONS + 2 * pairs * SQUARED["real"])

    def _significance(self) -> Iterator[Part]:
        groups, settings = len(self.profile.groups), self.profile.significance
        pairs = groups * (groups - 1) / 2 * (len(self.profile.finetuning.tasks) + 2)
        yield _other("test", self.profile.text, pairs * settings.permutations / 10_000, TEST_SECONDS)

    def _efficiency(self) -> Iterator[Part]:
        settings, sequence = self.profile.efficiency, SEQUENCE[self.profile.text]
        for group in self.profile.groups:
            yield _other("export", "", 1, EXPORT_SECONDS)
            yield self._scored(group, 6 * settings.lines * settings.repeats * sequence)

    def _figures(self) -> Iterator[Part]:
        yield _other("claims and report", "", 1, REPORT_SECONDS)
        yield _other("figure", "", 10 + len(self.profile.finetuning.tasks), FIGURE_SECONDS)


def _released(teacher: HubTeacher) -> Size:
    if teacher.hub in RELEASED:
        return Size(*RELEASED[teacher.hub])
    names = ("num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size")
    if is_folder(teacher.hub):
        try:
            config = json.loads((Path(teacher.hub).expanduser() / "config.json").read_text(encoding="utf-8"))
            return Size(*(int(config[name]) for name in names))
        except (OSError, ValueError, KeyError, TypeError):
            raise UnknownWork(f"the size of {teacher.hub} cannot be read") from None
    raise UnknownWork(f"the size of {teacher.hub} is not known before it is downloaded")


def _numbers(sizes: list[int | None]) -> list[int]:
    return [ALL_EXAMPLES if size is None else size for size in sizes]


def _other(what: str, unit: str, amount: float, seconds: float) -> Part:
    return Part("other", what, unit, amount, seconds)


def _unit(settings: Any = None, *without: str, **more: Any) -> str:
    """Settings as one text, but those that change no unit of work."""
    told = settings.model_dump(mode="json", exclude=set(without)) if settings else {}
    return json.dumps({**told, **more}, sort_keys=True, default=vars)
