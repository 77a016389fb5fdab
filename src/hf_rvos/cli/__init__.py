# Copyright 2026 The hf_rvos authors. All rights reserved.
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
"""The command `hf-rvos`. What is wrong with its input ends it with a message on standard error and exit code 2."""

import typer

from hf_rvos.cli.benchmark import benchmark
from hf_rvos.cli.data import data_app
from hf_rvos.cli.evaluation import calibrate, evaluate, metrics, submission_app
from hf_rvos.cli.segment import convert, segment


app = typer.Typer(
    help="Segment what sentences describe in videos.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (segment, convert, benchmark, evaluate, calibrate, metrics):
    app.command()(command)
app.add_typer(data_app, name="data")
app.add_typer(submission_app, name="submission")


def main() -> None:
    app()
