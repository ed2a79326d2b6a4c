"""Judges MNIST's test labels as the published list of their errors was made, as far as that is known: a small network with dropout learns the training
images, then one epoch of the test images out of 5 folds. Prints where the 15 confirmed errors stand. Network and optimizer are those of cleanlab's MNIST
example; how many epochs were published with is not said.

    python benchmarks/pytorch_label_judge.py FOLDER-OF-MNIST SEED EPOCHS

Measured with PyTorch 2 and scikit-learn 1 on one thread (BENCHMARKS.md, "Two judges").
"""

import pathlib
import sys

import numpy as np
import torch
from sklearn.model_selection import StratifiedKFold
from torch import nn

CONFIRMED = [947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729]


def read(folder, part):
    pixels = np.frombuffer((folder / f"{part}-images-idx3-ubyte").read_bytes()[16:], np.uint8)
    labels = np.frombuffer((folder / f"{part}-labels-idx1-ubyte").read_bytes()[8:], np.uint8)
    images = torch.tensor(pixels.reshape(-1, 1, 28, 28).astype(np.float32) / 255)
    return (images - 0.1307) / 0.3081, torch.tensor(labels.astype(np.int64))


def network():
    return nn.Sequential(
        nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(10, 20, 5), nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(320, 50), nn.ReLU(), nn.Dropout(), nn.Linear(50, 10),
    )  # fmt: skip


def fit(net, images, labels, epochs):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.5)
    net.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()


def probabilities(net, images):
    net.eval()
    with torch.no_grad():
        return net(images).softmax(1).double().numpy()


def report(name, judged, labels):
    own = judged[np.arange(len(labels)), labels]
    order = np.argsort(own, kind="stable").tolist()
    ranks = sorted(order.index(i) + 1 for i in CONFIRMED)
    precision = np.mean([(found + 1) / rank for found, rank in enumerate(ranks)])
    print(f"{name}: accuracy {(judged.argmax(1) == labels).mean():.4f}, average precision {precision:.3f}, ranks {ranks}", flush=True)


def main():
    folder, seed, epochs = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    images, labels = read(folder, "t10k")
    first = network()
    fit(first, *read(folder, "train"), epochs)
    report(f"seed {seed}, {epochs} epochs of the training images", probabilities(first, images), labels.numpy())
    judged = np.zeros((len(labels), 10))
    for rest, held in StratifiedKFold(5, shuffle=True, random_state=seed).split(labels, labels):
        net = network()
        net.load_state_dict(first.state_dict())
        fit(net, images[rest], labels[rest], 1)
        judged[held] = probabilities(net, images[held])
    report("and one of the test images, out of 5 folds", judged, labels.numpy())


main()
