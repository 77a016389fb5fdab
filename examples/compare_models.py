# Copyright 2026 The hf_rvos authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Train several models on the same data for the same number of steps, score them on the test split, write the tables.

    python examples/compare_models.py --config examples/recipes/tiny_comparison.yaml --num_processes 2

A model of the first table takes about an hour on two cores, and half an hour the backbone that all of them start with,
which is trained before the first. The same command goes on where an interrupted one stopped, and leaves alone what is
finished. `--table models` makes one of the tables, `--only soc sgmg` trains no other models, `--dry_run` tells what
there is to do. Without a GPU, or with ACCELERATE_USE_CPU=true, all of it is done on the CPU.

The output folder gets `models.md` and `models.json` for the table `models`, anew after each model, and a folder for
each model and seed, such as `models/soc/seed_42`: in `1`, `2` and `3` what train.py leaves of each stage, its log and
the recipe it was given, in `evaluation` what evaluate_benchmark.py leaves. A stage starts from the one before, and the
first from the last of a backbone, such as `backbones/video_swin_tiny/4`, which pretrain_backbone.py leaves.
"""

import argparse
import difflib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from textwrap import wrap
from typing import Any

import torch
import yaml

from hf_rvos.checkpoints import find_checkpoint
from hf_rvos.data.moving_shapes import SKILLS, SPLIT_SIZES, VERSION
from hf_rvos.training.recipe import Recipe, read_recipe
from hf_rvos.utils.files import check_output_file, replace_when_done


DEFAULT_OUTPUT = Path("outputs/comparison")


def check_keys(where: str, entry: Any, required: Sequence[str], optional: Sequence[str] = ()) -> None:
    known = [*required, *optional]
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is {entry!r}, expected the keys {', '.join(known)}")
    for key in entry:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}."
            raise ValueError(f"{where}: key {key!r} is not known; {hint}")
    for key in required:
        if not entry.get(key):
            raise ValueError(f"{where}: {key} is missing")


def folder_name(name: str) -> str:
    return name.replace(" ", "_")


def check_names(where: str, entries: Any) -> None:
    """Names are those of folders, too."""
    if not isinstance(entries, dict) or not all(isinstance(name, str) for name in entries):
        raise ValueError(f"{where} is {entries!r}, expected names with what belongs to each")
    folders = [folder_name(name) for name in entries]
    for name in entries:
        if not re.fullmatch(r"\w[\w .+-]*", name) or folders.count(folder_name(name)) > 1:
            raise ValueError(f"{where}: {name!r} cannot be a folder of its own, use other letters and spaces")


def read_comparison(path: Path) -> dict[str, Any]:
    """Read and check what is to be compared. Recipes are then paths, beside the file if they are not absolute.

    Raises:
        ValueError: if the file cannot be read, a key is unknown or missing, or a value cannot be right.
    """
    try:
        comparison = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read the comparison {path}: {error}") from None

    def is_count(value: Any) -> bool:
        return type(value) is int and value >= 1

    def find(where: str, recipe: Any) -> Path:
        found = path.parent / str(recipe)
        if not found.is_file():
            raise ValueError(f"{where}: the recipe {found} is no file")
        return found

    def check_backbone(where: str, entry: dict[str, Any]) -> None:
        if entry.setdefault("backbone", None) not in (None, *comparison["backbones"]):
            known = ", ".join(comparison["backbones"]) or "there are none"
            raise ValueError(f"{where}: backbone {entry['backbone']!r} is not among backbones: {known}")

    check_keys(str(path), comparison, ["seeds", "tables"], ["settings", "backbones"])
    seeds = comparison["seeds"]
    if not isinstance(seeds, list) or any(type(seed) is not int for seed in seeds) or len(set(seeds)) < len(seeds):
        raise ValueError(f"{path}: seeds is {seeds!r}, expected a list of different whole numbers")
    if not isinstance(comparison.setdefault("settings", {}), dict):
        raise ValueError(f"{path}: settings is {comparison['settings']!r}, expected keys of a recipe")
    check_names(f"{path}: backbones", comparison.setdefault("backbones", {}))
    for name, recipes in comparison["backbones"].items():
        if not isinstance(recipes, list) or not recipes:
            raise ValueError(f"{path}: backbones, {name} is {recipes!r}, expected a list of recipes")
        comparison["backbones"][name] = [find(f"{path}: backbones, {name}", recipe) for recipe in recipes]
    check_names(f"{path}: tables", comparison["tables"])
    for title, table in comparison["tables"].items():
        where = f"{path}: {title}"
        check_keys(where, table, ["test_videos", "stages", "models"], ["backbone"])
        check_backbone(where, table)
        if not is_count(table["test_videos"]) or table["test_videos"] > SPLIT_SIZES["test"]:
            raise ValueError(f"{where}: test_videos is {table['test_videos']!r}, expected 1 to {SPLIT_SIZES['test']}")
        if not isinstance(table["stages"], list):
            raise ValueError(f"{where}: stages is {table['stages']!r}, expected a list")
        for number, stage in enumerate(table["stages"], start=1):
            check_keys(f"{where}, stage {number}", stage, ["recipe", "steps"])
            if not is_count(stage["steps"]):
                raise ValueError(f"{where}, stage {number}: steps is {stage['steps']!r}, expected at least 1")
            stage["recipe"] = find(f"{where}, stage {number}", stage["recipe"])
        check_names(f"{where}: models", table["models"])
        for name, model in table["models"].items():
            check_keys(f"{where}, {name}", model, ["recipe"], ["model", "backbone"])
            check_backbone(f"{where}, {name}", model)
            if not isinstance(model.setdefault("model", {}), dict):
                raise ValueError(f"{where}, {name}: model is {model['model']!r}, expected settings of a model")
            model["recipe"] = find(f"{where}, {name}", model["recipe"])
    return comparison


@dataclass(frozen=True)
class Stage:
    """One training.

    Args:
        name: For messages.
        folder: What the training leaves.
        recipe: What is trained.
        script: What trains it.
        start: Key of the recipe that names the result of the stage before, None for the first.
    """

    name: str
    folder: Path
    recipe: Recipe
    script: str
    start: str | None

    @property
    def settings(self) -> dict[str, Any]:
        """The recipe in the form that a file has."""
        return yaml.safe_load(yaml.safe_dump(asdict(self.recipe)))

    def changes(self) -> str:
        """What an earlier recipe of the folder says differently. Folders may be moved."""
        # Keys that did not exist then are as they are by default.
        defaults = replace(self, recipe=Recipe()).settings
        stored = defaults | yaml.safe_load((self.folder / "recipe.yaml").read_text())
        places = ("output_dir", self.start)
        return ", ".join(
            f"{key} {stored[key]!r} is now {value!r}"
            for key, value in self.settings.items()
            if key not in places and stored[key] != value
        )

    def results(self) -> dict[str, Any] | None:
        """What train.py reported of a training with just this recipe, None if there is none or it did not end."""
        files = [self.folder / name for name in ("recipe.yaml", "all_results.json", "final/config.json")]
        if not all(path.is_file() for path in files) or self.changes():
            return None
        return json.loads(files[1].read_text())

    def check(self, is_first_missing: bool) -> None:
        """Make sure that the training can start, or go on.

        Raises:
            ValueError: if the folder holds something else, or what is to start from is not there.
        """
        if (self.folder / "checkpoints").is_dir() or (self.folder / "final").is_dir():
            way_out = "remove it or take another --output_dir"
            if not is_first_missing:
                raise ValueError(f"{self.folder} was trained from a stage that is no longer there; {way_out}")
            if not (self.folder / "recipe.yaml").is_file():
                raise ValueError(f"{self.folder} holds a training but no recipe.yaml; {way_out}")
            if changes := self.changes():
                raise ValueError(f"{self.folder} was trained with other settings: {changes}; {way_out}")
        for key in ("pretrained", "pretrained_backbone"):
            source = getattr(self.recipe, key)
            if key != self.start and source and not (Path(find_checkpoint(source)) / "config.json").is_file():
                raise ValueError(f"{key} {source} holds no saved model; `backbones` names what is trained before")


@dataclass(frozen=True)
class Run:
    """One model with one seed: the stages of its backbone, which others share, its own, then its scores."""

    table: str
    name: str
    seed: int
    folder: Path
    backbone: list[Stage]
    stages: list[Stage]
    test_videos: int

    def __str__(self) -> str:
        return f"{self.table}, {self.name}, seed {self.seed}"

    def missing_stages(self) -> list[Stage]:
        """From the first that is not finished on."""
        stages = [*self.backbone, *self.stages]
        while stages and stages[0].results() is not None:
            del stages[0]
        return stages

    def metrics(self) -> dict[str, Any] | None:
        """Scores of the last stage, None if it or its evaluation is not finished."""
        path = self.folder / "evaluation" / "metrics.json"
        if self.missing_stages() or not path.is_file():
            return None
        metrics = json.loads(path.read_text())
        wanted = {"dataset": "moving_shapes", "split": "test", "config_name": "single", "version": VERSION}
        wanted["num_videos"] = self.test_videos
        return metrics if wanted.items() <= metrics.items() else None

    def row(self) -> dict[str, Any] | None:
        """The line of the table, None if the run is not finished."""
        metrics = self.metrics()
        if metrics is None:
            return None
        results = [stage.results() for stage in self.stages]
        return {
            "model": self.name,
            "seed": self.seed,
            "num_parameters": results[-1]["num_parameters"],
            "num_trained_parameters": max(result["num_trained_parameters"] for result in results),
            "minutes": sum(result["minutes"] for result in results),
            "j_and_f": metrics["j_and_f"],
            "skill": {name: group["j_and_f"] for name, group in metrics["groups"].items() if name in SKILLS},
            "num_rows": metrics["num_rows"],
            "machines": [result["machine"] for result in results],
        }


def plan_stages(
    name: str,
    folder: Path,
    trainings: Sequence[tuple[Sequence[Path], Mapping[str, Any]]],
    script: str,
    backbone: Sequence[Stage] = (),
) -> list[Stage]:
    """Trainings that start from each other, and the first from a backbone, in folders with their numbers.

    Args:
        name: Of all of them, for messages.
        folder: Where their folders go.
        trainings: Recipe files of each, and what is to be different from them.
        script: What trains them.
        backbone: How the backbone is trained, empty for what the recipe names.

    Raises:
        ValueError: if a recipe could not be trained.
    """
    stages: list[Stage] = []
    for number, (paths, changes) in enumerate(trainings, start=1):
        what, start = f"{name}, stage {number} of {len(trainings)}", None
        changes = {**changes, "output_dir": (folder / str(number)).as_posix()}
        if before := stages or backbone:
            start = "pretrained" if stages else "pretrained_backbone"
            changes[start] = (before[-1].folder / "final").as_posix()
        try:
            recipe = read_recipe(paths, changes.items())
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from None
        stages.append(Stage(what, folder / str(number), recipe, script, start))
    return stages


def plan_run(
    comparison: dict[str, Any], title: str, name: str, seed: int, output_dir: Path, num_processes: int
) -> Run:
    table = comparison["tables"][title]
    model = table["models"][name]
    settings = comparison["settings"] | {"num_processes": num_processes}
    backbone = []
    if used := model["backbone"] or table["backbone"]:
        changes = settings | {"seed": comparison["seeds"][0]}  # one for all seeds
        trainings = [([recipe], changes) for recipe in comparison["backbones"][used]]
        where = output_dir / "backbones" / folder_name(used)
        backbone = plan_stages(f"backbone {used}", where, trainings, "pretrain_backbone.py")
    settings |= {f"model.{key}": value for key, value in model["model"].items()} | {"seed": seed}
    trainings = [
        ([stage["recipe"], model["recipe"]], settings | {"max_train_steps": stage["steps"], "max_train_minutes": None})
        for stage in table["stages"]
    ]
    folder = output_dir / title / folder_name(name) / f"seed_{seed}"
    stages = plan_stages(f"{title}, {name}, seed {seed}", folder, trainings, "train.py", backbone)
    return Run(title, name, seed, folder, backbone, stages, table["test_videos"])


def plan_table(
    comparison: dict[str, Any], title: str, only: Sequence[str] | None, output_dir: Path, num_processes: int
) -> tuple[list[Run], list[Run]]:
    """All runs of a table, and those that are asked for. Others may be such as cannot be run here."""
    runs, wanted = [], []
    for name in comparison["tables"][title]["models"]:
        is_wanted = not only or name in only
        try:
            of_model = [
                plan_run(comparison, title, name, seed, output_dir, num_processes) for seed in comparison["seeds"]
            ]
        except ValueError:
            if is_wanted:
                raise
            continue
        runs += of_model
        wanted += of_model if is_wanted else []
    for run in wanted:
        for number, stage in enumerate(run.missing_stages()):
            stage.check(is_first_missing=number == 0)
    return runs, wanted


def mean_row(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean over the seeds of a model."""
    keys = ("num_parameters", "num_trained_parameters", "minutes", "j_and_f")
    skills = {skill: mean(row["skill"][skill] for row in rows) for skill in rows[0]["skill"]}
    means = {key: mean(row[key] for row in rows) for key in keys}
    return rows[0] | means | {"seed": f"mean of {len(rows)}", "skill": skills}


