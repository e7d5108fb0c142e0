"""What reruns when something changes, and how `make reproduce` behaves: the real runner on a stand-in project."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.standin import make_project, write_profile

ALL = [
    "10_corpus", "20_teacher", "30_distillation-merged", "40_pseudo_perplexity", "50_finetuning-ner", "50_finetuning-pos",
    "60_gender_bias", "70_significance", "80_efficiency", "90_claims_and_figures",
]  # fmt: skip


def _environment(root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root), "ROBBERTJE_OUTPUT": str(root)}


def _command(verb: str, *more: str) -> list[str]:
    options = [] if verb == "verify" else ["--profile", "tiny", "--cores", "2"]
    return [sys.executable, "-m", "robbertje_lib", verb, *options, *more]


def _call(root: Path, verb: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(verb, *more), cwd=root, env=_environment(root), capture_output=True, text=True)


def _plan(root: Path, *more: str) -> dict[str, str]:
    """Planned stages and the reasons given."""
    told = _call(root, "plan", *more)
    assert told.returncode == 0, told.stderr
    return dict(
        re.findall(r"^  (\d\d_\S+) +(.+?) \((?:took|about|no estimate)[^()]*\)$", told.stdout, flags=re.MULTILINE)
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in project, run once from nothing."""
    root = make_project(tmp_path_factory.mktemp("project"))
    assert list(_plan(root)) == ALL
    done = _call(root, "reproduce")
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "10 stages to run:",
        "10_corpus ...",
        "; 10 of 10 done, 0 left",
        "Look first at figures/tiny/report.html",
    ):
        assert line in done.stdout
    assert sorted(path.stem for path in (root / "papermill_runs/tiny/records").iterdir()) == ALL
    return root


@pytest.fixture
def aged(project: Path) -> Iterator[Path]:
    """The project with every stage up to date before the test, and again after it."""
    before = {
        path: path.read_bytes()
        for folder in ("robbertje_lib", "notebooks")  # and nothing that a stage has made
        for path in (project / folder).rglob("*")
        if path.suffix in {".py", ".yaml", ".ipynb"}
    }
    times = {path: path.stat() for path in before}
    yield project
    for path, content in before.items():
        path.write_bytes(content)
        os.utime(path, ns=(times[path].st_atime_ns, times[path].st_mtime_ns))


def test_run_again_at_once_nothing_reruns(project: Path) -> None:
    done = _call(project, "reproduce")
    assert done.returncode == 0
    assert "Nothing to run: every stage is up to date." in done.stdout


def test_an_edited_module_reruns_what_depends_on_it(aged: Path) -> None:
    (aged / "robbertje_lib" / "standin_gender_bias.py").touch()
    assert _plan(aged) == {
        "60_gender_bias": "changed: standin_gender_bias.py",
        "70_significance": "what it reads will change",
        "90_claims_and_figures": "what it reads will change",
    }


def test_an_edited_figure_reruns_no_training(aged: Path) -> None:
    for name in ("figures", "tables", "run", "profile", "errors", "notebook_runs"):
        (aged / "robbertje_lib" / f"{name}.py").touch()
    assert set(_plan(aged)) <= {"90_claims_and_figures"}


def test_what_a_figure_of_ones_own_shows_is_read_by_the_last_stage(aged: Path) -> None:
    own = aged / "robbertje_lib" / "show" / "figures" / "mine.py"
    own.write_text(
        "from robbertje_lib.experiment.results.corpus import DocumentsResult\n"
        "from robbertje_lib.show.figures import Figure\n"
        'FIGURE = Figure("mine", "Documents.", (DocumentsResult,), lambda results: None)\n',
        encoding="utf-8",
    )
    try:
        (aged / "papermill_runs" / "tiny" / "results" / "corpus" / "documents.json").touch()
        assert _plan(aged) == {"90_claims_and_figures": "changed: mine.py, documents.json"}
    finally:
        own.unlink()


def test_an_edited_notebook_reruns_its_stage(aged: Path) -> None:
    (aged / "notebooks" / "70_significance.ipynb").touch()
    assert list(_plan(aged)) == ["70_significance", "90_claims_and_figures"]


def test_an_edited_task_reruns_that_task(aged: Path) -> None:
    (aged / "robbertje_lib" / "tasks" / "pos.py").touch()
    assert list(_plan(aged)) == ["50_finetuning-pos", "70_significance", "80_efficiency", "90_claims_and_figures"]


def test_an_edited_arm_reruns_the_corpus(aged: Path) -> None:
    (aged / "robbertje_lib" / "corpus" / "arms" / "shuffled.py").touch()
    planned = _plan(aged)
    assert list(planned) == ALL and planned["10_corpus"] == "changed: shuffled.py"


