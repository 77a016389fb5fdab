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
import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from hf_rvos import FastSgMgConfig
from tests.models.sgmg.tiny import tiny_config


def test_fields_of_sgmg_are_kept_and_one_is_added(tmp_path):
    fields = tiny_config().to_dict()
    config = FastSgMgConfig(
        backbone_config=fields["backbone_config"], text_config=fields["text_config"], hidden_size=96, patch_size=2
    )
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, FastSgMgConfig)
    assert (loaded.hidden_size, loaded.patch_size, loaded.residual_decoupling) == (96, 2, False)


def test_decoupling_is_multiplicative_unless_asked_for():
    assert not FastSgMgConfig().residual_decoupling


def test_values_are_checked_as_for_sgmg():
    with pytest.raises(StrictDataclassError, match="patch_size is 3, expected 1, 2 or 4"):
        FastSgMgConfig(patch_size=3)
