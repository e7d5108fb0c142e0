"""Try README's how-tos for real: `python tests/how_tos.py` (about ten minutes on 2 cores; not part of `make test`).

Everything runs at the size of `smoke`, below a temporary folder. Prints one line per how-to; the exit status is 1 if one
of them failed.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml

PROJECT = Path(__file__).resolve().parents[1]
PEOPLE = ["teacher", "baker", "doctor", "singer", "painter", "farmer", "driver", "nurse", "sailor", "writer"]
VERBS = ["sees", "hears", "knows", "meets", "helps", "likes", "finds", "follows", "calls", "thanks"]
PLACES = ["garden", "kitchen", "market", "station", "harbour", "school", "office", "forest", "village", "library"]
TIMES = ["today", "often", "always", "sometimes", "again", "early", "late"]


def english(folder: Path, documents: int = 400) -> None:
    """Documents of simple English sentences, a paragraph of six sentences each."""
    rng = np.random.default_rng(0)
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


def reproduce(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "robbertje_lib", *arguments]


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        english(folder / "english")
        own = profile_for_own_text(folder, "english", "./english/")
        run = folder / "papermill_runs" / "english"
        run.mkdir(parents=True)
        snakemake = [
            sys.executable,
            "-m",
            "snakemake",
            "--directory",
            str(run),
            "--config",
            f"profile={own}",
            "budget=1.0",
        ]
        tries = {
            "another merge probability": reproduce("reproduce", "--profile", "smoke", "--set", "merge_probability=0.3"),
            "another seed": reproduce("reproduce", "--profile", "smoke", "--set", "seed=7"),
            "another shape": reproduce(
                "reproduce", "--profile", "smoke", "--set", "distilbert.layers=1 distilbert.teacher_layers=[1]"
            ),
            "another language, to pseudo-perplexity": [
                *snakemake, "--snakefile", "Snakefile", "--cores", "2", "records/40_pseudo_perplexity.json"
            ],
            "own teacher from a folder": reproduce(
                "plan", "--profile", str(own), "--set", f"teacher='{{hub: {run / 'models' / 'teacher'}}}'"
            ),
            "own corpus": reproduce("plan", "--profile", "mini", "--set", f"sources=[{folder / 'english'}/]"),
        }  # fmt: skip
        failed = 0
        environment = {**os.environ, "ROBBERTJE_OUTPUT": temporary, "PYTHONPATH": str(PROJECT)}
        for what, command in tries.items():
            done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
            failed += done.returncode != 0
            print(f"{'ok' if done.returncode == 0 else 'FAILED'}: {what}", flush=True)
            if done.returncode:
                print(done.stdout[-2000:], done.stderr[-2000:], sep="\n")
        return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
