"""Where a result comes from: `python -m robbertje_lib explain figures/demo/pseudo_perplexity.svg`.

Told from the run records alone: from a figure, a claim or a file back through the stages to the sources, each with
hashes, parameters, versions and seconds.
"""

import hashlib
import re
import textwrap
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robbertje_lib.experiment import paths
from robbertje_lib.experiment.artefacts import sha256
from robbertje_lib.experiment.errors import UserError, did_you_mean
from robbertje_lib.experiment.profile import LAST_STAGE, Profile, derived_seed, is_there
from robbertje_lib.experiment.provenance import commit, producers, read_records
from robbertje_lib.experiment.results.claims import ClaimsResult, ClaimVerdict
from robbertje_lib.experiment.results.record import RunRecord
from robbertje_lib.experiment.run import Run
from robbertje_lib.experiment.sources import Source, catalogue
from robbertje_lib.experiment.words import duration, short
from robbertje_lib.show import figures
from robbertje_lib.show.report import PACKAGES
from robbertje_lib.tasks import all_tasks

WIDTH = 100
DIGITS = 16  # of a hash, in the tree; the records hold all 64
DUBLIN_CORE = "{http://purl.org/dc/elements/1.1/}"


def explain(what: str, run: Callable[[], Run], every_source: bool = False) -> str:
    """The way back from `what` to the sources, as an indented tree in at most 100 columns.

    what: a file of a run (a figure may also be a copy elsewhere), or the name of a claim or instrument, such as
    `claims.merged_better_on_long`, and only then of `run`. every_source: list each source file with its hash, not only
    their number. Raises `UserError` for what no record tells of.
    """
    path = _file(what)
    if path is None:
        return _Tree.of(run().paths, every_source).of_key(what)
    place = _place(path)
    if path.suffix in {".svg", ".png"}:
        stamped = picture_metadata(path)
        named = re.search(r"· run (\S+) ·", stamped.get("Source", ""))
        if not named:
            raise UserError(f"{path}: this picture does not say which run it is of; give one from figures/")
        return _Tree.of(place or paths.RunPaths(named[1], paths.output_root()), every_source).of_picture(path, stamped)
    if place is None:
        raise UserError(f"{path}: belongs to no run; give a file below figures/ or papermill_runs/")
    return _Tree.of(place, every_source).of_file(path)


def picture_metadata(path: Path) -> dict[str, str]:
    """`Title`, `Description` and `Source` that `figure_style.save_figure` stored. Raises `UserError` for no picture."""
    try:
        if path.suffix == ".svg":
            root = ElementTree.parse(path).getroot()
            texts = ((key, root.find(f".//{DUBLIN_CORE}{key.lower()}")) for key in ("Title", "Description", "Source"))
            return {key: element.text or "" for key, element in texts if element is not None}
        return dict(_png_texts(path.read_bytes()))
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path}: not a whole {path.suffix[1:].upper()} file ({error})") from None


def _png_texts(content: bytes) -> Iterator[tuple[str, str]]:
    """The texts of a PNG file: chunks of a length, the type `tEXt`, and keyword, zero byte, Latin-1 text."""
    place = 8
    while content[place + 4 : place + 8] != b"IEND":
        length = int.from_bytes(content[place : place + 4])
        if not content.startswith(b"\x89PNG\r\n\x1a\n") or place + length + 12 > len(content):
            raise ValueError("it ends early")
        if content[place + 4 : place + 8] == b"tEXt":
            keyword, _, text = content[place + 8 : place + 8 + length].decode("latin-1").partition("\0")
            yield keyword, text
        place += length + 12


def _file(what: str) -> Path | None:
    """The file or folder meant, from here or from the output folder; None for the name of a claim."""
    for path in (Path(what), paths.output_root() / what):
        if is_there(path):
            return path.absolute()
    if "/" in what or Path(what).suffix in {".svg", ".png", ".json", ".parquet", ".html", ".ipynb", ".safetensors"}:
        folder = next((f.parent for f in (Path(what), paths.output_root() / what) if is_there(f.parent)), None)
        names = (
            [path.name for path in folder.iterdir() if not path.name.startswith(".")]
            if folder and folder.is_dir()
            else []
        )
        advice = did_you_mean(Path(what).name, names) if names else "give a file below figures/ or papermill_runs/"
        raise UserError(f"there is no {what}: {advice}")
    return None


