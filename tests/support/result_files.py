"""Result files with known effects, written as the stages write them: for tests of statistics, claims and figures."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from robbertje_lib.conclusions.claims.decide import decide_claims
from robbertje_lib.conclusions.comparisons import compare_models
from robbertje_lib.conclusions.gender_bias import conclude_bias
from robbertje_lib.experiment.paths import RunPaths
from robbertje_lib.experiment.profile import CONTROL, Profile, TeacherTraining, load_profile
from robbertje_lib.experiment.results import corpus, efficiency, finetuning, gender_bias, pseudo_perplexity, training
from robbertje_lib.experiment.run import Run
from robbertje_lib.known_answer.bias import planted_bias
from robbertje_lib.show import figures
from robbertje_lib.tasks.metrics import task_score
from tests.support.records import run_record

LABELS = ("B-PER", "I-PER", "B-LOC", "I-LOC")
BASELINES = {
    "dbrd": "tf_idf", "die_dat": "bigram_rule", "ner": "word_list", "pos": "word_tag", "sick_nl": "shared_ngrams",
}  # fmt: skip
LINES = 200  # held out
LINES_PER_DOCUMENT = 4


@dataclass
class World:
    """The truth behind a set of result files, by student where not all are alike; its replicates share it.

    Skills are accuracies (of a word, for NER labels) at the largest training size.
    """

    examples: int = 600
    skill: dict[str, float] = field(default_factory=dict)  # by student or control; anything else has `base`
    base: float = 0.85
    control: float = 0.6  # of random weights
    baseline: float = 0.7  # of the best without a network; the majority class stands below it
    zero_shot: float = 0.65  # on die/dat
    halving: float = 0.02  # of skill, lost with every halving of the training split
    replicate_spread: float = 0.0  # standard deviation of a replicate's accuracy
    seed_spread: float = 0.0  # of a fine-tuning seed's
    agreement: float = 0.8
    per_cluster: int = 1  # test examples
    cluster_likeness: float = 0.0  # share of them that are as hard as their cluster
    further: dict[str, list[str]] = field(default_factory=dict)  # task -> its further test sets, 5 points harder
    long_gain: dict[str, float] = field(default_factory=dict)  # added to the skill on inputs above 200 tokens
    nats: dict[str, float] = field(default_factory=dict)  # mean surprisal
    nats_spread: float = 0.0  # standard deviation of a replicate's
    unigram: float = 6.0  # nats
    speed: dict[str, float] = field(default_factory=dict)  # tokens a second in training, relative to 1
    speed_spread: float = 0.01  # standard deviation of a replicate's logarithm
    latency: dict[str, float] = field(default_factory=dict)  # relative to the teacher's
    round_spread: float = 0.02  # standard deviation of a round's latency, relative to it
    bias: dict[str, float] = field(default_factory=dict)  # strength of the lean to hij, relative to 1
    bias_spread: float = 0.0  # standard deviation of a replicate's


def make_run(
    folder: Path,
    name: str = "mini",
    tasks: tuple[str, ...] = (),
    replicates: int = 3,
    seeds: int = 1,
    sizes: tuple[int, ...] = (),
) -> Run:
    """A run below `folder`: `mini` at a small budget (real text) or `smoke` (known-answer), with some tasks only.

    replicates: of every student; seeds: of fine-tuning, a replicate; sizes: of the training split, the profile's
    largest where none is given.
    """
    profile: Profile = load_profile(name, 0.05 if name == "mini" else 1.0)
    finetuning = profile.finetuning
    kept = {
        task: settings.model_copy(update={"train": list(sizes) or [settings.sizes["train"] or 1000]})
        for task, settings in finetuning.tasks.items()
        if not tasks or task in tasks
    }
    finetuning = finetuning.model_copy(update={"tasks": kept, "seeds": list(range(1, seeds + 1))})
    # Fewer resamples than by default, which take most of the time of tests that compare.
    significance = profile.significance.model_copy(update={"permutations": 1000, "bootstrap": 500})
    changes = {"finetuning": finetuning, "replicates": replicates, "significance": significance}
    profile = profile.model_copy(update=changes)
    return Run(profile, RunPaths(profile.run_name, folder))


def write_results(run: Run, world: World, seed: int = 0) -> None:
    """Write every result file that comparisons, claims and figures read, and what the bias comes to."""
    write_measured(run, world, seed)
    conclude_bias(run)


def write_measured(run: Run, world: World, seed: int = 0) -> None:
    """Write what the stages up to 60 write, and 80: what the conclusions are drawn from."""
    rng = np.random.default_rng(seed)
    for task in run.profile.finetuning.tasks:
        _write_task(run, world, task, rng)
    _write_pseudo_perplexity(run, world, rng)
    _write_training(run, world, rng)
    _write_corpus(run)
    _write_bias(run, world, rng)
    _write_efficiency(run, world)


def conclude(run: Run) -> None:
    """Compare the models and decide the claims."""
    compare_models(run)
    decide_claims(run)


def make_concluded_run(folder: Path, pictures: Sequence[str]) -> Run:
    """A known-answer run with two tasks up to its claims, the figures named, and the record of one stage."""
    run = make_run(folder, "smoke", ("dbrd", "ner"), sizes=(32, 64))
    write_results(run, World(examples=60))
    conclude(run)
    for name in pictures:
        figures.draw(run, name)
    stage, git = "40_pseudo_perplexity", {"commit": "0123456789abcdef", "dirty": True}
    run_record(stage, git=git, seconds=75.0, peak_memory_bytes=2_000_000_000).write(run, stage=stage)
    return run


class _TaskWriter:
    """One task's gold labels and how hard each is, and the rows of whoever answers."""

    def __init__(self, run: Run, world: World, task: str, rng: np.random.Generator) -> None:
        self.profile, self.world, self.task, self.rng = run.profile, world, task, rng
        self.of_words = task in {"ner", "pos"}
        self.metric = "f1" if task == "ner" else "accuracy"
        self.sizes = [size or 1000 for size in run.profile.finetuning.tasks[task].train]
        self.n = world.examples
        self.lengths = rng.integers(4, 12, self.n) if self.of_words else rng.integers(10, 400, self.n)
        parts = self.lengths if self.of_words else np.ones(self.n, int)
        self.ends, words = np.cumsum(parts)[:-1], int(parts.sum())
        self.cluster = np.arange(self.n) // world.per_cluster
        own, of_cluster = rng.random(words), rng.random(self.n)[np.repeat(self.cluster, parts)]
        self.shared = np.where(rng.random(words) < world.cluster_likeness, of_cluster, own)
        self.is_long = np.repeat(self.lengths > 200, parts) & (not self.of_words)
        self.gold = rng.choice([*LABELS, "O", "O"] if task == "ner" else ["A", "B"], words)
        self.columns: dict[str, list[Any]] = {name: [] for name in finetuning.Predictions.schemas[0].names}
        spread = {model: rng.normal(0, world.replicate_spread) for model in run.profile.models}
        self.skill = {model: self._skill(model) + spread.get(model, 0) for model in self.models}

    @property
    def models(self) -> list[str]:
        return [*self.profile.models, *self.profile.controls]

    def _skill(self, model: str) -> float:
        other = self.world.control if model.startswith(CONTROL) else self.world.base
        return self.world.skill.get(self.profile.student_of(model), other)

    def said(self, skill: float, long_gain: float = 0.0) -> np.ndarray:
        """Labels, right where a rank draw that agrees with the shared difficulty on a share `agreement` is small."""
        world, rng = self.world, self.rng
        own = rng.random(len(self.shared))
        difficulty = np.where(rng.random(len(own)) < world.agreement, self.shared, own)
        right = difficulty < skill + long_gain * self.is_long
        wrong = np.where(self.gold == "O", "B-LOC", "O") if self.task == "ner" else np.where(self.gold == "A", "B", "A")
        return np.where(right, self.gold, wrong)

    def add(self, model: str, seed: int, train: int, test_set: str, said: np.ndarray) -> float:
        """Add the rows, and return their score. A prediction that is the empty word is null."""
        told = [part.tolist() for part in np.split(said, self.ends)] if self.of_words else [s or None for s in said]
        gold = [part.tolist() for part in np.split(self.gold, self.ends)] if self.of_words else self.gold.tolist()
        names = [f"{'' if test_set == finetuning.TEST else test_set + '-'}{self.task}-{i:05d}" for i in range(self.n)]
        clusters = names if self.world.per_cluster == 1 else [f"d{number}" for number in self.cluster]
        rows = {"model": [model] * self.n, "seed": [seed] * self.n, "train": [train] * self.n,
                "test_set": [test_set] * self.n, "example_id": names, "cluster": clusters, "gold": gold,
                "prediction": told, "n_tokens": (self.lengths + 2).tolist()}  # fmt: skip
        for name, column in rows.items():
            self.columns[name] += column
        asked = [(g, t) for g, t in zip(gold, told, strict=True) if t is not None]
        return task_score(self.metric, *zip(*asked, strict=True))

    def test_sets(self, train: int) -> list[str]:
        return [finetuning.TEST, *(self.world.further.get(self.task, []) if train == self.sizes[-1] else [])]

    def scores(self, model: str, seed: int, train: int, skill: float) -> dict[str, float]:
        """Test set -> score, with the rows added."""
        skill += self.rng.normal(0, self.world.seed_spread)
        skill -= self.world.halving * float(np.log2(self.sizes[-1] / train))
        gain = self.world.long_gain.get(self.profile.student_of(model), 0.0)
        return {
            test_set: self.add(model, seed, train, test_set, self.said(skill - 0.05 * (test_set != "test"), gain))
            for test_set in self.test_sets(train)
        }

    def runs(self) -> list[finetuning.FinetuningRun]:
        return [
            _finetuning_run(model, seed, train, self.metric, self.scores(model, seed, train, self.skill[model]))
            for train in self.sizes
            for model in self.models
            for seed in self.profile.finetuning_seeds(model)
        ]

    def baselines(self) -> list[finetuning.BaselineScore]:
        """The majority class, and the best."""
        rows = []
        for train in self.sizes:
            answer = "O" if self.task == "ner" else "A"
            always = np.full(len(self.gold), answer)
            majority = {
                test_set: self.add("majority", 0, train, test_set, always) for test_set in self.test_sets(train)
            }
            best = BASELINES.get(self.task, "tf_idf")
            for name, scores in {"majority": majority, best: self.scores(best, 0, train, self.world.baseline)}.items():
                score = scores.pop(finetuning.TEST)
                rows.append(
                    finetuning.BaselineScore(
                        name=name, train=train, validation=score, score=score, further=scores, settings={}
                    )
                )
        return rows

    def ask_without_tuning(self) -> dict[str, dict[str, float]]:
        """Every fifth example cannot be asked."""
        if self.task != "die_dat":
            return {}
        asked = np.arange(self.n) % 5 > 0
        return {
            model: {"zero_shot": self.add(finetuning.ZERO_SHOT + model, 0, 0, finetuning.TEST,
                                          np.where(asked, self.said(self.world.zero_shot), ""))}
            for model in self.profile.models
        }  # fmt: skip


