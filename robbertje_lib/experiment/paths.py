"""Where everything lies. No other module spells a path of the project."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
NOTEBOOKS = PROJECT / "notebooks"
PACKAGE = Path(__file__).resolve().parents[1]
PROFILES = PACKAGE / "profiles"
DATA = PACKAGE / "data"
# Inputs and outputs of stages name a folder by one file in it: a token store, a model, a tokenizer.
STAND_FOR_FOLDERS = ("state.json", "model.safetensors", "tokenizer.json")
FROZEN_PROFILE = "profile.yaml"


def output_root() -> Path:
    """Folder that receives `papermill_runs/` and `figures/`: `ROBBERTJE_OUTPUT`, or the project itself."""
    return Path(os.environ.get("ROBBERTJE_OUTPUT", PROJECT)).resolve()


def running_notebook(folder: Path, stage: str) -> Path:
    """A stage's notebook in the folder of its run while it runs; one that was killed leaves it behind."""
    return folder / f".{stage}.running.ipynb"


def heartbeat(folder: Path, stage: str) -> Path:
    """How far a stage is, while it runs; one that was killed leaves it behind."""
    return folder / f".{stage}.heartbeat"


def failed_notebook(folder: Path, stage: str) -> Path:
    """The same after a failure, until the stage succeeds."""
    return folder / f"{stage}.failed.ipynb"


def failed_reason(folder: Path, stage: str) -> Path:
    """Why a stage failed, in one line, until it runs again."""
    return folder / f"{stage}.failed.txt"


def with_folders(files: Iterable[Path]) -> list[Path]:
    """`files`, and for one that stands for its folder all other files there, too."""
    files_and_folders: dict[Path, None] = {}
    for file in files:
        files_and_folders[file] = None
        if file.name in STAND_FOR_FOLDERS and file.parent.is_dir():
            files_and_folders |= dict.fromkeys(sorted(other for other in file.parent.iterdir() if other.is_file()))
    return list(files_and_folders)


def with_products(outputs: Iterable[Path]) -> list[Path]:
    """`with_folders`, and what no rule can name beforehand: the ONNX files of as many models as could be exported."""
    outputs = list(outputs)
    runs = [output.parents[1] for output in outputs if output.name == "efficiency.json"]
    return [*with_folders(outputs), *(file for run in runs for file in sorted((run / "onnx").glob("[!.]*.onnx")))]


def recorded_name(path: Path) -> str:
    """A path as records and notebooks show it: below the output root or the project, never where those lie."""
    path = path.absolute()
    for root in (output_root(), PROJECT):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.name


def recorded_names(files: Iterable[Path]) -> dict[Path, str]:
    """`recorded_name` of each file; where files of the user's outside the project share one, it is numbered."""
    names, alike = {}, Counter[str]()
    for file in files:
        name = recorded_name(file)
        alike[name] += 1
        names[file] = f"{name} ({alike[name]})" if alike[name] > 1 else name
    return names


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
    def profile(self) -> Path:
        """The profile of the run, validated and scaled, which every stage reads."""
        return self.run / FROZEN_PROFILE

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
        """A folder in the Hugging Face layout, tokenizer included: the teacher, a student, a replicate (`merged.2`)."""
        return self.run / "models" / name

    def onnx(self, name: str) -> Path:
        """A model as an ONNX file: a model's name, with `.int8` behind it for the quantised one."""
        return self.run / "onnx" / f"{name}.onnx"

    def checkpoints(self, name: str) -> Path:
        return self.run / "checkpoints" / name

    def choice(self, name: str) -> Path:
        """What was found fastest on this machine, kept for the whole run (`models.choices`)."""
        return self.run / "choices" / f"{name}.json"

    def notebook(self, stage: str) -> Path:
        """The executed notebook of a stage, such as `30_distillation-merged`."""
        return self.run / f"{stage}.ipynb"

    def record(self, stage: str) -> Path:
        """The stage's run record. It is written last: only its presence means that the stage is done."""
        return self.run / "records" / f"{stage}.json"

    def result(self, *parts: str) -> Path:
        """A result file, such as `result("scores", "ner.json")`."""
        return self.results.joinpath(*parts)
