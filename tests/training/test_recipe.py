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
import yaml

from hf_rvos.training.recipe import Recipe, check_recipe, read_recipe, set_value


MODEL = {"model": {"model_type": "referformer"}, "max_train_steps": 1}


@pytest.fixture
def write(tmp_path):
    def call(name, **content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
        return path

    return call


def test_a_recipe_goes_over_its_base_and_that_over_its_own(write):
    write("base/first.yaml", **MODEL, seed=1, batch_size=7, weight_decay=0.5)
    write("base/second.yaml", base="first.yaml", seed=2, batch_size=8)
    recipe = read_recipe([write("third.yaml", base="base/second.yaml", seed=3)])
    assert (recipe.seed, recipe.batch_size, recipe.weight_decay) == (3, 8, 0.5)


def test_a_base_that_leads_back_is_refused(write):
    write("a.yaml", base="b.yaml")
    with pytest.raises(ValueError, match=r"is its own base: a.yaml -> b.yaml -> a.yaml"):
        read_recipe([write("b.yaml", base="a.yaml").with_name("a.yaml")])


def test_a_missing_base_is_named(write):
    with pytest.raises(ValueError, match="cannot read the recipe .*none.yaml"):
        read_recipe([write("a.yaml", base="none.yaml")])


def test_mappings_are_put_together_key_by_key_and_null_empties_them(write):
    first = write("a.yaml", **MODEL, data_dirs={"mevis": "m", "revos": "r"}, augmentation={"flip_probability": 0.5})
    second = write("b.yaml", data_dirs={"revos": "other"}, augmentation={"brightness": 3})
    recipe = read_recipe([first, second])
    assert recipe.data_dirs == {"mevis": "m", "revos": "other"}
    assert recipe.augmentation == {"flip_probability": 0.5, "brightness": 3}
    recipe = read_recipe([first, second, write("c.yaml", data_dirs=None, augmentation=None, model=None)])
    assert (recipe.data_dirs, recipe.augmentation) == ({}, None)
    assert recipe.model == MODEL["model"]


def test_dots_reach_into_mappings_and_leave_files_that_were_read_alone(write):
    path = write("a.yaml", **MODEL, dataset_options={"mevis": {"strict": False}})
    changes = {
        "data_dirs.refcoco+": "coco",
        "augmentation.flip_probability": 0,
        "evaluation.dataset": "mevis",
        "dataset_options.mevis.strict": True,
    }
    recipe = read_recipe([path], changes.items())
    assert recipe.data_dirs == {"refcoco+": "coco"}
    assert recipe.augmentation == {"flip_probability": 0}
    assert recipe.evaluation == {"dataset": "mevis"}
    assert recipe.dataset_options == {"mevis": {"strict": True}}


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("learning_rate", "1e-4", 1e-4),
        ("clip_lengths", [4, "8"], (4, 8)),
        ("datasets", "mevis", ("mevis",)),
        ("num_epochs", "3", 3),
        ("num_epochs", None, None),
        ("augmentation", None, None),
        ("data_dirs", None, {}),
        ("muon", True, True),
    ],
)
def test_values_get_the_type_of_their_key(key, value, expected):
    values = {}
    set_value(values, key, value)
    assert values[key] == expected and type(values[key]) is type(expected)