def _place(path: Path) -> paths.RunPaths | None:
    """The run whose folders hold `path`, wherever its output root lies."""
    for folder in (path, *path.parents):
        kind = folder.parent.name
        if kind in {"figures", "papermill_runs"}:
            root = folder.parent.parent
            if (root / "papermill_runs" / folder.name / "records").is_dir():
                return paths.RunPaths(folder.name, root)
    return None


@dataclass
class _Tree:
    """The lines told so far, and the stages and sources that are told once only."""

    place: paths.RunPaths
    records: dict[str, RunRecord]
    every_source: bool
    lines: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, place: paths.RunPaths, every_source: bool) -> "_Tree":
        records = read_records(place.run)
        if not records:
            raise UserError(f"{place.run}: no records of this run, so nothing is known; `make reproduce` makes them")
        return cls(place, records, every_source)

    def of_picture(self, path: Path, stamped: Mapping[str, str]) -> str:
        """From a figure: what is stored in it, and the results it is drawn from."""
        self._say(0, f"{short(path)}: {stamped.get('Description', '')}")
        self._say(1, f"says: {stamped['Source']}")
        self._say(1, f"sha256 {sha256(path)}")
        figure = stamped.get("Title", path.stem)
        if LAST_STAGE not in self.records and (shown := self._drawn_from(figure, {})):
            self._say(1, f"drawn before {LAST_STAGE}, from")  # a first look, by the stage that wrote its results
            self._inputs(2, shown)
            return self._whole()
        record = self._record(LAST_STAGE)
        self._say(1, f"drawn by {_call(record)}")
        self._say(1, f"{_when(record)}, from")
        self.told.append(LAST_STAGE)
        self._inputs(2, self._drawn_from(figure, record.inputs))
        return self._whole()

    def of_file(self, path: Path) -> str:
        """From a file or folder that a stage wrote, or from a stage's notebook or record."""
        name = _recorded_name(path, self.place.root)
        outputs = producers(self.records)
        if name in outputs:
            stage = outputs[name]
            self._say(0, f"{short(path)}: {_state(path, self.records[stage].outputs[name])}")
        else:
            beside = [outputs[other] for other in outputs if name in {other.rpartition("/")[0], _folder(other, name)}]
            stages = [path.stem] if path.stem in self.records and path.suffix in {".ipynb", ".json"} else beside
            if not stages:
                known = ", ".join(sorted({Path(other).name for other in outputs})[:12])
                raise UserError(f"{name}: no record says which stage made it; recorded are {known} ...")
            stage = stages[0]
            self._say(0, f"{short(path)}: of stage {stage}")
        self._stage(1, stage)
        return self._whole()

    def of_key(self, key: str) -> str:
        """From a claim or an instrument of `claims.json`."""
        path = self.place.result("claims.json")
        content = ClaimsResult.load(path)
        wanted = _plain(key.removeprefix("claims.").removeprefix("instruments."))
        claims = [row for row in content.claims if _plain(row.id) == wanted]
        instruments = [row for row in content.instruments if _plain(row.instrument) == wanted]
        if not claims and not instruments:
            known = [f"claims.{row.id}" for row in content.claims]
            known += [f"instruments.{_plain(row.instrument)}" for row in content.instruments]
            raise UserError(f"'{key}' is no file, claim or instrument: {did_you_mean(key, dict.fromkeys(known))}")
        for row in claims:
            self._claim(row)
        for check in instruments:
            passed = "passed" if check.passed else "failed"
            self._say(0, f"{check.instrument}: {passed}; planted {check.planted}; read {check.read}")
            self._say(1, check.detail)
        stage = producers(self.records).get(_recorded_name(path, self.place.root), LAST_STAGE)
        self._say(0, "")
        recorded = self._record(stage).outputs.get(_recorded_name(path, self.place.root), "")
        self._say(0, f"{short(path)}: {_state(path, recorded)}")
        self._stage(1, stage)
        return self._whole()

    def _claim(self, row: ClaimVerdict) -> None:
        self._say(0, f"{row.id} ({row.setting}): {row.claim}")
        self._say(1, f"test: {row.test}")
        if row.ours is not None:
            interval = " to ".join(f"{bound:.3g}" for bound in row.interval or [])
            self._say(1, f"ours: {row.ours:.3g} {row.unit}{f' (interval {interval})' if interval else ''}")
        self._say(1, f"{row.verdict}: {row.reason}")
        self._say(1, f"about {row.scope}")
        self._say(1, f"published: {row.published}")

    def _drawn_from(self, figure: str, inputs: Mapping[str, str]) -> dict[str, str]:
        """Of what stage 90 read, the files that this figure shows; of what any stage wrote, where 90 has not run."""
        written = [self.records[LAST_STAGE]] if LAST_STAGE in self.records else self.records.values()
        outputs = dict(inputs)
        for record in written:
            outputs |= record.outputs
        results, drawn = f"{_recorded_name(self.place.results, self.place.root)}/", figures.all_figures().get(figure)
        shown = {name: digest for name, digest in outputs.items() if drawn and drawn.reads(name.removeprefix(results))}
        return shown or dict(inputs)

    def _stage(self, depth: int, stage: str) -> None:
        """A stage and everything before it; only named if it has been told."""
        if stage in self.told:
            self._say(depth, f"{stage}, told above")
            return
        self.told.append(stage)
        record = self._record(stage)
        self._say(depth, _call(record))
        self._say(depth + 1, _when(record))
        for line in self._settings(stage, record):
            self._say(depth + 1, line)
        self._inputs(depth + 1, record.inputs)

    def _inputs(self, depth: int, inputs: Mapping[str, str]) -> None:
        """Files read, those of one stage together, and that stage below them."""
        outputs = producers(self.records)
        by_stage: dict[str | None, list[str]] = {}
        folders = {name.rpartition("/")[0] for name in inputs if name.endswith(paths.STAND_FOR_FOLDERS)}
        for name in inputs:
            if name.rpartition("/")[0] in folders and not name.endswith(paths.STAND_FOR_FOLDERS):
                continue  # a file of its folder stands for all
            by_stage.setdefault(outputs.get(name), []).append(name)
        for stage, names in by_stage.items():
            for name in names:
                later = ""
                if stage and self.records[stage].outputs[name] != inputs[name]:
                    later = f" (stale: {stage} has since written another)"
                prefix = f"papermill_runs/{self.place.run_name}/"
                self._say(depth, f"{name.removeprefix(prefix)}  sha256 {inputs[name][:DIGITS]}{later}")
            if stage is None:
                self._say(depth + 1, "made by no recorded stage")
            elif stage != LAST_STAGE:
                self._stage(depth + 1, stage)
            else:
                self._inputs(depth + 1, self.records[stage].inputs)

    def _settings(self, stage: str, record: RunRecord) -> Iterator[str]:
        """Seeds and sources of a stage."""
        profile = record.profile or {}
        seeds = f"seed {profile['seed']}"
        if model := record.parameters.get("model"):
            name, number = Profile.student_of(model), Profile.replicate_of(model)
            seeds = f"seed {derived_seed(profile['seed'], name, number)}, of {model}, from {seeds}"
        if stage.startswith("50_"):
            by_hand = record.parameters.get("seeds")
            chosen = ", ".join(map(str, by_hand or profile["finetuning"]["seeds"]))
            seeds += f"; fine-tuning seeds {'' if by_hand else 'drawn from '}{chosen}"
        yield seeds
        if stage.startswith("10_"):
            for source in profile["corpus"]["sources"]:
                yield from self._source(source, profile)
        if stage.startswith("30_") and "hub" in profile["teacher"]:
            yield f"teacher {profile['teacher']['hub']} at revision {profile['teacher']['revision']}"
        if stage.startswith("50_"):
            name = record.parameters["task"]
            task = profile["finetuning"]["tasks"][name]
            data = task["options"].get("file", task["data"])
            also = known[name].further.get(data, ()) if name in (known := all_tasks()) else ()
            for source in (data, *also) if data != "held_out" else ():
                yield from self._source(source, profile)
        if stage.startswith("60_") and profile["text"] == "real" and profile["gender_bias"]["crows_pairs"]:
            yield from self._source("crows_pairs_nl", profile)

    def _source(self, name: str, profile: Mapping[str, Any]) -> Iterator[str]:
        if name == "known_answer":
            yield (
                f"known-answer Dutch, generated by robbertje_lib/known_answer from seed {profile['seed']} with a "
                f"planted bias of strength {profile['gender_bias']['planted_strength']:g}"
            )
        elif group := catalogue().get(name):
            yield _group(name, group)
            if self.every_source or len(group) <= 3:
                yield from (f"- {Path(source.location).name}  sha256 {source.sha256}" for source in group)
        else:
            path = Path(name)
            yield f"{name}: your own, " + (f"now sha256 {sha256(path)}" if path.exists() else "no longer there")

    def _record(self, stage: str) -> RunRecord:
        if stage not in self.records:
            raise UserError(f"{self.place.run_name}: {stage} has no record; `make reproduce` runs it")
        return self.records[stage]

    def _say(self, depth: int, text: str) -> None:
        indent = "  " * depth
        # Names are not broken: they are there to be copied.
        self.lines += textwrap.wrap(
            text, WIDTH, initial_indent=indent, subsequent_indent=f"{indent}    ",
            break_long_words=False, break_on_hyphens=False,
        ) or [""]  # fmt: skip

    def _whole(self) -> str:
        """The tree, and below it what all of its stages share."""
        records = [self.records[stage] for stage in self.told]
        seconds = sum(record.seconds for record in records)
        self._say(0, "")
        self._say(0, f"In all: {len(records)} stages, {duration(seconds)} of computing.")
        for line in _environments(records):
            self._say(0, line)
        self._say(0, f"Hashes are cut to {DIGITS} digits; the records hold them whole: {short(self.place.run)}/records")
        return "\n".join(self.lines)


