"""Writes models.json and published.json: what the PyTorch originals compute on weights and inputs made by a formula.

    python make.py models
    python make.py published FILE.pth ...   # the published EfficientNet-Lite state dicts, any of them

Needs torch, torchvision, timm, numpy, pillow; for `published` also efficientnet_lite_pytorch. Their versions stand in the files.
"""

import json
import sys
from pathlib import Path

import numpy as np
import PIL
import timm
import torch
import torchvision
from PIL import Image
from torch import nn

HERE = Path(__file__).parent
torch.set_num_threads(1)


# The formula; `formula.rs` has the same. ---------------------------------------------------------------------------------


def uniform(name, count):
    """`count` values in 0..1: splitmix64 seeded by the FNV-1a hash of a name, 24 bits each."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2**24


def parameter(name, shape):
    u = uniform(name, int(np.prod(shape)))
    if name.endswith("running_var"):
        values = 0.25 + u
    elif name.endswith("running_mean"):
        values = 0.4 * u - 0.2
    elif name.endswith("bias"):
        values = 0.6 * u - 0.2
    elif len(shape) == 1:
        values = 0.5 + 0.6 * u
    elif len(shape) == 3:
        values = u - 0.5
    else:
        values = (2 * u - 1) * np.sqrt(6 / np.prod(shape[1:]))
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def images(shape):
    """Noise on a slope that differs from sample to sample, so that every position and sample counts."""
    n, c, h, w = shape
    noise = 2 * uniform("input", n * c * h * w).reshape(shape) - 1
    sample = np.arange(n).reshape(n, 1, 1, 1)
    row, column = np.arange(h).reshape(1, 1, h, 1) / h, np.arange(w).reshape(1, 1, 1, w) / w
    return torch.from_numpy((noise + (1 + sample) * row - column).astype(np.float32))


# The originals. ----------------------------------------------------------------------------------------------------------


class LeNet5(nn.Module):
    """LeCun et al. 1998 with ReLU, max pooling and a full C3."""

    def __init__(self, in_chans, num_classes, image_size):
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        h, w = [(side // 2 - 4) // 2 for side in image_size]
        self.fc1 = nn.Linear(16 * h * w, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv1(x).relu(), 2)
        x = nn.functional.max_pool2d(self.conv2(x).relu(), 2).flatten(1)
        return self.fc3(self.fc2(self.fc1(x).relu()).relu())


class TinyCnn(nn.Module):
    def __init__(self, in_chans, num_classes):
        super().__init__()
        widths = [in_chans, 16, 16, 32, 32, 64, 128]
        for i in range(1, 7):
            self.add_module(f"conv{i}", nn.Conv2d(widths[i - 1], widths[i], 3, padding=1, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(widths[i]))
        self.fc = nn.Linear(128, num_classes)

    def forward(self, x):
        for i in range(1, 7):
            if i in (3, 5):
                x = nn.functional.max_pool2d(x, 2)
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x)).relu()
        return self.fc(x.mean((2, 3)))


def original(name, in_chans, num_classes, image_size, small):
    if name == "lenet5":
        return LeNet5(in_chans, num_classes, image_size)
    if name == "tiny_cnn":
        return TinyCnn(in_chans, num_classes)
    if name.startswith("resnet"):
        net = getattr(torchvision.models, name)(num_classes=num_classes)
        if small:
            net.conv1 = nn.Conv2d(in_chans, 64, 3, padding=1, bias=False)
            net.maxpool = nn.Identity()
        elif in_chans != 3:
            net.conv1 = nn.Conv2d(in_chans, 64, 7, 2, 3, bias=False)
        return net
    if name == "mobilenet_v2":
        net = torchvision.models.mobilenet_v2(num_classes=num_classes)
        net.features[0][0] = nn.Conv2d(in_chans, 32, 3, 1 if small else 2, 1, bias=False)
        return net
    if name.startswith("efficientnet_lite"):
        net = timm.create_model(f"tf_{name}", pretrained=False, num_classes=num_classes, in_chans=in_chans)
        if small:
            net.conv_stem.stride = (1, 1)
        return net
    patch = 4 if small else 16
    return timm.create_model(
        name, pretrained=False, num_classes=num_classes, in_chans=in_chans, img_size=tuple(image_size), patch_size=patch
    )


# model, channels, classes, [H, W], small stem, batch
CASES = [
    ("lenet5", 1, 10, [28, 28], True, 2),
    ("lenet5", 3, 7, [33, 40], True, 1),
    ("tiny_cnn", 1, 10, [28, 28], True, 2),
    ("tiny_cnn", 3, 5, [33, 32], True, 1),
    ("resnet18", 3, 1000, [64, 64], False, 2),
    ("resnet18", 1, 10, [28, 28], True, 1),
    ("resnet34", 1, 12, [64, 90], False, 1),
    ("resnet34", 3, 10, [16, 16], True, 1),
    ("resnet50", 3, 100, [64, 64], False, 1),
    ("resnet50", 3, 10, [16, 16], True, 1),
    ("mobilenet_v2", 3, 1000, [75, 96], False, 2),
    ("mobilenet_v2", 1, 10, [28, 28], True, 1),
    ("efficientnet_lite0", 3, 1000, [96, 96], False, 2),
    ("efficientnet_lite0", 1, 10, [28, 28], True, 1),
    ("efficientnet_lite0", 3, 10, [75, 61], False, 1),
    ("efficientnet_lite1", 3, 10, [64, 64], False, 1),
    ("efficientnet_lite2", 3, 10, [65, 65], False, 1),
    ("efficientnet_lite3", 3, 10, [70, 64], False, 1),
    ("efficientnet_lite4", 3, 10, [64, 64], False, 1),
    ("efficientnet_lite4", 1, 3, [32, 32], True, 1),
    ("vit_tiny_patch16_224", 3, 1000, [224, 224], False, 1),
    ("vit_tiny_patch16_224", 1, 10, [28, 28], True, 2),
    ("vit_tiny_patch16_224", 3, 10, [48, 96], False, 1),
]
PUBLISHED_SIZES = {"lenet5": (1, 10, 28), "tiny_cnn": (1, 10, 28)}


def numbers(tensor):
    return [float(f"{value:.7g}") for value in tensor.flatten().tolist()]


def count(net):
    return sum(p.numel() for p in net.parameters())


def versions(**more):
    found = {"torch": torch.__version__, "torchvision": torchvision.__version__, "timm": timm.__version__}
    return found | {"numpy": np.__version__, "pillow": PIL.__version__} | more


def run_case(name, in_chans, num_classes, image_size, small, batch):
    net = original(name, in_chans, num_classes, image_size, small).eval()
    state = net.state_dict()
    state = {k: v if k.endswith("num_batches_tracked") else parameter(k, v.shape) for k, v in state.items()}
    net.load_state_dict(state)
    with torch.no_grad():
        logits = net(images((batch, in_chans, *image_size)))
    tensors = sum(not k.endswith("num_batches_tracked") for k in state)
    spread = (logits[0] - logits[-1]).abs().max().item() if batch > 1 else float("nan")
    print(f"{name:22} {count(net):9} |logits| {logits.abs().max():9.3f} std {logits.std():9.3f} between samples {spread:8.3f}", flush=True)
    case = {"model": name, "in_chans": in_chans, "num_classes": num_classes, "image_size": image_size, "small": small}
    return case | {"batch": batch, "parameters": count(net), "tensors": tensors, "logits": numbers(logits)}


def write(file, value):
    text = json.dumps(value, separators=(",", ":")).replace('{"model"', '\n{"model"')
    (HERE / file).write_text(text + "\n")


def models():
    published = {}
    for name in dict.fromkeys(case[0] for case in CASES):
        in_chans, classes, size = PUBLISHED_SIZES.get(name, (3, 1000, 224))
        published[name] = count(original(name, in_chans, classes, [size, size], False))
    write("models.json", {"versions": versions(), "parameters": published, "cases": [run_case(*case) for case in CASES]})


# Published weights. ------------------------------------------------------------------------------------------------------


def picture():
    """A picture of 320 x 280 pixels by formula: two waves and a little noise."""
    h, w = 280, 320
    y, x = np.mgrid[0:h, 0:w]
    noise = uniform("picture", h * w * 3).reshape(h, w, 3)
    waves = np.stack([x * (c + 2) % 256 + y * (3 - c) % 256 for c in range(3)], axis=2) / 2
    return Image.fromarray((0.8 * waves + 50 * noise).astype(np.uint8))


def prepare(image, size):
    """Shorter side to size + 32, bicubic, centre crop, -1..1; sides are cut to whole pixels as torchvision's Resize does."""
    shorter = min(image.size)
    image = image.resize([side * (size + 32) // shorter for side in image.size], Image.Resampling.BICUBIC)
    left, top = [round((side - size) / 2) for side in image.size]
    values = np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.float32)
    return torch.from_numpy((values / 255 - 0.5) / 0.5).permute(2, 0, 1)[None]


def published(files):
    from importlib.metadata import version

    from efficientnet_lite_pytorch import EfficientNet

    cases = []
    for file in sorted(files):
        name = next(f"efficientnet_lite{i}" for i in range(5) if f"lite{i}" in Path(file).name)
        size = {"0": 224, "1": 240, "2": 260}[name[-1]]
        net = EfficientNet.from_name(name.replace("_", "-"))
        net.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        net.eval()
        with torch.no_grad():
            formula, pic = net(images((1, 3, size, size)))[0], net(prepare(picture(), size))[0]
        print(name, "formula", formula.argmax().item(), "picture", pic.argmax().item(), pic.softmax(0).max().item())
        cases.append({"model": name, "size": size, "formula": numbers(formula), "picture": numbers(pic)})
    write("published.json", {"versions": versions(efficientnet_lite_pytorch=version("efficientnet_lite_pytorch")), "cases": cases})


if __name__ == "__main__":
    {"models": lambda _: models(), "published": published}[sys.argv[1]](sys.argv[2:])
