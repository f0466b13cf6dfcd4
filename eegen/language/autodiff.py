"""The reverse pass: from a loss to the gradient of every parameter, by the ops' derivative rules."""

from __future__ import annotations

from eegen.language.graph import Graph, Loop, Value


def backward(graph: Graph, loss: Value) -> dict[Value, list[Value]]:
    """Append the derivative graph; return each parameter's gradient as the values whose sum it is.

    The derivative of a loop is a loop the other way: the gradient of what it carries, summed over a row's children,
    is a part of the gradient of its state.
    """
    contributions: dict[Value, list[Value]] = {loss: [graph.apply("one")]}
    forward = {loop.value: loop for loop in graph.loops}
    following: dict[Value, Value] = {}
    for value in reversed(list(graph.values)):
        if value in forward:
            following[forward[value].carried] = graph.carry("following", value.width)
            contributions.setdefault(value, []).append(following[forward[value].carried])
        if value not in contributions:
            continue
        if value in following:
            graph.loops.append(Loop(following[value], total(graph, contributions[value]), reverse=True))
        elif value.op.derivative is not None:
            whole = total(graph, contributions[value])
            whole.label = whole.label or f"d_{value.label or value.op.name}"
            for operand, gradient in zip(value.inputs, value.op.derivative(graph, value, whole), strict=True):
                if gradient is not None:
                    contributions.setdefault(operand, []).append(gradient)
    return {parameter: contributions[parameter] for parameter in graph.parameters}


def total(graph: Graph, terms: list[Value]) -> Value:
    """The sum of several gradients of one value, as a chain of adds."""
    result = terms[0]
    for term in terms[1:]:
        result = graph.apply("add", result, term)
    return result
