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
"""What a run tells: its log, trackers, the chart of its losses, the model card and the upload."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from accelerate import Accelerator
from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import HfHubHTTPError

from hf_rvos.training.progress import Clock
from hf_rvos.training.recipe import Recipe
from hf_rvos.utils.charts import save_line_chart
from hf_rvos.utils.files import replace_when_done


# Where things lie on one's own disk.
_LOCAL_KEYS = ("output_dir", "data_dirs")
_UPLOAD_ERRORS = (HfHubHTTPError, OSError, ValueError)


class RunLog:
    """Lines of `log.jsonl`, which trackers get as well.

    Args:
        accelerator: With the trackers of the recipe.
        output_dir: Folder of the log.
        clock: Says when something was logged. A resumed run drops what came after its checkpoint, and a line that was
            not finished.
    """

    def __init__(self, accelerator: Accelerator, output_dir: Path, clock: Clock):
        self.accelerator, self.path, self.clock = accelerator, output_dir / "log.jsonl", clock
        if accelerator.is_main_process:
            kept = [line for line in self.read() if line["step"] <= clock.step] if clock.step else []
            with replace_when_done(self.path) as path:
                path.write_text("".join(json.dumps(line) + "\n" for line in kept))
        if accelerator.log_with:
            accelerator.init_trackers("hf_rvos", config=flatten(asdict(clock.recipe)))

    def write(self, values: Mapping[str, Any]) -> None:
        if not self.accelerator.is_main_process:
            return
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": self.clock.step, "minutes": self.clock.elapsed / 60} | values) + "\n")
        numbers = {name: value for name, value in flatten(values).items() if isinstance(value, (int, float))}
        self.accelerator.log(numbers, step=self.clock.step)

    def read(self) -> list[dict[str, Any]]:
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        parsed = []
        for line in lines:
            try:
                parsed.append(json.loads(line))
            except json.JSONDecodeError:  # the process was killed while it wrote
                break
        return parsed

    def save_chart(self, path: Path) -> None:
        """Draw the loss and the terms of the last decoder layer over the steps."""
        lines = [line for line in self.read() if "loss" in line]
        names = ["loss", *last_layer_terms(lines[0])] if lines else []
        curves = {name: ([line["step"] for line in lines], [line[name] for line in lines]) for name in names}
        if curves:
            with replace_when_done(path) as temporary:
                save_line_chart(temporary, curves, "Training losses", "step", "loss, mean since the last point")


def last_layer_terms(values: Mapping[str, Any]) -> list[str]:
    """Names of the losses of the last decoder layer; those of earlier ones have a number behind them."""
    return [name for name in values if name.startswith("loss_") and not name[-1].isdigit()]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with names like `evaluation/j_and_f`; what trackers cannot take becomes text."""
    flat = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
    return flat


def public_recipe(recipe: Recipe) -> str:
    """The recipe as YAML without folders of one's own."""
    settings = {key: value for key, value in asdict(recipe).items() if key not in _LOCAL_KEYS}
    if settings["evaluation"]:
        settings["evaluation"] = {key: value for key, value in settings["evaluation"].items() if key != "data_dir"}
    return yaml.safe_dump(settings, sort_keys=False)


def write_model_card(folder: Path, task: Any, recipe: Recipe, results: Mapping[str, Any], table: str) -> None:
    """Write the `README.md` of a trained model.

    Args:
        folder: Of the model.
        task: Its `usage` is code that loads the model, and `scored_on` data set, split and number of videos, None for
            all.
        recipe: That it was trained with.
        results: What is in `all_results.json`.
        table: The scores in Markdown.
    """
    name = recipe.hub_model_id or Path(recipe.output_dir).name
    config = json.loads((folder / "config.json").read_text())
    dataset, split, limit = task.scored_on
    scores = [
        EvalResult(
            task_type="referring-video-object-segmentation",
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=split,
            metric_type=key,
            metric_value=round(value, 2),
        )
        for key, value in results["val"].items()
        if isinstance(value, float)
    ]
    data = ModelCardData(
        library_name="hf_rvos",
        tags=["hf_rvos", "referring-video-object-segmentation", config["model_type"]],
        model_name=name,
        eval_results=scores or None,
    )
    machine = results["machine"]
    device = machine["device"] if machine["device"] != "cpu" else f"{machine['cpu']}, {machine['cores']} cores"
    content = f"""---
{data.to_yaml()}
---

# {name}

A {config["architectures"][0]} of `hf_rvos`, trained with its `examples/train.py`.

```python
{task.usage.format(name=name)}
```

No licence is stated. Add one that the data and the weights it started from allow.

## Training

| | |
|---|---|
| data | {", ".join(recipe.datasets)}, split {recipe.split} |
| started from | {recipe.pretrained or recipe.pretrained_backbone or "nothing"} |
| steps | {results["steps"]:,} in {results["minutes"]:.1f} minutes |
| clips of a step | {results["clips_per_step"]} |
| parameters | {results["num_parameters"]:,}, of which {results["num_trained_parameters"]:,} were trained |
| machine | {results["num_processes"]} x {device} |
| versions | torch {machine["torch"]}, transformers {machine["transformers"]}, hf_rvos {machine["hf_rvos"]} |
| date | {machine["date"]} |

## Scores

On {"" if limit is None else f"the first {limit} videos of "}{dataset}, split {split}:

{table}

## Recipe

```yaml
{public_recipe(recipe).strip()}
```
"""
    ModelCard(content).save(folder / "README.md")


def check_upload(recipe: Recipe) -> None:
    """Make the repository, private if it is new, and put the recipe there, which shows that one may write to it.

    Raises:
        ValueError: if that fails.
    """
    api, repository = HfApi(), recipe.hub_model_id
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        content = public_recipe(recipe).encode()
        api.upload_file(path_or_fileobj=content, path_in_repo="recipe.yaml", repo_id=repository)
    except _UPLOAD_ERRORS as error:
        raise ValueError(
            f"push_to_hub: cannot write to {repository} ({_reason(error)}); log in with `hf auth login`, check "
            "hub_model_id, or set push_to_hub to false"
        ) from error


def upload(recipe: Recipe, folder: Path) -> None:
    """Upload a trained model.

    Raises:
        OSError: if that fails; the folder is complete in any case.
    """
    try:
        HfApi().upload_folder(folder_path=folder, repo_id=recipe.hub_model_id)
    except _UPLOAD_ERRORS as error:
        raise OSError(
            f"push_to_hub: the upload failed ({_reason(error)}). The training is done and {folder} is complete: "
            f"hf upload {recipe.hub_model_id} {folder}"
        ) from error


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
