"""A run small enough to train within a test: known-answer lines, a word tokenizer, a random teacher."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import yaml

from robbertje_lib.corpus.tokenization import tokenize_lines, train_tokenizer
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.profile import TeacherTraining
from robbertje_lib.experiment.run import Run, open_run
from robbertje_lib.known_answer.documents import generate
from robbertje_lib.models.shapes import build_teacher, save_model

FEATURES = datasets.Features(
    {
        "text": datasets.Value("string"),
        "document_id": datasets.Value("string"),
        "file": datasets.Value("string"),
        "line": datasets.Value("int32"),
        "input_ids": datasets.List(datasets.Value("int32")),
        "n_tokens": datasets.Value("int32"),
    }
)

FAST = {
    "initialisation": "teacher_layers",
    "freeze_positions": False,
    "masking": "uniform",
    "kl_positions": "masked",
    "minimum_tokens": 4,
    "batching": "tokens",
    "batch_size": 256,
    "update_size": 512,
    "normalisation": "update",
    "learning_rate": 1e-3,
    "warmup": 0.1,
    "weight_decay": 0.01,
    "dropout": 0.0,
    "amount": 10_000,
    "amount_unit": "tokens",
}
AS_PUBLISHED = {
    **FAST,
    "initialisation": "random",
    "freeze_positions": True,
    "masking": "smoothed",
    "kl_positions": "all",
    "minimum_tokens": 12,
    "batching": "sequences",
    "batch_size": 5,
    "update_size": 20,
    "normalisation": "micro_batch",
    "dropout": 0.1,
    "amount": 24,
    "amount_unit": "updates",
}


def text_lines(count: int, seed: int) -> list[str]:
    """Lines of 1 to 80 words: stretches of known-answer documents, which may begin and end within a sentence."""
    generator = np.random.default_rng(seed)
    words = [token for document in generate(seed, count // 2) for s in document.sentences for token in s.tokens]
    lengths = generator.integers(1, 81, count)
    starts = generator.integers(0, len(words) - 81, count)
    return [" ".join(words[at : at + n]) for at, n in zip(starts, lengths, strict=True)]


def write_store(folder: Path, lines: list[str], tokenizer: Any) -> None:
    rows = tokenize_lines(lines, tokenizer)
    columns = {
        "text": rows.text,
        "document_id": [f"document-{n // 10}" for n in rows.line],
        "file": [f"file-{n // 20}" for n in rows.line],
        "line": rows.line,
        "input_ids": rows.input_ids,
        "n_tokens": rows.n_tokens,
    }
    datasets.Dataset.from_dict(columns, features=FEATURES).save_to_disk(str(folder))


def tiny_run(
    folder: Path, recipes: dict[str, dict[str, Any]] | None = None, lines: int = 400, replicates: int = 1
) -> Run:
    """A run below `folder` (which must be `ROBBERTJE_OUTPUT`) with stores, tokenizer and teacher in place.

    For every recipe `r` there are students `r` (distilbert shape) and `r_bort`.
    """
    raw = yaml.safe_load((paths.PROFILES / "smoke.yaml").read_text(encoding="utf-8"))
    recipes = recipes or {"fast": FAST, "as_published": AS_PUBLISHED}
    raw |= {
        "name": "tiny",
        "replicates": replicates,
        "tokenizer": {"kind": "word", "vocabulary": 700, "maximum_length": 64},
        "teacher": {
            "layers": 3,
            "heads": 4,
            "hidden": 32,
            "feed_forward": 64,
            "tokens": 8000,
            "tokens_per_update": 512,
        },
        "shapes": {
            "distilbert": {"layers": 2, "heads": 4, "feed_forward": 64, "teacher_layers": [0, 2]},
            "bort": {"layers": 1, "heads": 2, "feed_forward": 32, "teacher_layers": [1]},
        },
        "recipes": recipes,
        "students": {
            name + suffix: {"arm": "merged", "shape": shape, "recipe": name}
            for name in recipes
            for suffix, shape in (("", "distilbert"), ("_bort", "bort"))
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    raw["finetuning"]["dropout"] = 0.1  # whatever the recipes have
    (folder / "tiny.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    run = open_run(str(folder / "tiny.yaml"))
    text = text_lines(lines, seed=1)
    tokenizer = train_tokenizer(text, run.profile.tokenizer)
    tokenizer.save_pretrained(run.paths.tokenizer)
    for selection, arm in run.profile.arms:
        write_store(run.paths.corpus(selection, arm), text, tokenizer)
    write_store(run.paths.teacher_text, text, tokenizer)
    write_store(run.paths.held_out, text_lines(60, seed=2), tokenizer)
    assert isinstance(run.profile.teacher, TeacherTraining)
    save_model(build_teacher(run.profile.teacher, tokenizer, seed=3), tokenizer, run.paths.model("teacher"))
    return run
