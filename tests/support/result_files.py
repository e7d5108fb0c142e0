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
from robbertje_lib.experiment.profile import Profile, TeacherTraining, load_profile
from robbertje_lib.experiment.results import corpus, efficiency, finetuning, gender_bias, pseudo_perplexity, training
from robbertje_lib.experiment.run import Run
from robbertje_lib.known_answer.bias import planted_bias
from robbertje_lib.show import figures
from robbertje_lib.tasks.metrics import METRICS, example_counts
from tests.support.records import run_record

SEEDS = (1, 2, 3)
LABELS = ("B-PER", "I-PER", "B-LOC", "I-LOC")


@dataclass
class World:
    """The truth behind a set of result files. Skills are accuracies (of a word, for NER labels)."""

    examples: int = 600
    skill: dict[str, float] = field(default_factory=dict)  # by model; anything else has `base`
    base: float = 0.85
    seed_spread: float = 0.0  # standard deviation of a seed's accuracy
    agreement: float = 0.8
    long_gain: dict[str, float] = field(default_factory=dict)  # added to the skill on inputs above 200 tokens
    nats: dict[str, float] = field(default_factory=dict)  # mean surprisal, by model
    speed: dict[str, float] = field(default_factory=dict)  # tokens a second in training, relative to 1
    latency: dict[str, float] = field(default_factory=dict)  # relative to the teacher's
    bias: dict[str, float] = field(default_factory=dict)  # strength of the lean to hij, relative to 1


def make_run(folder: Path, name: str = "mini", tasks: tuple[str, ...] = ()) -> Run:
    """A run below `folder`: `mini` at a small budget (real text) or `smoke` (known-answer), with some tasks only."""
    profile: Profile = load_profile(name, 0.05 if name == "mini" else 1.0)
    if tasks:
        kept = {task: settings for task, settings in profile.finetuning.tasks.items() if task in tasks}
        profile = profile.model_copy(update={"finetuning": profile.finetuning.model_copy(update={"tasks": kept})})
    return Run(profile, RunPaths(profile.run_name, folder))


def write_results(run: Run, world: World, seed: int = 0) -> None:
    """Write every result file that significance, claims and figures read."""
    rng = np.random.default_rng(seed)
    for task in run.profile.finetuning.tasks:
        _write_task(run, world, task, rng)
    _write_pseudo_perplexity(run, world, rng)
    _write_training(run, world, rng)
    _write_corpus(run)
    _write_bias(run, world, rng)
    _write_efficiency(run, world)


def make_concluded_run(folder: Path, pictures: Sequence[str]) -> Run:
    """A known-answer run with two tasks up to its claims, the figures named, and the record of one stage."""
    run = make_run(folder, "smoke", ("dbrd", "ner"))
    write_results(run, World(examples=60))
    compare_models(run)
    decide_claims(run)
    for name in pictures:
        figures.draw(run, name)
    stage, git = "40_pseudo_perplexity", {"commit": "0123456789abcdef", "dirty": True}
    run_record(stage, git=git, seconds=75.0, peak_memory_bytes=2_000_000_000).write(run, stage=stage)
    return run


