"""Reading configuration files that others have written: values alone, and no code."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

import yaml
from detectron2.config import CfgNode

from mlickd.errors import InputError

__all__ = ["merge_config_file", "merge_options", "read_config_file"]

# Of a file or an option that does not fit; TypeError and AttributeError, where it is no mapping of names to values.
_WRONG = (KeyError, ValueError, TypeError, AttributeError, AssertionError, OSError, yaml.YAMLError)
# Of a value that Python's parser finds nested too deep.
_WRONG += (RecursionError, MemoryError)
# Of one file, far more than any configuration has. What is nested deeper would not be copied by Python, either.
_MOST_VALUES, _DEEPEST = 100_000, 50
# Characters of a value, and of one in a message.
_LONGEST, _LONGEST_SHOWN = 10_000, 60
# A file counts as often as it is the base of another. A circle ends earlier, by what Python allows.
_MOST_FILES = 1000
# How yacs says it of a file and of an option.
_UNKNOWN = re.compile(r"Non-existent (?:config )?key: (?P<key>\S+)")
_ILL_TYPED = re.compile(
    r"Type mismatch \(<class '(?P<right>\w+)'> vs. <class '(?P<wrong>\w+)'>\) "
    r"with values \((?P<default>.*) vs. (?P<value>.*)\) for config key: (?P<key>\S+)"
)

_LATER = re.compile(r"Cannot merge a v(?P<given>\d+) config into a v(?P<known>\d+) config")


def merge_config_file(cfg: CfgNode, path: str | os.PathLike[str], named: str) -> None:
    """Put what a YAML file, and the files of its ``_BASE_``, say into a configuration (in place).

    Detectron2's ``merge_from_file`` falls back to a loader that runs what a file tells it to; here such a file is an
    error.

    Args:
        cfg: with all keys and their defaults.
        path: of the file.
        named: how messages begin: what the file was named by, and its path.

    Raises:
        InputError: the file is missing or malformed, has an unknown key, an ill-typed or missing value, or runs code.
    """
    without_value = _without_value(cfg)
    try:
        # Detectron2 reads the files once more, and copies all that they stand for.
        _read_limited(path)
        cfg.merge_from_file(os.fspath(path), allow_unsafe=False)
    except _WRONG as error:
        raise InputError(f"{named}: {_explained(error, cfg)}") from error
    _check_values(cfg, without_value, named)


def merge_options(cfg: CfgNode, options: list[str]) -> None:
    """Put ``KEY VALUE`` pairs of a command line into a configuration (in place).

    Raises:
        InputError: they are no pairs, or one has an unknown key or an ill-typed value.
    """
    named = f"options {' '.join(_short(option) for option in options)}"
    for option in options[::2]:
        if str(option).startswith("--"):
            raise InputError(f"{named}: {option} stands behind KEY VALUE pairs; put it in front of them")
    if len(options) % 2:
        raise InputError(f"{named}: are no KEY VALUE pairs, one value is missing; give each key its value")
    if any(len(str(option)) > _LONGEST for option in options):
        raise InputError(f"{named}: one has more than {_LONGEST} characters; put it into a file")
    without_value = _without_value(cfg)
    try:
        cfg.merge_from_list(options)
    except _WRONG as error:
        raise InputError(f"{named}: {_explained(error, cfg)}") from error
    _check_values(cfg, without_value, named)


def read_config_file(path: str | os.PathLike[str], named: str) -> dict[str, Any]:
    """What a YAML file says, with the files of its ``_BASE_``, as nested dicts; arguments and errors as above."""
    try:
        content = _read_limited(path)
        CfgNode(content)  # refuses what is no configuration
        return content
    except _WRONG as error:
        raise InputError(f"{named}: {_explained(error)}") from error


def _read_limited(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a file and those of its ``_BASE_`` say, as long as that is no more than a configuration can say."""
    counting = type("_Counting", (_LimitedFiles,), {"opened": 0})  # of each reading its own
    return counting.load_yaml_with_base(os.fspath(path), allow_unsafe=False)


class _LimitedFiles(CfgNode):
    """Opens files of configurations, and looks at their extent first.

    Attributes:
        opened: how many there were so far.
    """

    opened: int

    @classmethod
    def _open_cfg(cls, filename: str) -> TextIO:
        cls.opened += 1
        if cls.opened > _MOST_FILES:
            raise _RefusedError(problem=f"its _BASE_ leads to more than {_MOST_FILES} files")
        file = super()._open_cfg(filename)
        try:
            _check_extent(file)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file


class _RefusedError(yaml.MarkedYAMLError):
    """A file says more than a configuration can, or two things of one key."""


@dataclass
class _Collection:
    """A list or a mapping of a file.

    Attributes:
        anchor: its name in the file, where it has one.
        first: how many values come before it.
        depth: how many collections are in each other at most, itself included.
        keys: of a mapping, so far; None for a list.
        at_key: in a mapping, what begins next is a key, not its value.
    """

    anchor: str | None
    first: int
    depth: int = 1
    keys: set[str] | None = None
    at_key: bool = True

    def take(self, event: yaml.NodeEvent) -> None:
        """Something begins in it.

        Raises:
            _RefusedError: it is a key that is there already; YAML takes the last one, without a word.
        """
        if self.keys is None:
            return
        if self.at_key and isinstance(event, yaml.ScalarEvent) and event.value != "<<":
            if event.value in self.keys:
                problem = f"the key {_short(event.value)} is there twice"
                raise _RefusedError(problem=problem, problem_mark=event.start_mark)
            self.keys.add(event.value)
        self.at_key = not self.at_key


