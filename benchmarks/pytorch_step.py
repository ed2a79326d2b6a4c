"""One SGD step in PyTorch on the CPU, f32, NCHW and channels-last: milliseconds, median of seven after two to warm up.

usage: python pytorch_step.py {resnet18_cifar|lite0|mnist_cnn} [THREADS]    needs torch, torchvision, timm
"""
import json
import statistics
import sys
import time

import timm
import torch
import torchvision
from torch import nn

name, threads = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2
torch.set_num_threads(threads)


def network():
    if name == "resnet18_cifar":
        net = torchvision.models.resnet18(num_classes=10)
        net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
        return net, (32, 3, 32, 32)
    if name == "lite0":
        return timm.create_model("efficientnet_lite0", num_classes=10), (8, 3, 224, 224)
    convolutions = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*convolutions, nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10)), (64, 1, 28, 28)


def step_ms(layout):
    torch.manual_seed(0)
    net, shape = network()
    x, y = torch.randn(*shape).to(memory_format=layout), torch.zeros(shape[0], dtype=torch.long)
    net = net.to(memory_format=layout).train()
    update = torch.optim.SGD(net.parameters(), lr=0.01)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        update.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        update.step()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[2:])


best = min(step_ms(torch.contiguous_format), step_ms(torch.channels_last))
print(json.dumps({"step": name, "threads": threads, "pytorch_ms": round(best, 1)}))
