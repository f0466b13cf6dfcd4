"""Plots of measurements. They need matplotlib, an optional extra."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from eegen.errors import EegenError, EegenFailure

if TYPE_CHECKING:
    from eegen.measure.bench_result import Result
    from eegen.measure.kernel_times import KernelTime
    from eegen.measure.ladder import Ladder

IN_CACHE, IN_MEMORY = 256 << 10, 256 << 20  # bytes that L2 holds, and that no cache holds
KINDS = (("product", "#2a78d6"), ("outer", "#4a9c4e"), ("attention", "#d1642b"), ("", "#77818c"))
"""How the names of kernels begin, and the colors of those kernels."""


def check_plot(path: Path) -> None:
    """Refuse a plot that could not be drawn, before anything is measured."""
    pyplot()
    if not path.resolve().parent.is_dir():
        raise EegenError(f"`plot` {path}: there is no folder {path.parent}")
    if path.suffix not in (".svg", ".png", ".pdf"):
        raise EegenError(f"`plot` is {path}; its name must end in .svg, .png or .pdf")


def pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise EegenError("`plot` needs matplotlib; try `pip install matplotlib`") from None
    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot


def copy_speed(size: int) -> float:
    """GB/s, read and written, of repeated copies of `size` bytes: the best of some measurements."""
    one, two = np.ones(size // 8, np.float32), np.ones(size // 8, np.float32)
    best = float("inf")
    for _ in range(200 if size <= IN_CACHE else 5):
        start = time.perf_counter()
        np.copyto(one, two)
        best = min(best, time.perf_counter() - start)
    return size / best * 1e-9


def kind(kernel: KernelTime) -> int:
    """The index in `KINDS` that a kernel is drawn as."""
    return next(i for i, (word, _) in enumerate(KINDS) if kernel.name.startswith(word))


def plot_roofline(result: Result, path: Path) -> None:
    """Each kernel at its FLOPs per byte and its speed, under the limits of arithmetic and of memory."""
    plt = pyplot()
    kernels = [k for k in result.kernels if k.flops and k.us]
    total = sum(k.us for k in result.kernels)
    figure, axes = plt.subplots(figsize=(11, 5.5), layout="constrained")
    at = [k.flops / k.bytes for k in kernels]
    left, right = min(at) / 2, max(*at, 8) * 3
    bottom = min(k.gflops for k in kernels) / 2

    roofs = (("L2", copy_speed(IN_CACHE), "-"), ("memory", copy_speed(IN_MEMORY), "--"))
    for name, speed, style in roofs:
        knee = result.peak_gflops / speed
        axes.plot([left, knee], [left * speed, result.peak_gflops], style, color="#3c4650", linewidth=1)
        start = max(left, bottom / speed) * 1.15
        axes.annotate(
            f"{name}: {speed:.0f} GB/s",
            (start, start * speed),
            (0, 5),
            textcoords="offset points",
            rotation=45,
            rotation_mode="anchor",
            transform_rotates_text=True,
            color="#3c4650",
            fontsize=8,
        )
    axes.plot([result.peak_gflops / roofs[0][1], right], [result.peak_gflops] * 2, color="#3c4650", linewidth=1)
    axes.annotate(
        f"FMA peak: {result.peak_gflops:.0f} GFLOP/s", (right, result.peak_gflops), (-4, 5),
        textcoords="offset points", ha="right", color="#3c4650", fontsize=8,
    )  # fmt: skip

    for number, (word, color) in enumerate(KINDS):
        own = [(x, k) for x, k in zip(at, kernels) if kind(k) == number]
        if own:
            axes.scatter(
                [x for x, _ in own],
                [k.gflops for _, k in own],
                [12 + 1500 * k.us / total for _, k in own],
                color=color,
                alpha=0.6,
                linewidths=0,
                label=word or "other",
            )
    number_kernels(axes, list(zip(at, kernels)))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, result.peak_gflops * 2.5)
    axes.set_xlabel("FLOPs per byte that must move")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(
        f"{result.name}, batch {result.batch}: {result.us_per_step:.1f} µs a step, "
        f"utilization {result.utilization:.2f}",
        fontsize=11,
    )
    axes.grid(which="major", color="#e3e6e9", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    legend = axes.legend(loc="lower right", frameon=False, fontsize=8, title="area: time of a step", title_fontsize=8)
    for handle in legend.legend_handles:
        handle.set_sizes([40])
    try:
        save(figure, path)
    finally:
        plt.close(figure)


def plot_ladder(ladder: Ladder, path: Path) -> None:
    """The training and validation loss of each model of a ladder, connected by a line."""
    plt = pyplot()
    results = ladder.results
    figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    rows = range(len(results))
    for y, r in zip(rows, results):
        axes.plot([r.train, r.val], [y, y], color="#c3cad0", linewidth=2, zorder=1)
    axes.scatter([r.train for r in results], rows, 46, "white", edgecolors="#2a78d6", zorder=2, label="training")
    axes.scatter([r.val for r in results], rows, 46, "#2a78d6", zorder=3, label="validation")
    for y, r in zip(rows, results):
        axes.annotate(
            f"{r.val:.3f}", (max(r.train, r.val), y), (9, 0), textcoords="offset points", va="center", fontsize=9,
            color="#20262c",
        )  # fmt: skip
    axes.set_yticks(rows, [f"{r.name}\n{r.params:,} parameters, {r.seconds:.1f} s" for r in results], fontsize=8.5)
    axes.set_ylim(len(results) - 0.5, -0.5)
    axes.set_xlim(axes.get_xlim()[0], axes.get_xlim()[1] + 0.03)
    axes.set_xlabel("mean loss of a character, nats")
    axes.set_title(
        f"trained on {ladder.train_documents:,} documents, validated on {ladder.val_documents:,} others", fontsize=10
    )
    axes.grid(axis="x", color="#e3e6e9", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    try:
        save(figure, path)
    finally:
        plt.close(figure)


def number_kernels(axes: Any, points: list[tuple[float, KernelTime]]) -> None:
    """Numbers beside the points, moved up until none overlaps another, and a legend of them beside the plot."""
    used: list[tuple[float, float]] = []
    listed = [f"{'µs':>7}  {'of peak':>7}"]
    for number, (x, kernel) in enumerate(points, 1):
        across, up, raised = np.log10(x) * 150, np.log10(kernel.gflops) * 140, 3.0
        while any(abs(across - a) < 13 and abs(up + raised - b) < 9 for a, b in used):
            raised += 3
        used.append((across, up + raised))
        axes.annotate(
            str(number), (x, kernel.gflops), (0, raised), textcoords="offset points", ha="center", fontsize=8,
            color="#20262c",
        )  # fmt: skip
        name = kernel.name.replace("_", " ")
        listed.append(f"{kernel.us:7.2f}  {kernel.fraction_of_peak:7.2f}  {number:2} {name}")
    axes.text(
        1.02, 1, "\n".join(listed), transform=axes.transAxes, va="top", fontsize=7.5, family="monospace",
        linespacing=1.5, color="#20262c",
    )  # fmt: skip


def save(figure: Any, path: Path) -> None:
    """Write a plot in one step: a reader sees the old file or the whole new one."""
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        figure.savefig(beside, dpi=150)
        os.replace(beside, path)
    except OSError as error:
        raise EegenFailure(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        beside.unlink(missing_ok=True)
