"""Writes personalised MIME messages (text, HTML and an attached CSV statement) with the standard library.

Parameters: ``recipients`` (1 to 500), ``seed``, ``preview`` (true adds the source of the first message to the result).
"""

import csv
import datetime
import hashlib
import io
import random
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape
from string import Template

FIRST_NAMES = ("Ada", "Alan", "Barbara", "Björn", "Donald", "Edsger", "Grace", "Łukasz", "Radia", "Zoë")
LAST_NAMES = ("Díaz", "Hamilton", "Hopper", "Knuth", "Liskov", "Lovelace", "O'Neil", "Perlman", "Turing", "Žižek")
ARTICLES = ("Compute time", "Memory", "Storage", "Transfer", "Support")
SENDER = Address("Owl accounts", "accounts", "owl.example")
EPOCH = datetime.datetime(2024, 1, 1, 8, tzinfo=datetime.timezone.utc)
TEXT = Template("Dear $name,\n\nyour statement for $month is attached.\n\n$lines\n\nTotal: $total EUR\n\nYours, Owl\n")
HTML = Template(
    "<html><body><p>Dear <b>$name</b>,</p><p>your statement for $month is attached.</p>"
    "<table>$rows</table><p>Total: <b>$total EUR</b></p></body></html>"
)


def whole(args, name, default, low, high):
    """The whole number ``args[name]``; ValueError if it is not one from low to high."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}")
    return value


def set_boundaries(message, number):
    """Names the MIME boundaries, which the library would draw at random: the same call gives the same bytes."""
    for depth, part in enumerate(part for part in message.walk() if part.is_multipart()):
        part.set_boundary(f"=-owl-{number}-{depth}")


def write_message(number, rng):
    """The message for one recipient, ready to be sent."""
    first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
    when = EPOCH + datetime.timedelta(minutes=rng.randrange(500_000))
    items = [(article, rng.randint(1, 90), rng.randint(5, 900) / 100) for article in ARTICLES]
    total = f"{sum(count * price for _, count, price in items):,.2f}"
    values = {"name": f"{first} {last}", "month": when.strftime("%B %Y"), "total": total}
    lines = "\n".join(f"{article:<14}{count:>4} x {price:>6.2f}" for article, count, price in items)
    rows = "".join(f"<tr><td>{article}</td><td>{count}</td><td>{price:.2f}</td></tr>" for article, count, price in items)
    statement = io.StringIO()
    csv.writer(statement).writerows([("article", "count", "price"), *items])

    message = EmailMessage(policy=SMTP)
    message["From"] = SENDER
    message["To"] = Address(values["name"], f"customer{number}", "owl.example")
    message["Subject"] = f"Your statement for {values['month']}, {values['name']}"
    message["Date"] = format_datetime(when)
    message["Message-ID"] = f"<{number}.{rng.getrandbits(64):016x}@owl.example>"
    message.set_content(TEXT.substitute(values, lines=lines))
    message.add_alternative(HTML.substitute(values, name=escape(values["name"]), rows=rows), subtype="html")
    message.add_attachment(statement.getvalue().encode(), maintype="text", subtype="csv", filename="statement.csv")
    set_boundaries(message, number)
    return message


def main(args):
    """Returns the number of messages, their bytes together and the SHA-256 over all of them."""
    try:
        recipients = whole(args, "recipients", 20, 1, 500)
        seed = whole(args, "seed", 0, 0, 2**32 - 1)
    except ValueError as error:
        return {"error": str(error)}
    rng = random.Random(seed)
    digest, size, first = hashlib.sha256(), 0, None
    for number in range(1, recipients + 1):
        source = write_message(number, rng).as_bytes()
        first = first or source
        digest.update(source)
        size += len(source)
    result = {"messages": recipients, "bytes": size, "sha256": digest.hexdigest()}
    if args.get("preview") is True:
        result["first"] = first.decode()
    return result
