"""Text of one's own: documents in memory, and runs of `smoke` on a file."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from robbertje_lib.corpus.lines import SplitDocument
from robbertje_lib.experiment.profile import Corpus, Tokenizer
from robbertje_lib.experiment.run import Run, open_run

ARMS = ["non_shuffled", "shuffled", "merged"]
WORDS = re.findall(r"\w+", "huis boom fiets regen school straat water brood tafel winter zomer vader moeder hond kat")


def documents(*sizes: int) -> list[SplitDocument]:
    """A document of so many lines for each of `sizes`, two by two of one file."""
    return [
        SplitDocument(f"d{i}", "x", f"f{i // 2}", tuple(f"zin {j} van {i}." for j in range(n)))
        for i, n in enumerate(sizes)
    ]


def own_text(count: int, seed: int = 1) -> str:
    """So many documents of eight sentences, no two alike."""
    rng = np.random.default_rng(seed)
    sentence = lambda: f"De {rng.choice(WORDS)} van nummer {rng.integers(10**9)} is een {rng.choice(WORDS)}."  # noqa: E731
    return "\n\n".join(" ".join(sentence() for _ in range(8)) for _ in range(count))


def own_run(folder: Path, text: str, **changes: object) -> Run:
    """A run of `smoke` on a text of one's own. changes: of the section `corpus`."""
    (folder / "tekst.txt").write_text(text, encoding="utf-8")
    settings = {"sources": [str(folder / "tekst.txt")], "arms": ARMS, "arm_megabytes": 0.02, **changes}
    run = open_run("smoke")
    profile = run.profile.model_copy(
        update={"corpus": Corpus.model_validate(settings), "tokenizer": Tokenizer(vocabulary=400, maximum_length=32)}
    )
    return replace(run, profile=profile)
