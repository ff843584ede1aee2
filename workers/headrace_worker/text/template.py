"""The model's chat template: messages to text, with what the client wrote kept apart.

A template comes with the weights and is as untrusted as they are: it runs in jinja2's sandbox, with the functions and
filters that transformers gives it, over plain copies of the request's data.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import BuiltinMethodType
from typing import Any, NoReturn

from jinja2 import Environment, TemplateError, nodes, pass_environment
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from headrace_worker.errors import ModelError, RequestError
from headrace_worker.text.provenance import Traced, attributed, claimed, client_data, join, mask_of, shown
from headrace_worker.text.vocabulary import Segment

_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|end_of_turn|>")
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function", "ipython"})
"""Words the front admits as roles: the house's own, since templates spell control tokens with them."""
_JOIN = "join_pieces"
_RUN = re.compile(rb"\x00+|\x01+")


def turn_ends(controls: Mapping[str, int], source: str) -> list[int]:
    """Return the ids of control tokens by which a template's source ends turns, and models their answers."""
    return [controls[token] for token in _TURN_ENDS if token in controls and token in source]


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: jinja2 source, as transformers would run it.
        named_tokens: the special tokens it may spell by name, such as `bos_token`.
    """

    def __init__(self, source: str, named_tokens: Mapping[str, str]) -> None:
        environment = _Environment()
        try:
            tree = _Joins().visit(environment.parse(source))
            self._template = environment.from_string(tree)
        except TemplateError as error:
            raise ModelError(f"the chat template does not compile: {error}") from error
        self._named_tokens = dict(named_tokens)

    def render(
        self, messages: Sequence[Mapping[str, object]], *, add_generation_prompt: bool = True, **extra: object
    ) -> list[Segment]:
        """Return the prompt as segments (text, trusted); raise RequestError where the template refuses.

        Args:
            messages: as in the request, each with a `role`.
            add_generation_prompt: end with the head of the assistant's turn.
            extra: more that the template may read, such as `tools` and `documents`.
        """
        try:
            pieces = self._template.root_render_func(
                self._template.new_context(
                    {
                        "tools": None,
                        "documents": None,
                        **self._named_tokens,
                        **{name: client_data(value) for name, value in extra.items()},
                        "messages": [_message(message) for message in messages],
                        "add_generation_prompt": add_generation_prompt,
                    }
                )
            )
            return _segments(join("", pieces))
        except TemplateError as error:
            raise RequestError(
                f"the model's chat template refuses these messages: {error}", param="messages"
            ) from error
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise RequestError(
                f"the model's chat template cannot render these messages ({error}); "
                "check that each content has a form this model takes",
                param="messages",
            ) from error


def _message(message: Mapping[str, object]) -> dict[str, object]:
    role = message.get("role")
    fields = {key: client_data(value) for key, value in message.items()}
    if isinstance(role, str) and role in _ROLES:
        fields["role"] = role
    return fields


def _segments(text: Traced) -> list[Segment]:
    runs = _RUN.finditer(text.mask)
    plain = text.plain
    return [(plain[run.start() : run.end()], run[0][0] == 0) for run in runs]


class _Generation(Extension):
    """`{% generation %}` marks the assistant's words for training; here it is its body alone."""

    tags = {"generation"}  # noqa: RUF012  # jinja2's own convention

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class _Joins(NodeTransformer):
    """Turns `a ~ b`, which jinja2 compiles to an untraceable join, into a filter."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802  # named by jinja2
        self.generic_visit(node)
        pieces = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(pieces, _JOIN, [], [], None, None, lineno=node.lineno)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with every way that text can take through a template traced."""

    intercepted_binops = frozenset({"%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, finalize=shown, extensions=[_Generation, loopcontrols])
        self.concat = _concat  # type: ignore[method-assign]  # the compiled template joins by this
        self.filters["tojson"] = _tojson
        self.filters = {
            name: attributed(function, skipped=int(hasattr(function, "jinja_pass_arg")))
            for name, function in self.filters.items()
        }
        self.filters["join"] = _join_filter
        self.filters[_JOIN] = _concat
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        return claimed(super().call(context, _traced_twin(function), *args, **kwargs), (*args, *kwargs.values()))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        return claimed(super().call_binop(context, operator, left, right), (left, right))


def _traced_twin(function: Any) -> Any:
    """Return the traced form of a method by which the template's own text takes in other text."""
    if not isinstance(function, BuiltinMethodType) or function.__name__ not in ("join", "replace"):
        return function
    text = function.__self__
    return getattr(Traced(text, mask_of(text)), function.__name__) if type(text) is str else function


def _concat(pieces: Iterable[object]) -> Traced:
    return join("", pieces)


@pass_environment
def _join_filter(
    environment: Environment, value: Iterable[object], d: str = "", attribute: str | int | None = None
) -> Traced:
    return join(d, value if attribute is None else map(make_attrgetter(environment, attribute), value))


def _tojson(  # the options are those that transformers' filter has
    value: object,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    # jinja2's own filter escapes HTML, which models have never seen
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
