"""The input files of the ten functions: photos, video clips, pages of text and DNA sequences of several sizes.

They are made once per machine from what the installed packages carry, and shared by all containers by reference:

- photos: scikit-learn's two sample photos at several sizes (CC BY 2.0: china by danielbuechele, flower by vultilion);
- clips: slow pans over these photos with sensor noise, encoded by imageio-ffmpeg's ffmpeg;
- pages: the opening of "Alice's Adventures in Wonderland" (1865, public domain), typeset with Pillow; beside each
  page lies its text;
- genomes: sequences drawn with the codon usage of Escherichia coli on both strands and a Markov chain between the
  genes. They are synthetic: no package of the project carries a real genome.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

VERSION = 1
PHOTO_WIDTHS = (800, 1150, 1650, 2400)
PHOTO_SUBJECTS = ("china", "flower")
CLIPS = {"short": (480, 270, 7), "medium": (640, 360, 6), "long": (854, 480, 8), "large": (1280, 720, 6)}
CLIP_FPS = 25
PAGE_LINES = (4, 7, 12, 20)
GENOME_BASES = (1_000_000, 1_800_000, 3_300_000, 6_000_000)
SEED = 20_240_601

PHOTOS = tuple(f"photos/{subject}-{width}.jpg" for width in PHOTO_WIDTHS for subject in PHOTO_SUBJECTS)
VIDEOS = tuple(f"clips/{name}.mp4" for name in CLIPS)
PAGES = tuple(f"pages/lines-{lines:02d}.png" for lines in PAGE_LINES)
GENOMES = tuple(f"genomes/bases-{bases:07d}.fasta" for bases in GENOME_BASES)

TEXT = """\
Alice was beginning to get very tired of
sitting by her sister on the bank and of
having nothing to do. Once or twice she had
peeped into the book her sister was reading
but it had no pictures or conversations in it
and what is the use of a book thought Alice
without pictures or conversations. So she was
considering in her own mind as well as she
could for the hot day made her feel very
sleepy and stupid whether the pleasure of
making a daisy chain would be worth the
trouble of getting up and picking the daisies
when suddenly a White Rabbit with pink eyes
ran close by her. There was nothing so very
remarkable in that nor did Alice think it so
very much out of the way to hear the Rabbit
say to itself that it would be too late. But
when the Rabbit actually took a watch out
of its waistcoat pocket and looked at it and
then hurried on Alice started to her feet""".splitlines()

# Approximate codons per thousand in the genes of Escherichia coli K-12; TAA ends a gene.
CODON_USAGE = (
    "TTT22 TTC17 TTA14 TTG14 TCT8 TCC9 TCA7 TCG9 TAT16 TAC12 TGT5 TGC6 TGG15 CTT11 CTC11 CTA4 CTG53 CCT7 CCC6 CCA8 "
    "CCG23 CAT13 CAC10 CAA15 CAG29 CGT21 CGC22 CGA4 CGG5 ATT30 ATC25 ATA4 ATG28 ACT9 ACC23 ACA7 ACG14 AAT18 AAC22 "
    "AAA34 AAG10 AGT9 AGC16 AGA2 AGG1 GTT18 GTC15 GTA11 GTG26 GCT15 GCC26 GCA20 GCG34 GAT32 GAC19 GAA40 GAG18 GGT25 "
    "GGC30 GGA8 GGG11"
)
GENE_CODONS, GAP_BASES = 310, 120
# Chance of the next base (A, C, G, T) after each base between the genes, which are poorer in G and C there.
GAP_CHAIN = ((0.33, 0.18, 0.17, 0.32), (0.33, 0.21, 0.22, 0.24), (0.27, 0.25, 0.21, 0.27), (0.27, 0.19, 0.20, 0.34))

Progress = Callable[[int, int, str], None]


class InputsError(Exception):
    """The input files could not be made; the message says why and what to do."""


def folder(cache: Path) -> Path:
    """Where the input files lie, or will lie, below a cache folder."""
    return cache / f"inputs-v{VERSION}"


def prepare(cache: Path, progress: Progress | None = None) -> Path:
    """Makes the input files below ``cache`` if they are not there yet, and returns their folder.

    The folder appears at once and complete, also when several processes prepare it together. ``progress`` is called
    before each step with (steps done, steps in all, what is made next). Takes about ten seconds and 17 MB. Raises
    InputsError when a package is missing or the disk refuses.
    """
    target = folder(cache)
    if target.is_dir():
        return target
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="inputs-", dir=cache) as workshop:
            made = Path(workshop) / "made"
            _make_all(made, progress or (lambda done, total, what: None))
            _publish(made, target)
    except ImportError as error:
        raise InputsError(f"the inputs need the extra packages 'functions' of this project: {error}") from error
    except (OSError, RuntimeError) as error:
        raise InputsError(f"the inputs could not be written below {cache}: {error}") from error
    return target


def _publish(made: Path, target: Path) -> None:
    try:
        os.rename(made, target)
    except OSError:
        if not target.is_dir():
            raise


def _make_all(made: Path, progress: Progress) -> None:
    steps = [
        ("photos", _make_photos),
        ("video clips", _make_clips),
        ("pages of text", _make_pages),
        ("DNA sequences", _make_genomes),
    ]
    for done, (what, make) in enumerate(steps):
        progress(done, len(steps), what)
        make(made)


def _make_photos(made: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_sample_image

    (made / "photos").mkdir(parents=True)
    for subject in PHOTO_SUBJECTS:
        original = Image.fromarray(load_sample_image(f"{subject}.jpg"))
        for width in PHOTO_WIDTHS:
            height = round(original.height * width / original.width)
            scaled = original.resize((width, height), Image.Resampling.LANCZOS)
            scaled.save(made / "photos" / f"{subject}-{width}.jpg", quality=90)


def _make_clips(made: Path) -> None:
    from imageio_ffmpeg import get_ffmpeg_exe

    (made / "clips").mkdir()
    for number, (name, (width, height, seconds)) in enumerate(CLIPS.items()):
        photo = made / "photos" / f"{PHOTO_SUBJECTS[number % len(PHOTO_SUBJECTS)]}-{PHOTO_WIDTHS[2]}.jpg"
        path = f"(iw-ow)/2*(1+sin(t*{0.5 + number / 5}))"
        pan = f"crop={width}:{height}:x='{path}':y='(ih-oh)/2*(1-cos(t))',noise=alls=6:allf=t:all_seed={SEED}"
        line = [
            get_ffmpeg_exe(), "-nostdin", "-v", "error", "-loop", "1", "-framerate", str(CLIP_FPS), "-i", str(photo),
            "-t", str(seconds), "-vf", pan, "-c:v", "libx264", "-preset", "ultrafast", "-crf", "26",
            "-pix_fmt", "yuv420p", "-y", str(made / "clips" / f"{name}.mp4"),
        ]  # fmt: skip
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode:
            raise InputsError(f"ffmpeg could not make the clip {name!r}: {done.stderr.strip()[-300:]}")


def _make_pages(made: Path) -> None:
    from PIL import Image, ImageDraw, ImageFont

    (made / "pages").mkdir()
    font, spacing, margin = ImageFont.load_default(size=24), 36, 24
    for page, lines in zip(PAGES, PAGE_LINES):
        sheet = Image.new("RGB", (640, 2 * margin + lines * spacing), (250, 248, 240))
        draw = ImageDraw.Draw(sheet)
        for row, text in enumerate(TEXT[:lines]):
            draw.text((margin, margin + row * spacing), text, font=font, fill=(30, 30, 50))
        sheet.save(made / page)
        (made / page).with_suffix(".txt").write_text("\n".join(TEXT[:lines]) + "\n")


def _make_genomes(made: Path) -> None:
    import numpy as np

    (made / "genomes").mkdir()
    rng = np.random.default_rng(SEED)
    sequence = _genome(max(GENOME_BASES), rng)
    for path, bases in zip(GENOMES, GENOME_BASES):
        lines = "\n".join(sequence[start : min(start + 70, bases)] for start in range(0, bases, 70))
        (made / path).write_text(f">synthetic {bases} bases, codon usage of Escherichia coli\n{lines}\n")


def _genome(bases: int, rng) -> str:
    """A sequence of ``bases`` letters: genes on both strands with gaps between them; ``rng``: a numpy Generator."""
    import numpy as np

    codons = [entry[:3] for entry in CODON_USAGE.split()]
    usage = np.array([float(entry[3:]) for entry in CODON_USAGE.split()])
    usage /= usage.sum()
    gaps = _markov(bases // 5, rng)
    complement = str.maketrans("ACGT", "TGCA")
    parts, length, gap_start = [], 0, 0
    while length < bases:
        picked = rng.choice(len(codons), size=1 + rng.geometric(1 / GENE_CODONS), p=usage)
        gene = "ATG" + "".join(codons[index] for index in picked) + "TAA"
        if rng.random() < 0.5:
            gene = gene.translate(complement)[::-1]
        gap_end = gap_start + int(rng.geometric(1 / GAP_BASES))
        parts += [gene, gaps[gap_start:gap_end]]
        length += len(parts[-1]) + len(gene)
        gap_start = gap_end % len(gaps)
    return "".join(parts)[:bases]


def _markov(bases: int, rng) -> str:
    """A first-order Markov chain of ``bases`` letters."""
    import numpy as np

    bounds = np.cumsum(GAP_CHAIN, axis=1)[:, :3].tolist()
    letters, state = [], 0
    for chance in rng.random(bases).tolist():
        first, second, third = bounds[state]
        state = 0 if chance < first else 1 if chance < second else 2 if chance < third else 3
        letters.append("ACGT"[state])
    return "".join(letters)
