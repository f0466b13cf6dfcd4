"""The calls of a plan as C statements, each argument from the parameter of the kernel that it is bound to."""

from __future__ import annotations

from eegen.emit.functions import call as call_text
from eegen.plan.call import Arg, Call
from eegen.plan.kernels.kernel import BOUND
from eegen.plan.planner import Plan

INDENT = "    "


def pointers(plan: Plan, calls: list[Call]) -> str:
    """Declarations of the pointers that the calls read."""
    lines: list[str] = []
    spaces = {arg.space for call in calls for arg in call.args}
    kinds = {param.kind for call in calls for param in call.kernel.params}
    for name in dict.fromkeys(arg.name for call in calls for arg in call.args if arg.space == "rows"):
        lines.append(f"float *const {name} = floats_of(s, s->at_slot[{plan.buffers[name].slot}]);")
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


def argument(plan: Plan, arg: Arg) -> str:
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
            return f"thread ? sums + {plan.sums[arg.name]} : gradients + W_{arg.name}"
        case "index":
            return f"index_of(s, s->at_{arg.name})"


def bindings(plan: Plan, call: Call) -> dict[str, str]:
    """The C expression of every parameter of a call's kernel, by its name."""
    every = "pairs" if call.domain == "pair" else "rows"
    own = f"my_{every}"
    bound: dict[str, str] = {}
    arguments = iter(call.args)
    gradient = ""
    for param in call.kernel.params:
        match param.kind:
            case kind if kind in BOUND:
                arg = next(arguments)
                gradient = arg.name if kind == "gradient" else gradient
                bound[param.name] = argument(plan, arg)
            case "range" if call.units:
                bound["lo"], bound["hi"] = f"SHARE_LO({call.units})", f"SHARE_HI({call.units})"
            case "range" if call.serial:
                bound["lo"], bound["hi"] = "0", call.domain
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
                bound[param.name] = "0"
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
            case "thread":
                bound[param.name] = "thread"
            case "levels":
                bound[param.name] = "levels"
    assert next(arguments, None) is None, f"{call.kernel.name} has more arguments than parameters"
    return bound


def statement(plan: Plan, call: Call) -> str:
    """One call, with the barrier before it.

    Where threads exchange sums, each sums a weight's gradient over its own rows, first for the units of the other
    threads, one after another, then for its own with what they have left: rows that another core has written are slow
    to read.
    """
    every = "pairs" if call.domain == "pair" else "rows"
    bound = bindings(plan, call)
    lines = []
    if call.barrier:
        few = " && phases == 1" if call.barrier == "few" else ""
        lines.append(f"if (threads > 1{few}) wait_for_all(s);")
    if call.exchanges:
        for param in call.kernel.params:
            if param.kind == "rows":
                bound[param.name] += f" + part.lo * {param.stride}"
            elif param.kind == "count":
                bound[param.name] = "part.hi - part.lo"
            elif param.kind == "partial":
                bound[param.name] = "phase + 1 < phases"
            elif param.kind == "constants":
                bound[param.name] = "phase ? 0 : how"
        bound["lo"], bound["hi"] = (f"SHARE_{end}_OF((thread + phase) % threads, {call.units})" for end in ("LO", "HI"))
        lines += [
            "for (int64_t phase = phases - 1; phase >= 0; phase--) {",
            f"{INDENT}const span part = phases > 1 ? my_{every} : {every};",
            INDENT + timed(plan, call, call_text(call.kernel, **bound)),
            f"{INDENT}if (phase) wait_for_all(s);",
            "}",
        ]
    else:
        lines.append(("if (thread == 0) " if call.serial else "") + timed(plan, call, call_text(call.kernel, **bound)))
    return "".join(f"{INDENT}{line}\n" for line in lines)


def timed(plan: Plan, call: Call, text: str) -> str:
    return f"TIMED({plan.kernels.index(call.kernel)}, {text});" if plan.build.profile else f"{text};"
