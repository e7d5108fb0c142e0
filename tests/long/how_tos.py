"""Try README's how-tos for real: `python -m tests.long.how_tos` (a quarter of an hour on 2 cores; not part of `make test`).

Everything runs at the size of `smoke`, below a temporary folder. Prints one line per how-to; the exit status is 1 if one
of them failed.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml

from robbertje_lib.experiment.words import duration

PROJECT = Path(__file__).resolve().parents[2]
PEOPLE = ["teacher", "baker", "doctor", "singer", "painter", "farmer", "driver", "nurse", "sailor", "writer"]
VERBS = ["sees", "hears", "knows", "meets", "helps", "likes", "finds", "follows", "calls", "thanks"]
PLACES = ["garden", "kitchen", "market", "station", "harbour", "school", "office", "forest", "village", "library"]
TIMES = ["today", "often", "always", "sometimes", "again", "early", "late"]


def english(folder: Path, seed: int, documents: int = 400) -> None:
    """Documents of simple English sentences, a paragraph of six sentences each."""
    rng = np.random.default_rng(seed)
    folder.mkdir()

    def sentence() -> str:
        a, b = rng.choice(PEOPLE, 2, replace=False)
        return f"The {a} {rng.choice(VERBS)} the {b} in the {rng.choice(PLACES)} {rng.choice(TIMES)} and number {rng.integers(10_000)} waits."

    paragraphs = [" ".join(sentence() for _ in range(6)) for _ in range(documents)]
    (folder / "text.txt").write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")


def profile_for_own_text(folder: Path, name: str, source: str) -> Path:
    """`smoke` on real text of the user's own, with tasks that its later stages would read."""
    raw = yaml.safe_load((PROJECT / "robbertje_lib" / "profiles" / "smoke.yaml").read_text(encoding="utf-8"))
    raw |= {"name": name, "text": "real", "tokenizer": {"kind": "bpe", "vocabulary": 500, "maximum_length": 64}}
    raw["corpus"] |= {"sources": [source], "arm_megabytes": 0.05}
    raw["finetuning"]["tasks"] = {"sick_nl": {"data": "sick_nl"}}
    raw["gender_bias"]["templates"] = ["<mask> is een <T>."]
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return file


def main() -> int:
    until = ["--until", "40_pseudo_perplexity"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for seed, text in enumerate(("english", "my_text")):
            english(folder / text, seed)
        own = str(profile_for_own_text(folder, "english", "./english/"))
        teacher = folder / "papermill_runs" / "english" / "models" / "teacher"
        tries = {
            "another merge probability": ["reproduce", "--profile", "smoke", "--set", "merge_probability=0.3"],
            "another seed": ["reproduce", "--profile", "smoke", "--set", "seed=7"],
            "another student shape": [
                "reproduce", "--profile", "smoke", "--set", "distilbert.layers=1 distilbert.teacher_layers=[1]"
            ],
            "another language, by a profile of one's own": ["reproduce", "--profile", own, *until],
            "one's own corpus": [
                "reproduce", "--profile", own, "--set", f"sources=[{folder / 'my_text'}/]", *until
            ],
            "one's own teacher, from a folder": [
                "reproduce", "--profile", own, "--set", f"teacher='{{hub: {teacher}}}'", *until
            ],
            "one's own corpus for mini (planned)": [
                "plan", "--profile", "mini", "--budget", "0.05", "--set", f"sources=[{folder / 'my_text'}/]"
            ],
            "one's own teacher for mini, from the hub (planned)": [
                "plan", "--profile", "mini", "--set", f"teacher='{{hub: ORG/NAME, revision: {20 * 'a1'}}}'"
            ],
        }  # fmt: skip
        failed = 0
        environment = {**os.environ, "ROBBERTJE_OUTPUT": temporary, "PYTHONPATH": str(PROJECT)}
        for what, words in tries.items():
            command = [sys.executable, "-m", "robbertje_lib", *words]
            began = time.monotonic()
            done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
            failed += done.returncode != 0
            verdict = "FAILED" if done.returncode else "ok"
            print(f"{verdict}: {what} ({duration(time.monotonic() - began)})", flush=True)
            if done.returncode:
                print(done.stdout[-2000:], done.stderr[-2000:], sep="\n")
        return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