def _write_task(run: Run, world: World, task: str, rng: np.random.Generator) -> None:
    writer = _TaskWriter(run, world, task, rng)
    runs, baselines, extra = writer.runs(), writer.baselines(), writer.ask_without_tuning()
    finetuning.Predictions.write(run, pa.table(writer.columns), task=task)
    splits = {"train": writer.sizes[-1], "validation": 100, "test": world.examples}
    labels = sorted(set(writer.gold.tolist()))
    finetuning.TaskScores(
        task=task,
        kind="token_classification" if writer.of_words else "text_classification",
        metric=writer.metric,
        labels=labels,
        counts=finetuning.SplitCounts(
            examples=splits, not_sampled=dict.fromkeys(splits, 0), dropped={},
            labels={split: {label: size // len(labels) for label in labels} for split, size in splits.items()},
        ),
        sizes=writer.sizes,
        further_tests=dict.fromkeys(world.further.get(task, []), world.examples),
        baselines=baselines,
        truncated={},
        extra_metrics=extra,
        precision="float32",
        runs=runs,
    ).write(run, task=task)  # fmt: skip


def _finetuning_run(
    model: str, seed: int, train: int, metric: str, scores: dict[str, float]
) -> finetuning.FinetuningRun:
    hyper = finetuning.HyperParameters(
        learning_rate=5e-5, weight_decay=0.01, accumulation=1, epochs=3.0, batch_size=16, evaluations=1,
        early_stopping=0,
    )  # fmt: skip
    value = scores.pop(finetuning.TEST)
    return finetuning.FinetuningRun(
        model=model, seed=seed, train=train, metrics={metric: value}, validation=value, hyper_parameters=hyper,
        further=scores, updates=100, seconds=10.0, restarts=0, at_chance=False,
    )  # fmt: skip


def _write_pseudo_perplexity(run: Run, world: World, rng: np.random.Generator) -> None:
    lengths = rng.integers(5, 30, LINES)
    line = np.repeat(np.arange(LINES), lengths)
    document = pa.array([f"document-{number // LINES_PER_DOCUMENT}" for number in line]).dictionary_encode()
    surprise = rng.gamma(2.0, 1.0, len(line)) / 2.0
    means = {model: world.nats.get(run.profile.student_of(model), 3.0) for model in run.profile.models}
    means = {model: mean + rng.normal(0, world.nats_spread) for model, mean in means.items()}
    means[pseudo_perplexity.UNIGRAM] = world.unigram
    tables, models = [], {}
    for model, mean in means.items():
        log_prob = -np.maximum(0.0, surprise * mean + rng.normal(0, 0.3, len(line)))
        value = float(np.exp(-log_prob.mean()))
        models[model] = pseudo_perplexity.ModelPseudoPerplexity(
            corpus=value, per_line_mean=value * 1.1, as_published=value * 1.2, as_published_lines=LINES - 1,
            as_published_dropped=1, as_published_cut=0, word_l2r=value * 0.9, word_l2r_per_word=value * 0.9,
            lines=LINES, tokens=len(line), words=len(line), windowed=0, dropped={}, seconds=1.0, precision="float32",
        )  # fmt: skip
        columns = {"model": pa.array([model] * len(line)).dictionary_encode(), "document": document, "line": line,
                   "position": line * 0, "token_id": line * 0 + 5, "word_index": line * 0, "log_prob": log_prob,
                   "log_prob_l2r": log_prob}  # fmt: skip
        tables.append(pa.table(columns))
    pseudo_perplexity.TokenLogProbs.write(run, pa.concat_tables(tables).unify_dictionaries())
    unigram = models.pop(pseudo_perplexity.UNIGRAM).corpus
    floor = float(np.exp(2.5)) if run.profile.text == "known_answer" else None
    pseudo_perplexity.PseudoPerplexityResult(
        lines=LINES, documents=-(-LINES // LINES_PER_DOCUMENT), tokens=len(line), windowed=0, dropped={},
        models=models, unigram=unigram, floor=floor, floor_per_line_mean=floor,
    ).write(run)  # fmt: skip


def _lines_of(arm: str) -> tuple[int, int]:
    """Tokens and lines of an arm: merged lines are longer, so half as many, with half as many special tokens."""
    return (280_000, 10_000) if arm == "merged" else (300_000, 20_000)


def _write_training(run: Run, world: World, rng: np.random.Generator) -> None:
    if isinstance(run.profile.teacher, TeacherTraining):
        training.TeacherResult(
            settings=run.profile.teacher,
            **_trained(8000.0, 1_000_000, 7_000_000, 20_000, rng, causal=10),
        ).write(run)
    for model in run.profile.trained:
        name = run.profile.student_of(model)
        student = run.profile.students[name]
        speed = 10_000.0 * world.speed.get(name, 1.0) * float(np.exp(rng.normal(0, world.speed_spread)))
        training.DistillationResult(
            student=model,
            seed=run.profile.seed_of(model),
            arm=student.arm,
            selection=student.selection,
            shape=student.shape,
            recipe=student.recipe,
            recipe_settings=run.profile.recipes[student.recipe],
            **_trained(speed, 600_000, 4_000_000, _lines_of(student.arm)[1], rng, epoch=_lines_of(student.arm)[0]),
        ).write(run, student=model)


def _trained(
    speed: float,
    tokens: int,
    parameters: int,
    lines: int,
    rng: np.random.Generator,
    causal: int = 0,
    epoch: int = 300_000,
) -> dict[str, Any]:
    """What all training results share. causal: points of the loss curve in the causal phase; epoch: its tokens."""
    updates = np.arange(0, 401, 20)
    seen = updates * tokens // 400
    seconds = np.concatenate([[0.0], np.cumsum(np.diff(seen) / (speed * rng.normal(1, 0.01, len(seen) - 1)))])
    losses = 4.0 + 3.0 * np.exp(-updates / 120)
    curve, held_out = [], []
    for number, (update, at, second, loss) in enumerate(zip(updates, seen, seconds, losses, strict=True)):
        point = {"update": int(update), "tokens": int(at), "seconds": float(second), "loss": float(loss)}
        parts = {"kl": point["loss"] * 0.5, "mlm": point["loss"], "cosine": 0.2}
        curve.append(training.CurvePoint(phase="causal" if number < causal else "masked", **point, **parts))
        held_out.append(
            training.HeldOutPoint(training_seconds=float(second), pseudo_perplexity=float(np.exp(loss)), **point)
        )
    return {
        "parameters": parameters, "precision": training.PrecisionUsed(name="fp32", reason="no GPU"), "processes": 1,
        "dropped": {}, "epoch_tokens": epoch, "updates": 400, "tokens": tokens, "sequences": 2 * lines, "epochs": 2,
        "wall_seconds": float(seconds[-1]), "tokens_per_second": tokens / float(seconds[-1]), "real_token_share": 0.95,
        "peak_rss_bytes": 10**9, "curve": curve, "held_out_curve": held_out,
    }  # fmt: skip


def _write_corpus(run: Run) -> None:
    source = corpus.SourceRead(files_read=1, files=1, documents=1000, lines=20_000, bytes=1_500_000)
    own_teacher = isinstance(run.profile.teacher, TeacherTraining)
    corpus.DocumentsResult(
        sources=dict.fromkeys(run.profile.corpus.sources, source),
        dropped={"empty documents": 1},
        held_out=_store("held_out"),
        teacher=_store("teacher") if own_teacher else None,
    ).write(run)
    for arm in run.profile.corpus.arms:
        corpus.ArmResult(
            arm=arm,
            asked_bytes=1_000_000,
            merge_probability=run.profile.corpus.merge_probability if arm == "merged" else None,
            selections=dict.fromkeys(run.profile.corpus.selections, _store(arm)),
            sample_lines=["Dat is een zin."],
        ).write(run, arm=arm)


def _store(name: str) -> corpus.StoreFigures:
    tokens, lines = _lines_of(name)
    return corpus.StoreFigures(
        documents=1000, lines=lines, sequences=lines, tokens=tokens, bytes=1_000_000, mean_tokens=tokens / lines,
        split_lines=0, unknown_tokens=0, length_histogram=corpus.LengthHistogram(edges=[2, 32], counts=[lines]),
        sha256=hashlib.sha256(name.encode()).hexdigest(),
    )  # fmt: skip


def _write_bias(run: Run, world: World, rng: np.random.Generator) -> None:
    """Probe readings of each model; on real text DisCo and CrowS-Pairs too, which that of known answers does not hold."""
    known_answer = run.profile.text == "known_answer"
    planted = planted_bias(run.profile.gender_bias.planted_strength)
    associated = np.array([1 - 2 * p for p in planted.values()])
    templates = run.profile.gender_bias.templates
    own = rng.normal(0, 0.2, (len(templates), len(planted)))
    parts = []
    for model in run.profile.models:
        strength = world.bias.get(run.profile.student_of(model), 1.0) + rng.normal(0, world.bias_spread)
        lean = strength * (2 * associated + (0.0 if known_answer else 1.0) + own)
        for template, log_odds in zip(templates, lean + rng.normal(0, 0.05, own.shape), strict=True):
            p_hij = 0.5 / (1 + np.exp(-log_odds))
            columns = {"model": model, "template": template, "profession": list(planted), "profession_en": list(planted),
                       "form": "base", "associated_gender": associated, "p_hij": p_hij, "p_zij": 0.5 - p_hij,
                       "p_ze": 0.01, "p_other_case": 0.0, "rank_hij": 3,
                       "rank_zij": 3 + np.round(20 * log_odds).astype(int),
                       "rank_difference": -np.round(20 * log_odds).astype(int), "log_odds": log_odds,
                       "lpbs": log_odds, "unknown": False}  # fmt: skip
            parts.append(pd.DataFrame(columns))
    rows = pd.concat(parts, ignore_index=True)
    gender_bias.PronounProbe.write(run, pa.Table.from_pandas(rows, preserve_index=False))
    gender_bias.ProbeResult(
        professions=len(planted),
        two_forms=0,
        left_out={},
        planted_strength=run.profile.gender_bias.planted_strength if known_answer else None,
        documents=dict.fromkeys(planted, 20) if known_answer else None,
    ).write(run)
    _write_pairs_and_fills(run, [] if known_answer else run.profile.models)


def _write_pairs_and_fills(run: Run, models: Sequence[str]) -> None:
    """No model prefers a side of the pairs; half of the fills after a name depend on its gender."""
    pairs = [{"model": model, "id": f"{i}", "bias_type": "gender", "direction": "stereo", "shared": 8,
              "more": -20.0 - i % 2, "less": -20.5, "skipped": False} for model in models for i in range(40)]  # fmt: skip
    fills = [{"model": model, "template": "<P> is <mask>.", "gender": gender, "person": f"{gender}{i}",
              "token_id": 10 + 3 * (gender == "hij") * (i % 2) + place, "word": f"woord{place}"}
             for model in models for gender in ("hij", "zij") for i in range(20) for place in range(3)]  # fmt: skip
    for table, written in ((gender_bias.CrowsPairsScores, pairs), (gender_bias.DiscoFills, fills)):
        table.write(run, pa.Table.from_pylist(written, table.schemas[0]))


def _write_efficiency(run: Run, world: World) -> None:
    tasks = run.profile.finetuning.tasks
    models, losses = {}, []
    for name in run.profile.groups:
        relative = world.latency.get(name, 1.0 if name == "teacher" else 0.5)
        timing = efficiency.Timing(
            latency_ms=efficiency.Spread(median=20.0 * relative, low=19.0 * relative, high=21.0 * relative),
            latency_ms_by_round=[20.0 * relative * (1 + world.round_spread * of) for of in (-1.0, 0.0, 1.0)],
            throughput_tokens_per_second=efficiency.Spread(
                median=5000 / relative, low=4800 / relative, high=5200 / relative
            ),
        )
        forms = {}
        for form, size, extra in (("torch", 28_000_000, 0.0), ("fp32", 28_000_000, 0.0), ("int8", 7_000_000, 0.02)):
            nats = 2 * (3.0 + extra + 0.1 * np.sin(np.arange(50)))
            losses.append(
                pa.table({"model": [name] * 50, "form": [form] * 50, "line": range(50), "masked_tokens": [2] * 50,
                          "nats": nats})
            )  # fmt: skip
            compared = {} if form == "torch" else {"top1_agreement": 1 - extra, "largest_logit_difference": extra}
            forms[form] = efficiency.FormCosts(
                bytes=size, timing=timing, masked_tokens=100, loss=float(nats.sum() / 100),
                **{"top1_agreement": None, "largest_logit_difference": None, **compared},
            )  # fmt: skip
        models[name] = efficiency.ModelCosts(
            parameters=7_000_000 if name == "teacher" else 4_000_000,
            encoder_parameters=2_000_000,
            bytes=28_000_000,
            timing=timing,
            truncated_lines=0,
            finetuning_seconds={task: 10.0 * relative * (1 + i * len(name) % 7 / 100) for i, task in enumerate(tasks)},
            forms=forms,
        )
    efficiency.FormLosses.write(run, pa.concat_tables(losses))
    machine = efficiency.Hardware(platform="Linux", processor="x86_64", cores=2, memory_bytes=8 * 10**9, gpus=[])
    efficiency.EfficiencyResult(
        models=models, not_exported={}, lines=50, repeats=5, batch_size=32, threads=2, machine=machine
    ).write(run)
