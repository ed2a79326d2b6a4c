"""Makes the files and expected pixels of crates/images/tests from Pillow and torchvision.

Run: python make_golden.py   (made with Python 3, Pillow, NumPy and torchvision of the versions written into expected.json)
"""

import io
import json
import os

import numpy as np
import PIL
import torchvision
from PIL import Image, ImageOps
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

HERE = os.path.dirname(os.path.abspath(__file__))
expected = {"versions": {"pillow": PIL.__version__, "torchvision": torchvision.__version__, "numpy": np.__version__}, "decode": {}}


def formula(width, height):
    """The same picture as `formula` in tests/pillow.rs: smooth parts, edges and texture."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((x * (3 + c) + y * (5 - c) + (x * x * y) % 31 + 40 * ((x // 9 + y // 7 + c) % 3)) % 256).astype(np.uint8)


def smooth(width, height):
    """Low frequencies only, so that lossy decoders may be compared closely."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return (128 + 90 * np.sin(x / 7.0 + c) * np.cos(y / 6.0 - c)).astype(np.uint8)


def put(name, data, want, tolerance=0):
    """`want` is an array [H, W] or [H, W, 3] of uint8 or uint16."""
    if not isinstance(data, bytes):
        buffer = io.BytesIO()
        data[0].save(buffer, **data[1])
        data = buffer.getvalue()
    with open(os.path.join(HERE, name), "wb") as file:
        file.write(data)
    want = np.asarray(want)
    expected["decode"][name] = {
        "width": want.shape[1],
        "height": want.shape[0],
        "channels": 1 if want.ndim == 2 else 3,
        "bits": 16 if want.dtype == np.uint16 else 8,
        "tolerance": tolerance,
        "pixels": want.flatten().tolist(),
    }


def decoded(name):
    with Image.open(os.path.join(HERE, name)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("L" if image.mode == "L" else "RGB"))


def lossy(name, image, tolerance, **options):
    put(name, (image, options), np.zeros((1, 1), np.uint8))
    put(name, open(os.path.join(HERE, name), "rb").read(), decoded(name), tolerance)


W, H = 13, 9
rgb = formula(W, H)
gray = rgb[:, :, 1].copy()
alpha = ((np.arange(W)[None, :] * 20 + np.arange(H)[:, None] * 3) % 256).astype(np.uint8)
wide = (gray.astype(np.uint16) * 257 + np.arange(W, dtype=np.uint16)[None, :]).astype(np.uint16)
background = np.array([10, 200, 90])  # the same as in the test


def over(color, transparency):
    color = np.repeat(color[:, :, None], 3, 2) if color.ndim == 2 else color
    a = transparency[:, :, None].astype(np.float64) / 255
    return np.floor(color * a + background * (1 - a) + 0.5).astype(np.uint8)


