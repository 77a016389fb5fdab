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
"""What every test shares: no network, a cache of its own, one thread, and the optional folder with shared data."""

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp


os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_CACHE"] = mkdtemp(prefix="hf_rvos_rows_")

import pytest
import torch


FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tests run side by side; with more threads each they would wait for one another."""
    torch.set_num_threads(1)


def pytest_unconfigure():
    """Rows that tests build are not left in the cache of the user, nor anywhere."""
    shutil.rmtree(os.environ["HF_DATASETS_CACHE"], ignore_errors=True)


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """Files that come with the tests."""
    return FIXTURES


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Larger reference data: the folder `HF_RVOS_SHARED`, else `../shared` beside the repository."""
    folder = Path(os.environ.get("HF_RVOS_SHARED", FIXTURES.parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared reference data at {folder}; set HF_RVOS_SHARED to use it")
    return folder
