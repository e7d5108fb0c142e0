"""A stage is taken over from another run only if nothing that it follows from differs, and what is there is whole."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from robbertje_lib.experiment import paths, provenance
from robbertje_lib.experiment.artefacts import sha256
from robbertje_lib.experiment.paths import RunPaths, recorded_name
from robbertje_lib.experiment.profile import load_profile
from robbertje_lib.experiment.results.record import RunRecord
from robbertje_lib.workflow.stage_call import StageCall
from robbertje_lib.workflow.take_over import foresee, take_over
from tests.support.records import run_record

STAGE, NEXT = "30_distillation-merged", "40_pseudo_perplexity"


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _call(run: str, stage: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> StageCall:
    """The stage in a run, with its notebook, one module and files of the run by their names there."""
    root = paths.output_root()
    place = RunPaths(run, root)
    return StageCall(
        notebook=root / "notebooks" / f"{stage[:2]}.ipynb",
        executed=place.notebook(stage),
        record=place.record(stage),
        parameters=(),
        inputs=tuple(place.run / name for name in inputs),
        modules=(root / "robbertje_lib" / "losses.py",),
        outputs=tuple(place.run / name for name in outputs),
        threads=2,
        settings=("-p model=merged", "a" * 64, "teacher merged"),
    )


def _distillation(run: str) -> StageCall:
    outputs = ("results/distillation/merged.json", "models/merged/model.safetensors")
    return _call(run, STAGE, ("corpus/head/merged/state.json",), outputs)


def _scoring(run: str) -> StageCall:
    return _call(run, NEXT, ("models/merged/model.safetensors",), ("results/pseudo_perplexity.json",))


def _done(call: StageCall, **changes: Any) -> RunRecord:
    """Write what the stage writes, and its record."""
    for path in call.outputs:
        _write(path, f"made by {call.stage}")
    beside = [_write(path.parent / "config.json", "{}") for path in call.outputs if path.name == "model.safetensors"]
    _write(call.executed, "executed")
    record = run_record(
        call.stage,
        notebook_sha256=sha256(call.notebook),
        executed_sha256=sha256(call.executed),
        modules={recorded_name(path): sha256(path) for path in call.modules},
        settings=list(call.settings),
        packages=provenance.package_versions(),
        threads=call.threads,
        inputs={recorded_name(path): sha256(path) for path in paths.with_folders(call.inputs)},
        outputs={recorded_name(path): sha256(path) for path in (*call.outputs, *beside)},
    )
    record = RunRecord.model_validate({**record.model_dump(), **changes})
    record.save(call.record)
    return record


@pytest.fixture
def call() -> StageCall:
    """The stage in the run `here`, which has only what it reads; `demo` has done the same."""
    root = paths.output_root()
    for name in ("30", "40", "90"):
        _write(root / "notebooks" / f"{name}.ipynb", f"notebook {name}")
    _write(root / "robbertje_lib" / "losses.py", "def loss(): ...")
    _done(_prepared("demo"))
    return _prepared("here")


def _take(call: StageCall) -> RunRecord | None:
    inputs = {recorded_name(path): sha256(path) for path in paths.with_folders(call.inputs)}
    return take_over(call, {"profile": "papermill_runs/here/profile.yaml"}, inputs, load_profile("smoke"))


def test_the_same_stage_is_taken_with_its_files_its_notebook_and_a_record_that_says_so(call: StageCall) -> None:
    source = _distillation("demo")
    dates = [path.stat().st_mtime_ns for path in source.outputs]
    assert foresee([call]) == {STAGE: "demo"}
    assert not call.executed.exists(), "to foresee changes nothing"
    taken = _take(call)
    assert taken is not None and taken.taken_from == "demo"
    for mine, theirs in zip((*call.outputs, call.executed), (*source.outputs, source.executed), strict=True):
        assert mine.read_bytes() == theirs.read_bytes()
        os.utime(mine)  # as Snakemake does
    # Of files that Snakemake watches the other run keeps its own; what lies beside them is shared.
    assert [path.stat().st_mtime_ns for path in source.outputs] == dates
    assert (call.run / "models/merged/config.json").samefile(source.run / "models/merged/config.json")
    assert set(taken.outputs) == {
        f"papermill_runs/here/{name}"
        for name in ("results/distillation/merged.json", "models/merged/model.safetensors", "models/merged/config.json")
    }
    assert list(taken.inputs) == [f"papermill_runs/here/corpus/head/merged/{n}" for n in ("state.json", "data.arrow")]
    assert taken.parameters["profile"] == "papermill_runs/here/profile.yaml"
    assert taken.profile_digest == load_profile("smoke").digest()
    assert taken.seconds == RunRecord.load(source.record).seconds
    assert not call.record.exists(), "the record is written last, by whoever asked"


def test_on_another_device_files_are_copied(call: StageCall, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert _take(call) is not None
    assert (call.run / "models/merged/config.json").read_text() == "{}"


def _edit(name: str) -> Callable[[StageCall], object]:
    return lambda call: _write(paths.output_root() / name, "edited")


def _record(**changes: Any) -> Callable[[StageCall], object]:
    def change(call: StageCall) -> None:
        path = RunPaths("demo", paths.output_root()).record(call.stage)
        record = RunRecord.load(path)
        update = {name: value(record) if callable(value) else value for name, value in changes.items()}
        record.model_copy(update=update).save(path)

    return change


def _machine(**changes: Any) -> Callable[[RunRecord], Any]:
    return lambda record: record.hardware.model_copy(update=changes)


DIFFERENCES: dict[str, Callable[[StageCall], object]] = {
    "notebook": _edit("notebooks/30.ipynb"),
    "module edited": _edit("robbertje_lib/losses.py"),
    "module of another name": _record(modules=lambda r: {"robbertje_lib/loss.py": next(iter(r.modules.values()))}),
    "one module more": _record(modules=lambda r: {**r.modules, "robbertje_lib/more.py": "0" * 64}),
    "package version": _record(packages=lambda r: {**r.packages, "torch": "0.1"}),
    "package gone": _record(packages=lambda r: {k: v for k, v in r.packages.items() if k != "scipy"}),
    "Python": _record(python="3.1.4"),
    "processor": _record(hardware=_machine(processor="another")),
    "cores": _record(hardware=_machine(cores=999)),
    "GPUs": _record(hardware=_machine(gpus=["NVIDIA H100"])),
    "threads": _record(threads=1),
    "precision asked for": _record(precision="bf16"),
    "begun by other code": _record(patchwork=True),
    "digest of the settings": _record(settings=["-p model=merged", "b" * 64, "teacher merged"]),
    "models": _record(settings=["-p model=merged", "a" * 64, "teacher merged bort"]),
    "parameters": _record(settings=["-p model=bort", "a" * 64, "teacher merged"]),
    "input": _edit("papermill_runs/here/corpus/head/merged/state.json"),
    "file beside an input": _edit("papermill_runs/here/corpus/head/merged/data.arrow"),
    "one file more beside an input": _edit("papermill_runs/here/corpus/head/merged/more.arrow"),
    "input of another name": _record(inputs=lambda r: {"papermill_runs/demo/x.json": next(iter(r.inputs.values()))}),
    "one input more": _record(inputs=lambda r: {**r.inputs, "text.txt": "0" * 64}),
    "output edited": _edit("papermill_runs/demo/models/merged/model.safetensors"),
    "file beside an output edited": _edit("papermill_runs/demo/models/merged/config.json"),
    "output gone": lambda call: (_distillation("demo").outputs[0]).unlink(),
    "an output that the other did not have": _record(
        outputs=lambda r: {name: digest for name, digest in r.outputs.items() if not name.endswith("merged.json")}
    ),
    "a file outside of the run": _record(
        outputs=lambda r: {
            **r.outputs,
            "papermill_runs/demo/../x.json": sha256(_write(paths.output_root() / "papermill_runs/x.json", "x")),
        }
    ),
    "executed notebook edited": _edit("papermill_runs/demo/30_distillation-merged.ipynb"),
    "no record": lambda call: _distillation("demo").record.unlink(),
    "damaged record": _edit("papermill_runs/demo/records/30_distillation-merged.json"),
}


@pytest.mark.parametrize("difference", DIFFERENCES)
def test_nothing_is_taken_if_anything_differs(call: StageCall, difference: str) -> None:
    DIFFERENCES[difference](call)
    before = _files(call)
    assert foresee([call]) == {}
    assert _take(call) is None
    assert _files(call) == before, "nothing may be left of it"


def _files(call: StageCall) -> set[Path]:
    return {path for path in call.run.rglob("*") if path.is_file()}


def test_another_run_is_tried_if_one_is_spoilt_and_who_made_it_comes_first(call: StageCall) -> None:
    _done(_prepared("later"), started="2026-12-01T00:00:00+00:00", taken_from="demo")
    assert foresee([call]) == {STAGE: "demo"}
    _write(_distillation("demo").outputs[0], "edited")
    assert foresee([call]) == {STAGE: "later"}
    taken = _take(call)
    assert taken is not None and taken.taken_from == "later"


def _prepared(run: str) -> StageCall:
    call = _distillation(run)
    for path in call.inputs:
        _write(path, "store")
        _write(path.parent / "data.arrow", "lines")
    return call


def test_onnx_files_come_with_the_timings_of_their_models(call: StageCall) -> None:
    source = RunPaths("demo", paths.output_root())
    for name in ("teacher", "teacher.int8"):
        _write(source.onnx(name), name)
    _write(source.result("efficiency.json"), "{}")
    files = paths.with_products([source.result("efficiency.json")])
    assert [path.name for path in files] == ["efficiency.json", "teacher.int8.onnx", "teacher.onnx"]
    stage = "80_efficiency"
    _write(paths.output_root() / "notebooks" / "80.ipynb", "notebook 80")
    theirs, mine = (_call(run, stage, (), ("results/efficiency.json",)) for run in ("demo", "here"))
    record = _done(theirs)
    outputs = {recorded_name(path): sha256(path) for path in paths.with_products(theirs.outputs)}
    record.model_copy(update={"outputs": outputs}).save(theirs.record)
    assert _take(mine) is not None
    assert RunPaths("here", paths.output_root()).onnx("teacher.int8").read_text() == "teacher.int8"


def test_a_run_does_not_take_from_itself_nor_is_its_last_stage_taken(call: StageCall) -> None:
    assert foresee([_distillation("demo")]) == {}
    stage = "90_claims_and_figures"
    last, mine = (
        _call(run, stage, ("corpus/head/merged/state.json",), ("results/claims.json",)) for run in ("demo", "here")
    )
    _done(last)
    assert foresee([mine]) == {} and _take(mine) is None


def test_a_call_by_hand_without_settings_takes_nothing(call: StageCall) -> None:
    _record(settings=[])(call)
    assert foresee([replace(call, settings=())]) == {}


def test_a_stage_whose_inputs_will_be_taken_is_foreseen_too(call: StageCall) -> None:
    _done(_scoring("demo"))
    assert foresee([call, _scoring("here")]) == {STAGE: "demo", NEXT: "demo"}
    # What will be made anew is not known yet.
    assert foresee([replace(call, threads=1), _scoring("here")]) == {}
