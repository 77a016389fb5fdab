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
"""The commands `hf-rvos data check`, `convert-davis` and `export`."""

from pathlib import Path
from typing import Annotated

import typer

from hf_rvos.cli.common import DatasetOptions, dataset_options
from hf_rvos.utils.errors import bad_input_reported


DatasetName = Annotated[str, typer.Argument(help="Such as ref_youtube_vos, ref_davis17 or custom.")]

data_app = typer.Typer(help="Downloads of data sets.", no_args_is_help=True)


@data_app.command()
def check(
    name: DatasetName,
    data_dir: Annotated[Path, typer.Argument(help="Root of the data set in its published layout.")],
    decode: Annotated[bool, typer.Option("--decode", help="Decode every picture and mask, which takes long.")] = False,
    every: Annotated[bool, typer.Option("--all", help="List every place, not the first ten of each kind.")] = False,
    split: Annotated[list[str] | None, typer.Option(help="Only this split; repeat the option for more.")] = None,
    option: DatasetOptions = None,
) -> None:
    """List what is missing or damaged, beside the published counts; exit code 1 if there is a fault."""
    with bad_input_reported():
        from hf_rvos.data.checking import check_dataset

        options = dataset_options(option) | ({"splits": tuple(split)} if split else {})
        findings = check_dataset(name, data_dir, decode, **options)
    typer.echo(findings.to_text(None if every else 10))
    if not findings.ok:
        raise typer.Exit(1)


@data_app.command()
def convert_davis(
    davis_root: Annotated[Path, typer.Argument(help="Folder with DAVIS and davis_text_annotations.")],
    output: Annotated[Path, typer.Argument(help="New folder in the layout of Ref-YouTube-VOS.")],
) -> None:
    """Bring Ref-DAVIS17 into the layout that most code reads; the source stays as it is."""
    with bad_input_reported():
        from hf_rvos.data.export import convert_davis as convert

        convert(davis_root, output)
    typer.echo(f"Converted {davis_root} to {output}")


@data_app.command()
def export(
    name: DatasetName,
    output: Annotated[Path, typer.Argument(help="Root of the new layout.")],
    split: Annotated[str, typer.Option(help="Such as train or valid.")],
    data_dir: Annotated[Path | None, typer.Option(help="Root of the data set; moving_shapes needs none.")] = None,
    new_split: Annotated[
        str | None, typer.Option("--as", help="train, valid or test: what the split is called there.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Number of videos, from the first.")] = None,
    option: DatasetOptions = None,
) -> None:
    """Write a split of any data set in the layout of Ref-YouTube-VOS."""
    with bad_input_reported():
        from hf_rvos.data.export import export_dataset
        from hf_rvos.data.loading import load_dataset

        rows = load_dataset(name, data_dir, split=split, **dataset_options(option))
        if limit is not None:
            chosen = set(list(dict.fromkeys(rows["video_id"]))[:limit])
            rows = rows.select([number for number, video in enumerate(rows["video_id"]) if video in chosen])
        export_dataset(rows, data_dir, output, new_split or split)
    typer.echo(f"Wrote {name} to {output}")
