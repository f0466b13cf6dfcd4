"""`eegen bench`: the time of a training step beside what the processor could do."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eegen.commands.shared.options import MODEL, TARGET, TRAINING, Emulate, Json, Panel, command
from eegen.commands.shared.printing import format_count, print_fields, print_json, print_text, terminal_width
from eegen.commands.shared.values import checked_options, model_configuration, target_options
from eegen.options import Given

if TYPE_CHECKING:
    from eegen.measure.bench_result import Result

EIGHTHS = " ▏▎▍▌▋▊▉"
TIME = replace(TRAINING.options["time"], help="Seconds to measure.", default_text="2, more with --profile or --against")
MEASURED = Panel(TRAINING.title, {**TRAINING.options, "time": TIME})


@command(
    MEASURED,
    MODEL,
    TARGET,
    first=("data", "batch", "time"),
    examples=("eegen bench --batch 64 --time 5", "eegen bench --d-model 64 --profile --plot roofline.svg"),
)
def bench(
    training: Given,
    model: Given,
    target: Given,
    profile: Annotated[
        bool, typer.Option("--profile", metavar="", help="Print the time and speed of each kernel.")
    ] = False,
    against: Annotated[
        list[str],
        typer.Option("--against", metavar="NAME", help="Time the same model in torch or jax too.", show_default=False),
    ] = [],  # noqa: B006
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.svg", help="Draw a roofline of the kernels.", show_default=False),
    ] = None,
    emulate: Emulate = False,
    json: Json = False,
) -> None:
    """Measure the time of a training step and compare it with the peak of the processor."""
    from eegen.measure import bench as measurement
    from eegen.run.data import load_documents, vocabulary

    documents = load_documents(training.get("data"))
    chars = vocabulary(documents)
    options = checked_options(training)
    if plot:
        from eegen.measure import charts

        charts.check_plot(plot)
    result = measurement.bench(
        model_configuration(model, chars),
        documents,
        chars,
        options,
        profile=profile or plot is not None,
        against=against,
        emulate=emulate,
        **target_options(target),
    )
    if plot:
        charts.plot_roofline(result, plot)
    if json:
        return print_json(result.as_dict())
    print_result(result)
    if plot:
        print_fields([("roofline", str(plot))])


def print_result(result: Result) -> None:
    low, high = result.us_middle
    left_out = f", {result.windows_left_out} left out as disturbed" if result.windows_left_out else ""
    sharing = "" if result.sharing else ", no rows shared"
    emulated = ", emulated: times are the emulator's" if result.emulated else ""
    rows, positions = result.rows, result.rows["positions"]
    parts = ", ".join(f"{name} {us:.1f}" for name, us in result.breakdown_us.items())
    parts += "; backward includes the updates fused with gradients" if result.fused else ""
    print_text(f"{result.name}: batch {result.batch}, {format_count(result.threads, 'thread')}{sharing}{emulated}")
    print_fields(
        [
            (
                "step",
                f"{result.us_per_step:.1f} µs, the median of {result.windows} windows of {result.steps_per_window} "
                f"(middle half {low:.1f} to {high:.1f}, minimum {result.us_per_step_min:.1f}){left_out}",
            ),
            ("of it", parts),
            (
                "peak",
                f"{format_speed(result.peak_gflops)} GFLOP/s of FMAs, measured between the steps "
                f"(at most {format_speed(result.peak_gflops_max)})",
            ),
            (
                "limit",
                f"{result.limit_us:.1f} µs, for the {result.model_flops_per_step / 1e6:.2f} MFLOP of all positions "
                "at that peak",
            ),
            ("utilization", f"{result.utilization:.2f}"),
            (
                "rows",
                f"{positions:.0f} positions: {rows['prefix']:.0f} prefixes ({rows['prefix'] / positions:.2f}), "
                f"{rows['pair']:.0f} (token, position) pairs ({rows['pair'] / positions:.2f})",
            ),
            *(
                (name, f"{us:.1f} µs a step, {us / result.us_per_step:.1f} times as long")
                for name, us in result.against.items()
            ),
            ("built in", f"{result.build_seconds:.1f} s"),
        ]
    )
    if result.kernels:
        print_kernels(result)


def print_kernels(result: Result) -> None:
    """The time and speed of each kernel, with a bar for the time."""
    name_width = max(len(k.name) for k in result.kernels)
    bar_width = max(8, min(32, (terminal_width(sys.stdout) or 80) - name_width - 29))
    longest = max(k.us for k in result.kernels)
    print(f"\n{'kernel':<{name_width}}  {'µs':>7}  {'GFLOP/s':>7}  {'of peak':>7}")
    for k in result.kernels:
        work = f"{format_speed(k.gflops):>7}  {k.fraction_of_peak:7.2f}" if k.flops else f"{'':7}  {'':7}"
        print(f"{k.name:<{name_width}}  {k.us:7.2f}  {work}  {format_bar(k.us / longest, bar_width)}".rstrip())
    print(f"{'all kernels':<{name_width}}  {sum(k.us for k in result.kernels):7.2f}")
    if result.fused:
        print_text("FLOPs of updates that are fused with gradients are not counted: those kernels look slower.")


def format_speed(gflops: float) -> str:
    """Two digits at least: an emulator's speed is a fraction of a GFLOP/s."""
    return f"{gflops:.0f}" if gflops >= 10 else f"{gflops:.2g}"


def format_bar(fraction: float, width: int) -> str:
    eighths = round(fraction * width * 8)
    return "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
