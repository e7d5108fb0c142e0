"""The models that a run evaluates: teacher, students and their replicates, trained here or released on the hub."""

from dataclasses import replace
from pathlib import Path

from huggingface_hub import snapshot_download

from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import HubTeacher, is_folder
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.masked_lm import MaskedLM, load_failure, load_masked_lm

MODEL_FILES = ["*.safetensors", "*.json", "merges.txt", "vocab.txt", "*.model"]  # of a repository on the hub


def evaluated_models(run: Run) -> dict[str, str]:
    """Name -> folder of every model of the run, teacher first; a released one is downloaded to the hub's cache.

    Raises `UserError` if one cannot be downloaded.
    """
    return {name: str(_folder(run, name)) for name in run.profile.models}


def released_folder(released: HubTeacher) -> Path:
    """The folder of a released model: the user's own, or a snapshot of the hub at the given revision.

    Weights are fetched as safetensors only: the pickled ones beside them stay where they are. Raises `UserError` if
    neither the hub nor its cache has them.
    """
    if is_folder(released.hub):
        return Path(released.hub)
    try:
        return Path(snapshot_download(released.hub, revision=released.revision, allow_patterns=MODEL_FILES))
    except (OSError, ValueError) as error:
        raise UserError(load_failure(f"{released.hub}@{released.revision}", error)) from None


def load_evaluated(run: Run, name: str) -> MaskedLM:
    """Load one of the run's models, or any other by its folder or hub id. Raises `UserError`.

    All of them are scored with the kernels that are fastest for the first, so that their scores compare.
    """
    model = load_masked_lm(_folder(run, name) if name in run.profile.models else name, name=name)
    return replace(model, kernel_choice=run.paths.choice("scoring"))


def _folder(run: Run, name: str) -> Path:
    released = run.profile.released(name)
    return released_folder(released) if released else run.paths.model(name)