put("rgb.png", (Image.fromarray(rgb), dict(format="PNG")), rgb)
put("gray.png", (Image.fromarray(gray), dict(format="PNG")), gray)
put("gray16.png", (Image.fromarray(wide), dict(format="PNG")), wide)
put("rgba.png", (Image.fromarray(np.dstack([rgb, alpha])), dict(format="PNG")), over(rgb, alpha))
put("la.png", (Image.fromarray(np.dstack([gray, alpha]), "LA"), dict(format="PNG")), over(gray, alpha))
palette = Image.fromarray(rgb).quantize(16)
put("palette.png", (palette, dict(format="PNG")), np.asarray(palette.convert("RGB")))
put("palette_alpha.png", (palette, dict(format="PNG", transparency=3)), over(np.asarray(palette.convert("RGB")), np.where(np.asarray(palette) == 3, 0, 255)))
bits = Image.fromarray(gray).convert("1")
put("bits.png", (bits, dict(format="PNG")), np.asarray(bits.convert("L")))
put("rgb.bmp", (Image.fromarray(rgb), dict(format="BMP")), rgb)
put("palette.bmp", (palette, dict(format="BMP")), np.asarray(palette.convert("RGB")))
put("rgb.ppm", (Image.fromarray(rgb), dict(format="PPM")), rgb)
put("gray.pgm", (Image.fromarray(gray), dict(format="PPM")), gray)
put("bits.pbm", (bits, dict(format="PPM")), np.asarray(bits.convert("L")))
put("rgb.tiff", (Image.fromarray(rgb), dict(format="TIFF")), rgb)
put("lzw.tiff", (Image.fromarray(rgb), dict(format="TIFF", compression="tiff_lzw")), rgb)
put("deflate.tiff", (Image.fromarray(rgb), dict(format="TIFF", compression="tiff_adobe_deflate")), rgb)
put("gray.tiff", (Image.fromarray(gray), dict(format="TIFF")), gray)
put("gray16.tiff", (Image.fromarray(wide), dict(format="TIFF")), wide)
palette.save(os.path.join(HERE, "palette.tiff"))  # not supported: the test reads the error
put("rgba.tiff", (Image.fromarray(np.dstack([rgb, alpha])), dict(format="TIFF")), over(rgb, alpha))
second = Image.fromarray(255 - rgb).quantize(16)
put("two_frames.gif", (palette, dict(format="GIF", save_all=True, append_images=[second])), np.asarray(palette.convert("RGB")))
put("lossless.webp", (Image.fromarray(rgb), dict(format="WEBP", lossless=True)), rgb)
put("alpha.webp", (Image.fromarray(np.dstack([rgb, alpha])), dict(format="WEBP", lossless=True, exact=True)), over(rgb, alpha))

photo = Image.fromarray(smooth(45, 31))
lossy("lossy.webp", photo, 3, format="WEBP", quality=90)
lossy("baseline.jpg", photo, 3, format="JPEG", quality=90, subsampling=0)
lossy("subsampled.jpg", photo, 4, format="JPEG", quality=90, subsampling=2)
lossy("progressive.jpg", photo, 4, format="JPEG", quality=90, progressive=True)
lossy("gray.jpg", photo.convert("L"), 3, format="JPEG", quality=90)
lossy("cmyk.jpg", photo.convert("CMYK"), 4, format="JPEG", quality=95)
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossy(f"orientation{orientation}.jpg", photo.crop((0, 0, 24, 16)), 3, format="JPEG", quality=90, subsampling=0, exif=exif)
exif = Image.Exif()
exif[0x0112] = 6
put("orientation6.png", (Image.fromarray(rgb), dict(format="PNG", exif=exif)), np.rot90(rgb, -1))
put("orientation6.tiff", (Image.fromarray(rgb), dict(format="TIFF", exif=exif)), np.rot90(rgb, -1))
put("orientation6.webp", (Image.fromarray(rgb), dict(format="WEBP", lossless=True, exif=exif)), np.rot90(rgb, -1))

# Resizing: results as PNG files, named filter_mode_WxH_from_WxH.
filters = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos3": Image.LANCZOS, "nearest": Image.NEAREST}
for name, kind in filters.items():
    for (sw, sh), (w, h) in [((97, 71), (32, 24)), ((97, 71), (50, 60)), ((40, 30), (64, 56))]:
        for mode in ["RGB", "L"]:
            source = Image.fromarray(formula(sw, sh)).convert(mode)
            source.resize((w, h), kind).save(os.path.join(HERE, f"resize_{name}_{mode}_{w}x{h}_from_{sw}x{sh}.png"), optimize=True)

# torchvision's evaluation transform on Pillow images: shorter side / crop_pct, then the centre.
for name, kind in {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}.items():
    for (sw, sh), size in [((97, 71), 32), ((51, 88), 48), ((30, 41), 56)]:
        transform = Compose([Resize(round(size / 0.875), kind), CenterCrop(size)])
        transform(Image.fromarray(formula(sw, sh))).save(os.path.join(HERE, f"shorter_{name}_{size}_from_{sw}x{sh}.png"), optimize=True)

with open(os.path.join(HERE, "expected.json"), "w") as file:
    json.dump(expected, file, separators=(",", ":"))
