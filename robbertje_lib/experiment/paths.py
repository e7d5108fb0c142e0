"""Where everything lies. No other module spells a path of the project."""

import os
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
NOTEBOOKS = PROJECT / "notebooks"
PACKAGE = Path(__file__).resolve().parents[1]
PROFILES = PACKAGE / "profiles"
DATA = PACKAGE / "data"
# Inputs and outputs of stages name a folder by one file in it: a token store, a model, a tokenizer.
STAND_FOR_FOLDERS = ("state.json", "model.safetensors", "tokenizer.json")


def output_root() -> Path:
    """Folder that receives `papermill_runs/` and `figures/`: `ROBBERTJE_OUTPUT`, or the project itself."""
    return Path(os.environ.get("ROBBERTJE_OUTPUT", PROJECT)).resolve()


def derived_profiles() -> Path:
    """Folder of the profiles that settings on the command line make."""
    return output_root() / "papermill_runs" / "profiles"


def running_notebook(folder: Path, stage: str) -> Path:
    """A stage's notebook in the folder of its run while it runs; one that was killed leaves it behind."""
    return folder / f".{stage}.running.ipynb"


def failed_notebook(folder: Path, stage: str) -> Path:
    """The same after a failure, until the stage succeeds."""
    return folder / f"{stage}.failed.ipynb"


@dataclass(frozen=True)
class RunPaths:
    """The files of one run; `run_name` is the profile's name, with the budget if it is not 1."""

    run_name: str
    root: Path

    @property
    def run(self) -> Path:
        return self.root / "papermill_runs" / self.run_name

    @property
    def figures(self) -> Path:
        return self.root / "figures" / self.run_name

    @property
    def results(self) -> Path:
        return self.run / "results"

    @property
    def held_out(self) -> Path:
        return self.run / "corpus" / "held_out"

    @property
    def teacher_text(self) -> Path:
        """Token store of the text that a teacher is trained on."""
        return self.run / "corpus" / "teacher"

    @property
    def tokenizer(self) -> Path:
        return self.run / "models" / "tokenizer"

    def corpus(self, selection: str, arm: str) -> Path:
        """Token store of one arm: a `datasets` folder (Arrow)."""
        return self.run / "corpus" / selection / arm

    def model(self, name: str) -> Path:
        """A model folder in the Hugging Face layout, tokenizer included: `teacher` or a student's name."""
        return self.run / "models" / name

    def onnx(self, name: str) -> Path:
        """A model as an ONNX file: a model's name, with `.int8` behind it for the quantised one."""
        return self.run / "onnx" / f"{name}.onnx"

    def checkpoints(self, name: str) -> Path:
        return self.run / "checkpoints" / name

    def notebook(self, stage: str) -> Path:
        """The executed notebook of a stage, such as `30_distillation-merged`."""
        return self.run / f"{stage}.ipynb"

    def record(self, stage: str) -> Path:
        """The stage's run record. It is written last: only its presence means that the stage is done."""
        return self.run / "records" / f"{stage}.json"

    def result(self, *parts: str) -> Path:
        """A result file, such as `result("scores", "ner.json")`."""
        return self.results.joinpath(*parts)
