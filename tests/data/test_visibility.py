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
import shutil

import numpy as np
import pytest

from hf_rvos.data import load_dataset
from hf_rvos.data.media import load_masks
from hf_rvos.data.visibility import visible_frames
from tests.data import roots, sentence_roots


WRITERS = {
    "ref_youtube_vos": roots.ref_youtube_vos,
    "mevis": roots.mevis,
    "long_rvos": roots.long_rvos,
    "jhmdb_sentences": sentence_roots.write_jhmdb,
}


def make(name, tmp_path):
    WRITERS[name](tmp_path / name)
    split = "test" if name == "jhmdb_sentences" else "train"
    return load_dataset(name, tmp_path / name, split, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("name", WRITERS)
def test_visible_frames_are_those_with_a_mask(name, tmp_path):
    rows = make(name, tmp_path)
    found = visible_frames(rows, tmp_path / name)
    assert len(found) == len(rows)
    for row, visible in zip(rows, found):
        assert np.array_equal(visible, load_masks(row, tmp_path / name).any((1, 2)))


@pytest.mark.parametrize("name", ["ref_youtube_vos", "long_rvos"])
def test_masks_are_read_once(name, tmp_path):
    rows = make(name, tmp_path)
    first = visible_frames(rows, tmp_path / name)
    loaded_again = load_dataset(name, tmp_path / name, "train", cache_dir=tmp_path / "cache")
    shutil.rmtree(tmp_path / name / "train" / "Annotations")
    again = visible_frames(loaded_again, tmp_path / name)
    assert [part.tolist() for part in again] == [part.tolist() for part in first]


def test_some_of_the_rows_have_an_answer_of_their_own(tmp_path):
    rows = make("ref_youtube_vos", tmp_path)
    whole = visible_frames(rows, tmp_path / "ref_youtube_vos")
    last = visible_frames(rows.select([2]), tmp_path / "ref_youtube_vos")
    assert [part.tolist() for part in last] == [whole[2].tolist()]


def test_a_damaged_cache_is_replaced(tmp_path):
    rows = make("ref_youtube_vos", tmp_path)
    first = visible_frames(rows, tmp_path / "ref_youtube_vos")
    (path,) = (tmp_path / "cache").rglob("visible-*.npy")
    path.write_bytes(path.read_bytes()[:-3])
    again = visible_frames(rows, tmp_path / "ref_youtube_vos")
    assert [part.tolist() for part in again] == [part.tolist() for part in first]
    assert np.load(path).tolist() == np.concatenate(first).tolist()


def test_missing_masks_are_an_error_that_leaves_no_cache(tmp_path):
    rows = make("ref_youtube_vos", tmp_path)
    shutil.rmtree(tmp_path / "ref_youtube_vos" / "train" / "Annotations")
    with pytest.raises(ValueError, match="there is no file"):
        visible_frames(rows, tmp_path / "ref_youtube_vos")
    assert not list((tmp_path / "cache").rglob("visible-*"))
