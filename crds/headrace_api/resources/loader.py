"""Reads YAML as kubectl does, so that a file means the same with and without a cluster.

Python's YAML library and kubectl's differ in what an unquoted word is: here a date and `1:30` are texts, `1e3` and
`0o17` are numbers, `y` and `n` are true and false, 1.0 is 1, and every key is a text.
"""

import re
from collections.abc import Hashable
from typing import Any, ClassVar, Final

import yaml

_BOOL: Final = "tag:yaml.org,2002:bool"
_FLOAT: Final = "tag:yaml.org,2002:float"
_INT: Final = "tag:yaml.org,2002:int"
_TEXT: Final = "tag:yaml.org,2002:str"
_DIFFERENT: Final = {_BOOL, _FLOAT, _INT, "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value"}


class Loader(yaml.SafeLoader):
    """A safe loader with kubectl's view of unquoted words."""

    bool_values: ClassVar = yaml.SafeLoader.bool_values | {"y": True, "n": False}
    yaml_implicit_resolvers = {  # noqa: RUF012 (the library's own shape)
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _DIFFERENT]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 (the library's)
        """Return the mapping with keys as JSON has them.

        That is before Python sees them, to which 1 and true are one key.
        """
        node.value = [(self._text(key), value) for key, value in node.value]
        return super().construct_mapping(node, deep)

    def _text(self, key: yaml.Node) -> yaml.Node:
        """Return the key as a text; other nodes than numbers and truths stay."""
        if key.tag not in {_BOOL, _INT}:
            return key
        return yaml.ScalarNode(_TEXT, str(self.construct_object(key)).lower(), key.start_mark, key.end_mark)


def _number(loader: Loader, node: yaml.ScalarNode) -> int | float:
    """Return a number as JSON writes it: 1.0 is 1."""
    value = float(loader.construct_yaml_float(node))
    return int(value) if value.is_integer() else value


Loader.add_constructor(_FLOAT, _number)
Loader.add_implicit_resolver(
    _BOOL,
    re.compile(r"^(?:[yYnN]|yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$"),
    list("yYnNtTfFoO"),
)
Loader.add_implicit_resolver(
    _INT,
    re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0[0-7_]+|0o[0-7_]+|0b[01_]+|0x[0-9a-fA-F_]+)$"),
    list("-+0123456789"),
)
Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^[-+]?(?:(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)
