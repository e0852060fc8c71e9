# SPDX-License-Identifier: Apache-2.0
"""`$(eval ...)`, kept to comparisons of constants and sums of integers: nothing in a launch file can run code."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

LENGTH_LIMIT = 500
"""[characters]"""

Constant = bool | int | float | str | None

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda item, container: item in container,
    ast.NotIn: lambda item, container: item not in container,
}


class ExpressionError(ValueError):
    """An expression that is no comparison of constants and no sum of integers, or compares what cannot be."""


def compare(expression: str) -> Constant:
    """Value of a Python expression made of constants, comparisons, `and`, `or`, `not`, `in (...)`, sums of integers.

    Raises ExpressionError for everything else: names, calls, attributes, other arithmetic.
    """
    if len(expression) > LENGTH_LIMIT:
        raise ExpressionError(f"expected an expression of at most {LENGTH_LIMIT} characters, found {len(expression)}")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ExpressionError(f'"{expression}" is not a Python expression ({error})') from error
    value = _value(tree.body, expression)
    if isinstance(value, tuple):
        raise ExpressionError(f'"{expression}" is a list of values, expected a comparison')
    return value


def _value(node: ast.expr, expression: str) -> Constant | tuple[Constant, ...]:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as constant):
            return constant
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, expression)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _sum(left, right, expression)
        case ast.BoolOp(op=op, values=values):
            # `and` and `or` give one of their operands, as in Python.
            result = _value(values[0], expression)
            for operand in values[1:]:
                if bool(result) is isinstance(op, ast.Or):
                    break
                result = _value(operand, expression)
            return result
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            return _compare(left, ops, comparators, expression)
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return tuple(_constant(element, expression) for element in elements)
    raise ExpressionError(
        f'"{ast.unparse(node)}" in "{expression}" is not a comparison of constants; text needs quotes, and names, calls'
        " and other arithmetic than sums of integers are not supported"
    )


def _sum(left: ast.expr, right: ast.expr, expression: str) -> int:
    """The sum of two integers: that is how a file that includes itself counts."""
    first, second = _constant(left, expression), _constant(right, expression)
    if type(first) is int and type(second) is int:
        return first + second
    raise ExpressionError(f'"{expression}" adds {first!r} and {second!r}, expected integers')


def _constant(node: ast.expr, expression: str) -> Constant:
    value = _value(node, expression)
    if isinstance(value, tuple):
        raise ExpressionError(f'"{ast.unparse(node)}" in "{expression}" nests lists, expected constants')
    return value


def _compare(left: ast.expr, ops: list[ast.cmpop], comparators: list[ast.expr], expression: str) -> bool:
    first = _value(left, expression)
    for op, comparator in zip(ops, comparators, strict=True):
        second = _value(comparator, expression)
        function = _COMPARISONS.get(type(op))
        if function is None:
            raise ExpressionError(f'"is" in "{expression}" is not supported, use "=="')
        try:
            if not function(first, second):
                return False
        except TypeError as error:
            raise ExpressionError(f'cannot evaluate "{expression}": {error}') from error
        first = second
    return True
