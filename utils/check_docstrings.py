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
"""Arguments in docstrings are those of the signature, and `defaults to` says what the signature says.

    python utils/check_docstrings.py

Checked are the public names of `hf_rvos` and the public methods that their classes define.
"""

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

import hf_rvos


ENTRY = re.compile(r"^ {4}(\w+(?:, \w+)*)(?: \((.*?)\))?:", re.M)
SECTIONS = ("Args", "Returns", "Raises", "Example", "Examples", "Yields")
NO_DEFAULT = inspect.Parameter.empty
# Arguments that transformers defines, such as those of from_pretrained, are documented there.
CATCH_ALL = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def overrides_foreign_method(owner: type, attribute: str) -> bool:
    """Whether a class outside this library says what the method does."""
    return any(attribute in vars(base) for base in owner.__mro__ if not base.__module__.startswith("hf_rvos"))


def public_objects() -> Iterator[tuple[str, Any]]:
    """Public functions and classes with their own public methods, by dotted name."""
    for name in hf_rvos.__all__:
        thing = getattr(hf_rvos, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            yield name, thing
        if inspect.isclass(thing):
            for attribute, value in vars(thing).items():
                method = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
                if not inspect.isfunction(method) or (attribute.startswith("_") and attribute != "__call__"):
                    continue
                if method.__doc__ or not overrides_foreign_method(thing, attribute):
                    yield f"{name}.{attribute}", inspect.unwrap(method)


def documented_arguments(docstring: str) -> dict[str, str | None] | None:
    """Names in the Args section and what stands in their parentheses; None without such a section."""
    section = re.search(r"^Args:\n((?: {4}.*\n|\n)+)", inspect.cleandoc(docstring) + "\n", re.M)
    if not section:
        return None
    return {name: details for names, details in ENTRY.findall(section[1]) for name in names.split(", ")}


def actual_arguments(thing: Any) -> dict[str, Any]:
    """Arguments with their defaults; for a class the fields or class attributes that its constructor takes."""
    if dataclasses.is_dataclass(thing):
        return {
            field.name: field.default_factory() if callable(field.default_factory) else field.default
            for field in dataclasses.fields(thing)
        }
    parameters = inspect.signature(thing.__init__ if inspect.isclass(thing) else thing).parameters
    arguments = {name: parameter.default for name, parameter in parameters.items() if name not in ("self", "cls")}
    if inspect.isclass(thing) and hasattr(thing, "valid_kwargs"):
        arguments |= {name: getattr(thing, name, None) for name in thing.valid_kwargs.__annotations__}
    return arguments


def argument_kinds(thing: Any) -> dict[str, Any]:
    parameters = inspect.signature(thing.__init__ if inspect.isclass(thing) else thing).parameters
    return {name: parameter.kind for name, parameter in parameters.items()}


def check(name: str, thing: Any) -> Iterator[str]:
    docstring = thing.__doc__ or ""
    if not docstring.strip():
        yield f"{name} has no docstring"
        return
    documented = documented_arguments(docstring)
    if documented is None:
        return
    actual = actual_arguments(thing)
    takes_more = any(kind == inspect.Parameter.VAR_KEYWORD for kind in argument_kinds(thing).values())
    for argument, details in documented.items():
        if argument not in actual:
            if not takes_more and not hasattr(thing, argument):
                yield f"{name} documents {argument}, which it does not take"
            continue
        if stated := re.search(r"defaults to `(.+)`$|defaults to (\S+)$", details):
            try:
                default = ast.literal_eval(stated[1] or stated[2])
            except (SyntaxError, ValueError):
                yield f"{name} states an unreadable default for {argument}: {stated[0]}"
                continue
            if default != actual[argument] and tuple(default if isinstance(default, list) else ()) != actual[argument]:
                yield f"{name} says {argument} {stated[0]}, the signature says {actual[argument]!r}"
        elif "optional" in details and actual[argument] not in (None, NO_DEFAULT) and not inspect.isclass(thing):
            yield f"{name} does not say that {argument} defaults to {actual[argument]!r}"
        elif details and "optional" not in details and actual[argument] is None and not inspect.isclass(thing):
            yield f"{name} does not say that {argument} is optional"
    if not inspect.isclass(thing):
        kinds = argument_kinds(thing)
        mentioned = {*documented, *re.findall(r"`(\w+)`", docstring)}
        missing = [argument for argument in actual if argument not in mentioned and kinds[argument] not in CATCH_ALL]
        if missing:
            yield f"{name} does not document {', '.join(missing)}"


def main() -> int:
    objects = dict(public_objects())
    findings = [finding for name, thing in objects.items() for finding in check(name, thing)]
    print("\n".join(findings) or f"docstrings: {len(objects)} public names are fine")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