def _call(record: RunRecord) -> str:
    """A stage with its notebook and parameters."""
    given = {
        name: record.profile["name"] if name == "profile" and record.profile else value
        for name, value in record.parameters.items()
        if value not in ("", [])
    }
    parameters = ", ".join(f"{name}={value}" for name, value in given.items())
    return f"{record.stage}: {record.notebook} with {parameters or 'no parameters'}"


def _when(record: RunRecord) -> str:
    started = record.started.replace("T", " ").removesuffix("+00:00")
    threads = f"{record.threads} thread{'s' if record.threads > 1 else ''}"
    taken = f", taken over from run {record.taken_from}" if record.taken_from else ""
    return f"{started} UTC, {duration(record.seconds)} on {threads}, {commit(record.git)}{taken}"


def _environments(records: Sequence[RunRecord]) -> list[str]:
    """Versions and machine, once for all stages that share them."""
    stages_by_state: dict[str, list[str]] = {}
    for record in records:
        versions = {"Python": record.python, **{name: record.packages.get(name) for name in PACKAGES}}
        machine = record.hardware
        hardware = ", ".join([machine.processor, f"{machine.cores} cores", *machine.gpus])
        words = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        stages_by_state.setdefault(f"{words}; {hardware}; {machine.platform}", []).append(record.stage)
    if len(stages_by_state) == 1:
        return [f"All with {next(iter(stages_by_state))}."]
    return [f"{', '.join(stages)} with {words}." for words, stages in stages_by_state.items()]


def _group(name: str, group: Sequence[Source]) -> str:
    listed = hashlib.sha256("".join(f"sha256 {source.sha256}\n" for source in group).encode()).hexdigest()
    files = f"{len(group)} file{'s' if len(group) > 1 else ''}, {sum(s.bytes for s in group) / 1e6:.1f} MB"
    return f"{name}: {files}, listed in robbertje_lib/data/sources.tsv; sha256 of their hashes {listed[:DIGITS]}"


def _state(path: Path, recorded: str) -> str:
    digest = sha256(path)
    if digest == recorded:
        return f"sha256 {digest}, as recorded"
    return f"sha256 {digest}, edited since it was made" + (f" (recorded: {recorded[:DIGITS]})" if recorded else "")


def _recorded_name(path: Path, root: Path) -> str:
    """A path as records spell it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _folder(recorded: str, name: str) -> str:
    """`name` if it lies in the folder that the recorded file stands for, as all files of a model do."""
    folder = recorded.rpartition("/")[0]
    stands_for_all = recorded.endswith(paths.STAND_FOR_FOLDERS)
    return name if stands_for_all and name.startswith(f"{folder}/") else ""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
