"""From a configuration to a plan: passes over records, each a function.

    graph ──> layout ──> fuse ──> lower ──> slots ──> barriers

Layout is made once for all programs of a plan, the others for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from eegen.language.autodiff import backward
from eegen.language.graph import Graph, Region, Value, members, regions
from eegen.language.optimizers import OPTIMIZERS
from eegen.models import build_graph
from eegen.plan.barriers import place_barriers
from eegen.plan.build_config import BuildConfig
from eegen.plan.fuse import fuse
from eegen.plan.layout import lay_out
from eegen.plan.lower import Section, lower
from eegen.plan.lowering.builder import Context, KernelTable
from eegen.plan.muon import matrix_updates
from eegen.plan.programs import PROGRAMS, Program
from eegen.plan.records import Buffer, Plan, Procedure, ProgramPlan
from eegen.plan.slots import assign_slots
from eegen.targets import TARGETS

L2_BYTES = 1 << 20  # what an L2 of 2 MB keeps of weights and moments beside rows and code


class ModelGraph(NamedTuple):
    """A model's graph with its derivative, if any program differentiates: values [0, split) are the forward pass."""

    graph: Graph
    logits: Value
    split: int
    gradients: Mapping[Value, list[Value]]

    @property
    def forward(self) -> list[Value]:
        return self.graph.values[: self.split]

    @property
    def backward(self) -> list[Value]:
        return self.graph.values[self.split :]


def make_plan(build: BuildConfig) -> Plan:
    target = TARGETS[build.target].with_vector_bits(build.svl_bits)
    programs = [PROGRAMS[name] for name in build.programs]
    optimizer = OPTIMIZERS[build.optimizer]
    model = model_graph(build, any(program.differentiates for program in programs))
    uses = model.graph.uses()
    repeated = {value for loop in model.graph.loops for value in members(model.graph, loop)}
    layout = lay_out(model.graph, uses, model.gradients, repeated, optimizer, target)
    parameters = tuple(layout.values())
    kernels = KernelTable()
    plan = Plan(build, target, parameters, (), (), (), weights_in_products(model.forward))
    moments = plan.moments if model.gradients else ()
    streams = 4 * (plan.weights * (1 + len(moments)) + plan.packed_size) > L2_BYTES

    def context(program: Program) -> Context:
        used = uses if program.differentiates else among(uses, model.forward)
        values = model.graph.values if program.differentiates else model.forward
        gradient_of = {term: parameter for parameter, terms in model.gradients.items() for term in terms}
        fusion = fuse(regions(model.graph, values), used)
        return Context(build, target, layout, used, gradient_of, fusion, moments, streams)

    planned = tuple(plan_program(program, model, context(program), kernels) for program in programs)
    updates = matrix_updates(parameters, target, kernels) if model.gradients else ()
    return replace(plan, programs=planned, kernels=kernels.all, matrix_updates=updates)


def model_graph(build: BuildConfig, differentiates: bool) -> ModelGraph:
    graph, logits = build_graph(build.model)
    loss = graph.apply("cross_entropy", logits)
    split = len(graph.values)
    gradients = backward(graph, loss) if differentiates else {}
    return ModelGraph(graph, loss.inputs[0], split, gradients)


def among(uses: Mapping[Value, list[Value]], values: Sequence[Value]) -> dict[Value, list[Value]]:
    """The uses by some values alone."""
    chosen = set(values)
    return {value: [use for use in found if use in chosen] for value, found in uses.items()}


def weights_in_products(values: Sequence[Value]) -> int:
    """Multiplications by weights for each row of the forward pass."""
    return sum(value.op.products(value) for value in values)


def plan_program(program: Program, model: ModelGraph, context: Context, kernels: KernelTable) -> ProgramPlan:
    """Lower a program, then give its buffers slots and its calls barriers."""
    *forward, loss = model.forward
    sections = [Section("forward", regions(model.graph, forward), (model.logits,)), Section("loss", [Region((loss,))])]
    if program.differentiates:
        sections.append(Section("backward", regions(model.graph, model.backward)))
    lowered = lower(context, kernels, sections)
    buffers = lowered.buffers if program.differentiates else persistent(lowered.buffers, lowered.names, model)
    logits = lowered.names[model.logits]
    everything = [item for items in lowered.procedures.values() for item in items]
    placed, slots = assign_slots(everything, buffers, kept={logits})
    procedures = {name: Procedure(name, place_barriers(items, placed)) for name, items in lowered.procedures.items()}
    return ProgramPlan(program, procedures, placed, slots, logits, lowered.sums)


def persistent(buffers: Mapping[str, Buffer], names: Mapping[Value, str], model: ModelGraph) -> dict[str, Buffer]:
    """Buffers whose rows later calls read are caches: what ops read of a row's ancestors, and the states of loops."""
    read = {value.inputs[0] for value in model.forward if value.op.ancestors}
    read |= {loop.value for loop in model.graph.loops if not loop.reverse}
    kept = {names[value] for value in read if value in names}
    return {name: b._replace(lifetime="cache") if name in kept else b for name, b in buffers.items()}
