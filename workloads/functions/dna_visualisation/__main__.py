"""Turns a DNA sequence into a squiggle curve and renders it as a picture (the idea of SeBS' "dna-visualisation").

Lee's Squiggle encoding (2018) takes two half steps per base: A rises and returns, C falls and returns, G rises, T
falls; the drift of the curve shows how a strand's composition changes. Under it lies the share of G and C, and at its
right Jeffrey's chaos game (1990): how often each word of eight bases occurs, as a picture of 256x256 words.
Parameters: ``sequence`` (FASTA file, path or file:// reference inside OWL_CACHE or OWL_DATA), ``width`` (64 to 2,048
pixels), ``height`` (64 to 1,024 pixels).
"""

import hashlib
import io
import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image, ImageDraw, ImageFont

MAX_BYTES = 6_500_000
BASES = b"ACGT"
HALF_STEPS = np.array([[0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [-0.5, -0.5], [0.0, 0.0]], dtype=np.float32)
UNKNOWN, INVALID = 4, 255
CODES = np.full(256, INVALID, dtype=np.uint8)
for code, letter in enumerate(BASES):
    CODES[[letter, letter | 0x20]] = code
CODES[list(b"Nn")] = UNKNOWN
WORD = 8  # bases; a square of 2**WORD pixels shows all words
TRACK = 32  # pixels of height for the share of G and C


def whole(args, name, default, low, high):
    """The whole number ``args[name]``; ValueError if it is not one from low to high."""
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}")
    return value


def input_file(args, name):
    """The file that ``args[name]`` refers to; ValueError unless it is a readable one inside the allowed folders."""
    value = args.get(name)
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{name} must be the path or the file:// reference of a file")
    path = Path(unquote(urlsplit(value).path) if value.startswith("file://") else value).resolve()
    folders = [os.environ.get("OWL_CACHE") or "~/.cache/owl", os.environ.get("OWL_DATA")]
    if not any(path.is_relative_to(Path(folder).expanduser().resolve()) for folder in folders if folder):
        raise ValueError(f"{name} must lie inside the cache or data folder (OWL_CACHE, OWL_DATA) of this machine")
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError(f"{name}: there is no readable file {path.name!r} at this place")
    return path


def read_fasta(path):
    """The codes (n,) of all bases in a FASTA file: 0 to 3 for A, C, G, T and 4 for N; ValueError if it is none."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"sequence: {path.name!r} has more than {MAX_BYTES:,} bytes")
    lines = path.read_bytes().splitlines()
    if not lines or not lines[0].startswith(b">"):
        raise ValueError(f"sequence: {path.name!r} is not a FASTA file, which starts with '>'")
    letters = b"".join(line.strip() for line in lines if not line.startswith(b">"))
    codes = CODES[np.frombuffer(letters, dtype=np.uint8)]
    if not len(codes) or (codes == INVALID).any():
        raise ValueError(f"sequence: {path.name!r} must hold bases (A, C, G, T or N) and nothing else")
    return codes


def squiggle(codes):
    """The heights (2n + 1,) of the curve, one per half base, starting at 0."""
    curve = np.zeros(2 * len(codes) + 1, dtype=np.float32)
    np.cumsum(HALF_STEPS[codes].ravel(), out=curve[1:])
    return curve


def density(curve, width, height):
    """How many points of the curve fall on each pixel: (height, width), the highest value of the curve at the top."""
    low, high = float(curve.min()), float(curve.max())
    pixels = ((high - curve) * ((height - 1) / max(high - low, 1.0))).astype(np.int32)
    pixels *= width
    pixels += (np.arange(len(curve), dtype=np.float32) * (width / len(curve))).astype(np.int32).clip(max=width - 1)
    return np.bincount(pixels, minlength=height * width).reshape(height, width)


def word_counts(codes):
    """How often each word of WORD bases occurs, at its place in the chaos game: (2**WORD, 2**WORD).

    Each base of a word halves the square: C and G lie in its upper half, G and T in its right half. Words with an
    unknown base are left out.
    """
    words = max(len(codes) - WORD + 1, 0)
    row, column = np.zeros(words, dtype=np.int32), np.zeros(words, dtype=np.int32)
    known = np.ones(words, dtype=bool)
    for offset in range(WORD):
        base = codes[offset : offset + words]
        row <<= 1
        row |= (base == 0) | (base == 3)
        column <<= 1
        column |= base >= 2
        known &= base < UNKNOWN
    side = 1 << WORD
    places = (row * side + column)[known]
    return np.bincount(places, minlength=side * side).reshape(side, side)


def gc_share(codes, width):
    """Share of G and C among the known bases in ``width`` windows along the sequence: (width,), 0 to 1."""
    starts = np.arange(width) * len(codes) // width
    strong = np.add.reduceat((codes == 1) | (codes == 2), starts, dtype=np.int64)
    known = np.add.reduceat(codes < UNKNOWN, starts, dtype=np.int64)
    return strong / np.maximum(known, 1)


def shaded(counts):
    """Counts as levels of gray, (height, width) bytes: none is white, the most is black, in a logarithmic scale."""
    levels = np.log1p(counts)
    return (255 * (1 - levels / max(levels.max(), 1.0))).astype(np.uint8)


def render(codes, curve, words, width, height):
    """The picture: the curve in blue, the share of G and C in green below, the words at the right, a caption."""
    square = words.shape[0]
    pixels = np.full((max(height, square), width + square, 3), 255, dtype=np.uint8)
    pixels[: height - TRACK, :width, :2] = shaded(density(curve, width, height - TRACK))[:, :, None]
    filled = np.arange(TRACK)[::-1, None] < gc_share(codes, width) * TRACK
    pixels[height - TRACK : height, :width][filled] = (46, 125, 50)
    pixels[:square, width:] = shaded(words)[:, :, None]
    picture = Image.fromarray(pixels)
    caption = f"{len(codes):,} bases"
    ImageDraw.Draw(picture).text((4, 4), caption, font=ImageFont.load_default(size=12), fill=(90, 90, 90))
    return picture


def main(args):
    """Returns the counts of the bases and words, the curve's range and end, and the picture's bytes and SHA-256."""
    try:
        width = whole(args, "width", 1024, 64, 2048)
        height = whole(args, "height", 384, 64, 1024)
        codes = read_fasta(input_file(args, "sequence"))
    except ValueError as error:
        return {"error": str(error)}
    curve = squiggle(codes)
    words = word_counts(codes)
    picture = render(codes, curve, words, width, height)
    encoded = io.BytesIO()
    picture.save(encoded, "PNG")
    counts = np.bincount(codes, minlength=5).tolist()
    return {
        "bases": len(codes),
        "counts": dict(zip("ACGTN", counts)),
        "words": int((words > 0).sum()),
        "lowest": float(curve.min()),
        "highest": float(curve.max()),
        "end": float(curve[-1]),
        "bytes": encoded.getbuffer().nbytes,
        "sha256": hashlib.sha256(picture.tobytes()).hexdigest(),
    }
