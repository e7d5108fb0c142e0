"""Nothing that comes with data, models, profiles or parameters is run, and nothing of it leaves its place.

Further cases stand with their modules: parameters that try to become code in test_notebook_runs, addresses that leave
the cache in test_sources, YAML that is no profile in test_profile, folders without safe weights in test_masked_lm.
"""

import ast
import json
import re
import stat
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

from robbertje_lib.conclusions.claims.decide import decide_claims
from robbertje_lib.conclusions.comparisons import compare_models
from robbertje_lib.corpus.readers import source_files
from robbertje_lib.experiment import paths, sources
from robbertje_lib.experiment.artefacts import read_json, write_json
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.profile import load_profile
from robbertje_lib.experiment.run import Run
from robbertje_lib.models.masked_lm import load_masked_lm
from robbertje_lib.show import figures
from robbertje_lib.show.report import write_report
from robbertje_lib.tasks import ner
from robbertje_lib.tasks.reading import read_text
from robbertje_lib.workflow import notebook_runs
from tests.show.test_report import Page
from tests.support.result_files import World, make_run, write_results
from tests.support.small_models import save_small_model
from tests.support.standin import make_notebook

SCRIPT = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>"

# --- archives and addresses ------------------------------------------------------------------------------


def _archive(folder: Path, name: str, mode: int = 0) -> Path:
    """CoNLL-2002 as it should be, with one more member."""
    path = folder / "conll2002.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for member in ner.MEMBERS.values():
            archive.writestr(member, "Jan N B-PER\n")
        extra = zipfile.ZipInfo(name)
        extra.external_attr = mode << 16
        archive.writestr(extra, "/etc/passwd")
    return path


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("/etc/cron.d/x", 0),
        ("../../x", 0),
        ("conll2002/../../x", 0),
        ("..\\..\\x", 0),
        ("C:/x", 0),
        ("conll2002/link", stat.S_IFLNK | 0o777),
        ("conll2002/device", stat.S_IFBLK | 0o600),
        ("conll2002/pipe", stat.S_IFIFO | 0o600),
    ],
)
def test_an_archive_that_reaches_outside_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    with pytest.raises(UserError, match=r"conll2002.zip: holds .*, no plain file below the archive; fetch it again$"):
        ner.parse_archive(_archive(tmp_path, name, mode))
    assert [path.name for path in tmp_path.iterdir()] == ["conll2002.zip"]


def test_an_archive_with_further_plain_files_is_read(tmp_path: Path) -> None:
    assert ner.parse_archive(_archive(tmp_path, "conll2002/README", stat.S_IFREG | 0o644)).splits["train"]


def test_an_archive_that_unfolds_without_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "conll2002.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in ner.MEMBERS.values():
            archive.writestr(member, b"\n" * (ner.LARGEST_MEMBER + 1))
    with pytest.raises(UserError, match="too large"):
        ner.parse_archive(path)


@pytest.mark.parametrize(
    "url",
    [
        "https://h/../../etc/passwd",
        "https://h/%2e%2e/%2e%2e/etc/passwd",
        "https://h%2f..%2f../x",
        "https://../x",
        "https://h/a%00b",
        "https://h/a\\..\\b",
        "https:///etc/passwd",
        "file://h/etc/passwd",
        "ftp://h/x",
        "/etc/passwd",
        "https://h",
        "https://[h/x",
        "https://h/%ff",
    ],
)
def test_a_manifest_that_reaches_outside_the_cache_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    manifest = tmp_path / "sources.tsv"
    manifest.write_text("\t".join(sources.COLUMNS) + f"\nboeken\t{url}\t1\t{'a' * 64}\teigen\n")
    monkeypatch.setattr(sources, "MANIFEST", manifest)
    with pytest.raises(UserError, match="is not a plain https://HOST/PATH address; correct it"):
        sources.fetch("boeken")


def test_a_pipe_or_device_is_no_text(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "a.txt")  # reading it would wait for ever
    with pytest.raises(UserError, match="holds no .txt"):
        source_files(str(tmp_path), Counter())
    for name in (str(tmp_path / "a.txt"), "/dev/zero"):
        with pytest.raises(UserError, match="no source, file or folder"):
            source_files(name, Counter())
    with pytest.raises(UserError, match="cannot be read"):
        read_text(tmp_path)


# --- parameters ------------------------------------------------------------------------------------------

CODE = '"]; __import__("os").abort(); ["'


def test_code_in_a_parameter_arrives_as_text_in_a_kernel(tmp_path: Path) -> None:
    """The whole way: command line, papermill, kernel."""
    parameters = 'profile = "mini"\nnames = ["a"]\n'
    notebook = make_notebook(tmp_path / "stage.ipynb", parameters, ["print(profile, names, sep='\\n')"])
    given = ["-p", f"profile={CODE}", "-p", f"names=[{CODE!r}, '{{names}}']"]
    files = [str(notebook), str(tmp_path / "out.ipynb"), str(tmp_path / "records" / "stage.json")]
    used = notebook_runs.parse_parameters([given[1], given[3]], notebook)
    notebook_runs.run_notebook(notebook, Path(files[1]), used, record=Path(files[2]))
    printed = [o.text for c in nbformat.read(files[1], 4).cells for o in c.get("outputs", [])]
    assert printed == [f"{CODE}\n{[CODE, '{names}']}\n"]


