"""The profile of a run as it is frozen: what is read back is what was resolved, and it is the run's own."""

import os
from pathlib import Path

import pytest

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import freeze_profile, load_profile
from robbertje_lib.experiment.run import Run, open_run

PROFILES = sorted(path.stem for path in paths.PROFILES.glob("*.yaml"))


def _freeze(name: str, budget: float = 1.0) -> Run:
    run = open_run(name, budget)
    freeze_profile(run.profile, run.paths.profile)
    return run


@pytest.mark.parametrize("budget", [1.0, 0.05])
@pytest.mark.parametrize("name", PROFILES)
def test_it_reads_back_as_it_was_whether_by_its_path_or_as_notebooks_name_it(name: str, budget: float) -> None:
    run = _freeze(name, budget)
    inside = paths.recorded_name(run.paths.profile)
    assert inside == f"papermill_runs/{run.paths.run_name}/profile.yaml"
    for spelt in (str(run.paths.profile), inside):
        assert open_run(spelt) == open_run(spelt, budget) == run
    assert open_run(inside).profile.digest() == run.profile.digest()


def test_it_has_its_budget_already() -> None:
    run = _freeze("mini", 0.05)
    with pytest.raises(
        UserError, match=r"profile.yaml: is at budget 0.05, not 1; ask for that, or for another profile$"
    ):
        open_run(str(run.paths.profile), 1.0)


def test_the_same_is_left_alone_and_another_replaced_whole() -> None:
    run = _freeze("smoke")
    os.utime(run.paths.profile, ns=(1, 1))
    freeze_profile(run.profile, run.paths.profile)
    assert run.paths.profile.stat().st_mtime_ns == 1
    changed = run.profile.model_copy(update={"seed": 57})
    freeze_profile(changed, run.paths.profile)
    assert open_run(str(run.paths.profile)).profile.seed == 57
    assert [path.name for path in run.paths.run.iterdir()] == ["profile.yaml"]


def test_a_copy_in_another_runs_folder_is_refused() -> None:
    run = _freeze("smoke")
    other = paths.RunPaths("other", run.paths.root)
    freeze_profile(run.profile, other.profile)
    with pytest.raises(UserError, match=r"profile.yaml: is that of run smoke; `make reproduce` writes the right one$"):
        open_run(str(other.profile))


@pytest.mark.parametrize("content", ["", "{", "name: smoke", "budget: 1.0\nname: smoke", "budget: 2.0"])
def test_a_damaged_one_is_told_in_one_line(content: str) -> None:
    run = _freeze("smoke")
    run.paths.profile.write_text(content)
    with pytest.raises(UserError) as error:
        open_run(str(run.paths.profile))
    assert "profile.yaml" in str(error.value) and "\n" not in str(error.value)


def test_a_profile_of_ones_own_has_no_budget_in_it(tmp_path: Path) -> None:
    text = (paths.PROFILES / "smoke.yaml").read_text(encoding="utf-8")
    (tmp_path / "smoke.yaml").write_text(f"{text}\nbudget: 0.5\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^smoke.yaml: budget: is no setting of a profile; say BUDGET=0.05$"):
        load_profile(str(tmp_path / "smoke.yaml"))
