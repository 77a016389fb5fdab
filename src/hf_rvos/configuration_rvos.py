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

"""What the configurations of all models have in common."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig


@strict
class RvosConfig(PreTrainedConfig):
    """Base of the configurations.

    Args:
        score_threshold (`float`, *optional*):
            Score above which a sentence is taken to describe something in the video, see `hf-rvos calibrate`. None if
            there is no such number: every sentence is answered.
    """

    score_threshold: float | int | None = None

    def validate_architecture(self):
        super().validate_architecture()
        if self.score_threshold is not None and not 0 <= self.score_threshold < 1:
            raise ValueError(f"score_threshold is {self.score_threshold}, expected a probability below 1")
