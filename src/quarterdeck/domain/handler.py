"""A handler and what it declares: its kind, its arguments, its defaults."""

from __future__ import annotations

import copy
import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from quarterdeck.domain.errors import ArgsError, FieldError, Unavailable
from quarterdeck.domain.jsonvalue import locate
from quarterdeck.domain.recorded import Recording, checked_line, checked_progress, output_entry
from quarterdeck.domain.submission import KindDefaults

AsyncHandler = Callable[..., Awaitable[Any]]


class JobContext:
    """What a handler is told about the attempt it runs, passed as `ctx` where the signature asks for it.

    `job` is the job as in section 3 of the contract, `deadline` the moment the attempt times out (None: never),
    `fence` a number that grows with every run of the job (so that others can refuse what comes late from an earlier
    one), `resources` what the application put there for its handlers. `progress`, `log` and `output` return as soon as
    what they tell is taken, and wait where much of it is unwritten; outside of a service they only check it.
    """

    __slots__ = ("_cancelled", "_publish", "_recording", "_submit", "deadline", "fence", "job", "resources")

    def __init__(
        self,
        job: Any,
        deadline: Any,
        resources: Mapping[str, Any],
        submit: Callable[..., Awaitable[Any]],
        *,
        fence: int = 1,
        recording: Recording | None = None,
        publish: Callable[..., Awaitable[Any]] | None = None,
    ) -> None:
        self.job = job
        self.deadline = deadline
        self.fence = fence
        self.resources = resources
        self._submit = submit
        self._recording = recording
        self._publish = publish
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

    async def progress(self, fraction: float, message: str | None = None) -> None:
        """Tells how far the job is: `fraction` from 0 to 1, and words, cut to 1 024 characters.

        At most ten a second are stored, the latest ones, and the last one before the attempt ends always. Raises
        ValueError for a fraction that is none.
        """
        told = checked_progress(fraction, message)
        if self._recording is not None:
            await self._recording.progress(*told)

    async def log(self, message: str, level: str = "info") -> None:
        """Stores a line with the job: any text, cut to 16 KiB; past 10 000 lines in an attempt they are dropped.

        Raises ValueError where `level` is not `debug`, `info`, `warning` or `error`.
        """
        told = checked_line(message, level)
        if self._recording is not None:
            await self._recording.log(*told)

    async def output(self, value: Any) -> None:
        """Stores a JSON value with the job, before its result.

        Raises ResultError where it is not JSON or takes more than 1 MiB, for the 1 001st in an attempt, and where they
        take more than 16 MiB together.
        """
        told = output_entry(value)
        if self._recording is not None:
            await self._recording.output(told)

    async def publish(self, topic: str, data: Any) -> Any:
        """Publishes a JSON value to those who follow a topic. Raises Unavailable where nobody can be reached."""
        if self._publish is None:
            raise Unavailable("there is nothing here that topics are published by")
        return await self._publish(topic, data, tenant=self.job.tenant)


class Handler:
    """A registered handler: the function, and its arguments' type made from the signature."""

    __slots__ = ("_check", "args_type", "defaults", "extra", "function", "kind", "wants_context")

    def __init__(
        self,
        kind: str,
        function: AsyncHandler,
        defaults: KindDefaults,
        *,
        check: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        """Reads the signature of `function`. `check` raises ArgsError for what no type says.

        Raises TypeError where it is not an async function, or where its parameters cannot be filled by name from JSON.
        """
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"the handler of {kind!r} is not an async function")
        self.kind = kind
        self.function = function
        self.defaults = defaults
        self._check = check
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
        kwargs = {name: getattr(bound, name) for name in self.args_type.__struct_fields__} | extra
        if self._check is not None:
            self._check(kwargs)
        return kwargs


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
