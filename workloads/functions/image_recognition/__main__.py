"""Finds and reads the text in an image with the PP-OCRv4 detection and recognition networks of rapidocr-onnxruntime.

Parameters: ``image`` (path or file:// reference inside OWL_CACHE or OWL_DATA).
"""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Recent onnxruntime reports its use to its makers and writes files for that, from the moment it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np  # noqa: E402
from PIL import Image, ImageOps, UnidentifiedImageError  # noqa: E402
from rapidocr_onnxruntime import RapidOCR  # noqa: E402
from rapidocr_onnxruntime.utils.infer_engine import OrtInferSession  # noqa: E402

MAX_PIXELS = 4_000_000
LONGEST_SIDE = 768  # pixels; larger images are scaled down, which bounds the memory of the detection network


def frugal(make_options):
    """Wraps rapidocr's maker of onnxruntime's session options, as rapidocr has no settings for these.

    Idle threads spin by default, which would use up the CPU quota of the container. Memory patterns are kept for each
    shape of input, and every line of text has its own; without them, and with the arena, a call's peak is steady.
    """

    def make(config):
        options = make_options(config)
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.enable_mem_pattern = False
        options.enable_cpu_mem_arena = True
        return options

    return staticmethod(make)


OrtInferSession._init_sess_opts = frugal(OrtInferSession._init_sess_opts)
# The thread count follows the machine, not the quota, so that CPU lent to this container makes it faster.
ENGINE = RapidOCR(intra_op_num_threads=os.cpu_count(), use_cls=False, det_limit_type="max", rec_batch_num=1)


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
    """The image as (height, width, 3) bytes in BGR order, scaled to the longest side allowed.

    ValueError if it is no image or has too many pixels.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"image has more than {MAX_PIXELS:,} pixels")
            pixels = image.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"image: {path.name!r} is not a readable image") from error
    if max(pixels.size) > LONGEST_SIDE:
        pixels = ImageOps.contain(pixels, (LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(pixels)[:, :, ::-1])


def main(args):
    """Returns the lines of text from top to bottom, their number and the mean confidence (0 to 1)."""
    try:
        image = load(input_file(args, "image"))
    except ValueError as error:
        return {"error": str(error)}
    found, _ = ENGINE(image)
    lines = found or []
    confidence = sum(float(score) for _, _, score in lines) / len(lines) if lines else 0.0
    return {
        "width": image.shape[1],
        "height": image.shape[0],
        "lines": len(lines),
        "confidence": round(confidence, 3),
        "text": [text for _, text, _ in lines],
    }
