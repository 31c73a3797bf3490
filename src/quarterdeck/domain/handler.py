"""A handler and what it declares: its kind, its arguments, its defaults."""

from __future__ import annotations

import copy
import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from quarterdeck.domain.errors import ArgsError, FieldError
from quarterdeck.domain.jsonvalue import locate
from quarterdeck.domain.submission import KindDefaults

AsyncHandler = Callable[..., Awaitable[Any]]


class JobContext:
    """What a handler is told about the attempt it runs, passed as `ctx` where the signature asks for it.

    `job` is the job as in section 3 of the contract, `deadline` the moment the attempt times out (None: never),
    `resources` what the application put there for its handlers.
    """

    __slots__ = ("_cancelled", "_submit", "deadline", "job", "resources")

    def __init__(
        self,
        job: Any,
        deadline: Any,
        resources: Mapping[str, Any],
        submit: Callable[..., Awaitable[Any]],
    ) -> None:
        self.job = job
        self.deadline = deadline
        self.resources = resources
        self._submit = submit
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for this job to be cancelled."""
        return self._cancelled

    async def submit(self, kind: str, args: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Submits another job, with this one as its parent; returns its JobHandle.

        Raises SubmitError where it cannot be accepted, Unavailable where the database cannot be reached.
        """
        return await self._submit(kind, args, **options)


class Handler:
    """A registered handler: the function, and its arguments' type made from the signature."""

    __slots__ = ("args_type", "defaults", "extra", "function", "kind", "wants_context")

    def __init__(self, kind: str, function: AsyncHandler, defaults: KindDefaults) -> None:
        """Reads the signature of `function`.

        Raises TypeError where it is not an async function, or where its parameters cannot be filled by name from JSON.
        """
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"the handler of {kind!r} is not an async function")
        self.kind = kind
        self.function = function
        self.defaults = defaults
        self.args_type, self.wants_context, self.extra = _read_signature(kind, function)

    def schema(self) -> dict[str, Any]:
        """The JSON Schema (2020-12) of the arguments."""
        (schema,), components = msgspec.json.schema_components([self.args_type], ref_template="#/$defs/{name}")
        if "$ref" in schema:
            schema = components.pop(schema["$ref"].removeprefix("#/$defs/"))
        schema.pop("title", None)
        if self.extra:
            schema["additionalProperties"] = True
        return {**schema, "$defs": components} if components else schema

    def bind(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The keyword arguments of a call, converted to the annotated types. Raises ArgsError where they do not fit."""
        known, extra = args, {}
        if self.extra:
            names = self.args_type.__struct_fields__
            known = {name: value for name, value in args.items() if name in names}
            extra = {name: value for name, value in args.items() if name not in names}
        try:
            bound = msgspec.convert(known, self.args_type)
        except msgspec.ValidationError as error:
            raise ArgsError(locate(error, "/args")) from None
        except RecursionError:
            raise ArgsError(FieldError("/args", "nested too deeply")) from None
        return {name: getattr(bound, name) for name in self.args_type.__struct_fields__} | extra


def _read_signature(kind: str, function: AsyncHandler) -> tuple[type[msgspec.Struct], bool, bool]:
    owner = f"the handler of {kind!r}"
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise TypeError(f"the annotations of {owner} cannot be read: {error}") from None
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    wants_context = extra = False
    for name, parameter in inspect.signature(function).parameters.items():
        annotation = hints.get(name, Any)
        is_context = name == "ctx" or (inspect.isclass(annotation) and issubclass(annotation, JobContext))
        if parameter.kind is parameter.VAR_KEYWORD and not is_context:
            extra = True
        elif parameter.kind in _NOT_BY_NAME or name.startswith("__"):
            raise TypeError(f"parameter {name!r} of {owner} cannot be given by name")
        elif is_context:
            if name != "ctx":
                raise TypeError(f"the context parameter of {owner} must be called ctx, not {name}")
            wants_context = True
        else:
            fields.append((name, annotation, *_default(parameter)))
    # Required fields may follow optional ones in a signature (keyword-only), in a struct only with kw_only.
    try:
        args_type = msgspec.defstruct(f"{kind} arguments", fields, forbid_unknown_fields=not extra, kw_only=True)
        msgspec.json.schema(args_type)
    except (TypeError, ValueError, NameError) as error:
        raise TypeError(f"the arguments of {owner} cannot come from JSON: {error}") from None
    return args_type, wants_context, extra


_NOT_BY_NAME = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.VAR_KEYWORD,  # named ctx
)


def _default(parameter: inspect.Parameter) -> tuple[Any, ...]:
    default = parameter.default
    if default is parameter.empty:
        return ()
    if isinstance(default, list | dict | set | bytearray):  # fresh for every call, whatever an earlier one did to it
        return (msgspec.field(default_factory=lambda: copy.deepcopy(default)),)
    return (default,)
