"""The values for people: `values.yaml` with a comment above each, and the table of the README."""

import json
import textwrap
from typing import Any, Final

from charts.values import Node, settable

_WIDTH: Final = 120


def values_text(schema: Node) -> str:
    """Return the text of `values.yaml`: every value with its default, below its meaning."""
    return "\n".join(_lines(schema, "")).strip() + "\n"


def table(schema: Node) -> str:
    """Return the values as a table in Markdown."""
    rows = [
        f"| `{value.path}` | {_cell(_meaning(value.node))} | `{_cell(_flow(value.node['default']))}` "
        f"| `{_cell(_flow(value.node['examples'][0]))}` |"
        for value in settable(schema)
    ]
    return "\n".join(["| value | meaning | default | example |", "|---|---|---|---|", *rows, ""])


def _lines(node: Node, indent: str) -> list[str]:
    lines: list[str] = []
    for name, inner in node["properties"].items():
        lines += [""] if not indent else []
        lines += textwrap.wrap(
            _meaning(inner),
            _WIDTH,
            initial_indent=f"{indent}# ",
            subsequent_indent=f"{indent}# ",
            break_long_words=False,
        )
        if "properties" in inner:
            lines += [f"{indent}{name}:", *_lines(inner, f"{indent}  ")]
        else:
            lines.append(f"{indent}{name}: {_flow(inner['default'])}")
    return lines


def _meaning(node: Node) -> str:
    text = " ".join(node["description"].split())
    return f"{text} One of {', '.join(node['enum'])}." if "enum" in node else text


def _flow(value: Any) -> str:
    """Return a value in one line; JSON is YAML too."""
    return json.dumps(value, ensure_ascii=False)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
