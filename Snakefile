"""The stages as rules: which notebook, with which parameters, what goes in and what comes out.

`make reproduce` runs this with the run's folder as working directory: results are named relative to it, and Snakemake
keeps its notes there. A stage reruns when its notebook, a module that the notebook imports, a file that it reads, or a
section of the profile that it depends on has changed. A run record is written last, and only it means done.

`config["profile"]` is the frozen profile of the run: what the user asked for, resolved once, by the front door.
"""

import re
import shlex
import sys
from pathlib import Path

from robbertje_lib.experiment import paths
from robbertje_lib.workflow.gpus import equal_gpus
from robbertje_lib.workflow.dependencies import DISPLAY, INFRASTRUCTURE, modules_of
from robbertje_lib.experiment.profile import TeacherTraining, is_folder
from robbertje_lib.experiment.run import open_run
from robbertje_lib.show import figures
from robbertje_lib.workflow.stage_call import MODULE

run = open_run(config["profile"])
profile = run.profile
KNOWN_ANSWER = profile.text == "known_answer"
# Timings of these stages are compared, so nothing may run beside them. The others share the machine by halves.
ALL = workflow.cores or 1
HALF = max(1, ALL // 2)
# Where there are several GPUs of one kind, students are trained side by side, one on each: all have the same then, and
# share nothing but the host, by equal parts. Rounded up, so that never more of them run than there are GPUs.
GPUS = equal_gpus()
OF_A_STUDENT = -(-ALL // max(1, GPUS))


def here(path):
    return path.relative_to(run.paths.run).as_posix()


def result(*parts):
    return here(run.paths.result(*parts))


def model(name):
    return here(run.paths.model(name) / "model.safetensors")


# A folder stands for itself through a file in it: all its files appear at once, by a rename.
CORPUS = [here(run.paths.corpus(*pair) / "state.json") for pair in profile.arms]
HELD_OUT = here(run.paths.held_out / "state.json")
TOKENIZER = here(run.paths.tokenizer / "tokenizer.json")
TEACHER = [model("teacher")] if isinstance(profile.teacher, TeacherTraining) else []
TEACHER_TEXT = [here(run.paths.teacher_text / "state.json")] if TEACHER else []
RELEASED = {name: profile.released(name) for name in profile.models if profile.released(name)}


def weights(name):
    """The files of a model, tokenizer and all for a folder; none for one of the hub, which its revision stands for."""
    if name not in RELEASED:
        return [model(name)]
    folder = RELEASED[name].hub
    return [str(file) for file in sorted(Path(folder).expanduser().iterdir()) if file.is_file()] if is_folder(folder) else []


MODELS = [file for name in profile.models for file in weights(name)]
EVALUATED = {name: f"{name}={RELEASED[name].hub}@{RELEASED[name].revision}" if name in RELEASED else name for name in profile.models}
CONTROLS = [f"{control}={of}" for control, of in profile.controls.items()]
TASKS = list(profile.finetuning.tasks)
FIGURES = figures.expected(profile)
PLANTED = ["gender_bias.planted_strength"] if KNOWN_ANSWER else []  # part of the text itself
FINETUNING = [f"finetuning.{field}" for field in type(profile.finetuning).model_fields if field != "tasks"]
COMPARED = {  # what 70 reads, and in part 90
    "pseudo_perplexity": [result("pseudo_perplexity.json"), result("pseudo_perplexity.parquet")],
    "finetuning": [result(kind, f"{task}.{end}") for task in TASKS for kind, end in (("predictions", "parquet"), ("scores", "json"))],
    "gender_bias": [result(name) for name in ("gender_bias.parquet", "crows_pairs.parquet", "disco.parquet", "probe.json")],
}


def notebook(stage):
    return str(paths.NOTEBOOKS / f"{stage}.ipynb")


def modules(stage, *tasks):
    """What the notebook imports, without other tasks and, where the text is real, without known-answer Dutch."""
    also = {f"tasks.{task}" for task in tasks}
    others = {f"tasks.{task}" for task in TASKS} - also
    if stage[:2] in {"10", "70", "90"}:  # the last two need to know what arms have in common, those of released students too
        also |= {f"corpus.arms.{arm}" for arm in {*profile.corpus.arms, *(of.arm for of in profile.students.values())}}
    if stage == "90_claims_and_figures":
        also |= {f"show.figures.{figure}" for figure in FIGURES}
    ignore = INFRASTRUCTURE | others | (set() if KNOWN_ANSWER else {"known_answer"}) | (set() if stage[:2] == "90" else DISPLAY)
    return [str(module) for module in modules_of(paths.NOTEBOOKS / f"{stage}.ipynb", ignore, also)]


def executed(stage):
    return here(run.paths.notebook(stage))


def record(stage):
    return here(run.paths.record(stage))


def parameters(**more):
    """What a rule's stages have in common with no other's."""
    return shlex.join(word for name, value in more.items() for word in ("-p", f"{name}={value}"))


# A rule's parameters are its settings: where one differs, so may the results.
RUN = (
    f"exec {shlex.quote(sys.executable)} -m {MODULE} {{input.notebook:q}} {{output.notebook:q}} {{output.record:q}} "
    f"-p profile={shlex.quote(paths.recorded_name(run.paths.profile))} -p budget={profile.budget} {{params.parameters}} "
    "--inputs {input.results:q} --modules {input.modules:q} --outputs {output.results:q} --threads {threads} "
    "--settings {params:q}"
)
RUN_ON_GPU = RUN.replace("--threads {threads}", "--threads {threads} --gpus {resources.gpus}")

wildcard_constraints:
    model="|".join(map(re.escape, profile.trained)) or "none",
    task="|".join(TASKS),

rule all:
    input: [record(stage) for stage in profile.stages]

rule corpus:
    message: "10_corpus"
    input:
        notebook=notebook("10_corpus"),
        modules=modules("10_corpus"),
        results=[*map(str, profile.corpus.own_files()), *([] if TEACHER else weights("teacher"))],
    output:
        results=[
            *CORPUS, HELD_OUT, *TEACHER_TEXT, TOKENIZER,
            *(result("corpus", f"{name}.json") for name in ("documents", *profile.corpus.arms)),
        ],
        notebook=executed("10_corpus"),
        record=record("10_corpus"),
    params:
        parameters=parameters(),
        digest=profile.digest("seed", "corpus", "tokenizer", *PLANTED, "teacher.join_probability" if TEACHER else "teacher"),
    threads: ALL
    shell: RUN

rule teacher:
    message: "20_teacher"
    input:
        notebook=notebook("20_teacher"),
        modules=modules("20_teacher"),
        results=[*TEACHER_TEXT, HELD_OUT, TOKENIZER],
    output:
        results=[result("teacher.json"), model("teacher")],
        notebook=executed("20_teacher"),
        record=record("20_teacher"),
    params:
        parameters=parameters(),
        digest=profile.digest("seed", "tokenizer", "teacher"),
    threads: ALL
    shell: RUN

def student(wildcards):
    """The student that a model is a distillation of. How often it is distilled is no setting of this rule's."""
    return profile.students[profile.student_of(wildcards.model)]

rule distillation:
    message: "30_distillation-{wildcards.model}"
    input:
        notebook=notebook("30_distillation"),
        modules=modules("30_distillation"),
        results=lambda wildcards: [
            here(run.paths.corpus(student(wildcards).selection, student(wildcards).arm) / "state.json"),
            HELD_OUT,
            *weights("teacher"),
        ],
    output:
        results=[result("distillation", "{model}.json"), model("{model}")],
        notebook=executed("30_distillation-{model}"),
        record=record("30_distillation-{model}"),
    params:
        parameters=lambda wildcards: parameters(model=wildcards.model),
        digest=lambda wildcards: profile.digest(
            "seed", "tokenizer", "teacher", f"students.{profile.student_of(wildcards.model)}",
            f"shapes.{student(wildcards).shape}", f"recipes.{student(wildcards).recipe}",
        ),
    threads: OF_A_STUDENT
    resources: gpus=1 if GPUS > 1 else 0
    shell: RUN_ON_GPU

rule pseudo_perplexity:
    message: "40_pseudo_perplexity"
    input:
        notebook=notebook("40_pseudo_perplexity"),
        modules=modules("40_pseudo_perplexity"),
        results=[CORPUS[0], HELD_OUT, *MODELS],
    output:
        results=COMPARED["pseudo_perplexity"],
        notebook=executed("40_pseudo_perplexity"),
        record=record("40_pseudo_perplexity"),
    params:
        parameters=parameters(),
        digest=profile.digest("seed", "pseudo_perplexity.lines", "pseudo_perplexity.tokens_per_batch", *PLANTED),
        models=list(EVALUATED.values()),
    threads: HALF
    shell: RUN

rule finetuning:
    message: "50_finetuning-{wildcards.task}"
    input:
        notebook=notebook("50_finetuning"),
        modules=lambda wildcards: modules("50_finetuning", wildcards.task),
        results=lambda wildcards: [
            HELD_OUT, *MODELS, *map(str, profile.finetuning.tasks[wildcards.task].own_files())
        ],
    output:
        results=[result("predictions", "{task}.parquet"), result("scores", "{task}.json")],
        notebook=executed("50_finetuning-{task}"),
        record=record("50_finetuning-{task}"),
    params:
        parameters=lambda wildcards: parameters(task=wildcards.task),
        digest=lambda wildcards: profile.digest("seed", *FINETUNING, *PLANTED, f"finetuning.tasks.{wildcards.task}"),
        models=list(EVALUATED.values()),
        controls=CONTROLS,
    threads: HALF
    shell: RUN

rule gender_bias:
    message: "60_gender_bias"
    input:
        notebook=notebook("60_gender_bias"),
        modules=modules("60_gender_bias"),
        results=[*MODELS, *(CORPUS[:1] if KNOWN_ANSWER else [])],
    output:
        results=COMPARED["gender_bias"],
        notebook=executed("60_gender_bias"),
        record=record("60_gender_bias"),
    params:
        parameters=parameters(),
        digest=profile.digest(
            "seed", "gender_bias.templates", "gender_bias.crows_pairs", "pseudo_perplexity.tokens_per_batch", *PLANTED
        ),
        models=list(EVALUATED.values()),
    threads: HALF
    shell: RUN

rule significance:
    message: "70_significance"
    input:
        notebook=notebook("70_significance"),
        modules=modules("70_significance"),
        results=[file for files in COMPARED.values() for file in files],
    output:
        results=[result("significance.json"), result("gender_bias.json")],
        notebook=executed("70_significance"),
        record=record("70_significance"),
    params:
        parameters=parameters(),
        digest=profile.digest(
            "seed", "significance", "gender_bias", "recipes",
            *(f"students.{name}" for name in profile.students),
        ),
        models=list(EVALUATED.values()),
        tasks=TASKS,
    threads: HALF
    shell: RUN

rule efficiency:
    message: "80_efficiency"
    input:
        notebook=notebook("80_efficiency"),
        modules=modules("80_efficiency"),
        results=[
            HELD_OUT,
            *(file for name in profile.groups for file in weights(name)),  # of each student the first replicate
            *(result("scores", f"{task}.json") for task in TASKS),
        ],
    output:
        results=[result("efficiency.json"), result("form_losses.parquet")],
        notebook=executed("80_efficiency"),
        record=record("80_efficiency"),
    params:
        parameters=parameters(),
        digest=profile.digest("seed", "efficiency"),
        models=[EVALUATED[name] for name in profile.groups],
    threads: ALL
    shell: RUN

rule claims_and_figures:
    message: "90_claims_and_figures"
    input:
        notebook=notebook("90_claims_and_figures"),
        modules=modules("90_claims_and_figures"),
        results=list(dict.fromkeys([
            *(result("corpus", f"{arm}.json") for arm in profile.corpus.arms),
            *(result("distillation", f"{name}.json") for name in profile.trained),
            result("pseudo_perplexity.json"),
            *COMPARED["finetuning"],
            result("significance.json"),
            result("gender_bias.json"),
            result("efficiency.json"),
            result("form_losses.parquet"),
            # And what the figures show, those of one's own too.
            *(here(file) for figure in FIGURES for file in figures.get_figure(figure).files(run) if file.name != "claims.json"),
        ])),
    output:
        results=[
            result("claims.json"),
            *(str(run.paths.figures / f"{figure}.{kind}") for figure in FIGURES for kind in ("svg", "png")),
            str(run.paths.figures / "report.html"),
        ],
        notebook=executed("90_claims_and_figures"),
        record=record("90_claims_and_figures"),
    params:
        parameters=parameters(),
        digest=profile.digest(),
    threads: ALL
    shell: RUN
