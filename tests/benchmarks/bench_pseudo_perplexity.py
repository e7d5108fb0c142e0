"""Pseudo-perplexity against the one-mask-at-a-time loop of the paper's code, at the paper's shapes.

Both score the same lines with the same random weights (12 layers, 768 wide, 40,000 words), in one process, turn by
turn. The loop is that of universal-distillation's `validation_step`: one copy of the line per token, a batch of 1,
the head and the loss over all positions. Words are single tokens here, so that both compute just the same
predictions. Line lengths follow what the authors report for OSCAR: 80 % of lines below 35 tokens.

Run: python -m tests.benchmarks.bench_pseudo_perplexity [--lines 12] [--rounds 3] [--device cuda] [--isa avx2]
"""

import math
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from transformers import RobertaConfig

from robbertje_lib.evaluation.pseudo_perplexity import pseudo_perplexity
from robbertje_lib.models.masked_lm import MaskedLM, wrap
from robbertje_lib.models.shapes import random_model
from tests.benchmarks.frame import Row, begin, finish, multiplies_bfloat16, options, times_as_fast, turn_by_turn
from tests.benchmarks.random_text import word_tokenizer

VOCABULARY = 40_000
LOOP = "one mask at a time"


def paper_model(device: str, seed: int = 0) -> MaskedLM:
    config = RobertaConfig(vocab_size=VOCABULARY, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5)
    return wrap(random_model(config, seed).to(device), word_tokenizer(VOCABULARY), "paper shape")


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


def measure(lines: list[str], rounds: int, device: str) -> list[Row]:
    model, values = paper_model(device), dict[str, float]()

    def keep(way: str, value: float) -> None:
        values[way] = value

    ways: dict[str, Callable[[], None]] = {
        LOOP: lambda: keep(LOOP, one_mask_at_a_time(model, lines)),
        "float32": lambda: keep("float32", pseudo_perplexity(model, lines).summary().per_line_mean),
    }
    if multiplies_bfloat16(device):
        ways["bfloat16"] = lambda: keep(
            "bfloat16", pseudo_perplexity(model, lines, precision="bfloat16").summary().per_line_mean
        )
    seconds = turn_by_turn(ways, rounds, device)
    tokens = sum(len(line.split()) for line in lines)
    rates = {way: median(tokens / s for s in of_way) for way, of_way in seconds.items()}
    rows = []
    for way in list(ways)[1:]:
        ratio, interval = times_as_fast(seconds[LOOP], seconds[way])
        rows.append(
            Row(
                what=f"pseudo-perplexity, {way}",
                against="one mask at a time, as the paper's code, float32",
                at="paper shapes",
                ratio=ratio,
                interval=interval,
                numbers={"ours": rates[way], "theirs": rates[LOOP]},
                unit="tokens/s",
                agreement=f"the value differs by {abs(values[way] / values[LOOP] - 1):.0e}",
            )
        )
    return rows


def main() -> None:
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    given = begin(parser, "tests.benchmarks.bench_pseudo_perplexity")
    native = multiplies_bfloat16(given.device)
    left_out = {} if native else {"pseudo-perplexity in bfloat16": "this hardware does not multiply it"}
    finish("pseudo_perplexity", given, measure(random_lines(given.lines), given.rounds, given.device), left_out)


if __name__ == "__main__":
    main()
