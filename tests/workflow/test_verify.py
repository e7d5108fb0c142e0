"""Are the results on disk those that were recorded? Each way in which they may not be is found and named."""

import fcntl
import shutil
from pathlib import Path

import nbformat
import pytest

from robbertje_lib.__main__ import main
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.artefacts import sha256
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import freeze_profile
from robbertje_lib.experiment.results.record import RunRecord
from robbertje_lib.experiment.run import Run, open_run
from robbertje_lib.workflow.verify import verify
from tests.support.recorded_run import STAGES, recorded_run, write_profile


@pytest.fixture
def run() -> Run:
    return recorded_run(paths.output_root())


def _append(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b" ")


def _rewrite_record(run: Run, stage: str, **changes: object) -> None:
    RunRecord.read(run, stage=stage).model_copy(update=changes).write(run, stage=stage)


def test_a_run_as_it_was_made(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = verify(run)
    assert found.findings == []
    files = {
        name
        for path in run.paths.record("x").parent.iterdir()
        for name in (*RunRecord.load(path).inputs, *RunRecord.load(path).outputs)
    }
    assert str(found) == f"{len(files)} files of {STAGES} stages: as recorded"
    assert main(["verify", str(paths.output_root() / "tiny.yaml")]) == 0
    assert capsys.readouterr().out == f"{found}\n"


def test_an_edited_a_missing_and_a_stale_file(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    _append(run.paths.result("pseudo_perplexity.json"))
    run.paths.result("efficiency.json").unlink()
    # The teacher is trained again, and nothing after it.
    teacher = run.paths.model("teacher") / "model.safetensors"
    _append(teacher)
    name = "papermill_runs/tiny/models/teacher/model.safetensors"
    outputs = RunRecord.read(run, stage="20_teacher").outputs
    _rewrite_record(run, "20_teacher", outputs={**outputs, name: sha256(teacher)})
    readers = ["30_distillation-merged", "30_distillation-non_shuffled", "40_pseudo_perplexity", "50_finetuning-dbrd",
               "60_gender_bias", "80_efficiency"]  # fmt: skip
    assert verify(run).findings == [
        "papermill_runs/tiny/results/pseudo_perplexity.json: edited since 40_pseudo_perplexity wrote it",
        "papermill_runs/tiny/results/efficiency.json: missing; 80_efficiency wrote it",
        *(f"{stage}: stale, as 20_teacher has since written another {name}" for stage in readers),
    ]
    assert main(["verify", str(paths.output_root() / "tiny.yaml")]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("8 findings in ")


def test_a_stage_that_has_not_run_and_one_there_is_no_more(run: Run) -> None:
    run.paths.record("60_gender_bias").unlink()
    shutil.copy(run.paths.record("40_pseudo_perplexity"), run.paths.record("45_more"))
    findings = verify(run).findings
    assert "60_gender_bias: has not run to its end; `make reproduce` runs it" in findings
    assert "records/45_more.json: the profile has no such stage (any more)" in findings


def test_another_notebook(run: Run) -> None:
    source = run.paths.root / "notebooks" / "70_significance.ipynb"
    notebook = nbformat.read(source, 4)
    notebook.cells.append(nbformat.v4.new_markdown_cell("Words change no result."))
    nbformat.write(notebook, source)
    assert verify(run).findings == []
    notebook.cells[1].source = "1 + 2"
    nbformat.write(notebook, source)
    run.paths.notebook("80_efficiency").unlink()
    run.paths.notebook("60_gender_bias").write_text("{")
    findings = verify(run).findings
    assert findings == [
        "60_gender_bias.ipynb: damaged, or notebooks/60_gender_bias.ipynb is",
        "70_significance: stale or edited, as 70_significance.ipynb does not hold the code of notebooks/70_significance.ipynb",
        "80_efficiency.ipynb: missing; 80_efficiency wrote it",
    ]


def test_another_profile(run: Run) -> None:
    write_profile(run.paths.root / "tiny.yaml", lambda profile: profile.update(seed=1))
    other = open_run(str(run.paths.root / "tiny.yaml"))
    assert verify(other).findings == ["tiny: the profile has changed since; `make plan` says what this concerns"]
    # A stage that did not need to run again keeps the digest of then.
    for stage in ("70_significance", "90_claims_and_figures"):
        _rewrite_record(run, stage, profile_digest=other.profile.digest())
    freeze_profile(other.profile, other.paths.profile)
    assert verify(other).findings == []
    run.paths.record("90_claims_and_figures").unlink()
    assert sum("made with another state of the profile" in line for line in verify(other).findings) == STAGES - 2


def test_the_frozen_profile_is_that_which_the_stages_read(run: Run) -> None:
    name = "papermill_runs/tiny/profile.yaml"
    text = run.paths.profile.read_text(encoding="utf-8")
    for content in (text.replace("seed: 56", "seed: 57"), "{"):
        run.paths.profile.write_text(content, encoding="utf-8")
        assert [line.partition(";")[0] for line in verify(run).findings] == [
            f"{name}: not the profile that the stages read"
        ]
    run.paths.profile.unlink()
    assert verify(run).findings == [f"{name}: missing; `make reproduce` writes it"]


def test_figures_are_recorded_as_results_are(run: Run) -> None:
    _append(run.paths.figures / "claims.svg")
    (run.paths.figures / "loss_curves.png").unlink()
    assert verify(run).findings == [
        "figures/tiny/loss_curves.png: missing; 90_claims_and_figures wrote it",
        "figures/tiny/claims.svg: edited since 90_claims_and_figures wrote it",
    ]


def test_what_an_interrupted_run_left(run: Run) -> None:
    for name in (".teacher.json.17.tmp", ".20_teacher.running.ipynb", "20_teacher.failed.ipynb"):
        (run.paths.run / name).touch()
    assert [line.partition(":")[0] for line in verify(run).findings] == [
        "papermill_runs/tiny/.teacher.json.17.tmp",
        "papermill_runs/tiny/.20_teacher.running.ipynb",
        "papermill_runs/tiny/20_teacher.failed.ipynb",
    ]


def test_a_run_that_is_under_way_or_was_never_made(run: Run) -> None:
    with (run.paths.run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="^tiny is being run; wait for it, then verify$"):
            verify(run)
    assert verify(run).findings == []
    with pytest.raises(UserError, match="smoke has not been run below .*; `make reproduce` runs it"):
        verify(open_run("smoke"))


def test_a_damaged_record(run: Run) -> None:
    run.paths.record("60_gender_bias").write_text("{")
    with pytest.raises(UserError, match=r"60_gender_bias.json is damaged"):
        verify(run)
