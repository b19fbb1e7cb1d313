"""Renders an HTML page of a customer's orders with Jinja2 (SeBS' and FaaSRM's "dynamic-html").

Parameters: ``rows`` (1 to 4,000), ``customer``, ``seed``, ``preview`` (true adds the page itself to the result).
"""

import datetime
import hashlib
import random
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

ARTICLES = ("barn owl print", "bird <feeder>", "field guide & map", "nesting box", "night lamp", "wool scarf")
FIRST_DAY = datetime.date(2024, 1, 1)
TEMPLATE = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("template.html")


def whole(args, name, default, low, high):
    """The whole number ``args[name]``; ValueError if it is not one from low to high."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}")
    return value


def make_orders(rows, seed):
    """``rows`` orders with a number, date, article, pieces, price and sum."""
    rng = random.Random(seed)
    orders = []
    for number in range(1, rows + 1):
        pieces, price = rng.randint(1, 20), rng.randint(199, 9999) / 100
        orders.append(
            {
                "number": number,
                "date": (FIRST_DAY + datetime.timedelta(days=rng.randrange(366))).isoformat(),
                "article": rng.choice(ARTICLES),
                "pieces": pieces,
                "price": price,
                "sum": round(pieces * price, 2),
            }
        )
    return orders


def main(args):
    """Returns rows, bytes and SHA-256 of the page, and the total of all orders in EUR."""
    try:
        rows = whole(args, "rows", 500, 1, 4000)
        seed = whole(args, "seed", 0, 0, 2**32 - 1)
        customer = args.get("customer", "Guest")
        if not isinstance(customer, str) or not 1 <= len(customer) <= 200:
            raise ValueError("customer must be a text of 1 to 200 characters")
    except ValueError as error:
        return {"error": str(error)}
    orders = make_orders(rows, seed)
    total = round(sum(order["sum"] for order in orders), 2)
    page = TEMPLATE.render(customer=customer, orders=orders, total=total)
    encoded = page.encode()
    result = {"rows": rows, "bytes": len(encoded), "sha256": hashlib.sha256(encoded).hexdigest(), "total": total}
    if args.get("preview") is True:
        result["page"] = page
    return result
