"""One SGD step in PyTorch on the CPU: milliseconds (median of seven after two to warm up) and the process's peak memory in MiB.

usage: python pytorch_step.py {resnet18_cifar|lite0|mnist_cnn|mobilenet_v2|vit_tiny} {f32|bf16} {nchw|channels_last} [THREADS]
bf16 is autocast. Needs torch, torchvision, timm.
"""
import json
import resource
import statistics
import sys
import time

import timm
import torch
import torchvision
from torch import nn

name, precision, layout = sys.argv[1:4]
threads = int(sys.argv[4]) if len(sys.argv) > 4 else 2
torch.set_num_threads(threads)
torch.manual_seed(0)


def network():
    if name == "resnet18_cifar":
        net = torchvision.models.resnet18(num_classes=10)
        net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
        return net, (32, 3, 32, 32)
    if name == "lite0":
        return timm.create_model("efficientnet_lite0", num_classes=10), (8, 3, 224, 224)
    if name == "mobilenet_v2":
        return torchvision.models.mobilenet_v2(num_classes=10, dropout=0.0), (8, 3, 224, 224)
    if name == "vit_tiny":
        return timm.create_model("vit_tiny_patch16_224", num_classes=10), (8, 3, 224, 224)
    convolutions = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*convolutions, nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10)), (64, 1, 28, 28)


memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
net, shape = network()
x, y = torch.randn(*shape).to(memory_format=memory_format), torch.zeros(shape[0], dtype=torch.long)
net = net.to(memory_format=memory_format).train()
update = torch.optim.SGD(net.parameters(), lr=0.01)
times = []
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for _ in range(9):
    start = time.perf_counter()
    update.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    update.step()
    times.append((time.perf_counter() - start) * 1e3)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
result = {"step": name, "precision": precision, "layout": layout, "threads": threads}
# `before`: the interpreter with its libraries, network and batch, before the first step.
result |= {"milliseconds": round(statistics.median(times[2:]), 1), "peak_mib": round(peak), "before_mib": round(before)}
print(json.dumps(result))
