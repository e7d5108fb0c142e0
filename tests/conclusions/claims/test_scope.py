"""A verdict says about whom it is."""

from robbertje_lib.conclusions.claims.base import settings_of
from robbertje_lib.conclusions.claims.scope import scope_of
from robbertje_lib.experiment.profile import HubTeacher, load_profile
from tests.support.claim_evidence import profile_of


def test_the_scope_is_one_line_with_teacher_scale_recipe_and_replicates() -> None:
    profile = profile_of(replicates=3)
    setting = settings_of(profile)[0]
    told = scope_of(profile, setting, ("non_shuffled", "bort"), ("below tf_idf on dbrd: bort",))
    teacher, recipe = profile.teacher, profile.recipes["fast"]
    assert told == (
        f"1-layer and 2-layer students of a {teacher.layers}-layer teacher (width {teacher.hidden}, "
        f"{teacher.tokens:,} tokens); selection head, recipe fast ({recipe.amount:,} {recipe.amount_unit}); "
        "3 replicates each; real Dutch; below tf_idf on dbrd: bort"
    )


def test_one_run_is_about_these_very_weights() -> None:
    profile = profile_of(replicates=1)
    assert "; these very weights, one run each;" in scope_of(profile, settings_of(profile)[0], ("merged",))
    more = {**profile.students, "merged": profile.students["merged"].model_copy(update={"replicates": 4})}
    uneven = profile.model_copy(update={"students": more, "replicates": 2})
    assert "; 2 to 4 replicates each;" in scope_of(uneven, settings_of(uneven)[0], ("merged", "shuffled"))


def test_updates_of_two_sizes_are_told() -> None:
    profile = profile_of()
    other = profile.students["shuffled"].model_copy(update={"update_size": 4096})
    profile = profile.model_copy(update={"students": {**profile.students, "shuffled": other}})
    told = scope_of(profile, settings_of(profile)[0], ("shuffled", "non_shuffled"))
    assert ", updates of 2048 and 4096 tokens)" in told


def test_released_students_are_their_weights_and_their_teacher_is_named() -> None:
    profile = load_profile("published")
    assert isinstance(profile.teacher, HubTeacher)
    setting = settings_of(profile)[0]
    told = scope_of(profile, setting, tuple(setting.students.values()))
    assert f"of {profile.teacher.hub}; these released weights; one run each" in told
