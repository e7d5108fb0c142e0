"""Profiles: every fault is one line that names the key and what would do."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import HubTeacher, load_profile, parse_profile

PROFILES = sorted(path.stem for path in paths.PROFILES.glob("*.yaml"))
MINI: dict[str, Any] = yaml.safe_load((paths.PROFILES / "mini.yaml").read_text(encoding="utf-8"))
# Sizes of our own: those of the profile change whenever it is tuned, the messages about them do not.
MINI["teacher"].update(layers=6, heads=4, hidden=256, feed_forward=1024)
MINI["shapes"] = {
    "distilbert": {"layers": 3, "heads": 4, "feed_forward": 1024, "teacher_layers": [0, 2, 5]},
    "bort": {"layers": 2, "heads": 2, "feed_forward": 256, "teacher_layers": [0, 5]},
}


def _put(*path_and_value: Any) -> Callable[[dict[str, Any]], None]:
    *path, last, value = path_and_value

    def change(profile: dict[str, Any]) -> None:
        for part in path:
            profile = profile[part]
        profile[last] = value

    return change


def _drop(*path: str) -> Callable[[dict[str, Any]], None]:
    *way, last = path

    def change(profile: dict[str, Any]) -> None:
        for part in way:
            profile = profile[part]
        del profile[last]

    return change


BAD = [
    # unknown keys, at every depth
    (_put("corpsu", {}), "unknown key 'corpsu': did you mean 'corpus'?"),
    (_put("corpus", "merge_probabilty", 0.3), "unknown key 'corpus.merge_probabilty': did you mean 'merge_probability'?"),
    (_put("teacher", "hiden", 3), "unknown key 'teacher.hiden': did you mean 'hidden'?"),
    (_put("teacher", {"hub": "a/b", "revison": "main"}), "unknown key 'teacher.revison': did you mean 'revision'?"),
    (_put("shapes", "bort", "layer", 3), "unknown key 'shapes.bort.layer': did you mean 'layers'?"),
    (_put("students", "bort", "shap", "bort"), "unknown key 'students.bort.shap': did you mean 'shape'?"),
    (_put("recipes", "fast", "temprature", 2.0), "unknown key 'recipes.fast.temprature': did you mean 'temperature'?"),
    (_put("finetuning", "tasks", "ner", "trian", 3), "unknown key 'finetuning.tasks.ner.trian': did you mean 'train'?"),
    (_put("significance", {"alfa": 0.05}), "unknown key 'significance.alfa': did you mean 'alpha'?"),
    (_put("gender_bias", "tempaltes", []), "unknown key 'gender_bias.tempaltes': did you mean 'templates'?"),
    # missing keys
    (_drop("seed"), "seed: is missing; add it"),
    (_drop("students", "bort", "shape"), "students.bort.shape: is missing; add it"),
    (_drop("teacher", "layers"), "teacher.layers: is missing; add it"),
    (_drop("corpus"), "corpus: is missing; add it"),
    # wrong types
    (_put("seed", "56"), "seed: Input should be a valid integer, not '56'"),
    (_put("seed", 1.5), "seed: Input should be a valid integer"),
    (_put("seed", True), "seed: Input should be a valid integer"),
    (_put("corpus", []), "corpus: Input should be"),
    (_put("corpus", "sources", "novels"), "corpus.sources: Input should be a valid list, not 'novels'"),
    (_put("teacher", "big"), "teacher: Input should be"),
    (_put("students", ["merged"]), "students: Input should be a valid dictionary"),
    (_put("teacher", "learning_rate", "1e-3"), "teacher.learning_rate: Input should be a valid number (YAML reads 1e-3 as text; write 1.0e-3)"),
    (_put("students", "merged", {"arm": "merged", "shape": "distilbert", "hub": "a/b", "revision": 1234567}), "students.merged.revision: Input should be a valid string (YAML reads this as a number; put it in quotes), not 1234567"),
    (_put("teacher", "learning_rate", float("inf")), "teacher.learning_rate: Input should be a finite number"),
    (_put("teacher", "learning_rate", float("nan")), "teacher.learning_rate: Input should be"),
    # values out of range
    (_put("corpus", "merge_probability", 1.3), "corpus.merge_probability: Input should be less than or equal to 1, not 1.3"),
    (_put("corpus", "held_out_fraction", 1.5), "corpus.held_out_fraction: Input should be less than or equal to 0.5"),
    (_put("corpus", "arm_megabytes", 0), "corpus.arm_megabytes: Input should be greater than 0"),
    (_put("teacher", "layers", 0), "teacher.layers: Input should be greater than 0"),
    (_put("seed", -1), "seed: Input should be greater than or equal to 0"),
    (_put("tokenizer", "vocabulary", 200), "tokenizer: vocabulary 200 is too small for byte-level BPE; give at least 300"),
    (_put("recipes", "fast", "adam_betas", [0.9, 1.0]), "recipes.fast.adam_betas.1: Input should be less than 1"),
    (_put("recipes", "fast", "adam_betas", [0.9]), "recipes.fast.adam_betas.1: is missing; add it"),
    (_put("recipes", "fast", "update_size", 1), "recipes.fast: update_size 1 is below batch_size 2048; raise it"),
    (_put("finetuning", "learning_rate", [1e-3, 1e-5]), "finetuning.learning_rate: range [0.001, 1e-05] is upside down"),
    (_put("finetuning", "learning_rate", [0.0, 1e-5]), "finetuning.learning_rate.0: Input should be greater than 0"),
    (_put("finetuning", "seeds", []), "finetuning.seeds: List should have at least 1 item"),
    (_put("finetuning", "seeds", [1, 2, 1]), "finetuning.seeds: 1 is listed twice; list it once"),
    (_put("finetuning", "tasks", "ner", "train", 0), "finetuning.tasks.ner.train.0: Input should be greater than 0"),
    (_put("finetuning", "tasks", "ner", "train", []), "finetuning.tasks.ner.train: is empty; give a size, or null for all"),
    (_put("finetuning", "tasks", "ner", "train", [None, None]), "finetuning.tasks.ner.train: null is listed twice; list it once"),
    (_put("finetuning", "tasks", "ner", "train", [None, "a"]), "finetuning.tasks.ner.train.1: Input should be a valid integer"),
    (_put("significance", {"alpha": 1.0}), "significance.alpha: Input should be less than 1"),
    (_put("finetuning", "tasks", "ner", "train", [60, 60]), "finetuning.tasks.ner.train: 60 is listed twice; list it once"),
    (_put("replicates", 0), "replicates: Input should be greater than 0"),
    (_put("students", "merged", "replicates", 0), "students.merged.replicates: Input should be greater than 0"),
    (_put("students", "merged", "replicates", 10**9), "students.merged.replicates: Input should be less than or equal to 1000"),
    (_put("students", "shuffled_as_published", "update_size", 3), "students.shuffled_as_published.update_size: below the recipe's batch_size 5; raise it"),
    (_put("students", "merged", {"arm": "merged", "shape": "distilbert", "hub": "a/b", "revision": "c", "replicates": 2}), "students.merged.replicates: a released student is there once; leave it out"),
    (_put("students", "merged", {"arm": "merged", "shape": "distilbert", "hub": "a/b", "revision": "c", "update_size": 9}), "students.merged.update_size: a released student is not trained; leave it out"),
    # names that do not exist
    (_put("text", "reel"), "text: 'reel' is not known; did you mean 'real'?"),
    (_put("students", "bort", "arm", "merge"), "students.bort.arm: 'merge' is not listed in corpus.arms; did you mean 'merged'?"),
    (_put("students", "bort", "shape", "brot"), "students.bort.shape: 'brot' is not defined; did you mean 'bort'?"),
    (_put("students", "bort", "recipe", "fats"), "students.bort.recipe: 'fats' is not defined; did you mean 'fast'?"),
    (_put("corpus", "selections", ["head"]), "selection: 'same_lines' is not defined; choose from: head"),
    (_put("corpus", "selections", ["heads"]), "corpus.selections.0: 'heads' is not known; did you mean 'head'?"),
    (_put("corpus", "selections", ["head", "head"]), "corpus.selections: 'head' is listed twice"),
    (_put("corpus", "arms", ["merged", "merged"]), "corpus.arms: 'merged' is listed twice; list it once"),
    (_put("corpus", "arms", ["non_shuffled", "merged"]), "students.shuffled.arm: 'shuffled' is not listed in corpus.arms; did you mean 'non_shuffled'?"),
    (_put("corpus", "arms", []), "corpus.arms: List should have at least 1 item"),
    (_put("corpus", "arms", ["teacher"]), "corpus.arms: 'teacher' is reserved; rename the arm"),
    (_put("corpus", "arms", ["../merged"]), "corpus.arms.0: String should match pattern"),
    (_drop("corpus", "arms"), "corpus.arms: is missing; add it"),
    (_put("corpus", "sources", ["novel"]), "corpus.sources: no source 'novel': did you mean 'novels'?"),
    (_put("corpus", "sources", ["novels", "novels"]), "corpus.sources: 'novels' is listed twice"),
    (_put("corpus", "sources", ["./nowhere.txt"]), "corpus.sources: no source './nowhere.txt'"),
    (_put("recipes", "fast", "order", "documents"), "recipes.fast.order: 'documents' is not known; did you mean 'document'?"),
    (_put("recipes", "fast", "precision", "float16"), "recipes.fast.precision: 'float16' is not known"),
    (_put("recipes", "fast", "masking", "smooth"), "recipes.fast.masking: 'smooth' is not known; did you mean 'smoothed'?"),
    # combinations that cannot be
    (_put("students", {}), "students: Dictionary should have at least 1 item"),
    (_put("students", "teacher", MINI["students"]["bort"]), "students: 'teacher' is reserved; rename the student"),
    (_put("students", "random_bort", MINI["students"]["bort"]), "students: 'random_bort' is reserved; rename the student"),
    (_put("students", "unigram", MINI["students"]["bort"]), "students: 'unigram' is reserved; rename the student"),
    (_put("students", "tf_idf", MINI["students"]["bort"]), "students: 'tf_idf' is reserved; rename the student"),
    (_put("shapes", "a.2", MINI["shapes"]["bort"]), "shapes.a.2: names start with a letter"),
    (_put("recipes", "a/b", MINI["recipes"]["fast"]), "recipes.a/b: names start with a letter"),
    (_put("finetuning", "dropout", None), "finetuning.dropout: recipes of shape distilbert differ in dropout; name one for all"),
    (_put("corpus", "lines", "source"), "corpus: lines: 'source' does not go with the source 'novels'; say sentences"),
    (_put("shapes", "teacher", MINI["shapes"]["bort"]), "shapes: 'teacher' is reserved; rename the shape"),
    (_put("students", "../../etc", MINI["students"]["bort"]), "names start with a letter"),
    (_put("name", "../mini"), "name: names start with a letter"),
    (_put("teacher", "heads", 3), "teacher.heads: 3 does not divide teacher.hidden 256"),
    (_put("shapes", "bort", "heads", 7), "shapes.bort.heads: 7 does not divide teacher.hidden 256"),
    (_put("shapes", "bort", "teacher_layers", [0, 6]), "shapes.bort.teacher_layers: 6 but the teacher has 6 layers"),
    (_put("shapes", "bort", "teacher_layers", [0]), "shapes.bort.teacher_layers: 1 named for 2 layers"),
    (_put("shapes", "bort", "teacher_layers", []), "shapes.bort.teacher_layers: recipe 'fast' copies teacher layers; name them"),
    (_put("teacher", "mask_fraction", 1.5), "teacher.mask_fraction: Input should be less than 1, not 1.5"),
    (_put("recipes", "fast", "minimum_tokens", 300), "recipes.fast.minimum_tokens: above tokenizer.maximum_length"),
    (_put("gender_bias", "templates", ["<mask> is een."]), "template '<mask> is een.' must hold <mask> once and <T> once"),
    (_put("finetuning", "seeds", 0), "finetuning.seeds: 0 seeds cannot be; give 1 to 1000, or list them"),
    (_put("finetuning", "seeds", 10**12), "finetuning.seeds: 1000000000000 seeds cannot be"),
    (_put("finetuning", "seeds", True), "finetuning.seeds: Input should be a valid list, not True"),
    (_put("gender_bias", "templates", ["Hij is een <T>."]), "must hold <mask> once and <T> once"),
    (_put("text", "known_answer"), "'bol_reviews' does not go with text: known_answer"),
    (_put("corpus", "sources", ["known_answer"]), "text: a profile that reads 'known_answer' must say text: known_answer"),
    (_put("teacher", {"hub": "robbert", "revision": "main"}), "teacher.hub: String should match pattern"),
    (_put("teacher", {"hub": "a/b"}), "teacher.revision: is missing; add it"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_each_fault_is_one_line_that_says_what_would_do(change: Callable[[dict[str, Any]], None], message: str) -> None:
    raw = copy.deepcopy(MINI)
    change(raw)
    with pytest.raises(UserError) as error:
        parse_profile(raw, where="mini.yaml")
    told = str(error.value)
    assert told.startswith("mini.yaml: ")
    assert message in told
    assert "\n" not in told and len(told) < 600


@pytest.mark.parametrize("name", PROFILES)
def test_the_profiles_that_come_with_the_project_are_valid(name: str) -> None:
    for budget in (1.0, 0.05):
        profile = load_profile(name, budget)
        assert profile.name == name
        assert profile.budget == budget


@pytest.mark.parametrize("budget", [0, -1, 1.5, float("nan"), float("inf"), 0.12345678])
def test_a_budget_out_of_range(budget: float) -> None:
    with pytest.raises(UserError, match="^BUDGET "):
        load_profile("mini", budget)


def test_a_budget_scales_what_is_marked_and_nothing_else() -> None:
    whole, part = load_profile("mini"), load_profile("mini", 0.05)
    assert part.teacher.tokens == whole.teacher.tokens // 20  # type: ignore[union-attr]
    assert part.corpus.arm_megabytes == pytest.approx(whole.corpus.arm_megabytes / 20)
    assert part.finetuning.tasks["sick_nl"].test == round(4906 * 0.05)
    assert part.finetuning.tasks["dbrd"].test == 60  # the least that says anything
    assert part.shapes == whole.shapes
    assert part.finetuning.seeds == whole.finetuning.seeds
    assert (whole.run_name, part.run_name) == ("mini", "mini-budget0.05")
    assert "budget 0.05" in part.stamp and "budget" not in whole.stamp


def test_passes_over_text_that_a_budget_has_made_shorter_are_as_many() -> None:
    whole, part = (load_profile("mini", budget).recipes for budget in (1.0, 0.05))
    assert part["as_published"] == whole["as_published"] and whole["as_published"].amount_unit == "epochs"
    assert part["fast"].amount == whole["fast"].amount // 20


def test_sizes_ascend_and_are_scaled_each() -> None:
    raw = copy.deepcopy(MINI)
    raw["finetuning"]["tasks"]["ner"]["train"] = [3000, 100, 800]
    assert parse_profile(raw).finetuning.tasks["ner"].train == [100, 800, 3000]
    part = parse_profile(raw, 0.05).finetuning.tasks["ner"]
    assert part.train == [60, 150] and part.sizes["train"] == 150  # two were below the least, and are one
    for size, kept in ((800, [800]), (None, [None]), ([None, 50], [50, None])):  # None is all, and stays so
        raw["finetuning"]["tasks"]["ner"]["train"] = size
        assert parse_profile(raw).finetuning.tasks["ner"].train == kept
    part = parse_profile(raw, 0.05).finetuning.tasks["ner"]
    assert part.train == [50, None] and part.sizes["train"] is None


def test_one_dropout_of_fine_tuning_is_asked_for_where_a_shape_has_recipes_of_several_alone() -> None:
    raw = copy.deepcopy(MINI)
    raw["finetuning"]["dropout"] = None
    raw["students"] = {name: student for name, student in raw["students"].items() if student["recipe"] == "fast"}
    assert parse_profile(raw).finetuning.dropout is None


def test_a_student_is_distilled_as_often_as_the_profile_or_it_says() -> None:
    raw = copy.deepcopy(MINI) | {"replicates": 3}
    raw["students"] = {name: raw["students"][name] for name in ("merged", "bort")}
    raw["students"]["bort"]["replicates"] = 2
    profile = parse_profile(raw)
    assert profile.groups == {
        "teacher": ["teacher"],
        "merged": ["merged", "merged.2", "merged.3"],
        "bort": ["bort", "bort.2"],
    }
    # In turns, so that what differs between times of the day does not differ between arms.
    assert profile.trained == ["merged", "bort", "merged.2", "bort.2", "merged.3"]
    assert [stage for stage in profile.stages if stage[:2] == "30"] == [f"30_distillation-{m}" for m in profile.trained]
    assert profile.seed_of("teacher") == profile.seed == 56


@pytest.mark.parametrize(
    ("replicates", "seeds", "each", "once"),
    [(3, [4, 7], 2, 6), (2, [1], 1, 2), (1, [1], 2, 2), (1, [4, 7], 2, 2), (1, [1, 2, 3], 3, 3)],
)
def test_what_is_there_once_is_fine_tuned_twice_at_the_least(
    replicates: int, seeds: list[int], each: int, once: int
) -> None:
    raw = copy.deepcopy(MINI) | {"replicates": replicates}
    raw["finetuning"]["seeds"] = seeds
    raw["students"]["bort"]["replicates"] = 1
    profile = parse_profile(raw)
    assert all(len(profile.finetuning_seeds(model)) == each for model in profile.replicates_of("merged"))
    for name in ("teacher", "random_teacher", "random_distilbert", "bort"):
        assert len(profile.finetuning_seeds(name)) == once


def test_no_two_models_share_a_seed() -> None:
    """Else what chance gives one it would give the other, and tests, which take them for independent, would be off."""
    profile = parse_profile(copy.deepcopy(MINI) | {"replicates": 3})
    distillations = [profile.seed_of(model) for model in profile.models]
    tuned = [seed for model in (*profile.models, *profile.controls) for seed in profile.finetuning_seeds(model)]
    for seeds in (distillations, tuned):
        assert len(set(seeds)) == len(seeds)
    assert profile.seed_of("merged") == parse_profile(copy.deepcopy(MINI)).seed_of("merged")


def test_more_replicates_change_the_digest_of_no_distillation() -> None:
    one, other, odd = (parse_profile(copy.deepcopy(MINI) | {"replicates": count}) for count in (2, 5, 2))
    assert one.digest() == odd.digest() != other.digest()
    assert one.digest("students.merged", "seed") == other.digest("students.merged", "seed")


def test_a_students_update_size_takes_its_recipes_place() -> None:
    raw = copy.deepcopy(MINI)
    profile = parse_profile(raw)
    recipe = profile.recipes["as_published"]
    assert profile.recipe_of("merged_as_published.2") == recipe
    assert profile.recipe_of("shuffled_as_published.2") == recipe.model_copy(update={"update_size": 45})
    raw["students"]["shuffled_as_published"]["update_size"] = 50
    assert parse_profile(raw).digest("students.shuffled_as_published") != profile.digest(
        "students.shuffled_as_published"
    )


def test_a_budget_never_enlarges() -> None:
    raw = copy.deepcopy(MINI)
    raw["finetuning"]["tasks"]["dbrd"]["test"] = 30
    assert parse_profile(raw, 0.5).finetuning.tasks["dbrd"].test == 30


def test_a_number_of_seeds_stands_for_the_first_so_many(tmp_path: Path) -> None:
    raw = copy.deepcopy(MINI)
    raw["finetuning"]["seeds"] = 3
    assert parse_profile(raw).finetuning.seeds == [1, 2, 3]
    content = yaml.safe_dump({**raw, "name": "own"})
    assert "seeds: 3" in content
    listed = content.replace("seeds: 3", "seeds: [1, 2, 3]")
    profile = load_profile(_write(tmp_path, "own.yaml", content))
    assert profile.digest() == load_profile(_write(tmp_path, "own.yaml", listed)).digest()


def test_digests_follow_their_sections() -> None:
    profile = load_profile("mini")
    raw = copy.deepcopy(MINI)
    raw["recipes"]["fast"]["temperature"] = 3.0
    other = parse_profile(raw)
    assert profile.digest("recipes.fast") != other.digest("recipes.fast")
    assert profile.digest("recipes.as_published", "students", "seed") == other.digest(
        "recipes.as_published", "students", "seed"
    )
    assert profile.digest() != other.digest()
    assert profile.digest("students.merged") != profile.digest("students.shuffled")


def test_a_teacher_from_the_hub() -> None:
    raw = copy.deepcopy(MINI)
    raw["teacher"] = {"hub": "pdelobelle/robbert-v2-dutch-base", "revision": "main"}
    assert isinstance(parse_profile(raw).teacher, HubTeacher)


def _write(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: [", "not valid YAML"),
        ("name: a\nname: b\n", "key 'name' stands twice"),
        ("corpus: {sources: [novels], sources: [manifestos]}", "key 'sources' stands twice"),
        ("name: !!python/object/apply:os.abort []", "not valid YAML"),
        ("name: !include other.yaml", "not valid YAML"),
        ("seed: 2001-99-99", "not valid YAML"),
        ("? [a, b]\n: c", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        ("seed: " + "9" * 5000, "not valid YAML"),
        ("- a\n- b\n", "expected a mapping"),
        ("", "expected a mapping"),
        (b"name: \xff\xfe", "not valid YAML"),
        (b"name: a\0b", "not valid YAML"),
        ("&a [*a]", "expected a mapping"),
        ("{1: 2}", "own.yaml: "),
    ],
)
def test_files_that_are_no_profile(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError) as error:
        load_profile(_write(tmp_path, "own.yaml", content))
    assert message in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


def test_a_text_that_unfolds_without_end_is_told_in_short(tmp_path: Path) -> None:
    layers = "\n".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 9) if i else 'a'}]" for i in range(12))
    with pytest.raises(UserError) as error:
        load_profile(_write(tmp_path, "own.yaml", layers))
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "name", ["mimi", "", "..", "../profiles/mini", "nowhere.yaml", "smoke\n", "a\0b", "a\0b.yaml", "a" * 5000 + ".yaml"]
)
def test_a_profile_that_does_not_exist(name: str) -> None:
    with pytest.raises(UserError, match="^no profile"):
        load_profile(name)


def test_a_copied_profile_must_be_renamed_inside(tmp_path: Path) -> None:
    content = (paths.PROFILES / "mini.yaml").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="name: is 'mini'; call file and profile the same"):
        load_profile(_write(tmp_path, "own.yaml", content))
    assert load_profile(_write(tmp_path, "own.yaml", content.replace("name: mini", "name: own"))).run_name == "own"


@pytest.mark.parametrize("place", ["a" * 5000 + "/b", "./a\0b/", "~nobody_of_that_name/x", "loop/x"])
@pytest.mark.parametrize("kind", ["text", "hub text", "teacher", "student"])
def test_a_place_that_cannot_be_is_told_in_one_line(tmp_path: Path, place: str, kind: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    raw = copy.deepcopy(MINI)
    raw["name"] = "own"
    if kind == "teacher":
        raw["teacher"] = {"hub": place}
    elif kind == "student":
        raw["students"]["bort"] = {"arm": "merged", "shape": "bort", "hub": place}
    else:
        raw["corpus"]["sources"] = [f"hub:{place}" if kind == "hub text" else place]
    with pytest.raises(UserError) as error:
        load_profile(_write(tmp_path, "own.yaml", yaml.safe_dump(raw)))
    assert "\n" not in str(error.value)


def test_the_users_text_is_found_beside_the_profile(tmp_path: Path) -> None:
    text = Path(_write(tmp_path, "tekst.txt", "Een zin.\n"))
    content = (paths.PROFILES / "mini.yaml").read_text(encoding="utf-8")
    content = content.replace("name: mini", "name: own").replace("[novels, manifestos]", "[./tekst.txt]")
    assert load_profile(_write(tmp_path, "own.yaml", content)).corpus.sources == [str(text.resolve())]


def test_all_files_of_ones_own_are_known_so_that_an_edit_of_one_counts(tmp_path: Path) -> None:
    for name in ("text/a.txt", "text/more/b.txt", "set/c.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    content = (paths.PROFILES / "mini.yaml").read_text(encoding="utf-8").replace("name: mini", "name: own")
    content = content.replace("[novels, manifestos]", "[novels, './text/', 'hub:./set:nl', 'hub:ORG/NAME@main']")
    files = load_profile(_write(tmp_path, "own.yaml", content)).corpus.own_files()
    assert files == [tmp_path / name for name in ("text/a.txt", "text/more/b.txt", "set/c.parquet")]


def test_a_file_that_a_task_reads_is_found_beside_the_profile(tmp_path: Path) -> None:
    content = (paths.PROFILES / "mini.yaml").read_text(encoding="utf-8").replace("name: mini", "name: own")
    content = re.sub("( die_dat: {data: )held_out", r"\1europarl, options: {file: ./europarl-v7.nl-en.nl}", content)
    own = _write(tmp_path, "own.yaml", content)
    with pytest.raises(
        UserError, match=r"finetuning.tasks.die_dat.options: no file '.*europarl-v7.nl-en.nl'; name one"
    ):
        load_profile(own)
    (tmp_path / "europarl-v7.nl-en.nl").write_bytes(b"x")
    tasks = load_profile(own).finetuning.tasks
    assert tasks["die_dat"].own_files() == [tmp_path / "europarl-v7.nl-en.nl"]
    assert tasks["dbrd"].own_files() == []


# Anything YAML can hold, put anywhere in a valid profile.
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3), max_leaves=6
)


def _places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, below in inside for place in [(*way, key), *_places(below, (*way, key))]]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.sampled_from(_places(MINI)), value=VALUES, renamed=st.none() | st.text(max_size=10), budget=st.floats())
def test_whatever_a_profile_holds_the_answer_is_one_line(
    place: tuple[Any, ...], value: Any, renamed: str | None, budget: float
) -> None:
    raw = copy.deepcopy(MINI)
    target = raw
    for part in place[:-1]:
        target = target[part]
    target[place[-1]] = value
    if renamed is not None and isinstance(target, dict):
        target[renamed] = target.pop(place[-1])
    for tried in (1.0, budget):
        try:
            parse_profile(raw, tried)
        except UserError as error:
            assert "\n" not in str(error)
            assert str(error).isprintable() or len(str(error)) < 2000


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=80) | st.text(alphabet="&*!|>{}[]:,-# \n\t'\"a1.<?%@`", max_size=80).map(str.encode))
def test_whatever_a_file_holds_the_answer_is_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load_profile(str(path))
    assert "\n" not in str(error.value)
