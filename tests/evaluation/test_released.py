"""Models and text that others released: from the hub's cache, from a folder, and through the plan of their profiles."""

import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import yaml

from robbertje_lib.corpus import readers
from robbertje_lib.corpus.pool import read_pool
from robbertje_lib.evaluation.pseudo_perplexity import score_models
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import freeze_profile
from robbertje_lib.experiment.run import Run, open_run
from robbertje_lib.models.evaluated import evaluated_models, load_evaluated
from robbertje_lib.models.shapes import load_teacher
from robbertje_lib.workflow.engine import Snakemake
from robbertje_lib.workflow.reproduce import planned_stages
from tests.support.build_corpus import build_corpus
from tests.support.small_models import LINES, POSITIONS, save_small_model

SHA = "0123456789abcdef0123456789abcdef01234567"
PUBLISHED = yaml.safe_load((paths.PROFILES / "published.yaml").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("huggingface_hub.constants", "datasets.config"):
        monkeypatch.setattr(f"{module}.HF_HUB_OFFLINE", True)


def as_released_in_2021(folder: Path) -> Path:
    """A small model with the files of the released students: no tokenizer.json, no settings of the tokenizer."""
    save_small_model("roberta", folder)
    backend = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    (folder / "vocab.json").write_text(json.dumps(backend["vocab"], ensure_ascii=False), encoding="utf-8")
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in backend["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    return folder


@pytest.fixture
def profile_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`published` as a file of the user's: the teacher in a folder beside it, the students in the hub's cache."""
    monkeypatch.setenv("ROBBERTJE_OUTPUT", str(tmp_path / "output"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    save_small_model("roberta", tmp_path / "my_teacher", seed=1)
    raw: dict[str, Any] = {**PUBLISHED, "name": "mine", "teacher": {"hub": "./my_teacher"}}
    raw["tokenizer"] = {**PUBLISHED["tokenizer"], "maximum_length": POSITIONS}
    raw["pseudo_perplexity"] = {"lines": 20}
    raw["corpus"] = {
        "sources": ["./text.txt"],
        "arms": ["non_shuffled"],
        "arm_megabytes": 0.02,
        "held_out_fraction": 0.4,
    }
    raw["students"] = {}
    for name, student in PUBLISHED["students"].items():
        raw["students"][name] = {**student, "revision": SHA}
        cached = tmp_path / "cache" / f"models--{student['hub'].replace('/', '--')}"
        as_released_in_2021(cached / "snapshots" / SHA)
    documents = ["\n".join(f"{line} Dat is nummer {i} van {j}." for i, line in enumerate(LINES)) for j in range(6)]
    (tmp_path / "text.txt").write_text("\n\n".join(documents), encoding="utf-8")
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return file


def test_released_models_load_from_the_cache_and_a_folder(profile_file: Path, tmp_path: Path) -> None:
    run = open_run(str(profile_file))
    folders = evaluated_models(run)
    assert list(folders) == ["teacher", "non_shuffled", "shuffled", "merged", "bort"]
    assert Path(folders["teacher"]) == tmp_path / "my_teacher"
    assert all(Path(folder).parts[-2:] == ("snapshots", SHA) for name, folder in folders.items() if name != "teacher")
    teacher, student = load_evaluated(run, "teacher"), load_evaluated(run, "merged")
    assert student.tokenizer(LINES[0]).input_ids == teacher.tokenizer(LINES[0]).input_ids
    assert student.tokenizer.mask_token_id == teacher.tokenizer.mask_token_id
    assert student.maximum_length == POSITIONS  # from the model, as its tokenizer says nothing
    assert load_teacher(run.profile.teacher, Path("unused")).num_parameters() == teacher.model.num_parameters()


def test_released_models_are_scored_on_text_of_the_users(profile_file: Path) -> None:
    run = open_run(str(profile_file))
    build_corpus(run)
    models = score_models(run, progress=lambda _: None).models
    assert list(models) == run.profile.models
    # The students are copies of one model, the teacher is another.
    assert models["merged"].corpus == models["bort"].corpus != models["teacher"].corpus


def test_a_released_model_that_cannot_be_had_is_named(profile_file: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(UserError, match=f"cannot load 'DTAI-KULeuven/robbertje-1-gb-non-shuffled@{SHA}' from the"):
        evaluated_models(open_run(str(profile_file)))


def _plan(name: str, output: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, list[str]]:
    monkeypatch.setenv("ROBBERTJE_OUTPUT", str(output))
    run = open_run(name)
    run.paths.run.mkdir(parents=True)
    freeze_profile(run.profile, run.paths.profile)
    return run, [planned.stage for planned in planned_stages(Snakemake(run, run.paths.profile, 2, run.profile.stages))]


@pytest.mark.parametrize(("name", "distilled"), [("published", 0), ("paper", 18)])
def test_the_plan_has_no_training_for_what_is_released(
    name: str, distilled: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, planned = _plan(name, tmp_path, monkeypatch)
    assert planned == run.profile.stages
    assert "20_teacher" not in planned
    assert sum(stage.startswith("30_") for stage in planned) == distilled
    assert len(planned) == 1 + distilled + 1 + 5 + 4


def test_a_profile_with_own_models_is_planned(
    profile_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, planned = _plan(str(profile_file), tmp_path / "planned", monkeypatch)
    assert planned == run.profile.stages


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"hub": "a/b"}, "students.merged.revision: is missing; add it"),
        ({"hub": "a/b", "revision": SHA, "recipe": "fast"}, "students.merged.recipe: a released student has none"),
        ({"revision": SHA, "recipe": "fast"}, "students.merged.revision: goes with `hub`"),
        ({}, "students.merged.recipe: is missing; add it, or `hub`"),
        ({"hub": "b", "revision": SHA}, "students.merged.hub: String should match pattern"),
        ({"hub": "./nowhere"}, "students.merged.revision: no folder '.*/nowhere'"),
    ],
)
def test_a_student_is_either_trained_or_released(tmp_path: Path, student: dict[str, Any], message: str) -> None:
    raw = {**PUBLISHED, "name": "mine", "students": {"merged": {"arm": "merged", "shape": "bort", **student}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        open_run(str(tmp_path / "mine.yaml"))


def test_released_students_do_not_change_what_a_trained_one_depends_on() -> None:
    """Runs made before students could be released must not be made again."""
    assert open_run("mini").profile.students["merged"].one() == {
        "arm": "merged", "shape": "distilbert", "recipe": "fast", "selection": "head",
    }  # fmt: skip


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset as the hub holds it: parquet files of a folder, of which one text is empty."""
    texts = [f"De bakker van straat {i} bakt brood.\nHij verkoopt er {i + 2} op de markt." for i in range(300)]
    for part in range(3):
        rows = [*texts[100 * part : 100 * (part + 1)], " \n"]
        datasets.Dataset.from_dict({"url": ["x"] * 101, "text": rows}).to_parquet(
            tmp_path / "set" / "5B" / f"train-0000{part}-of-00003.parquet"
        )
    return tmp_path / "set"


def test_a_dataset_is_streamed_in_a_drawn_order(dataset: Path) -> None:
    dropped: Counter[str] = Counter()
    read = [d.paragraphs for d in readers.read_hub(f"hub:{dataset}", 1, dropped)]
    again = [d.paragraphs for d in readers.read_hub(f"hub:{dataset}", 1, Counter())]
    other = [d.paragraphs for d in readers.read_hub(f"hub:{dataset}", 2, Counter())]
    assert len(set(read)) == 300 and dropped == {"hub: empty (documents)": 3}
    assert read == again != other and set(read) == set(other)
    assert read[0][1].startswith("Hij verkoopt")


def test_a_dataset_makes_a_corpus_and_is_read_no_further_than_needed(dataset: Path, tmp_path: Path) -> None:
    raw = {**PUBLISHED, "name": "mine"}
    raw["corpus"] = {
        "sources": ["hub:./set"],
        "arms": ["non_shuffled"],
        "arm_megabytes": 0.001,
        "held_out_fraction": 0.1,
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    pool = read_pool(open_run(str(tmp_path / "mine.yaml")))
    assert 4 * 1000 / 0.9 <= sum(d.bytes for d in pool.documents) < 4 * 1000 / 0.9 + 100
    assert all(re.fullmatch(rf"hub:{dataset}#\d+", document.id) for document in pool.documents)
    assert np.mean([len(document.lines) for document in pool.documents]) == 2


def test_a_dataset_without_text_is_refused(dataset: Path) -> None:
    shutil.rmtree(dataset)
    datasets.Dataset.from_dict({"content": ["a"]}).to_parquet(dataset / "train.parquet")
    with pytest.raises(UserError, match=r"no text in a column 'text' \(but content\)"):
        list(readers.read_hub(f"hub:{dataset}", 1, Counter()))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hub:a/b", "not hub:ORG/NAME@REVISION"),
        ("hub:a@main", "not hub:ORG/NAME@REVISION"),
        ("hub:./nowhere", "no folder '.*/nowhere'"),
    ],
)
def test_a_dataset_needs_a_revision_or_a_folder(tmp_path: Path, source: str, message: str) -> None:
    raw = {**PUBLISHED, "name": "mine", "corpus": {**PUBLISHED["corpus"], "sources": [source]}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        open_run(str(tmp_path / "mine.yaml"))


def test_an_unreachable_dataset_is_told_in_one_line() -> None:
    with pytest.raises(UserError, match="'hub:nobody/nothing@main' cannot be read"):
        list(readers.read_hub("hub:nobody/nothing@main", 1, Counter()))
