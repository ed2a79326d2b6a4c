"""ONNX parity with ONNX Runtime, at real sizes.

python benchmarks/onnx_parity.py zoo             every architecture of the zoo: exported, checked by onnx.checker, run in ONNX Runtime
python benchmarks/onnx_parity.py FILE.onnx …     files from elsewhere: imported and compared

Needs numpy, onnx and onnxruntime, and `cargo build --release -p fieldmark-engine --example onnx_logits` before. Prints one line a model: the
largest difference of a logit relative to the largest logit, and whether it is within 1e-4.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target"))
BINARY = os.environ.get("ONNX_LOGITS", str(TARGET / "release/examples/onnx_logits"))
ZOO = ("lenet5 tiny_cnn resnet18 resnet34 resnet50 mobilenet_v2 efficientnet_lite0 efficientnet_lite1 efficientnet_lite2 efficientnet_lite3 "
       "efficientnet_lite4 vit_tiny_patch16_224").split()


def images(shape):
    i = np.arange(int(np.prod(shape)), dtype=np.int64)
    return (((i * 37) % 101) / 50 - 1).astype(np.float32).reshape(shape)


def peer(path):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    info = session.get_inputs()[0]
    channels_last = info.shape[3] in (1, 3) and info.shape[1] not in (1, 3)
    sides = [d if isinstance(d, int) else 224 for d in info.shape[1:]]
    shape = [2, sides[2], sides[0], sides[1]] if channels_last else [2, *sides]
    x = images(shape)
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if channels_last else x
    if isinstance(info.shape[0], int) and info.shape[0] != 2:
        batch = info.shape[0]
        whole = np.concatenate([x] * -(-batch // 2))[:batch] if batch > 1 else None
        if whole is None:
            return np.concatenate([session.run(None, {info.name: x[i : i + 1]})[0] for i in range(2)])
        return session.run(None, {info.name: whole})[0][:2]
    return session.run(None, {info.name: x})[0]


def compare(name, path, out):
    y = peer(path).reshape(-1)
    ours = np.fromfile(out, np.float32)
    if ours.shape != y.shape:
        return f"{name}: {ours.size} values, ONNX Runtime has {y.size}", False
    difference = float(np.abs(ours - y).max() / max(1e-6, np.abs(y).max()))
    return f"{name}: {difference:.1e}", difference <= 1e-4


def main():
    print(f"onnx {onnx.__version__}, onnxruntime {ort.__version__}")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/logits.f32"
        names = ZOO if sys.argv[1:] == ["zoo"] else sys.argv[1:]
        for name in names:
            path = f"{folder}/model.onnx" if name in ZOO else name
            command = [BINARY, "export", name, path, out] if name in ZOO else [BINARY, "import", name, out]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode != 0:
                print(f"{os.path.basename(name)}: REFUSED: {result.stderr.strip()}", flush=True)
                failed += 1
                continue
            if name in ZOO:
                onnx.checker.check_model(path, full_check=True)
            text, good = compare(os.path.basename(name), path, out)
            failed += not good
            print(f"{text}{'' if good else '  TOO LARGE'}  {result.stdout.strip()}", flush=True)
    sys.exit(1 if failed else 0)


main()