def table_report(comparison: dict[str, Any], title: str, runs: list[Run], command: str) -> dict[str, Any]:
    """What is finished, with a mean after the seeds of a model that has several, and how all of it came about."""
    table = comparison["tables"][title]
    finished = [(run, run.row()) for run in runs]
    rows = []
    for name in dict.fromkeys(run.name for run in runs):
        of_model = [row for run, row in finished if row and run.name == name]
        rows += [*of_model, mean_row(of_model)] if len(of_model) > 1 else of_model
    return {
        "command": command,
        "seeds": comparison["seeds"],
        "stages": [{"recipe": stage["recipe"].name, "steps": stage["steps"]} for stage in table["stages"]],
        "backbone_minutes": backbone_minutes(run for run, row in finished if row),
        "num_processes": runs[0].stages[0].recipe.num_processes,
        "version": VERSION,
        "test_videos": table["test_videos"],
        "rows": rows,
        "unfinished": [f"{run.name}, seed {run.seed}" for run, row in finished if row is None],
    }


def backbone_minutes(runs: Iterable[Run]) -> dict[str, float]:
    """How long the backbones of finished runs were trained."""
    backbones = {run.backbone[0].folder.parent.name: run.backbone for run in runs if run.backbone}
    return {name: sum(stage.results()["minutes"] for stage in stages) for name, stages in backbones.items()}


