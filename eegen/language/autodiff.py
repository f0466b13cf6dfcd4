"""The reverse pass: from a loss to the gradient of every parameter, by the ops' derivative rules."""

from __future__ import annotations

from eegen.language.graph import Graph, Value
from eegen.language.ops import OPS


def backward(graph: Graph, loss: Value) -> dict[Value, list[Value]]:
    """Append the derivative graph; give each parameter's gradient as the values whose sum it is."""
    contributions: dict[Value, list[Value]] = {loss: [graph.apply("one")]}
    for value in reversed(list(graph.values)):
        rule = OPS[value.op].derivative if value.op in OPS else None
        if value not in contributions or rule is None:
            continue
        whole = total(graph, contributions[value])
        whole.label = whole.label or f"d_{value.label or value.op}"
        for operand, gradient in zip(value.inputs, rule(graph, value, whole), strict=True):
            if gradient is not None:
                contributions.setdefault(operand, []).append(gradient)
    return {parameter: contributions[parameter] for parameter in graph.parameters}


def total(graph: Graph, terms: list[Value]) -> Value:
    """The sum of several gradients of one value, as a chain of adds."""
    result = terms[0]
    for term in terms[1:]:
        result = graph.apply("add", result, term)
    return result
