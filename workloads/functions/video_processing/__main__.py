"""Transcodes, scales or watermarks a video clip with the ffmpeg that imageio-ffmpeg carries.

Parameters: ``video`` (path or file:// reference inside OWL_CACHE or OWL_DATA), ``operation`` ("transcode", "watermark"
or "scale"), ``height`` (of "scale": 64 to 720 pixels, even), ``quality`` (x264's CRF, 18 to 40: higher is smaller).
The same call gives the same bytes on machines with the same number of cores.
"""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import imageio_ffmpeg
from PIL import Image, ImageDraw, ImageFont

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
OPERATIONS = ("transcode", "watermark", "scale")
MAX_PIXELS = 1280 * 720
MAX_SECONDS = 60
# Follows the machine, not the quota, so that CPU lent to this container makes it faster; each thread keeps frames in
# memory, and with more than eight the largest clips would not fit.
THREADS = min(os.cpu_count() or 1, 8)
ENCODING_LIMIT = 240  # seconds of wall time; the action's own time-out ends it earlier where that is shorter


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


def probe(path):
    """Width, height, frames per second and seconds of a video; ValueError if ffmpeg cannot read it."""
    reader = imageio_ffmpeg.read_frames(str(path))
    try:
        meta = next(reader)
    except (OSError, RuntimeError, StopIteration) as error:
        raise ValueError(f"video: {path.name!r} is not a readable video") from error
    finally:
        reader.close()
    return {"width": meta["size"][0], "height": meta["size"][1], "fps": meta["fps"], "seconds": meta["duration"]}


def draw_watermark(target, height):
    """Writes a half-transparent label, its height a twelfth of the clip's, as PNG."""
    size = max(12, height // 12)
    font = ImageFont.load_default(size=size)
    label = Image.new("RGBA", (int(font.getlength("owl video")) + size, size * 2), (0, 0, 0, 90))
    ImageDraw.Draw(label).text((size // 2, size // 3), "owl video", font=font, fill=(255, 255, 255, 200))
    label.save(target)


def command(source, target, operation, height, quality, label):
    """The ffmpeg command line; metadata is left out so that the output depends on the pixels alone."""
    inputs = ["-i", str(source)]
    if operation == "watermark":
        inputs += ["-i", str(label)]
        filters = ["-filter_complex", "[0:v][1:v]overlay=W-w-8:H-h-8"]
    elif operation == "scale":
        filters = ["-vf", f"scale=-2:{height}:flags=lanczos"]
    else:
        filters = []
    threads = str(THREADS)
    return [
        FFMPEG, "-nostdin", "-v", "error", "-threads", threads, *inputs, *filters, "-an", "-c:v", "libx264",
        "-preset", "fast", "-crf", str(quality), "-pix_fmt", "yuv420p", "-threads", threads,
        "-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-y", str(target),
    ]  # fmt: skip


def main(args):
    """Returns size, frame rate, seconds and bytes of the new clip, its SHA-256, and the bytes of the old one."""
    try:
        operation = args.get("operation", "transcode")
        if operation not in OPERATIONS:
            raise ValueError(f"operation must be one of {', '.join(OPERATIONS)}")
        height = whole(args, "height", 180, 64, 720)
        if height % 2:
            raise ValueError("height must be even, as the video's colours are stored for pairs of lines")
        quality = whole(args, "quality", 28, 18, 40)
        source = input_file(args, "video")
        clip = probe(source)
        if clip["width"] * clip["height"] > MAX_PIXELS or clip["seconds"] > MAX_SECONDS:
            raise ValueError(f"video must have at most 1280x720 pixels and {MAX_SECONDS} s")
    except ValueError as error:
        return {"error": str(error)}
    with tempfile.TemporaryDirectory(prefix="video-") as folder:
        target, label = Path(folder) / "out.mp4", Path(folder) / "label.png"
        if operation == "watermark":
            draw_watermark(label, clip["height"])
        line = command(source, target, operation, height, quality, label)
        try:
            done = subprocess.run(line, capture_output=True, text=True, timeout=ENCODING_LIMIT)
        except subprocess.TimeoutExpired:
            return {"error": f"video could not be processed within {ENCODING_LIMIT} s"}
        if done.returncode:
            return {"error": f"video could not be processed: {done.stderr.strip()[-300:]}"}
        encoded = target.read_bytes()
        made = probe(target)
    return {
        "operation": operation,
        **made,
        "bytes": len(encoded),
        "source_bytes": source.stat().st_size,
        "sha256": hashlib.sha256(encoded).hexdigest(),
    }