def table_text(report: dict[str, Any]) -> str:
    """The report in Markdown, J&F in percent."""
    machines = [machine for row in report["rows"] for machine in row["machines"]]
    dates = sorted({machine["date"] for machine in machines})
    places = dict.fromkeys(
        f"{machine['cpu']}, {machine['cores']} cores, threads: {machine['threads']}; device: {machine['device']}; "
        f"torch {machine['torch']}"
        for machine in machines
    )
    stages = ", ".join(f"{stage['recipe']} ({stage['steps']} steps)" for stage in report["stages"])
    caption = "Nothing is finished."
    if report["rows"]:
        num_rows = report["rows"][0]["num_rows"]
        backbones = "".join(f", without {value:.1f} of {name}" for name, value in report["backbone_minutes"].items())
        caption = (
            f"Stages: {stages}; {report['num_processes']} processes; seeds: {', '.join(map(str, report['seeds']))}. "
            f"J&F on the first {report['test_videos']} videos ({num_rows} rows) of the split `test`, configuration "
            f"`single`, version {report['version']}, threshold 0.5. Parameters in thousands; minutes of training"
            f"{backbones}, on {' and '.join(places)}, {' to '.join(dict.fromkeys([dates[0], dates[-1]]))}."
        )
    lines = ["```bash", report["command"], "```", "", *wrap(caption, 120, break_on_hyphens=False), ""]
    if report["rows"]:
        skills = [skill for skill in SKILLS if any(skill in row["skill"] for row in report["rows"])]
        head = ["model", "seed", "parameters", "trained", "minutes", "J&F", *skills]
        lines += [f"| {' | '.join(head)} |", f"|---|---|{'---:|' * (len(head) - 2)}"]
        for row in report["rows"]:
            thousands = [f"{row[key] / 1e3:.0f}" for key in ("num_parameters", "num_trained_parameters")]
            values = [row["minutes"], row["j_and_f"], *(row["skill"].get(skill) for skill in skills)]
            numbers = ["-" if value is None else f"{value:.1f}" for value in values]
            lines.append(f"| {' | '.join([row['model'], str(row['seed']), *thousands, *numbers])} |")
    if report["unfinished"]:
        lines += ["", f"Not finished: {'; '.join(report['unfinished'])}."]
    return "\n".join(lines) + "\n"


