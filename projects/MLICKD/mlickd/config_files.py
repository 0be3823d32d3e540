"""Configuration files and options, read without running code and with messages that name the key."""

import difflib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import yaml
from detectron2.config import CfgNode

from mlickd.errors import InputError

# Shipped configurations: setup.py copies them into the installed package.
_INSTALLED = Path(__file__).with_name("configs")
CONFIGS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[3] / "configs"

# TypeError and AttributeError: the file is not a mapping of keys to values. RecursionError: _BASE_ leads back to the
# file. MemoryError: Python's parser finds a value that is nested too deep.
_ERRORS = (KeyError, ValueError, TypeError, AttributeError, AssertionError, OSError, yaml.YAMLError)
_ERRORS += (RecursionError, MemoryError)
# Messages of yacs, for files and for options.
_UNKNOWN_KEY = re.compile(r"Non-existent (?:config )?key: (?P<key>\S+)")
_WRONG_TYPE = re.compile(
    r"Type mismatch \(<class '(?P<expected>[\w.]+)'> vs. <class '(?P<found>[\w.]+)'>\) "
    r"with values \((?P<default>.*) vs. (?P<value>.*)\) for config key: (?P<key>\S+)"
)
# Maximum number of aliases in a file. Nested aliases can represent billions of values in a few lines.
_MAX_ALIASES = 20


def find_config(path: str | os.PathLike[str], *, in_any_folder: bool = False) -> str:
    """Return the path of a configuration file or folder. If ``configs/...`` does not exist, return the shipped one.

    With ``in_any_folder``, the same holds for ``FOLDER/configs/...``, such as the ``_BASE_`` of a file in another
    folder.
    """
    folder, found, name = os.path.normpath(path).replace(os.sep, "/").rpartition("configs/")
    may_be_shipped = found and (not folder or in_any_folder and folder.endswith("/")) and "://" not in os.fspath(path)
    is_shipped = may_be_shipped and not os.path.exists(path) and (CONFIGS / name).exists()
    return str(CONFIGS / name) if is_shipped else os.fspath(path)


def split_config_files(text: str) -> list[str]:
    """Return the paths of configuration files, which commas separate. Later files replace values of earlier ones."""
    return re.split(r"(?<=\.yaml),|(?<=\.yml),", text)  # because names of folders may contain commas


def merge_config_file(cfg: CfgNode, path: str | os.PathLike[str], named: str) -> None:
    """Merge a YAML file, and the files of its ``_BASE_``, into a configuration (in place).

    Detectron2's ``merge_from_file`` may run code from the file. This function refuses such files.

    Args:
        cfg: configuration with all keys and their defaults.
        path: file to read.
        named: first part of error messages, such as ``--config-file FILE``.

    Raises:
        InputError: the file is missing or malformed, contains code, or has an unknown key, a value of the wrong type or
            a key without a value.
    """
    content = CfgNode(read_config_file(path, named))
    _merge(cfg, lambda: cfg.merge_from_other_cfg(content), named)


def merge_options(cfg: CfgNode, options: list[str]) -> None:
    """Merge ``KEY VALUE`` pairs of a command line into a configuration (in place).

    Raises:
        InputError: a value is missing, or a pair has an unknown key or a value of the wrong type.
    """
    named = f"options {' '.join(f'{option!s:.60}' for option in options)}"
    late = next((option for option in options[::2] if str(option).startswith("--")), "")
    if late or len(options) % 2:
        problem = f"put {late} before the KEY VALUE pairs" if late else "are not KEY VALUE pairs; give each key a value"
        raise InputError(f"{named}: {problem}")
    _merge(cfg, lambda: cfg.merge_from_list(options), named)


def read_config_file(path: str | os.PathLike[str], named: str) -> dict[str, Any]:
    """Return a YAML file, merged with the files of its ``_BASE_``, as nested dicts.

    Arguments and errors are as in :func:`merge_config_file`, but keys and types are not checked.
    """
    try:
        content = _CheckedFiles.load_yaml_with_base(find_config(path), allow_unsafe=False)
        CfgNode(content)  # raises if the content is not a configuration
        return content
    except _ERRORS as error:
        raise InputError(f"{named}: {_explain(error)}") from error


class _CheckedFiles(CfgNode):
    """Reads a file and the files of its ``_BASE_``. :class:`_Loader` checks each of them first."""

    @classmethod
    def _open_cfg(cls, filename: str) -> TextIO:
        filename = find_config(filename, in_any_folder=True)
        with open(filename, encoding="utf-8") as file:
            yaml.load(file, Loader=_Loader)
        return open(filename, encoding="utf-8")


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses duplicate keys and many aliases."""

    aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > _MAX_ALIASES:
                mark = self.peek_event().start_mark
                raise yaml.MarkedYAMLError(problem=f"more than {_MAX_ALIASES} aliases (*name)", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = set()
        for key, _ in node.value:
            if key.value in names:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value} occurs twice", problem_mark=key.start_mark)
            names.add(key.value)
        return super().construct_mapping(node, deep)


def _merge(cfg: CfgNode, merge: Callable[[], None], named: str) -> None:
    empty = {key for key, value in config_items(cfg) if value is None}
    try:
        merge()
        # yacs accepts a missing value for a key of any type.
        for key, value in config_items(cfg):
            if value is None and key not in empty:
                raise ValueError(f"{key} has no value")
    except _ERRORS as error:
        raise InputError(f"{named}: {_explain(error, cfg)}") from error


def _explain(error: Exception, cfg: CfgNode | None = None) -> str:
    """Return the reason for an error, and the remedy, on one line."""
    if isinstance(error, RecursionError | MemoryError):
        return "its _BASE_ leads back to the file, or a value is nested too deep; correct it"
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark
        place = f" in {mark.name}, line {mark.line + 1}" if mark else ""
        code = " (tags can run code)" if "tag" in str(error.problem) else ""
        return f"is not a configuration: {error.problem}{code}{place}; correct it there"
    if isinstance(error, OSError):
        return f"{error.filename or ''} cannot be read ({error.strerror or error}); correct the path, or the _BASE_"
    if isinstance(error, TypeError | AttributeError | UnicodeDecodeError | yaml.YAMLError):
        return "is not a mapping of keys to values in UTF-8, such as `SOLVER:` with `  BASE_LR: 0.01` below; correct it"
    message = " ".join(str(error.args[0] if error.args else error).split())
    if unknown := _UNKNOWN_KEY.match(message):
        near = difflib.get_close_matches(unknown["key"], [key for key, _ in config_items(cfg or CfgNode())], 1)
        return message + (f"; did you mean {near[0]}?" if near else "; mlickd/config.py lists all keys")
    if wrong := _WRONG_TYPE.match(message):
        key, value, found, expected, default = wrong.group("key", "value", "found", "expected", "default")
        if expected.endswith("CfgNode"):
            return f"{key} is a section; give its keys, such as those of mlickd/config.py"
        if default == "()":
            default = f"({value!r},)" if found == "str" else f"({value},)"
        return f"{key} {value:.60} is of type {found}; the type must be {expected}, such as {default:.60}"
    return f"{message}; correct it"


def config_items(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all keys of a configuration, such as ``SOLVER.BASE_LR``, with their values."""
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from config_items(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
