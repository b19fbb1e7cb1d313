"""Decodes a photo and makes the variants that a web shop or a photo service keeps of each upload, with Pillow.

Thumbnail, rotation, blur, grayscale, sharpening, edges and equalised contrast, each encoded again.
Parameters: ``image`` (path or file:// reference inside OWL_CACHE or OWL_DATA), ``thumbnail`` (longest side, 16 to
1,024 pixels), ``angle`` (0 to 359 degrees), ``blur`` (radius, 1 to 32 pixels).
"""

import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image, ImageFilter, ImageOps, ImageStat, UnidentifiedImageError

MAX_PIXELS = 8_000_000


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


def load(path):
    """The photo as RGB pixels; ValueError if it is no image or too large for this function's memory."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"image has more than {MAX_PIXELS:,} pixels")
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"image: {path.name!r} is not a readable image") from error


def variants(photo, thumbnail, angle, blur):
    """Yields (name, image) one at a time, so that only one variant is in memory."""
    yield "thumbnail", ImageOps.contain(photo, (thumbnail, thumbnail), Image.Resampling.LANCZOS)
    yield "rotated", photo.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    yield "blurred", photo.filter(ImageFilter.GaussianBlur(blur))
    yield "gray", ImageOps.grayscale(photo)
    yield "sharpened", photo.filter(ImageFilter.UnsharpMask(radius=2, percent=150))
    yield "edges", ImageOps.grayscale(photo).filter(ImageFilter.FIND_EDGES)
    yield "equalized", ImageOps.equalize(photo)


def main(args):
    """Returns the photo's size and, for each variant, its size, encoded bytes, mean level and SHA-256."""
    try:
        thumbnail = whole(args, "thumbnail", 256, 16, 1024)
        angle = whole(args, "angle", 30, 0, 359)
        blur = whole(args, "blur", 4, 1, 32)
        photo = load(input_file(args, "image"))
    except ValueError as error:
        return {"error": str(error)}
    outputs = {}
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        for name, image in variants(photo, thumbnail, angle, blur):
            target = Path(folder) / f"{name}.jpg"
            image.save(target, quality=85)
            encoded = target.read_bytes()
            target.unlink()
            outputs[name] = {
                "width": image.width,
                "height": image.height,
                "bytes": len(encoded),
                "mean": round(sum(ImageStat.Stat(image).mean) / len(image.getbands()), 3),
                "sha256": hashlib.sha256(encoded).hexdigest(),
            }
    return {"width": photo.width, "height": photo.height, "outputs": outputs}