def _check_extent(file: TextIO) -> None:
    """Count values and depth as they are when each alias is replaced by what it stands for; no key is there twice.

    Some lines in which each names the one before ten times are read at once, for what they name is one object; to copy
    them into a configuration would never end.

    Raises:
        _RefusedError: there are too many values, they are nested too deep, are parts of themselves, or one is too long;
            or a key is there twice.
        yaml.YAMLError: it is no YAML.
    """
    extents: dict[str | None, tuple[int, int]] = {}  # of each anchor: values and depth
    begun = [_Collection(None, 0)]
    values = 0
    for event in yaml.parse(file, Loader=yaml.SafeLoader):
        depth = 0
        if isinstance(event, yaml.NodeEvent):
            begun[-1].take(event)
        if isinstance(event, yaml.AliasEvent):
            if any(event.anchor == collection.anchor for collection in begun):
                raise _RefusedError(problem=f"*{event.anchor} is a part of itself", problem_mark=event.start_mark)
            more, depth = extents.get(event.anchor, (1, 0))  # one that stands for nothing is refused on loading
            values += more
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
            extents[event.anchor] = (1, 0)
            if len(event.value) > _LONGEST:
                problem = f"a value has more than {_LONGEST} characters"
                raise _RefusedError(problem=problem, problem_mark=event.start_mark)
        elif isinstance(event, yaml.CollectionStartEvent):
            keys = set() if isinstance(event, yaml.MappingStartEvent) else None
            begun.append(_Collection(event.anchor, values, keys=keys))
            values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = begun.pop()
            depth = ended.depth
            extents[ended.anchor] = (values - ended.first, depth)
        begun[-1].depth = max(begun[-1].depth, 1 + depth)
        if values > _MOST_VALUES:
            problem = f"has more than {_MOST_VALUES} values where its aliases (*name) are written out"
            raise _RefusedError(problem=problem, problem_mark=event.start_mark)
        if len(begun) + depth > _DEEPEST:
            raise _RefusedError(problem="is nested too deep", problem_mark=event.start_mark)


def _without_value(cfg: CfgNode) -> set[str]:
    return {key for key, value in _values(cfg) if value is None}


def _check_values(cfg: CfgNode, may_be_without: set[str], named: str) -> None:
    """yacs takes no value for one of any type, and integers of any size."""
    for key in sorted(_without_value(cfg) - may_be_without):
        raise InputError(f"{named}: {key} has no value; give it one, or leave it out")
    for key, value in _values(cfg):
        if isinstance(value, int) and abs(value) >= 2**63:
            raise InputError(f"{named}: {key} has more than 63 bits; give a number that has fewer")


def _explained(error: Exception, cfg: CfgNode | None = None) -> str:
    """What is wrong, and what to do about it, on one line."""
    if isinstance(error, RecursionError):
        return "its _BASE_ leads back to itself, or its values are nested too deep; name a file that has its own base"
    if isinstance(error, MemoryError):
        return "a value is nested too deep; give a plain one"
    if isinstance(error, yaml.constructor.ConstructorError):
        problem = f"{error.problem}{_place(error)}"
        return f"{problem}; a file with such a tag could run code, and is not read: write the value itself"
    if isinstance(error, _RefusedError):
        return f"{error.problem}{_place(error)}; correct it there"
    if isinstance(error, yaml.MarkedYAMLError):
        return f"is no YAML: {error.problem}{_place(error)}; correct it there"
    if isinstance(error, UnicodeDecodeError | yaml.YAMLError):
        return f"is no YAML in UTF-8 ({_one_line(error)}); save it as that"
    if isinstance(error, FileNotFoundError):
        return f"its _BASE_ {error.filename} is not there; correct the path, which is relative to the file's folder"
    if isinstance(error, OSError):
        return f"{error.filename or ''} cannot be read ({error.strerror or error}); name a file that can"
    if isinstance(error, TypeError | AttributeError):
        return (
            "is no mapping of keys to values, such as `SOLVER:` with `  BASE_LR: 0.01` below it, or its _BASE_ is no "
            "path; correct it"
        )
    message = _one_line(error.args[0] if error.args else error)
    if "set_int_max_str_digits" in message:
        message = "a number has more digits than any key takes; correct it"
    elif unknown := _UNKNOWN.match(message):
        near = difflib.get_close_matches(unknown["key"], [key for key, _ in _values(cfg or CfgNode())], 1)
        message += f"; did you mean {near[0]}?" if near else "; leave it out, or see docs/configuration.md for all keys"
    elif ill_typed := _ILL_TYPED.match(message):
        key, value, wrong, right, default = ill_typed.group("key", "value", "wrong", "right", "default")
        message = f"{key} {_short(value)} is of type {wrong}; give one of type {right}, such as {_short(default)}"
    elif later := _LATER.match(message):
        message = (
            f"VERSION {later['given']} is later than {later['known']}; set it to that, and write all keys for that"
        )
    else:
        message += "; correct it"
    return message


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    return "" if mark is None else f" in {mark.name}, line {mark.line + 1}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


def _one_line(said: object) -> str:
    return " ".join(str(said).split())


def _values(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All keys of a configuration with their values."""
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from _values(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
