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
import threading

import pytest
import torch

from hf_rvos.utils import streams
from hf_rvos.utils.streams import Spool, read_ahead


def test_items_come_in_their_order_from_another_thread():
    threads = set()

    def items():
        for number in range(4):
            threads.add(threading.current_thread())
            yield number

    assert list(read_ahead(items())) == [0, 1, 2, 3]
    assert threading.current_thread() not in threads and len(threads) == 1


def test_only_one_item_is_made_before_it_is_wanted():
    made = []
    ahead = read_ahead(made.append(number) or number for number in range(9))
    next(ahead)
    ahead.close()  # waits for what is under way
    assert made == [0, 1]


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise ValueError("broken")

    ahead = read_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)


@pytest.mark.parametrize("limit", [0, 100, 10**6], ids=["files", "both", "memory"])
def test_tensors_come_back_as_they_were(limit):
    tensors = [torch.arange(12.0).reshape(3, 4) + number for number in range(4)]
    with Spool(limit) as spool:
        for tensor in tensors:
            spool.append(maps=tensor.to(torch.bfloat16), mask=None)
        assert len(spool) == 4
        for number in (2, 0, 3, 1):
            assert spool[number]["mask"] is None
            assert torch.equal(spool[number]["maps"], tensors[number].to(torch.bfloat16))


def test_files_are_there_only_beyond_the_limit_and_only_in_the_block(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Spool(memory_limit=100) as spool:
        spool.append(maps=torch.zeros(20))
        assert not list(tmp_path.iterdir())
        spool.append(maps=torch.zeros(20))
        spool.append(maps=torch.zeros(1))
        assert len(list(tmp_path.rglob("*.pt"))) == 2
    assert not list(tmp_path.iterdir())


def test_tensors_of_an_accelerator_stay_there_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(streams, "DEVICE_LIMIT", 100)
    with Spool(memory_limit=0) as spool:
        spool.append(maps=torch.zeros(20, device="meta"), mask=None)
        assert spool[0]["maps"].device.type == "meta"
        with pytest.raises(NotImplementedError, match="meta"):  # there is nothing to copy
            spool.append(maps=torch.zeros(20, device="meta"))
