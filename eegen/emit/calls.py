"""The calls of a plan as C statements, each argument from the parameter of the kernel that it is bound to."""

from __future__ import annotations

from eegen.emit.functions import C_TYPES
from eegen.emit.functions import call as call_text
from eegen.plan.call import Arg, Call, CallLoop, Item
from eegen.plan.kernels.kernel import BOUND
from eegen.plan.records import Plan, Procedure, ProgramPlan

INDENT = "    "
SPANS = {"pair": "my_pairs", "prefix": "my_rows", "level": "level_rows", "below": "rows_below"}


def pointers(plan: Plan, program: ProgramPlan, procedure: Procedure) -> str:
    """Declarations of the pointers that the calls of a procedure read."""
    calls = procedure.calls
    lines: list[str] = []
    spaces = {arg.space for call in calls for arg in call.args}
    kinds = {param.kind for call in calls for param in call.kernel.params}
    for name in dict.fromkeys(arg.name for call in calls for arg in call.args if arg.space == "rows"):
        buffer = program.buffers[name]
        at = {"f32": "floats_of", "i32": "index_of"}[buffer.format.name]
        lines.append(f"{C_TYPES[buffer.format.name]} *const {name} = {at}(s, s->at_slot[{buffer.slot}]);")
    if "weight" in spaces or "updated" in kinds:
        lines.append("float *const weights = weights_of(s);")
    if "packed" in spaces or "packed" in kinds:
        lines.append("float *const packed = packed_of(s);")
    if spaces & {"gradient", "sum"}:
        lines.append("float *const gradients = gradients_of(s);")
    if "sum" in spaces:
        lines.append("float *const sums = floats_of(s, s->at_sums) + thread * SUMS;")
    if "moment" in kinds:
        lines += [f"float *const all_{moment} = {moment}_of(s);" for moment in plan.moments]
    if any(call.kernel.scratch for call in calls):
        lines.append("float *const scratch = floats_of(s, s->at_scratch) + thread * SCRATCH;")
    return "".join(f"{INDENT}{line}\n" for line in lines)


def argument(program: ProgramPlan, arg: Arg) -> str:
    match arg.space:
        case "rows":
            return arg.name
        case "weight":
            return f"weights + W_{arg.name}"
        case "packed":
            return f"packed + P_{arg.name}"
        case "gradient":
            return f"gradients + W_{arg.name}"
        case "sum":
            return f"thread ? sums + {program.sums[arg.name]} : gradients + W_{arg.name}"
        case "index":
            return f"index_of(s, s->at_{arg.name})"


def bindings(program: ProgramPlan, call: Call) -> dict[str, str]:
    """The C expression of every parameter of a call's kernel, by its name."""
    every = "pairs" if call.domain == "pair" else "rows"
    own = SPANS.get(call.domain, "")
    bound: dict[str, str] = {}
    arguments = iter(call.args)
    gradient = ""
    for param in call.kernel.params:
        match param.kind:
            case kind if kind in BOUND:
                arg = next(arguments)
                gradient = arg.name if kind == "gradient" else gradient
                bound[param.name] = argument(program, arg)
            case "range" if call.units:
                bound["lo"], bound["hi"] = f"SHARE_LO({call.units})", f"SHARE_HI({call.units})"
            case "range" if call.once:
                bound["lo"], bound["hi"] = "0", str(call.once)
            case "range":
                bound["lo"], bound["hi"] = f"{own}.lo", f"{own}.hi"
            case "count":
                bound[param.name] = f"{every}.hi"
            case "state":
                bound[param.name] = "s"
            case "capacity":
                bound[param.name] = "s->keys"
            case "scratch":
                bound[param.name] = "scratch"
            case "partial":
                bound[param.name] = "1" if call.continues else "0"
            case "constants":
                bound[param.name] = "how"
            case "updated":
                bound[param.name] = f"weights + W_{gradient}"
            case "packed":
                bound[param.name] = f"packed + P_{gradient}"
            case "moment":
                bound[param.name] = f"all_{param.name.removesuffix('_at')} + W_{gradient}"
            case "span":
                bound[param.name] = own
            case "positions":
                bound[param.name] = "my_positions"
    assert next(arguments, None) is None, f"{call.kernel.name} has more arguments than parameters"
    return bound