def write_table(output_dir: Path, title: str, report: dict[str, Any]) -> None:
    output_dir.mkdir(parents=True, exist_ok=True)
    with replace_when_done(output_dir / f"{title}.json") as path:
        path.write_text(json.dumps(report, indent=2) + "\n")
    with replace_when_done(output_dir / f"{title}.md") as path:
        path.write_text(table_text(report))


def processes(script: str, num_processes: int) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(num_processes)]
    return [*torchrun, str(Path(__file__).with_name(script))]


def train_command(stage: Stage) -> list[str]:
    options = ["--config", str(stage.folder / "recipe.yaml"), "--resume_from_checkpoint", "latest"]
    return [*processes(stage.script, stage.recipe.num_processes), *options]


def evaluate_command(run: Run) -> list[str]:
    options = ["--model", str(run.stages[-1].folder / "final"), "--output", str(run.folder / "evaluation")]
    options += ["--limit", str(run.test_videos), "--worst", "0"]
    return [*processes("evaluate_benchmark.py", run.stages[-1].recipe.num_processes), *options]


def uses_gpu() -> bool:
    return torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_CPU", "").lower() not in ("1", "true", "yes")


def environment(num_processes: int) -> dict[str, str]:
    """What a training finds in its environment; what is set there already stays."""
    defaults = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // num_processes))}
    if uses_gpu():
        return defaults | os.environ
    # A step frees what the next one needs again. Without these, glibc gives it back and gets it page by page.
    defaults |= {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
    return defaults | os.environ | {"ACCELERATE_USE_CPU": "true"}


def launch(what: str, command: list[str], log: Path, num_processes: int) -> None:
    """Run a command whose output goes to the end of a file; the program ends if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"{what}: {log}", flush=True)
    with open(log, "a") as file:
        print("$", shlex.join(command), file=file, flush=True)
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment(num_processes))
        try:
            code = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()  # which ends the processes that it started, as a kill would not
                process.wait()
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-60:])
        sys.exit(f"{tail}\n{what} failed with exit code {code}; above is the end of {log}")


def complete(run: Run) -> None:
    """Train and evaluate what a run still lacks."""
    num_processes = run.stages[0].recipe.num_processes
    missing, evaluation = run.missing_stages(), run.folder / "evaluation"
    if missing or (run.metrics() is None and (evaluation / "metrics.json").is_file()):
        shutil.rmtree(evaluation, ignore_errors=True)  # of a model that was there before, or of other videos
    for stage in missing:
        stage.folder.mkdir(parents=True, exist_ok=True)
        with replace_when_done(stage.folder / "recipe.yaml") as path:
            path.write_text(yaml.safe_dump(stage.settings, sort_keys=False))
        what = f"{stage.name}, {stage.recipe.max_train_steps} steps"
        launch(what, train_command(stage), stage.folder / "train.log", num_processes)
    if run.metrics() is None:
        what = f"{run}, {run.test_videos} test videos"
        launch(what, evaluate_command(run), evaluation / "evaluate.log", num_processes)


def parse_arguments() -> tuple[argparse.Namespace, dict[str, Any], dict[str, tuple[list[Run], list[Run]]]]:
    """Arguments, what is to be compared, and for each table its runs and those asked for. All is checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="what is to be compared (YAML)")
    parser.add_argument("--num_processes", type=int, default=2, help="share a training, with batches of their own")
    parser.add_argument("--table", help="name of the only table to make")
    parser.add_argument("--only", nargs="+", metavar="MODEL", help="names of the models to train")
    parser.add_argument("--output_dir", type=Path, default=DEFAULT_OUTPUT)
    parser.add_argument("--dry_run", action="store_true", help="tell what there is to do")
    arguments = parser.parse_args()
    try:
        if arguments.num_processes < 1:
            raise ValueError(f"--num_processes is {arguments.num_processes}, expected at least 1")
        if uses_gpu() and arguments.num_processes > torch.cuda.device_count():
            raise ValueError(
                f"--num_processes is {arguments.num_processes}, but each takes a GPU and there are "
                f"{torch.cuda.device_count()}; set ACCELERATE_USE_CPU=true to use the CPU"
            )
        comparison = read_comparison(arguments.config)
        if arguments.table not in (None, *comparison["tables"]):
            raise ValueError(f"--table: {arguments.table} is none of {', '.join(comparison['tables'])}")
        titles = [arguments.table] if arguments.table else list(comparison["tables"])
        names = dict.fromkeys(name for title in titles for name in comparison["tables"][title]["models"])
        for name in arguments.only or ():
            if name not in names:
                raise ValueError(f"--only: {name!r} is none of {', '.join(map(repr, names))}")
        if not arguments.dry_run:
            check_output_file(arguments.output_dir / f"{titles[0]}.md", "--output_dir")
        options = (arguments.only, arguments.output_dir, arguments.num_processes)
        plans = {title: plan_table(comparison, title, *options) for title in titles}
    except ValueError as error:
        parser.error(str(error))
    return arguments, comparison, plans


def main() -> None:
    arguments, comparison, plans = parse_arguments()
    if arguments.dry_run:
        told = set()  # a backbone is trained once for all
        for run in [run for _, wanted in plans.values() for run in wanted]:
            missing = [stage for stage in run.missing_stages() if stage.folder not in told]
            told |= {stage.folder for stage in missing}
            commands = [train_command(stage) for stage in missing]
            commands += [evaluate_command(run)] if run.metrics() is None else []
            print(f"{run}{'' if commands else ': finished'}", *map(shlex.join, commands), sep="\n  ")
        return
    for title, (runs, wanted) in plans.items():
        command = ["python", "examples/compare_models.py", "--config", str(arguments.config), "--table", title]
        command += ["--num_processes", str(arguments.num_processes)]
        if arguments.output_dir != DEFAULT_OUTPUT:
            command += ["--output_dir", str(arguments.output_dir)]
        if not wanted:
            continue
        for run in [None, *wanted]:  # the table of what is there comes first
            if run:
                complete(run)
            write_table(arguments.output_dir, title, table_report(comparison, title, runs, shlex.join(command)))
        print((arguments.output_dir / f"{title}.md").read_text(), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
