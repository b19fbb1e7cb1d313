"""Merge sort in pure Python over seeded random whole numbers.

Parameters: ``numbers`` (a list to sort, at most 1,000, returned sorted) or ``count`` (1 to 1,000,000) and ``seed``.
"""

import random

SHOWN = 1000


def whole(args, name, default, low, high):
    """The whole number ``args[name]``; ValueError if it is not one from low to high."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}")
    return value


def merge(left, right):
    """Merges two sorted lists into one; equal values keep their order."""
    merged = []
    i = j = 0
    while i < len(left) and j < len(right):
        if right[j] < left[i]:
            merged.append(right[j])
            j += 1
        else:
            merged.append(left[i])
            i += 1
    merged += left[i:]
    merged += right[j:]
    return merged


def merge_sort(values):
    """A sorted copy of ``values``."""
    if len(values) < 2:
        return values[:]
    middle = len(values) // 2
    return merge(merge_sort(values[:middle]), merge_sort(values[middle:]))


def read_numbers(args):
    """The numbers to sort: the caller's own list, or ``count`` random ones."""
    if "numbers" not in args:
        rng = random.Random(whole(args, "seed", 0, 0, 2**32 - 1))
        return [rng.randrange(1_000_000_000) for _ in range(whole(args, "count", 100_000, 1, 1_000_000))]
    numbers = args["numbers"]
    if not isinstance(numbers, list) or not 1 <= len(numbers) <= SHOWN:
        raise ValueError(f"numbers must be a list of 1 to {SHOWN} numbers")
    if any(type(number) not in (int, float) for number in numbers):
        raise ValueError("numbers must contain numbers only")
    return numbers


def main(args):
    """Returns count, smallest, median, largest and sum (unchanged by sorting), and whether the order is right."""
    try:
        numbers = read_numbers(args)
    except ValueError as error:
        return {"error": str(error)}
    ordered = merge_sort(numbers)
    result = {
        "count": len(ordered),
        "smallest": ordered[0],
        "median": ordered[len(ordered) // 2],
        "largest": ordered[-1],
        "sum": sum(ordered),
        "sorted": all(a <= b for a, b in zip(ordered, ordered[1:])),
    }
    if "numbers" in args:
        result["numbers"] = ordered
    return result
