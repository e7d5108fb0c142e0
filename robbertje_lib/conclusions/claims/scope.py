"""What a verdict is about, in one line: teacher, students, recipe, how often distilled, text, and what narrows it."""

from collections.abc import Sequence

from robbertje_lib.conclusions.claims.base import Setting
from robbertje_lib.experiment.profile import RELEASED, HubTeacher, Profile
from robbertje_lib.experiment.results.claims import ONE_RUN


def scope_of(profile: Profile, setting: Setting, students: Sequence[str], notes: Sequence[str] = ()) -> str:
    """Such as `2-layer students of a 4-layer teacher (width 192, 50,000,000 tokens); recipe fast, ...`."""
    parts = [f"{_shapes(profile, students)} of {_teacher(profile)}", _recipe(profile, setting, students)]
    if students:
        counts = sorted({len(profile.replicates_of(student)) for student in students})
        told = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        alone = ONE_RUN if setting.recipe == RELEASED else f"these very weights, {ONE_RUN}"
        parts.append(alone if counts == [1] else f"{told} replicates each")
    return "; ".join([*parts, profile.origin, *notes])


def _shapes(profile: Profile, students: Sequence[str]) -> str:
    layers = sorted({profile.shapes[profile.students[student].shape].layers for student in students})
    return f"{' and '.join(f'{count}-layer' for count in layers)} students".strip()


def _teacher(profile: Profile) -> str:
    teacher = profile.teacher
    if isinstance(teacher, HubTeacher):
        return teacher.hub
    return f"a {teacher.layers}-layer teacher (width {teacher.hidden}, {teacher.tokens:,} tokens)"


def _recipe(profile: Profile, setting: Setting, students: Sequence[str]) -> str:
    if setting.recipe == RELEASED:
        return "these released weights"
    recipe = profile.recipes[setting.recipe]
    told = f"selection {setting.selection}, recipe {setting.recipe} ({recipe.amount:,} {recipe.amount_unit}"
    updates = sorted({profile.recipe_of(student).update_size for student in students})
    # A confound of the published recipe: not all of its students have updates of one size.
    return (
        f"{told}, updates of {' and '.join(map(str, updates))} {recipe.batching})" if len(updates) > 1 else f"{told})"
    )
