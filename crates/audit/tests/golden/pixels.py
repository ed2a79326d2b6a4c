"""Scores of CleanVision and hashes of imagededup on pictures made by formula.

Made with cleanvision 0.3.7, imagededup 0.3.3.post2, Pillow 13.0.0, numpy 2.4.6, scipy 1.17.1.
usage: python pixels.py > pixels.json        (the same formula stands in ../golden_pixels.rs)
"""
import contextlib
import json
import os
import sys
import tempfile

import numpy as np
from cleanvision import Imagelab
from imagededup.methods import PHash
from PIL import Image

# name, width, height, channels, kind, seed
PICTURES = [
    ("waves-a", 300, 300, 1, "waves", 1), ("waves-b", 300, 300, 3, "waves", 2), ("waves-c", 250, 250, 3, "waves", 3),
    ("waves-d", 321, 203, 3, "waves", 4), ("waves-e", 199, 311, 1, "waves", 5), ("waves-f", 64, 64, 3, "waves", 6),
    ("waves-g", 33, 47, 3, "waves", 7), ("waves-h", 28, 28, 1, "waves", 8), ("waves-i", 640, 480, 3, "waves", 9),
    ("noise-a", 200, 180, 1, "noise", 10), ("noise-b", 151, 200, 3, "noise", 11), ("dark-a", 256, 256, 3, "dark", 12),
    ("dark-b", 240, 200, 1, "dark", 13), ("light-a", 256, 256, 3, "light", 14), ("light-b", 180, 220, 1, "light", 15),
    ("slope-a", 300, 280, 3, "slope", 16), ("slope-b", 224, 224, 1, "slope", 17), ("long", 300, 60, 3, "waves", 18),
    ("tall", 40, 280, 1, "slope", 19), ("dots", 230, 230, 3, "dots", 20), ("huge", 1900, 1500, 1, "waves", 21),
    ("small", 20, 13, 3, "waves", 22), ("flat", 200, 200, 3, "flat", 23), ("two", 2, 2, 3, "noise", 24),
]


def tri(v, period):
    m = v % (2 * period)
    return np.where(m < period, m, 2 * period - m) * 255 // period


def hashed(x, y, c, seed):
    h = (x * 374761393 + y * 668265263 + c * 2246822519 + seed * 3266489917) % 2**32
    h = ((h ^ (h >> 13)) * 1274126177) % 2**32
    return (h ^ (h >> 16)) & 255


def waves(x, y, c, seed):
    return (2 * tri(3 * x + 2 * y + 11 * seed, 97 + seed) + tri(5 * y + x * x // (seed % 7 + 40), 61) + tri(x + 2 * y + 21 * c, 40 + 13 * c)) // 4


def value(kind, x, y, c, seed, width, height):
    if kind == "waves":
        return waves(x, y, c, seed)
    if kind == "noise":
        return hashed(x, y, c, seed)
    if kind == "dark":
        return waves(x, y, c, seed) // 6
    if kind == "light":
        return 247 + waves(x, y, c, seed) // 37
    if kind == "slope":
        return (x * (150 + seed + 20 * c) // width + y * 40 // height + hashed(x, y, 0, seed) % 3)
    if kind == "dots":
        return np.where((x // 9 + y // 7 + c) % (5 + seed % 3) == 0, 200 + hashed(x // 9, y // 7, c, seed) % 50, 30 + c)
    return 120 + c * 5 + 0 * x


with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
    for name, width, height, channels, kind, seed in PICTURES:
        y, x = np.mgrid[0:height, 0:width].astype(np.int64)
        planes = np.stack([value(kind, x, y, c, seed, width, height) for c in range(channels)], axis=-1)
        assert planes.min() >= 0 and planes.max() <= 255, name
        planes = planes.astype(np.uint8)
        Image.fromarray(planes[:, :, 0] if channels == 1 else planes).save(os.path.join(folder, name + ".png"))
    lab = Imagelab(data_path=folder)
    lab.find_issues(n_jobs=1, verbose=False)
    hashes = PHash(verbose=False).encode_images(folder, num_enc_workers=0)
    issues = lab.issues
    issues.index = [os.path.splitext(os.path.basename(path))[0] for path in issues.index]

checks = ["dark", "light", "odd_aspect_ratio", "low_information", "blurry", "grayscale", "odd_size"]
rows = []
for name, width, height, channels, kind, seed in PICTURES:
    row = issues.loc[name]
    rows.append({
        "name": name, "width": width, "height": height, "channels": channels, "kind": kind, "seed": seed,
        "scores": {check: float(row[f"{check}_score"]) for check in checks},
        "issues": {check: bool(row[f"is_{check}_issue"]) for check in checks},
        "phash": hashes[name + ".png"],
    })
print("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]")