def test_only_as_far_as_asked(aged: Path) -> None:
    for name in ("corpus", "pseudo_perplexity"):
        (aged / "robbertje_lib" / f"standin_{name}.py").touch()
    before_students = ["10_corpus", "20_teacher"]
    assert list(_plan(aged, "--until", "20_teacher")) == before_students
    assert list(_plan(aged, "--until", "30_distillation")) == [*before_students, "30_distillation-merged"]
    assert list(_plan(aged)) == ALL
    done = _call(aged, "reproduce", "--until", "40_pseudo_perplexity")
    assert done.returncode == 0 and "; 4 of 4 done, 0 left" in done.stdout
    assert done.stdout.endswith("Look first at papermill_runs/tiny/40_pseudo_perplexity.ipynb\n")
    assert list(_plan(aged)) == ALL[4:]
    refused = _call(aged, "plan", "--until", "50_finetuning-nre")
    assert refused.returncode == 2
    assert refused.stderr == "error: UNTIL 50_finetuning-nre: no such stage: did you mean '50_finetuning-ner'?\n"
    assert _call(aged, "reproduce").returncode == 0


AFTER_MODELS = [
    "40_pseudo_perplexity",
    "50_finetuning-ner",
    "50_finetuning-pos",
    "60_gender_bias",
    "70_significance",
    "80_efficiency",
]


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("significance", "bootstrap", 400, ["70_significance"]),
        ("gender_bias", "planted_strength", 0.5, ["10_corpus", *ALL[1:-1]]),  # the text itself changes
        ("efficiency", "repeats", 2, ["80_efficiency"]),
        ("pseudo_perplexity", "lines", 40, ["40_pseudo_perplexity", "70_significance"]),
        ("finetuning", "seeds", [3], ["50_finetuning-ner", "50_finetuning-pos", "70_significance", "80_efficiency"]),
        ("students", "merged", {"arm": "shuffled", "shape": "distilbert", "recipe": "fast"}, ["30_distillation-merged", *AFTER_MODELS]),
    ],
)  # fmt: skip
def test_an_edited_section_reruns_what_reads_it(
    aged: Path, section: str, key: str, value: object, expected: list[str]
) -> None:
    write_profile(aged, lambda profile: profile.setdefault(section, {}).update({key: value}))
    planned = _plan(aged)
    assert list(planned) == [*expected, "90_claims_and_figures"], planned
    assert planned[expected[0]] == "the profile changed"


def test_a_shape_no_student_uses_reruns_only_the_conclusions(aged: Path) -> None:
    write_profile(aged, lambda profile: profile["shapes"]["bort"].update(feed_forward=32))
    assert list(_plan(aged)) == ["90_claims_and_figures"]


def test_only_a_record_means_done(aged: Path) -> None:
    record = aged / "papermill_runs/tiny/records/70_significance.json"
    aside = record.rename(aged / "aside.json")
    assert list(_plan(aged)) == ["70_significance", "90_claims_and_figures"]
    aside.rename(record)


def test_a_failing_stage_is_told_in_one_line_and_keeps_the_rest(aged: Path) -> None:
    (aged / "60_gender_bias.fail").touch()
    (aged / "robbertje_lib" / "standin_gender_bias.py").touch()
    failed = _call(aged, "reproduce")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[0] == "error: the text is empty; add some"
    assert "Traceback" not in failed.stdout + failed.stderr
    assert not (aged / "papermill_runs/tiny/records/60_gender_bias.json").exists()
    assert (aged / "papermill_runs/tiny/60_gender_bias.failed.ipynb").exists()
    (aged / "60_gender_bias.fail").unlink()
    assert list(_plan(aged)) == ["60_gender_bias", "70_significance", "90_claims_and_figures"]
    assert _call(aged, "reproduce").returncode == 0
    assert not (aged / "papermill_runs/tiny/60_gender_bias.failed.ipynb").exists()


def test_rules_that_cannot_be_read_are_told_in_one_line(aged: Path) -> None:
    file = aged / "Snakefile"
    before, dates = file.read_bytes(), file.stat()
    file.write_bytes(before.replace(b"KNOWN_ANSWER = ", b"KNOWN_ANSWER = 1 / 0 or "))
    told = _call(aged, "plan")
    file.write_bytes(before)
    os.utime(file, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    assert told.returncode == 2 and told.stdout == ""
    assert (
        told.stderr.startswith("error: cannot plan the stages: ZeroDivisionError in ") and told.stderr.count("\n") == 1
    )
    assert "snakemake.log" in told.stderr and "Traceback" not in told.stderr


def test_killed_in_the_middle_it_goes_on_and_a_second_run_is_refused(aged: Path) -> None:
    (aged / "70_significance.wait").touch()
    (aged / "notebooks" / "70_significance.ipynb").touch()
    first = subprocess.Popen(_command("reproduce"), cwd=aged, env=_environment(aged), stdout=subprocess.DEVNULL)
    running = aged / "papermill_runs/tiny/.70_significance.running.ipynb"
    _until(running.exists)

    second = _call(aged, "reproduce")
    assert second.returncode == 2
    assert second.stderr == "error: tiny is already being run; wait for it, or stop it first\n"

    family = psutil.Process(first.pid).children(recursive=True)
    assert len(family) >= 2  # Snakemake and the stage
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    _until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in family))

    (aged / "70_significance.wait").unlink()
    done = _call(aged, "reproduce")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 stages to run:" in done.stdout
    assert not running.exists()
    assert (
        json.loads((aged / "papermill_runs/tiny/records/70_significance.json").read_text())["stage"]
        == "70_significance"
    )