@pytest.mark.parametrize("value", ["__import__('os').abort()", "[print]", "[x for x in [1]]", "f'{1}'", "{'a': 1}"])
def test_an_expression_is_no_value(tmp_path: Path, value: str) -> None:
    notebook = make_notebook(tmp_path / "stage.ipynb", 'names = ["a"]\n', ["1"])
    used = notebook_runs.parse_parameters([f"names={value}"], notebook)
    with pytest.raises(UserError, match="parameter 'names' must be"):
        notebook_runs.run_notebook(notebook, tmp_path / "out.ipynb", used, record=tmp_path / "r.json")
    assert not (tmp_path / "out.ipynb").exists()


# --- HTML ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("security"), "smoke", ("dbrd",))
    write_results(run, World(examples=40))
    compare_models(run)
    decide_claims(run)
    return run


def _hostile(value: Any) -> Any:
    """`value` with a script in every text that is shown, numbers and the keys that choose a style as they are."""
    if isinstance(value, dict):
        kept = {"verdict", "published_verdict", "outcome", "unit", "family", "schema_version"}
        return {key: inner if key in kept else _hostile(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_hostile(inner) for inner in value]
    return f"{value}{SCRIPT}" if isinstance(value, str) else value


def test_html_in_results_names_and_profile_is_shown_not_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    described = run.profile.model_copy(update={"description": SCRIPT})
    figures.draw(run, "pseudo_perplexity")
    svg = next(run.paths.figures.glob("*.svg"))
    text = svg.read_text(encoding="utf-8")
    caption = re.search(r"<dc:description>(.*?)</dc:description>", text, flags=re.DOTALL)
    assert caption
    svg.write_text(text.replace(caption[1], "&lt;script&gt;x&lt;/script&gt;"), encoding="utf-8")
    for name in ("claims.json", "significance.json"):
        path = run.paths.result(name)
        write_json(path, _hostile(read_json(path, 3)), 3)
    page = Page(write_report(Run(described, run.paths)).read_text(encoding="utf-8"))
    tags = {tag for tag, _ in page.tags}
    assert "script" not in tags
    assert not [attrs for tag, attrs in page.tags if "onerror" in attrs or attrs.get("src") == "x"]
    assert page.text.count("document.title = 'taken'") > 20 and "<script>x</script>" in str(page.tags)


# --- models ----------------------------------------------------------------------------------------------


def _plant(folder: Path, marker: Path) -> None:
    """Code in a model folder, and the settings that ask for it to be run."""
    (folder / "planted.py").write_text(
        f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n"
        "from transformers import RobertaConfig as Config, RobertaForMaskedLM as Model, RobertaTokenizerFast as Tokens\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "planted.Config", "AutoModelForMaskedLM": "planted.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": [None, "planted.Tokens"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    folder, marker = save_small_model("roberta", tmp_path / "model"), tmp_path / "ran"
    _plant(folder, marker)
    load_masked_lm(folder)  # a family that transformers has: its own code is used
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard_of"}))
    with pytest.raises(UserError, match="is not a masked language model that can be loaded") as error:
        load_masked_lm(folder)
    assert "\n" not in str(error.value)
    assert not marker.exists()


def test_pickled_weights_are_not_read_even_beside_safe_ones(tmp_path: Path) -> None:
    class Planted:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    folder = save_small_model("roberta", tmp_path / "model")
    torch.save({"x": Planted()}, folder / "pytorch_model.bin")
    load_masked_lm(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="pickled weights are refused"):
        load_masked_lm(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"x": "pytorch_model.bin"}}')
    with pytest.raises(UserError):
        load_masked_lm(folder)
    assert not (tmp_path / "ran").exists()


# --- YAML ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:pathlib.Path.touch [{marker}]",
        "!!python/object/new:pathlib.PosixPath [{marker}]",
        "!!python/object:robbertje_lib.experiment.run.Run {{}}",
        "!!python/name:os.abort ''",
        "!!python/module:antigravity ''",
        "!!python/tuple [1]",
        "!!map:os.abort {{}}",
    ],
)
def test_yaml_that_builds_objects_is_refused(tmp_path: Path, tag: str) -> None:
    path, marker = tmp_path / "own.yaml", tmp_path / "ran"
    path.write_text(f"name: own\nseed: {tag.format(marker=marker)}\n")
    with pytest.raises(UserError, match="not valid YAML: could not determine a constructor") as error:
        load_profile(str(path))
    assert "\n" not in str(error.value) and not marker.exists()


# --- the code itself -------------------------------------------------------------------------------------

# Calls that run, build or unpack whatever a file says.
DANGEROUS = re.compile(
    r"(^|\.)(eval|exec|system|popen|extractall|extract|unpack_archive|unsafe_load|full_load|unsafe_load_all)$"
    r"|^(pickle|torch|joblib|marshal|shelve|dill)\.(load|loads|open)$|^(tarfile)\."
)


def _calls(source: str) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]


def test_the_library_never_calls_what_would_run_data() -> None:
    assert DANGEROUS.search("zipfile.ZipFile(path).extractall") and DANGEROUS.search("eval")  # it would be found
    for path in [*paths.PACKAGE.rglob("*.py"), *paths.NOTEBOOKS.glob("*.ipynb")]:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            cells = nbformat.reads(text, as_version=4).cells
            text = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        for name, call in _calls(text):
            told = f"{path.name}, line {call.lineno}: {name}"
            # `model.eval()` takes no argument; the builtin has one.
            assert not DANGEROUS.search(name) or (name.endswith(".eval") and not call.args), told
            given = {word.arg: ast.unparse(word.value) for word in call.keywords}
            assert given.get("trust_remote_code", "False") == "False", told
            assert given.get("use_safetensors", "True") == "True", told
            assert given.get("shell", "False") == "False" and given.get("allow_pickle", "False") == "False", told
