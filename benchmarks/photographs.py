"""Photographs of 12 megapixels (4000 x 3000) for benchmarks, out of a folder of smaller JPEG pictures: several of them enlarged and put side by
side, with the noise of a sensor, so that the entropy-coded data is as long as a camera's.

usage: python photographs.py FOLDER OUT [COUNT] [--subsampling 420|444] [--progressive] [--quality 90]
Needs Pillow and numpy. The same arguments give the same pixels.
"""
import argparse
import pathlib

import numpy as np
from PIL import Image

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("count", nargs="?", type=int, default=24)
parser.add_argument("--subsampling", choices=["420", "444"], default="420")
parser.add_argument("--progressive", action="store_true")
parser.add_argument("--quality", type=int, default=90)
args = parser.parse_args()

WIDTH, HEIGHT, ACROSS, DOWN = 4000, 3000, 2, 2
files = sorted(file for kind in ("jpg", "jpeg", "JPEG") for file in args.folder.rglob(f"*.{kind}"))
args.out.mkdir(parents=True, exist_ok=True)
for number in range(args.count):
    random = np.random.default_rng(number)
    photo = Image.new("RGB", (WIDTH, HEIGHT))
    for row in range(DOWN):
        for column in range(ACROSS):
            part = Image.open(files[random.integers(len(files))]).convert("RGB")
            part = part.resize((WIDTH // ACROSS, HEIGHT // DOWN), Image.BICUBIC)
            photo.paste(part, (column * WIDTH // ACROSS, row * HEIGHT // DOWN))
    # Shot noise grows with the light; a little of it differs between the channels.
    pixels = np.asarray(photo, dtype=np.float32)
    grain = random.standard_normal((HEIGHT, WIDTH, 1), dtype=np.float32) * 1.3
    colour = random.standard_normal((HEIGHT, WIDTH, 3), dtype=np.float32) * 0.9
    noisy = pixels + (grain + colour) * (1.5 + np.sqrt(pixels) / 6)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(
        args.out / f"photo{number:03}.jpg",
        quality=args.quality,
        subsampling=0 if args.subsampling == "444" else 2,
        progressive=args.progressive,
    )
