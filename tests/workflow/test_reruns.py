"""What an edit of a module, a data file or a profile plans: told from the real rules, with nothing run."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.profile import freeze_profile
from robbertje_lib.workflow.engine import Snakemake
from robbertje_lib.workflow.resolve import resolve
from robbertje_lib.workflow.stage_call import StageCall

LAST = "90_claims_and_figures"
PROFILES = sorted(path.stem for path in paths.PROFILES.glob("*.yaml"))
DISPLAY = sorted(path for path in (paths.PACKAGE / "show").rglob("*.py"))
DATA = sorted(path.relative_to(paths.DATA).as_posix() for path in paths.DATA.rglob("*") if path.is_file())


@cache
def calls(profile: str) -> dict[str, StageCall]:
    """Every stage of a run of `profile` (a name or a file), as it would be called."""
    with TemporaryDirectory(prefix="robbertje-test-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROBBERTJE_OUTPUT", folder)
        run = resolve(profile)
        run.paths.run.mkdir(parents=True)
        freeze_profile(run.profile, run.paths.profile)
        return {job.stage: job.call for job in Snakemake(run, run.paths.profile, 2, run.profile.stages).jobs()}


def planned(profile: str, first: Iterable[str]) -> set[str]:
    """Stages that run if those in `first` do, which read what others write."""
    stages, written = set(first), set[Path]()
    for stage, call in calls(profile).items():
        if stage in stages or written & set(call.inputs):
            stages.add(stage)
            written |= set(call.outputs)
    return stages


def readers(profile: str, file: Path) -> set[str]:
    return {stage for stage, call in calls(profile).items() if file in call.modules}


@pytest.mark.parametrize("module", DISPLAY, ids=lambda path: path.relative_to(paths.PACKAGE).as_posix())
def test_an_edit_of_how_results_are_shown_plans_the_last_stage_alone(module: Path) -> None:
    for profile in ("smoke", "mini"):
        assert planned(profile, readers(profile, module)) <= {LAST}


def test_the_last_stage_reads_what_it_shows() -> None:
    read = {path.name for path in DISPLAY if readers("smoke", path) == {LAST}}
    assert {"report.py", "figure_style.py"} <= read


def test_what_arms_have_in_common_is_read_of_released_students_too() -> None:
    arm = paths.PACKAGE / "corpus" / "arms" / "shuffled.py"
    for profile in ("mini", "published"):  # where no arm of that name is built
        assert readers(profile, arm) == {"10_corpus", "70_significance", LAST}


def test_of_each_student_one_replicate_is_timed() -> None:
    models = {file.parent.name for file in calls("smoke")["80_efficiency"].inputs if file.suffix == ".safetensors"}
    assert models == {"teacher", "non_shuffled", "shuffled", "merged", "bort"}


TASKS = {f"50_finetuning-{task}" for task in ("dbrd", "die_dat", "ner", "pos", "sick_nl")}
DOWNLOADED = {"10_corpus", *TASKS - {"50_finetuning-die_dat"}, "60_gender_bias"}
GENERATED = {"10_corpus", "40_pseudo_perplexity", *TASKS, "60_gender_bias", LAST}
READERS = {  # of known-answer Dutch, and of real text
    "calibration.json": ({"70_significance", LAST}, {"70_significance", LAST}),
    "claims.yaml": ({LAST}, {LAST}),
    "disco.yaml": ({"60_gender_bias"}, {"60_gender_bias"}),
    "divergences.md.j2": ({LAST}, {LAST}),
    "divergences.yaml": ({LAST}, {LAST}),
    "figure_style.mplstyle": ({LAST}, {LAST}),
    "known_answer/patterns.yaml": (GENERATED, set()),
    "known_answer/topics.yaml": (GENERATED, set()),
    "known_answer/words.yaml": (GENERATED, set()),
    "professions.tsv": ({"60_gender_bias"}, {"60_gender_bias"}),
    "published.yaml": ({LAST}, {LAST}),
    "report.html.j2": ({LAST}, {LAST}),
    "sources.tsv": (DOWNLOADED, DOWNLOADED),
    "verdicts.md": ({LAST}, {LAST}),
}


@pytest.mark.parametrize("name", DATA)
def test_an_edit_of_a_data_file_plans_the_stages_that_read_it(name: str) -> None:
    assert (readers("smoke", paths.DATA / name), readers("mini", paths.DATA / name)) == READERS[name]


def _changed(profile: str, other: Path) -> set[str]:
    """Stages whose settings differ between a profile and another file of it."""
    before, after = calls(profile), calls(str(other))
    return {stage for stage, call in after.items() if call.settings != before[stage].settings}


@pytest.mark.parametrize("profile", PROFILES)
def test_an_edit_of_a_profile_plans_what_reads_the_section_and_in_no_other_run(profile: str, tmp_path: Path) -> None:
    source = paths.PROFILES / f"{profile}.yaml"
    raw = yaml.safe_load(source.read_text(encoding="utf-8"))
    raw.setdefault("efficiency", {})["repeats"] = 97
    (tmp_path / source.name).write_text("# A remark.\n" + yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    assert _changed(profile, tmp_path / source.name) == {"80_efficiency", LAST}
    for call in calls(profile).values():
        assert not any(paths.PROFILES in file.parents for file in (*call.modules, *call.inputs))


def test_a_remark_in_a_profile_plans_nothing(tmp_path: Path) -> None:
    text = (paths.PROFILES / "smoke.yaml").read_text(encoding="utf-8")
    (tmp_path / "smoke.yaml").write_text(f"# A remark.\n{text}", encoding="utf-8")
    assert _changed("smoke", tmp_path / "smoke.yaml") == set()
