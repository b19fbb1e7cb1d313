"""Numeric integration in pure Python: floating-point work that no library speeds up.

Simpson's rule over three integrals whose exact values are known, so the result says itself whether it is right.
Parameters: ``steps`` (even, 2 to 20,000,000): sub-intervals of each integral.
"""

import math

INTEGRALS = {
    "pi": (lambda x: 4.0 / (1.0 + x * x), 0.0, 1.0, math.pi),
    "sine": (math.sin, 0.0, math.pi, 2.0),
    "gauss": (lambda x: math.exp(-x * x), -6.0, 6.0, math.sqrt(math.pi) * math.erf(6.0)),
}


def whole(args, name, default, low, high):
    """The whole number ``args[name]``; ValueError if it is not one from low to high."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}")
    return value


def simpson(function, start, end, steps):
    """The integral of ``function`` from start to end by Simpson's rule with an even number of steps."""
    width = (end - start) / steps
    odd = even = 0.0
    for index in range(1, steps, 2):
        odd += function(start + index * width)
    for index in range(2, steps, 2):
        even += function(start + index * width)
    return (function(start) + function(end) + 4.0 * odd + 2.0 * even) * width / 3.0


def main(args):
    """Returns each integral and the largest error against its exact value."""
    try:
        steps = whole(args, "steps", 200_000, 2, 20_000_000)
        if steps % 2:
            raise ValueError("steps must be even, as Simpson's rule takes the sub-intervals in pairs")
    except ValueError as error:
        return {"error": str(error)}
    values, largest = {}, 0.0
    for name, (function, start, end, exact) in INTEGRALS.items():
        values[name] = simpson(function, start, end, steps)
        largest = max(largest, abs(values[name] - exact))
    return {"steps": steps, "values": values, "largest_error": largest}
