"""C prototypes and calls of kernels, from the one list of parameters that a kernel owns."""

from __future__ import annotations

from collections.abc import Mapping

from eegen.plan.kernels.kernel import Kernel, Param

C_TYPES = {"f32": "float", "f64": "double", "i32": "int32_t", "i64": "int64_t", "u64": "uint64_t"}


def declaration(param: Param, restrict: bool) -> str:
    """A parameter as it stands in a prototype."""
    constant = "const " if param.access == "read" else ""
    pointer = f"*{'restrict ' if restrict else ''}{param.name}"
    match param.kind:
        case "range":
            return "int64_t lo, int64_t hi"
        case "count" | "capacity":
            return f"int64_t {param.name}"
        case "thread":
            return "int64_t thread"
        case "span" | "positions" | "levels":
            return f"span {param.name}"
        case "state":
            return f"{constant}eegen *{param.name}"
        case "constants":
            return f"const rates *{param.name}"
        case "partial":
            return f"int {param.name}"
        case _:
            return f"{constant}{C_TYPES[param.format.name]} {pointer}"


def parameter_list(kernel: Kernel) -> str:
    return ", ".join(declaration(param, kernel.restrict) for param in kernel.params)


def inner_parameters(kernel: Kernel, without: tuple[str, ...] = ()) -> str:
    """The parameters that a function inside a kernel takes over from it: all but the range and those of a name."""
    return ", ".join(declaration(param, False) for param in _inner(kernel, without))


def inner_arguments(kernel: Kernel, without: tuple[str, ...] = (), **arguments: str) -> str:
    """Their names as arguments, or other expressions where they are given."""
    return ", ".join(arguments.get(param.name, param.name) for param in _inner(kernel, without))


def _inner(kernel: Kernel, without: tuple[str, ...]) -> list[Param]:
    return [param for param in kernel.params if param.kind != "range" and param.name not in without]


def call(kernel: Kernel, **arguments: str | Mapping[str, str]) -> str:
    """A call of a kernel, each parameter by its name; a range is `lo` and `hi`."""
    words = []
    for param in kernel.params:
        names = ("lo", "hi") if param.kind == "range" else (param.name,)
        words += [str(arguments[name]) for name in names]
    return f"{kernel.name}({', '.join(words)})"
