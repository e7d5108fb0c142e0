"""Pseudo-perplexity against the one-mask-at-a-time loop of the paper's code, at the paper's shapes.

Both score the same lines with the same random weights (12 layers, 768 wide, 40,000 words), in one process, turn by
turn. The loop is that of universal-distillation's `validation_step`: one copy of the line per token, a batch of 1,
the head and the loss over all positions. Words are single tokens here, so that both compute just the same
predictions. Line lengths follow what the authors report for OSCAR: 80 % of lines below 35 tokens.

Run: python -m tests.benchmarks.bench_pseudo_perplexity [--lines 12] [--rounds 3] [--output bench.json]
"""

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, RobertaConfig

from robbertje_lib.evaluation.pseudo_perplexity import pseudo_perplexity
from robbertje_lib.models.masked_lm import MaskedLM, wrap
from robbertje_lib.models.shapes import random_model

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def paper_model(seed: int = 0) -> MaskedLM:
    vocabulary = SPECIALS + [f"w{i}" for i in range(40_000 - len(SPECIALS))]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **{f"{k}_token": v for k, v in names.items()})
    config = RobertaConfig(vocab_size=40_000, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)
    return wrap(random_model(config, seed), tokenizer, "paper shape")


def random_lines(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    lengths = np.clip(np.exp(rng.normal(math.log(19), 0.7, count)), 4, 200).astype(int)
    return [" ".join(f"w{i}" for i in rng.integers(0, 39_000, n)) for n in lengths]


@torch.no_grad()
def one_mask_at_a_time(model: MaskedLM, lines: list[str]) -> float:
    """exp of the mean over lines of a line's mean loss."""
    means = []
    for line in lines:
        encoded = model.tokenizer(line, return_tensors="pt").to(model.device)
        ids, attention_mask = encoded["input_ids"], encoded["attention_mask"]
        total = 0.0
        for position in range(1, ids.shape[1] - 1):
            masked, labels = ids.clone(), torch.full_like(ids, -100)
            masked[0, position] = model.tokenizer.mask_token_id
            labels[0, position] = ids[0, position]
            total += model.model(input_ids=masked, attention_mask=attention_mask, labels=labels).loss.item()
        means.append(total / (ids.shape[1] - 2))
    return math.exp(sum(means) / len(means))


def measure(lines: list[str], rounds: int) -> dict[str, object]:
    model = paper_model()
    ways: dict[str, Callable[[], float]] = {
        "one mask at a time": lambda: one_mask_at_a_time(model, lines),
        "float32": lambda: pseudo_perplexity(model, lines).summary().per_line_mean,
        "bfloat16": lambda: pseudo_perplexity(model, lines, precision="bfloat16").summary().per_line_mean,
    }
    one_mask_at_a_time(model, lines[:1])  # warm up
    pseudo_perplexity(model, lines[:1])
    pseudo_perplexity(model, lines[:1], precision="bfloat16")
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    values: dict[str, float] = {}
    for _ in range(rounds):
        for way, run in ways.items():
            start = time.perf_counter()
            values[way] = run()
            seconds[way].append(time.perf_counter() - start)
    baseline = seconds["one mask at a time"]
    rows = {
        way: {
            "seconds": s,
            "median_seconds": median(s),
            "value": values[way],
            "relative_difference": values[way] / values["one mask at a time"] - 1,
            "speed_up": median(b / x for b, x in zip(baseline, s, strict=True)),
            "speed_up_range": [
                min(b / x for b, x in zip(baseline, s, strict=True)),
                max(b / x for b, x in zip(baseline, s, strict=True)),
            ],
        }
        for way, s in seconds.items()
    }
    return {
        "benchmark": "pseudo_perplexity",
        "machine": platform.processor() or platform.machine(),
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "lines": len(lines),
        "tokens": sum(len(line.split()) for line in lines),
        "rounds": rounds,
        "ways": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("bench_pseudo_perplexity.json"))
    arguments = parser.parse_args()
    result = measure(random_lines(arguments.lines), arguments.rounds)
    arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(
        f"{result['tokens']} tokens, {result['device']}, {result['threads']} threads, load {result['load_average']:.1f}"
    )
    print(f"{'way':<20}{'seconds':>9}{'speed-up':>10}{'range':>16}{'value off by':>15}")
    for way, row in result["ways"].items():  # type: ignore[attr-defined]
        low, high = row["speed_up_range"]
        print(
            f"{way:<20}{row['median_seconds']:>9.2f}{row['speed_up']:>10.2f}{f'{low:.2f} to {high:.2f}':>16}"
            f"{row['relative_difference']:>15.1e}"
        )


if __name__ == "__main__":
    main()