def statement(plan: Plan, program: ProgramPlan, item: Item) -> str:
    """A call with the barrier before it, or a loop of calls over the levels of the prefix tree."""
    lines = loop_lines(plan, program, item) if isinstance(item, CallLoop) else call_lines(plan, program, item)
    return "".join(f"{INDENT}{line}\n" for line in lines)


def barrier_lines(item: Item) -> list[str]:
    few = " && phases == 1" if item.barrier == "few" else ""
    return [f"if (threads > 1{few}) wait_for_all(s);"] if item.barrier else []


def call_lines(plan: Plan, program: ProgramPlan, call: Call) -> list[str]:
    bound = bindings(program, call)
    lines = barrier_lines(call)
    if call.exchanges:
        return lines + exchange_lines(plan, call, bound)
    first = "if (thread == 0) " if call.once else ""
    return [*lines, first + timed(plan, call, call_text(call.kernel, **bound))]


def exchange_lines(plan: Plan, call: Call, bound: dict[str, str]) -> list[str]:
    """A gradient that threads sum together: each over its own rows, first for the units of the other threads, one after
    another, then for its own with what they have left: rows that another core has written are slow to read.
    """
    every, own = ("pairs", "my_pairs") if call.domain == "pair" else ("rows", "my_rows")
    for param in call.kernel.params:
        if param.kind == "rows":
            bound[param.name] += f" + part.lo * {param.stride}"
        elif param.kind == "count":
            bound[param.name] = "part.hi - part.lo"
        elif param.kind == "partial" and not call.continues:
            bound[param.name] = "phase + 1 < phases"
        elif param.kind == "constants":
            bound[param.name] = "phase ? 0 : how"
    bound["lo"], bound["hi"] = (f"SHARE_{end}_OF((thread + phase) % threads, {call.units})" for end in ("LO", "HI"))
    return [
        "for (int64_t phase = phases - 1; phase >= 0; phase--) {",
        f"{INDENT}const span part = phases > 1 ? {own} : {every};",
        INDENT + timed(plan, call, call_text(call.kernel, **bound)),
        f"{INDENT}if (phase) wait_for_all(s);",
        "}",
    ]


def loop_lines(plan: Plan, program: ProgramPlan, loop: CallLoop) -> list[str]:
    inside = [line for call in loop.items for line in call_lines(plan, program, call)]
    if loop.reverse:
        opening = [
            "for (int64_t t = levels.hi - 1; t >= levels.lo; t--) {",
            f"{INDENT}const span level_rows = level_of(s, thread, t);",
            f"{INDENT}const span rows_below = t + 1 < levels.hi ? level_of(s, thread, t + 1) : (span){{ 0, 0 }};",
        ]
    else:
        opening = [
            "for (int64_t t = levels.lo; t < levels.hi; t++) {",
            f"{INDENT}const span level_rows = level_of(s, thread, t);",
        ]
    return [*barrier_lines(loop), *opening, *(INDENT + line for line in inside), "}"]


def loss_statement(plan: Plan, program: ProgramPlan, result: str) -> str:
    """The loss of `my_rows` and `my_positions` into `result`."""
    (call,) = program.procedures["loss"].calls
    bound = bindings(program, call) | {"logits": f"floats_of(s, s->at_slot[{program.logits_slot}])"}
    return f"{INDENT}{timed(plan, call, f'{result} = {call_text(call.kernel, **bound)}')}\n"


def timed(plan: Plan, call: Call, text: str) -> str:
    return f"TIMED({plan.kernels.index(call.kernel)}, {text});" if plan.build.profile else f"{text};"
