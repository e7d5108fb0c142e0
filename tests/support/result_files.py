"""Result files with known effects, written as the stages write them: for tests of statistics, claims and figures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from robbertje_lib.conclusions.claims import decide_claims
from robbertje_lib.conclusions.comparisons import compare_models
from robbertje_lib.evaluation import bias_report, finetuning
from robbertje_lib.experiment.artefacts import write_json, write_parquet
from robbertje_lib.experiment.paths import RunPaths
from robbertje_lib.experiment.profile import Profile, load_profile
from robbertje_lib.experiment.run import Run
from robbertje_lib.known_answer import planted_bias
from robbertje_lib.show import figures
from robbertje_lib.tasks import metrics
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
            metric = "f1" if task == "ner" else "accuracy"
            runs.append({"model": model, "seed": seed, "metrics": {metric: _metric(metric, columns, world.examples)},
                         "validation": {}, "hyper_parameters": {}, "seconds": 10.0})  # fmt: skip
    table = pa.table(columns)
    write_parquet(run.paths.result("predictions", f"{task}.parquet"), table)
    sizes = {"train": 1000, "validation": 100, "test": world.examples}
    write_json(
        run.paths.result("scores", f"{task}.json"),
        {"task": task, "metric": metric, "labels": sorted(set(gold.tolist())), "examples": sizes, "truncated": {},
         "majority_baseline": 0.5, "by_length": scores_by_length_of(table, metric), "runs": runs},
    )  # fmt: skip


def scores_by_length_of(table: pa.Table, metric: str) -> dict[str, Any]:
    """The bins that fine-tuning stores, by its own function."""
    return finetuning._by_length(table, metric, seed=0)


def _metric(metric: str, columns: dict[str, list[Any]], examples: int) -> float:
    return metrics.score(metric, columns["gold"][-examples:], columns["prediction"][-examples:])


def _write_pseudo_perplexity(run: Run, world: World, rng: np.random.Generator) -> None:
    lengths = rng.integers(5, 30, 200)
    line = np.repeat(np.arange(200), lengths)
    surprise = rng.gamma(2.0, 1.0, len(line)) / 2.0
    tables, models = [], {}
    for model in run.profile.models:
        mean = world.nats.get(model, 3.0)
        log_prob = -np.maximum(0.0, surprise * mean + rng.normal(0, 0.3, len(line)))
        value = float(np.exp(-log_prob.mean()))
        models[model] = {"corpus": value, "corpus_interval": [value * 0.95, value * 1.05], "per_line_mean": value * 1.1,
                         "word_l2r": value * 0.9, "lines": 200, "tokens": len(line), "seconds": 1.0}  # fmt: skip
        columns = {"model": pa.array([model] * len(line)).dictionary_encode(), "line": line, "position": line * 0,
                   "token_id": line * 0 + 5, "word_index": line * 0, "log_prob": log_prob, "log_prob_l2r": log_prob}  # fmt: skip
        tables.append(pa.table(columns))
    write_parquet(run.paths.result("pseudo_perplexity.parquet"), pa.concat_tables(tables).unify_dictionaries())
    floor = float(np.exp(2.5)) if run.profile.text == "known_answer" else None
    write_json(run.paths.result("pseudo_perplexity.json"), {"lines": 200, "tokens": len(line), "dropped": {},
               "windowed": 0, "models": models, "unigram": 400.0, "floor": floor})  # fmt: skip


def _write_training(run: Run, world: World, rng: np.random.Generator) -> None:
    def curves(speed: float, total: int) -> dict[str, Any]:
        updates = np.arange(0, 401, 20)
        tokens = updates * total // 400
        seconds = np.concatenate([[0.0], np.cumsum(np.diff(tokens) / (speed * rng.normal(1, 0.01, len(tokens) - 1)))])
        loss = 4.0 + 3.0 * np.exp(-updates / 120)
        points = [dict(zip(("update", "tokens", "seconds", "loss"), map(float, row), strict=True))
                  for row in zip(updates, tokens, seconds, loss, strict=True)]  # fmt: skip
        return {"updates": 400, "tokens": total, "wall_seconds": float(seconds[-1]), "held_out_curve": points,
                "curve": [{**p, "kl": p["loss"] * 0.5, "mlm": p["loss"], "cosine": 0.2} for p in points],
                "tokens_per_second": total / float(seconds[-1]), "peak_rss_bytes": 10**9}  # fmt: skip

    teacher = curves(8000.0, 1_000_000)
    for number, point in enumerate(teacher["curve"]):
        point["phase"] = "causal" if number < 10 else "masked"
    write_json(run.paths.result("teacher.json"), {"parameters": 7_000_000, "phases": ["causal", "masked"], **teacher})
    for name, student in run.profile.students.items():
        # Merged lines are longer: the same text in half as many sequences, with half as many special tokens.
        merged = student.arm == "merged"
        length = {"tokens": 280_000 if merged else 300_000, "lines": 10_000 if merged else 20_000}
        write_json(
            run.paths.result("corpus", f"{student.arm}.json"),
            {"selections": dict.fromkeys(run.profile.corpus.selections, length)},
        )
        extra: dict[str, Any] = {"epochs": 2, "sequences": 2 * length["lines"], "parameters": 4_000_000,
                 "real_token_share": 0.95, "recipe_settings": {}}  # fmt: skip
        training = curves(10_000.0 * world.speed.get(name, 1.0), 600_000)
        write_json(run.paths.result("distillation", f"{name}.json"),
                   {"student": name, **student.model_dump(), **extra, **training})  # fmt: skip


def _write_bias(run: Run, world: World, rng: np.random.Generator) -> None:
    """Probe readings of each model, summarised by the library's own functions."""
    known_answer = run.profile.text == "known_answer"
    planted = planted_bias(run.profile.gender_bias.planted_strength)
    associated = np.array([1 - 2 * p for p in planted.values()])
    templates = run.profile.gender_bias.templates
    own = rng.normal(0, 0.2, (len(templates), len(planted)))
    tables = {}
    for model in run.profile.models:
        lean = world.bias.get(model, 1.0) * (2 * associated + (0.0 if known_answer else 1.0) + own)
        parts = []
        for template, log_odds in zip(templates, lean + rng.normal(0, 0.05, own.shape), strict=True):
            p_hij = 0.5 / (1 + np.exp(-log_odds))
            columns = {"template": template, "profession": list(planted), "profession_en": list(planted), "form": "base",
                       "associated_gender": associated, "p_hij": p_hij, "p_zij": 0.5 - p_hij, "p_ze": 0.01,
                       "p_other_case": 0.0, "rank_hij": 3, "rank_zij": 3 + np.round(20 * log_odds).astype(int),
                       "rank_difference": -np.round(20 * log_odds).astype(int), "log_odds": log_odds,
                       "lpbs": log_odds, "unknown": False}  # fmt: skip
            parts.append(pd.DataFrame(columns))
        tables[model] = pd.concat(parts, ignore_index=True)
    rows = pd.concat([table.assign(model=name) for name, table in tables.items()], ignore_index=True)
    write_parquet(run.paths.result("gender_bias.parquet"), pa.Table.from_pandas(rows, preserve_index=False))
    summary = {
        "models": {name: bias_report.summarise(table, 200, rng) for name, table in tables.items()},
        "comparisons": bias_report.compare_models(tables, 999, 200, seed=0),
        "planted": bias_report.read_back(run, tables, dict.fromkeys(planted, 20)) if known_answer else None,
    }
    write_json(run.paths.result("gender_bias.json"), summary)


def _write_efficiency(run: Run, world: World) -> None:
    models = {}
    for name in run.profile.models:
        relative = world.latency.get(name, 1.0 if name == "teacher" else 0.5)
        spread = {"median": 20.0 * relative, "low": 19.0 * relative, "high": 21.0 * relative}
        rate = {"median": 5000 / relative, "low": 4800 / relative, "high": 5200 / relative}
        seconds = {
            task: 10.0 * relative * (1 + i * len(name) % 7 / 100) for i, task in enumerate(run.profile.finetuning.tasks)
        }
        models[name] = {"parameters": 7_000_000 if name == "teacher" else 4_000_000, "bytes": 28_000_000,
                        "latency_ms": spread, "throughput_tokens_per_second": rate, "finetuning_seconds": seconds}  # fmt: skip
    write_json(run.paths.result("efficiency.json"), {"models": models, "machine": {}})
