"""JPEG files and what libjpeg's scaled decoding makes of them, for tests/reduced.rs.

python make_reduced.py, run with Python 3, Pillow 13.0.0 and numpy 2.4.6.
"""
import sys

import numpy as np
import PIL
from PIL import Image

HEIGHT, WIDTH = 101, 139
y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
random = np.random.default_rng(5)
pixels = np.stack(
    [
        128 + 60 * np.sin(x / 9 + channel) + 45 * np.cos(y / 13 - channel) + 0.2 * (x - y) + random.normal(0, 6, (HEIGHT, WIDTH))
        for channel in range(3)
    ],
    axis=-1,
)
photo = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


photo.save("reduced_444.jpg", quality=88, subsampling=0)
photo.save("reduced_422.jpg", quality=88, subsampling=1)
photo.save("reduced_420.jpg", quality=88, subsampling=2)
photo.save("reduced_restart.jpg", quality=88, subsampling=2, restart_marker_blocks=3)
photo.save("reduced_progressive.jpg", quality=88, subsampling=2, progressive=True)
photo.convert("L").save("reduced_gray.jpg", quality=88)
photo.convert("L").save("reduced_gray_progressive.jpg", quality=88, progressive=True)
photo.convert("CMYK").save("reduced_cmyk.jpg", quality=88)
for orientation in range(2, 9):
    photo.save(f"reduced_orientation{orientation}.jpg", quality=70, subsampling=2, exif=exif(orientation))
for name in ["444", "420", "progressive", "gray"]:
    for scale in [2, 4, 8]:
        image = Image.open(f"reduced_{name}.jpg")
        image.draft(None, (WIDTH // scale, HEIGHT // scale))
        assert image.size == (-(-WIDTH // scale), -(-HEIGHT // scale)), image.size
        image.save(f"reduced_{name}_{scale}.png")
print(PIL.__version__, np.__version__, file=sys.stderr)