def test_a_profile_edited_during_a_run_reaches_no_stage_of_that_run(aged: Path) -> None:
    frozen = aged / "papermill_runs/tiny/profile.yaml"
    before, records = frozen.read_bytes(), aged / "papermill_runs/tiny/records"
    digest = json.loads((records / "90_claims_and_figures.json").read_text())["profile_digest"]
    (aged / "60_gender_bias.wait").touch()
    (aged / "robbertje_lib" / "standin_gender_bias.py").touch()
    going = subprocess.Popen(_command("reproduce"), cwd=aged, env=_environment(aged), stdout=subprocess.PIPE, text=True)
    _until((aged / "papermill_runs/tiny/.60_gender_bias.running.ipynb").exists)
    write_profile(aged, lambda profile: profile["significance"].update(alpha=0.01))
    assert "70_significance" in _plan(aged)
    assert frozen.read_bytes() == before
    (aged / "60_gender_bias.wait").unlink()
    told, _ = going.communicate()
    assert going.returncode == 0 and "3 of 3 done, 0 left" in told
    for stage in ("60_gender_bias", "90_claims_and_figures"):
        record = json.loads((records / f"{stage}.json").read_text())
        assert record["profile_digest"] == digest
        assert record["parameters"] == {"profile": "papermill_runs/tiny/profile.yaml", "budget": 1.0}
    assert _plan(aged)["70_significance"] == "the profile changed"


def test_more_seeds_train_nothing_again(project: Path) -> None:
    (project / "robbertje_lib" / "standin_gender_bias.py").touch()  # a date alone is no difference
    assert _call(project, "reproduce").returncode == 0
    told = _call(project, "plan", "--set", "seeds=5")
    assert told.returncode == 0, told.stderr
    assert "10 stages to run, 5 of them by taking over what another run has made:" in told.stdout
    taken = re.findall(r"^  (\d\d_\S+) +taken from tiny$", told.stdout, flags=re.MULTILINE)
    assert taken == ["10_corpus", "20_teacher", "30_distillation-merged", "40_pseudo_perplexity", "60_gender_bias"]
    done = _call(project, "reproduce", "--set", "seeds=5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10_corpus taken from tiny; 1 of 10 done, 9 left" in done.stdout
    records = [json.loads(path.read_text()) for path in (project / "papermill_runs/tiny_seeds_5/records").iterdir()]
    run_anew = {record["stage"] for record in records if record["taken_from"] is None}
    # Stand-ins write the same for any seeds, so that what reads their scores is found to be the same, too, by then.
    assert run_anew == {"50_finetuning-ner", "50_finetuning-pos", "90_claims_and_figures"}
    assert _call(project, "verify", "tiny").returncode == 0
    # Neither run takes the other for changed.
    for more in ([], ["--set", "seeds=5"]):
        assert _plan(project, *more) == {}


def test_more_replicates_distil_only_what_is_missing(project: Path) -> None:
    replicates = [f"30_distillation-merged{number}" for number in ("", ".2", ".3")]
    before = ["10_corpus", "20_teacher"]

    def taken(*more: str) -> list[tuple[str, str]]:
        told = _call(project, "plan", *more)
        assert told.returncode == 0, told.stderr
        return re.findall(r"^  (\d\d_\S+) +taken from (\S+)$", told.stdout, flags=re.MULTILINE)

    three = ["--set", "replicates=3"]
    assert taken(*three) == [(stage, "tiny") for stage in (*before, replicates[0])]
    # Every evaluation has another list of models to go through.
    assert list(_plan(project, *three)) == [*replicates[1:], *ALL[3:]]
    # A student stands for its replicates; one of them may be named, too.
    assert list(_plan(project, *three, "--until", "30_distillation-merged")) == replicates[1:]
    done = _call(project, "reproduce", *three, "--until", "30_distillation-merged.3")
    assert done.returncode == 0, done.stdout + done.stderr
    records = project / "papermill_runs/tiny_replicates_3/records"
    made = {path.stem: json.loads(path.read_text()) for path in records.iterdir()}
    assert {stage: record["taken_from"] for stage, record in made.items()} == {
        **dict.fromkeys(before, "tiny"),
        "30_distillation-merged.3": None,
    }
    assert made["30_distillation-merged.3"]["parameters"]["model"] == "merged.3"
    assert _call(project, "reproduce", *three, "--until", "30_distillation").returncode == 0
    # A run with fewer of them has nothing left to distil.
    two = ["--set", "replicates=2"]
    assert [run for stage, run in taken(*two) if stage == replicates[1]] == ["tiny_replicates_3"]
    assert list(_plan(project, *two)) == ALL[3:]


def _until(condition) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
