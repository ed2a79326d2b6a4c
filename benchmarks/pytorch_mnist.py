"""Seconds to 99 % on MNIST in PyTorch: the network (tiny_cnn) and the settings of recipes/mnist-99.toml.

usage: python pytorch_mnist.py FOLDER SEED [THREADS]    FOLDER holds the four IDX files

AdamW, one cycle, no augmentation, batches of 128, 5 % of the training images validate after every epoch; the test images are looked at once,
at the end. Images lie in memory as floats before the clock starts. One JSON object.
"""
import gzip
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(int(sys.argv[3]) if len(sys.argv) > 3 else 2)
torch.manual_seed(seed)
EPOCHS, BATCH, RATE, DECAY = 3, 128, 5e-3, 0.02


def idx(name):
    found = next(p for p in folder.rglob("*") if p.name.startswith(name) and p.is_file())
    data = found.read_bytes()
    data = gzip.decompress(data) if found.suffix == ".gz" else data
    dims = data[3]
    shape = np.frombuffer(data, ">i4", dims, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(shape)


def images(name):
    return (torch.from_numpy(idx(name).astype(np.float32))[:, None] / 255 - 0.1307) / 0.3081


x, y = images("train-images"), torch.from_numpy(idx("train-labels").astype(np.int64))
test_x, test_y = images("t10k-images"), torch.from_numpy(idx("t10k-labels").astype(np.int64))
order = torch.randperm(len(x))
held, train = order[:3000], order[3000:]
layers, width = [], 1
for out, pooled in [(16, False), (16, False), (32, True), (32, False), (64, True), (128, False)]:
    layers += [nn.MaxPool2d(2)] if pooled else []
    layers += [nn.Conv2d(width, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    width = out
net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))
net = net.to(memory_format=torch.channels_last)
x, test_x = x.contiguous(memory_format=torch.channels_last), test_x.contiguous(memory_format=torch.channels_last)
steps = len(train) // BATCH
plain = [p for p in net.parameters() if p.ndim == 1]
groups = [{"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}]
update = torch.optim.AdamW(groups, lr=RATE)
schedule = torch.optim.lr_scheduler.OneCycleLR(update, RATE, total_steps=steps * EPOCHS, pct_start=0.25, div_factor=25, final_div_factor=4e3,
                                               cycle_momentum=False)


def accuracy(x, y):
    net.eval()
    with torch.no_grad():
        return sum((net(a).argmax(1) == b).sum().item() for a, b in zip(x.split(500), y.split(500))) / len(x)


start, curve = time.perf_counter(), []
for epoch in range(EPOCHS):
    net.train()
    for batch in train[torch.randperm(len(train))][: steps * BATCH].split(BATCH):
        update.zero_grad()
        nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
        update.step()
        schedule.step()
    curve.append(accuracy(x[held], y[held]))
seconds = time.perf_counter() - start
print(json.dumps({"seed": seed, "seconds": round(seconds, 1), "epochs": len(curve), "validation": curve, "test": accuracy(test_x, test_y)}))
