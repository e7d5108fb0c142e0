"""Settings from the command line: `make reproduce PROFILE=demo SET="merge_probability=0.3 seeds=5"`.

They become a profile of their own, with a name and thus a run folder of its own, which every stage then reads as it
would read any profile: there is no second way for a setting to reach a notebook.
"""

import hashlib
import json
import re
import shlex
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import yaml

from robbertje_lib.corpus.arms import check_arms
from robbertje_lib.experiment import artefacts, paths
from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.profile import beside, parse_profile, read_profile, read_yaml
from robbertje_lib.tasks import check_tasks

LONGEST_NAME = 61  # as `profile.Name` allows
# Set otherwise than by an assignment.
ELSEWHERE = {"name": "a changed profile gets its name from its settings", "budget": "say BUDGET=0.05 or --budget 0.05"}


def derive(profile: str, assignments: str) -> Path:
    """Write the profile that `assignments` make of `profile`, and return its file.

    assignments: NAME=VALUE, separated by spaces, quoted as in a shell. A name is the path of a setting, such as
    `finetuning.seeds`, or the end of one that no other shares, such as `seeds`; a value is YAML.

    The file is `papermill_runs/profiles/<profile>_<settings>.yaml`, whatever the order of the assignments, and is left
    alone if it already says the same. Raises `UserError` for an assignment that cannot be understood and for a value
    that the profile does not allow; then nothing is written.
    """
    source, raw = read_profile(profile)
    base = parse_profile(raw, where=source.name)
    known = list(_paths(base.model_dump(mode="json")))
    given = dict(sorted(_read(assignments, known).items()))
    changed = raw
    for path, value in given.items():
        changed = _replaced(changed, path.split("."), value)
    changed = beside(changed, Path.cwd())  # the file's own are absolute by now; those just given are seen from here
    made = parse_profile(changed, where=f"{source.name} with {assignments.strip()}")
    check_arms(made)
    check_tasks(made.finetuning.tasks)
    name = _name(base.name, {_shortest(path, known): value for path, value in given.items()})
    comment = [
        f"# The profile {base.name} with these settings, made by --set and made again whenever they are used:",
        *(f"#   {path} = {json.dumps(value)}" for path, value in given.items()),
    ]
    text = yaml.safe_dump({**changed, "name": name}, sort_keys=False, allow_unicode=True, width=100)
    target = paths.derived_profiles() / f"{name}.yaml"
    _write(target, "\n".join([*comment, "", text]))
    return target


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
    found = [name] if name in known else [path for path in known if path.endswith(f".{name}")]
    if not found:
        tails = {path.rpartition(".")[2] for path in known} if "." not in name else set(known)
        raise UserError(f"SET {name}: no such setting: {did_you_mean(name, tails - set(ELSEWHERE))}")
    if len(found) > 1:
        raise UserError(f"SET {name}: may mean {', '.join(found)}; write one of them")
    return found[0]


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


def _write(target: Path, text: str) -> None:
    try:
        # The same text is left alone: a newer file would count as a changed one.
        if target.is_file() and target.read_text(encoding="utf-8") == text:
            return
        with artefacts.atomic_path(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"cannot write below {paths.output_root()}: {error.strerror}; set ROBBERTJE_OUTPUT to another folder"
        ) from None
