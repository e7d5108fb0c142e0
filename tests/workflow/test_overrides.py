"""Settings from the command line: what they make of a profile, and what they are refused for."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from robbertje_lib.__main__ import main
from robbertje_lib.experiment import paths
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import HubTeacher, Profile, TeacherTraining, freeze_profile, load_profile
from robbertje_lib.experiment.run import Run
from robbertje_lib.workflow.resolve import resolve


def _derived(assignments: str, profile: str = "demo") -> Profile:
    return resolve(profile, 1.0, assignments).profile


def _written() -> list[str]:
    return sorted(path.name for path in paths.output_root().rglob("*") if path.is_file())


def test_the_example_of_the_readme() -> None:
    run = resolve("demo", 1.0, "merge_probability=0.3 seeds=5")
    profile, plain = run.profile, load_profile("demo")
    assert run.paths.run == paths.output_root() / "papermill_runs/demo_merge_probability_0_3_seeds_5"
    assert (profile.corpus.merge_probability, profile.finetuning.seeds) == (0.3, [1, 2, 3, 4, 5])
    # Nothing else differs, so that every untouched stage has the digest it has in `demo`.
    told = " Changed: corpus.merge_probability = 0.3, finetuning.seeds = 5."
    same = {"corpus": plain.corpus, "finetuning": plain.finetuning, "name": plain.name}
    assert profile.model_copy(update={**same, "description": plain.description}) == plain
    assert profile.description == plain.description + told


@pytest.mark.parametrize(
    ("assignments", "found", "name"),
    [
        ("corpus.merge_probability=0.3", lambda p: p.corpus.merge_probability == 0.3, "demo_merge_probability_0_3"),
        ("finetuning.seeds=[4,7]", lambda p: p.finetuning.seeds == [4, 7], None),
        ("seeds='[4, 7]'", lambda p: p.finetuning.seeds == [4, 7], None),
        ("tasks.dbrd.train=30", lambda p: p.finetuning.tasks["dbrd"].train == [30], "demo_dbrd_train_30"),
        ("tasks.dbrd.train=[90,30]", lambda p: p.finetuning.tasks["dbrd"].train == [30, 90], None),
        ("replicates=5", lambda p: p.replicates == 5 and len(p.trained) == 20, "demo_replicates_5"),
        ("merged.replicates=2", lambda p: len(p.trained) == 5, "demo_merged_replicates_2"),
        ("fast.order=document", lambda p: p.recipes["fast"].order == "document", "demo_order_document"),
        ("tasks.dbrd.train=null", lambda p: p.finetuning.tasks["dbrd"].train == [None], None),
        ("fast.learning_rate=1e-3", lambda p: p.recipes["fast"].learning_rate == 1e-3, "demo_fast_learning_rate_0_001"),
        ("finetuning.learning_rate=[1e-4,.5E-3]", lambda p: p.finetuning.learning_rate == (1e-4, 5e-4), None),
        ("seed=7", lambda p: p.seed == 7, "demo_seed_7"),
        ("freeze_positions=true", lambda p: p.recipes["fast"].freeze_positions, "demo_freeze_positions_true"),
        ("merged.shape=bort", lambda p: p.students["merged"].shape == "bort", "demo_merged_shape_bort"),
        ("alpha=0.01", lambda p: p.significance.alpha == 0.01, "demo_alpha_0_01"),  # a section demo leaves out
        ("epochs=4", lambda p: p.finetuning.epochs == 4, "demo_epochs_4"),
        ("epochs=4.0", lambda p: p.finetuning.epochs == 4, "demo_epochs_4"),
        ("tokens=2_000_000", lambda p: p.teacher.tokens == 2_000_000, "demo_tokens_2000000"),
        ("description='Mijn proef, één'", lambda p: p.description.startswith("Mijn proef, één Changed: description = "), None),
        ("shapes.bort={layers: 1, heads: 4, feed_forward: 64, teacher_layers: [2]}", lambda p: p.shapes["bort"].heads == 4, None),
    ],
)  # fmt: skip
def test_values_of_every_kind(assignments: str, found: Any, name: str | None) -> None:
    if "{" in assignments:
        assignments = f'"{assignments}"'
    profile = _derived(assignments)
    assert found(profile)
    assert profile.name == name if name else profile.name.startswith("demo_")


def test_a_teacher_from_the_hub_replaces_a_trained_one() -> None:
    assert isinstance(load_profile("demo").teacher, TeacherTraining)
    profile = _derived("teacher='{hub: pdelobelle/robbert-v2-dutch-base, revision: main}'")
    assert isinstance(profile.teacher, HubTeacher)


BAD = [
    ("merge_probabilty=0.3", "SET merge_probabilty: no such setting: did you mean 'merge_probability'?"),
    ("finetuning.sedes=3", "SET finetuning.sedes: no such setting: did you mean 'finetuning.seeds'?"),
    ("learning_rate=0.1", "SET learning_rate: may mean teacher.learning_rate, recipes.fast.learning_rate, finetuning.learning_rate; write one of them"),
    ("seeds=3 finetuning.seeds=4", "SET finetuning.seeds: finetuning.seeds is given twice; give it once"),
    ("seeds=3 seeds=3", "is given twice"),
    ("merged='{arm: merged}' students.merged.shape=bort", "SET students.merged.shape: is part of students.merged"),
    ("seeds", "SET seeds: write NAME=VALUE, such as merge_probability=0.3, without spaces around the ="),
    ("seeds = 3", "SET seeds: write NAME=VALUE"),
    ("=3", "SET =3: write NAME=VALUE"),
    ("seeds=", "SET seeds: has no value; write seeds=VALUE (null for none)"),
    ("seeds='3", "a quote is not closed"),
    ("seeds=[1,", "SET seeds: not valid YAML"),
    ("seeds='!!python/object/apply:os.abort []'", "SET seeds: not valid YAML"),
    ("merged='{arm: merged, arm: shuffled}'", "key 'arm' stands twice"),
    ("name=other", "SET name: cannot be set so; a changed profile gets its name from its settings"),
    ("budget=0.1", "SET budget: cannot be set so; say BUDGET=0.05"),
    ("merge_probability=2", "demo.yaml with merge_probability=2: corpus.merge_probability: Input should be less than or equal to 1, not 2"),
    ("merge_probability=half", "corpus.merge_probability: Input should be a valid number, not 'half'"),
    ("seeds=0", "finetuning.seeds: 0 seeds cannot be; give 1 to 1000, or list them"),
    ("seeds=99999999999", "finetuning.seeds: 99999999999 seeds cannot be"),
    ("seeds=true", "finetuning.seeds: Input should be a valid list, not True"),
    ("seeds=2020-01-01", "finetuning.seeds: Input should be a valid list"),
    ("seeds=[1,1]", "1 is listed twice"),
    ("merged.shape=brot", "students.merged.shape: 'brot' is not defined; did you mean 'bort'?"),
    ("heads=3", "SET heads: may mean teacher.heads, shapes.distilbert.heads, shapes.bort.heads"),
    ("teacher.heads=3", "teacher.heads: 3 does not divide teacher.hidden 128"),
    ("sick_nl.options='{foo: a}'", "options: unknown option 'foo'"),
    ("tasks.dbrd.options.foo=1", "SET tasks.dbrd.options.foo: no such setting"),
    ("corpus=null", "corpus: "),
    ("corpus.sources=[./nowhere/]", "no source "),
]  # fmt: skip


@pytest.mark.parametrize(("assignments", "message"), BAD, ids=[assignments for assignments, _ in BAD])
def test_each_fault_is_one_line_and_leaves_no_file(assignments: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        _derived(assignments)
    assert message in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    assert _written() == []


@pytest.mark.parametrize("other", ["seeds=5 merge_probability=0.3", "finetuning.seeds=5   corpus.merge_probability=.3"])
def test_neither_order_nor_spelling_matters(other: str) -> None:
    assert _derived(other) == _derived("merge_probability=0.3 seeds=5")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("seeds=2", "seeds=[2]"),
        ("finetuning.weight_decay=[1,2]", "finetuning.weight_decay=[1.2,2]"),
        ("description=a_b", "description='a b'"),
        ("fast.adam_epsilon=1e-16", "fast.adam_epsilon=1e+16"),
        ("fast.learning_rate=0.12345678", "fast.learning_rate=0.12345679"),
    ],
)
def test_different_settings_never_share_a_name(one: str, other: str) -> None:
    assert _derived(one).name != _derived(other).name


def test_a_long_name_is_cut_and_ends_in_a_hash() -> None:
    long = "corpus.merge_probability=0.25 finetuning.early_stopping=2 significance.smallest.score=0.02"
    one, other = _derived(f"{long}3").name, _derived(f"{long}4").name
    assert len(one) <= 61 and one != other
    assert one[:-9] == other[:-9] and one.startswith("demo_merge_probability_0_25_")


def test_the_users_own_text_is_still_found(tmp_path: Path) -> None:
    raw = yaml.safe_load((paths.PROFILES / "mini.yaml").read_text(encoding="utf-8"))
    raw["name"], raw["corpus"]["sources"] = "own", ["./tekst.txt"]
    (tmp_path / "tekst.txt").write_text("Een zin.\n", encoding="utf-8")
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    profile = _derived("merge_probability=0.3", str(tmp_path / "own.yaml"))
    assert profile.name == "own_merge_probability_0_3"
    assert profile.corpus.sources == [str((tmp_path / "tekst.txt").resolve())]


def test_the_users_own_text_is_given_as_seen_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tekst.txt").write_text("Een zin.\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert _derived("sources=[./tekst.txt]", "mini").corpus.sources == [str((tmp_path / "tekst.txt").resolve())]


def test_what_aliases_share_is_changed_where_it_is_named_only(tmp_path: Path) -> None:
    text = (paths.PROFILES / "demo.yaml").read_text(encoding="utf-8").replace("name: demo", "name: own")
    text = text.replace("  shuffled: {arm: shuffled, shape: distilbert, recipe: fast}\n", "  shuffled: *first\n")
    text = text.replace("  non_shuffled: {", "  non_shuffled: &first {")
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    students = _derived("students.shuffled.shape=bort", str(tmp_path / "own.yaml")).students
    assert (students["shuffled"].shape, students["non_shuffled"].shape) == ("bort", "distilbert")


def _frozen(run: Run) -> str:
    freeze_profile(run.profile, run.paths.profile)
    return str(run.paths.profile)


def test_a_changed_profile_can_be_changed_again() -> None:
    profile = _derived("seeds=2", _frozen(resolve("demo", 1.0, "merge_probability=0.3")))
    assert profile.name == "demo_merge_probability_0_3_seeds_2"
    assert (profile.corpus.merge_probability, profile.finetuning.seeds) == (0.3, [1, 2])


def test_settings_and_a_budget_go_together_but_not_on_sizes_scaled_already() -> None:
    run = resolve("mini", 0.05, "pseudo_perplexity.lines=400")
    assert run.paths.run_name.endswith("lines_400-budget0.05")
    assert run.profile.pseudo_perplexity.lines == 20
    with pytest.raises(
        UserError, match=r"^SET seeds=2: .*profile.yaml is scaled already; name the profile it was made"
    ):
        _derived("seeds=2", _frozen(run))


def test_make_passes_the_settings_as_they_are(tmp_path: Path) -> None:
    given = "description='a \"b\" $$HOME; `ls`' seeds=[1,2]"
    told = subprocess.run(
        ["make", "-n", "plan", f"SET={given}", f"PYTHON={sys.executable}"],
        cwd=paths.PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = [line for line in told.stdout.splitlines() if "robbertje_lib plan" in line]
    script = line.replace(".venv/bin/python -m robbertje_lib", "printf '%s\\n'")
    words = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert f"--set={given.replace('$$', '$')}" in words


def test_a_bad_setting_ends_the_command_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--profile", "demo", "--set", "sede=3", "--set", "merge_probability=0.3"]) == 2
    assert capsys.readouterr().err == "error: SET sede: no such setting: did you mean 'seed'?\n"
    assert _written() == []


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet="seds=[]{}:,.0123456789-'\" \\\n!&*|corpus", max_size=30) | st.text(max_size=20))
def test_whatever_is_set_the_answer_is_a_profile_or_one_line(text: str) -> None:
    for assignments in (text, f"seeds={text}", f"description={text}"):
        try:
            _derived(assignments)
        except UserError as error:
            assert "\n" not in str(error)
