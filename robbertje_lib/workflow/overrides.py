"""Settings from the command line: `make reproduce PROFILE=demo SET="merge_probability=0.3 seeds=5"`.

They make a profile of their own, with a name and thus a run of its own, which every stage then reads as it would read
any profile: there is no second way for a setting to reach a notebook.
"""

import hashlib
import json
import re
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.profile import Profile, beside, parse_profile, read_profile, read_yaml

LONGEST_NAME = 61  # as `profile.Name` allows
# Set otherwise than by an assignment.
ELSEWHERE = {"name": "a changed profile gets its name from its settings", "budget": "say BUDGET=0.05 or --budget 0.05"}


def override(profile: str, assignments: str, budget: float = 1.0) -> Profile:
    """The profile that `assignments` make of `profile`, called `<profile>_<settings>` whatever their order.

    assignments: NAME=VALUE, separated by spaces, quoted as in a shell. A name is the path of a setting, such as
    `finetuning.seeds`, or the end of one that no other shares, such as `seeds`; a value is YAML. The description tells
    them, too. Raises `UserError` for an assignment that cannot be understood, for a value that the profile does not
    allow, and for a frozen profile whose sizes are scaled already.
    """
    source, raw = read_profile(profile)
    if raw.pop("budget", 1.0) != 1.0:
        raise UserError(f"SET {assignments.strip()}: {source} is scaled already; name the profile it was made from")
    base = parse_profile(raw, where=source.name)
    known = list(_paths(base.model_dump(mode="json")))
    given = dict(sorted(_read(assignments, known).items()))
    changed = raw
    for path, value in given.items():
        changed = _replaced(changed, path.split("."), value)
    changed = beside(changed, Path.cwd())  # the file's own are absolute by now; those just given are seen from here
    made = parse_profile(changed, budget, where=f"{source.name} with {assignments.strip()}")
    name = _name(base.name, {_shortest(path, known): value for path, value in given.items()})
    told = ", ".join(f"{path} = {json.dumps(value, ensure_ascii=False)}" for path, value in given.items())
    return made.model_copy(update={"name": name, "description": f"{made.description} Changed: {told}."})


def _paths(content: dict[str, Any], above: str = "") -> Iterator[str]:
    """The dotted path of every setting and every section."""
    for key, value in content.items():
        yield f"{above}{key}"
        if isinstance(value, dict):
            yield from _paths(value, f"{above}{key}.")


def _read(assignments: str, known: Collection[str]) -> dict[str, Any]:
    try:
        words = shlex.split(assignments)
    except ValueError:
        raise UserError(f"SET {assignments}: a quote is not closed; close it") from None
    given: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise UserError(f"SET {word}: write NAME=VALUE, such as merge_probability=0.3, without spaces around the =")
        path = _find(name, known)
        if path in given:
            raise UserError(f"SET {name}: {path} is given twice; give it once")
        if not text.strip():
            raise UserError(f"SET {name}: has no value; write {name}=VALUE (null for none)")
        given[path] = _numbers(read_yaml(text, f"SET {name}"))
    for path in given:
        inside = [other for other in given if other.startswith(f"{path}.")]
        if inside:
            raise UserError(f"SET {inside[0]}: is part of {path}, which is given too; give one of the two")
    return given


def _find(name: str, known: Collection[str]) -> str:
    """The path that `name` means: itself, or the only one that ends in it."""
    if name in ELSEWHERE:
        raise UserError(f"SET {name}: cannot be set so; {ELSEWHERE[name]}")
    meant = [name] if name in known else [path for path in known if path.endswith(f".{name}")]
    if not meant:
        tails = {path.rpartition(".")[2] for path in known} if "." not in name else set(known)
        raise UserError(f"SET {name}: no such setting: {did_you_mean(name, tails - set(ELSEWHERE))}")
    if len(meant) > 1:
        raise UserError(f"SET {name}: may mean {', '.join(meant)}; write one of them")
    return meant[0]


def _shortest(path: str, known: Collection[str]) -> str:
    """The shortest end of `path` that means no other setting, so that either spelling names the same run."""
    parts = path.split(".")
    tails = [".".join(parts[start:]) for start in reversed(range(len(parts)))]
    return next(
        tail for tail in tails
        if tail == path or (tail not in known and sum(other.endswith(f".{tail}") for other in known) == 1)
    )  # fmt: skip


def _numbers(value: Any) -> Any:
    """`value` with 1e-3 as the number it looks like, which YAML takes for text for lack of a point."""
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+", value):
        return float(value)
    return value


def _replaced(content: dict[str, Any], parts: list[str], value: Any) -> dict[str, Any]:
    # A copy along the path: YAML's aliases share sections, and only the one named may change.
    first, *rest = parts
    return {**content, first: _replaced(content.get(first) or {}, rest, value) if rest else value}


def _name(base: str, given: dict[str, Any]) -> str:
    """`demo_merge_probability_0_3_seeds_5`; with a hash at the end where the settings cannot be read off."""
    words = [f"{name}_{_shown(value)}" for name, value in given.items()]
    name = re.sub(r"[^a-z0-9]+", "_", "_".join([base, *words]).lower()).strip("_")
    if len(name) <= LONGEST_NAME and all(_is_plain(value) for value in given.values()):
        return name
    digest = hashlib.sha256(json.dumps([base, given], sort_keys=True).encode()).hexdigest()[:8]
    return f"{name[: LONGEST_NAME - 9].strip('_')}_{digest}"


def _shown(value: Any) -> str:
    """A value as a name shows it: 3.0 as 3, lists with their items."""
    if isinstance(value, dict):
        return "_".join(f"{key}_{_shown(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "_".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_plain(value: Any) -> bool:
    """Whether no other value is shown alike in a name."""
    if isinstance(value, str):
        return re.fullmatch(r"[a-z][a-z0-9_]*", value) is not None
    if isinstance(value, float):
        return value >= 0 and re.fullmatch(r"[0-9.]+", f"{value:g}") is not None and float(f"{value:g}") == value
    return isinstance(value, int) and value >= 0