@pytest.mark.parametrize(
    "key, value",
    [
        ("batch_size", 1.5),
        ("batch_size", True),
        ("batch_size", None),
        ("muon", "yes"),
        ("clip_lengths", ["x"]),
        ("data_dirs", "folder"),
        ("learning_rate", [1]),
        ("output_dir", {}),
    ],
)
def test_values_of_another_type_are_refused(key, value):
    with pytest.raises(ValueError, match=f"recipe key {key!r} is .*, expected"):
        set_value({}, key, value)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"dataset": ["mevis"]}, "'dataset' is not known; did you mean 'datasets'?"),
        ({"datasets": ["mevi"]}, "datasets: the data set 'mevi' is not known; did you mean 'mevis'?"),
        ({"datasets": []}, "datasets is empty"),
        ({"data_dirs": {"youtube": "x"}}, "data_dirs: the data set 'youtube' is not known"),
        ({"datasets": ["moving_shapes", "mevis"]}, "learned from alone"),
        ({"datasets": ["mevis"], "clip_lengths": [4, 8]}, "expected one length"),
        ({"datasets": ["mevis"], "flip_probability": 0}, "set augmentation.flip_probability"),
        ({"clip_lengths": []}, "clip_lengths is empty"),
        ({"frame_size": [64]}, "expected height and width"),
        ({"clip_sampling": "random"}, "expected one of anchors, windows"),
        ({"augmentation": {"flip": 1}}, "augmentation key 'flip' is not known"),
        ({"augmentation": {"flip_probability": 2}}, "augmentation: flip_probability is 2"),
        ({"pseudo_videos": {"rotations": 1}}, "did you mean 'rotation'?"),
        ({"evaluation": {"split": "val"}}, "set evaluation.dataset"),
        ({"evaluation": {"dataset": "mevis", "limits": 1}}, "'limits' is not known; did you mean 'limit'?"),
        ({"evaluation": {"dataset": "davis"}}, "evaluation.dataset: the data set 'davis' is not known"),
        ({"lr_drops": [5, 3]}, "expected ascending numbers"),
        ({"lr_drop_steps": [5, 3]}, "lr_drop_steps is [5, 3], expected ascending numbers of steps"),
        ({"lr_drop_steps": [5], "lr_drops": [3]}, "leave one of them out"),
        ({"dataset_weights": {"mevis": 1}}, "dataset_weights names mevis, expected some of moving_shapes"),
        ({"dataset_weights": {"moving_shapes": 0}}, "that of moving_shapes is 0, expected a number above 0"),
        ({"subset": "some"}, "subset is 'some', expected one of single, all"),
        ({"pretrained_clip": "clip"}, "only a new model of type ssa has the towers of CLIP"),
        ({"batch_size": 0}, "batch_size is 0, expected at least 1"),
        ({"lr_drops": [0]}, "expected at least 1"),
        ({"save_dtype": "int8"}, "save_dtype is 'int8'"),
        ({"push_to_hub": True}, "set hub_model_id"),
        ({"reset_class_heads": True}, "set pretrained"),
        ({"max_train_steps": None}, "says no end"),
        ({"evaluation": {}}, "set evaluation.dataset"),
        ({"evaluation_videos": 0}, "evaluation_videos is 0, expected at least 1"),
        ({"warmup": 500}, "warmup is 500.0, expected a share from 0 to 1"),
        ({"max_grad_norm": 0}, "max_grad_norm is 0.0, expected a number above 0"),
        ({"learning_rate": -1}, "learning_rate is -1.0, expected at least 0"),
        ({"skills": ["colour"]}, "skills: the skill 'colour' is not known; known: appearance"),
        ({"skills": {8: ["event", "motions"]}}, "skills: the skill 'motions' is not known; did you mean 'motion'?"),
        ({"skills": "motion"}, "skills is 'motion', expected a list of some of appearance, motion"),
        ({"model": {"model_type": "soc", "backbone_config": {"depths": [1]}}}, "backbone_config has model_type None"),
        ({"model": {"model_type": "soc", "text_config": {"model_type": "bart2"}}}, "has model_type 'bart2'"),
        (
            {"model": {"model_type": "soc", "text_config": {"hidden_drop": 0}}},
            "model setting 'hidden_drop' is not known to roberta",
        ),
    ],
)
def test_a_recipe_that_cannot_be_trained_gives_one_clear_error(write, settings, message):
    with pytest.raises(ValueError) as error:
        read_recipe([write("a.yaml", **MODEL | settings)])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_settings_of_a_part_that_is_loaded_need_not_say_what_it_is(write):
    changes = {"model.backbone_config.drop_path_rate": 0.3, "pretrained_backbone": "video-swin-tiny"}
    recipe = read_recipe([write("a.yaml", **MODEL)], changes.items())
    assert recipe.model["backbone_config"] == {"drop_path_rate": 0.3}


@pytest.mark.parametrize("changes", [{}, {"pretrained": "soc-tiny"}, {"pretrained_backbone": "video-swin-tiny"}])
@pytest.mark.parametrize("part", ["backbone_config", "text_config"])
def test_a_part_may_be_null_which_is_the_default_one(write, part, changes):
    model = {"model_type": "soc", part: None}
    assert read_recipe([write("a.yaml", **MODEL | {"model": model} | changes)]).model == model


@pytest.mark.parametrize("part", ["backbone_config", "text_config"])
def test_a_part_that_is_no_mapping_is_refused(write, part):
    with pytest.raises(ValueError, match=part):
        read_recipe([write("a.yaml", **MODEL | {"model": {"model_type": "soc", part: "video_swin"}})])


def test_any_of_the_ends_is_enough():
    for end in ("num_epochs", "max_train_steps", "max_train_minutes"):
        check_recipe(Recipe(model=MODEL["model"], **{end: 1}))