def _right(world: World, model: str, shared: np.ndarray, lengths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(examples,) bool: a rank draw that agrees with the shared difficulty on a share `agreement` of examples."""
    skill = world.skill.get(model, world.base) + rng.normal(0, world.seed_spread) if world.seed_spread else None
    skill = world.skill.get(model, world.base) if skill is None else skill
    gain = np.where(lengths > 200, world.long_gain.get(model, 0.0), 0.0)
    own = rng.random(len(shared))
    difficulty = np.where(rng.random(len(shared)) < world.agreement, shared, own)
    return difficulty < skill + gain


def _write_task(run: Run, world: World, task: str, rng: np.random.Generator) -> None:
    tokens = task in {"ner", "pos"}
    metric = "f1" if task == "ner" else "accuracy"
    lengths = rng.integers(4, 12, world.examples) if tokens else rng.integers(10, 400, world.examples)
    words = int(lengths.sum()) if tokens else world.examples
    shared = rng.random(words)
    gold = rng.choice([*LABELS, "O", "O"], words) if task == "ner" else rng.choice(["A", "B"], words)
    columns: dict[str, list[Any]] = {k: [] for k in ("model", "seed", "example_id", "gold", "prediction", "n_tokens")}
    runs = []
    for model in run.profile.models:
        for seed in SEEDS:
            right = _right(world, model, shared, np.zeros(words) if tokens else lengths, rng)
            wrong = np.where(gold == "A", "B", "A") if task != "ner" else np.where(gold == "O", "B-LOC", "O")
            said = np.where(right, gold, wrong)
            ends = np.cumsum(lengths)[:-1]
            columns["model"] += [model] * world.examples
            columns["seed"] += [seed] * world.examples
            columns["example_id"] += [f"{task}-{i:05d}" for i in range(world.examples)]
            columns["gold"] += [part.tolist() for part in np.split(gold, ends)] if tokens else gold.tolist()
            columns["prediction"] += [part.tolist() for part in np.split(said, ends)] if tokens else said.tolist()
            columns["n_tokens"] += (lengths + 2).tolist()
            sums = example_counts(metric, *(columns[k][-world.examples :] for k in ("gold", "prediction"))).sum(axis=0)
            runs.append(_finetuning_run(model, seed, metric, float(METRICS[metric](sums.astype(float)))))
    finetuning.Predictions.write(run, pa.table(columns), task=task)
    splits = {"train": 1000, "validation": 100, "test": world.examples}
    labels = sorted(set(gold.tolist()))
    finetuning.TaskScores(
        task=task,
        kind="token_classification" if tokens else "text_classification",
        metric=metric,
        labels=labels,
        counts=finetuning.SplitCounts(
            examples=splits, not_sampled=dict.fromkeys(splits, 0), dropped={},
            labels={split: {label: size // len(labels) for label in labels} for split, size in splits.items()},
        ),
        majority_baseline=0.5,
        lexicon_baseline=0.6 if tokens else None,
        truncated={},
        extra_metrics={},
        precision="float32",
        runs=runs,
    ).write(run, task=task)  # fmt: skip


def _finetuning_run(model: str, seed: int, metric: str, value: float) -> finetuning.FinetuningRun:
    hyper = finetuning.HyperParameters(
        learning_rate=5e-5, weight_decay=0.01, accumulation=1, epochs=3.0, batch_size=16, evaluations=1,
        early_stopping=0,
    )  # fmt: skip
    return finetuning.FinetuningRun(
        model=model, seed=seed, metrics={metric: value}, validation=value, hyper_parameters=hyper, updates=100,
        seconds=10.0,
    )  # fmt: skip


def _write_pseudo_perplexity(run: Run, world: World, rng: np.random.Generator) -> None:
    lengths = rng.integers(5, 30, 200)
    line = np.repeat(np.arange(200), lengths)
    surprise = rng.gamma(2.0, 1.0, len(line)) / 2.0
    tables, models = [], {}
    for model in run.profile.models:
        mean = world.nats.get(model, 3.0)
        log_prob = -np.maximum(0.0, surprise * mean + rng.normal(0, 0.3, len(line)))
        value = float(np.exp(-log_prob.mean()))
        models[model] = pseudo_perplexity.ModelPseudoPerplexity(
            corpus=value, per_line_mean=value * 1.1, word_l2r=value * 0.9, word_l2r_per_word=value * 0.9, lines=200,
            tokens=len(line), words=len(line), windowed=0, dropped={}, seconds=1.0, precision="float32",
        )  # fmt: skip
        columns = {"model": pa.array([model] * len(line)).dictionary_encode(), "line": line, "position": line * 0,
                   "token_id": line * 0 + 5, "word_index": line * 0, "log_prob": log_prob, "log_prob_l2r": log_prob}  # fmt: skip
        tables.append(pa.table(columns))
    pseudo_perplexity.TokenLogProbs.write(run, pa.concat_tables(tables).unify_dictionaries())
    floor = float(np.exp(2.5)) if run.profile.text == "known_answer" else None
    pseudo_perplexity.PseudoPerplexityResult(
        lines=200, tokens=len(line), windowed=0, dropped={}, models=models, unigram=400.0, floor=floor,
        floor_per_line_mean=floor,
    ).write(run)  # fmt: skip


def _lines_of(arm: str) -> tuple[int, int]:
    """Tokens and lines of an arm: merged lines are longer, so half as many, with half as many special tokens."""
    return (280_000, 10_000) if arm == "merged" else (300_000, 20_000)


def _write_training(run: Run, world: World, rng: np.random.Generator) -> None:
    if isinstance(run.profile.teacher, TeacherTraining):
        training.TeacherResult(
            settings=run.profile.teacher,
            phases=["causal", "masked"],
            **_trained(8000.0, 1_000_000, 7_000_000, 20_000, rng, causal=10),
        ).write(run)
    for name, student in run.profile.students.items():
        speed = 10_000.0 * world.speed.get(name, 1.0)
        training.DistillationResult(
            student=name,
            arm=student.arm,
            selection=student.selection,
            shape=student.shape,
            recipe=student.recipe,
            recipe_settings=run.profile.recipes[student.recipe],
            **_trained(speed, 600_000, 4_000_000, _lines_of(student.arm)[1], rng),
        ).write(run, student=name)


def _trained(
    speed: float, tokens: int, parameters: int, lines: int, rng: np.random.Generator, causal: int = 0
) -> dict[str, Any]:
    """What all training results share. causal: points of the loss curve in the causal phase."""
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
        "dropped": {}, "updates": 400, "tokens": tokens, "sequences": 2 * lines, "epochs": 2,
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
        lean = world.bias.get(model, 1.0) * (2 * associated + (0.0 if known_answer else 1.0) + own)
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
    conclude_bias(run)


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
    for name in run.profile.models:
        relative = world.latency.get(name, 1.0 if name == "teacher" else 0.5)
        timing = efficiency.Timing(
            latency_ms=efficiency.Spread(median=20.0 * relative, low=19.0 * relative, high=21.0 * relative),
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
