"""Small ONNX files as torch (legacy and dynamo exporter), timm and a TensorFlow-like converter write them, and what ONNX Runtime makes of them.

Run: python onnx_files.py [NAME …] (writes onnx/NAME.onnx and onnx/expected.json beside it). Weights are random and tiny. There is no tf2onnx here: the
channels-last file is built with onnx.helper in the form that tf2onnx gives Keras models (NHWC input, a Transpose around every convolution,
biases as Add on channels last, Pad before strided convolutions, a Squeeze after the mean, MatMul and Add at the end, Softmax).
"""

import json
import pathlib
import sys
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import timm
import torch
import torchvision
from onnx import TensorProto, helper, numpy_helper
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import EfficientNet
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent
OUT = HERE / "onnx"
OUT.mkdir(exist_ok=True)


def images(n, c, h, w):
    """Whole hundredths that every language makes alike."""
    i = np.arange(n * c * h * w)
    return (((i * 37) % 101) / 50 - 1).astype(np.float32).reshape(n, c, h, w)


def lively(model):
    """Norms with statistics of their own."""
    g = torch.Generator().manual_seed(7)
    for m in model.modules():
        if isinstance(m, (nn.BatchNorm2d, nn.BatchNorm1d)):
            m.running_mean.copy_(torch.randn(m.running_mean.shape, generator=g) * 0.1)
            m.running_var.copy_(torch.rand(m.running_var.shape, generator=g) + 0.5)
        if isinstance(m, (nn.BatchNorm2d, nn.BatchNorm1d, nn.LayerNorm)) and m.weight is not None:
            with torch.no_grad():
                m.weight.copy_(torch.rand(m.weight.shape, generator=g) * 0.5 + 0.75)
                m.bias.copy_(torch.randn(m.bias.shape, generator=g) * 0.1)
    return model.eval()


class Pools(nn.Module):
    """Poolings and paddings in their settings."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2))
        self.b = nn.Conv2d(6, 8, 3, groups=2, bias=False)
        self.c = nn.Conv2d(8, 8, 3, groups=8)
        self.fc = nn.Linear(8 * 3 * 4, 4)

    def forward(self, x):
        x = nn.functional.relu6(self.a(x))  # [6, 9, 15]
        x = nn.functional.max_pool2d(x, 3, 2, 1, ceil_mode=True)  # [6, 5, 8]
        x = torch.tanh(self.b(nn.functional.pad(x, (1, 0, 2, 1))))  # [8, 6, 7]
        x = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        x = torch.sigmoid(self.c(x))  # [8, 4, 5]
        x = nn.functional.avg_pool2d(x, 2, 1, ceil_mode=True)  # [8, 3, 4]
        return self.fc(x.flatten(1))


class SeparateAttention(nn.Module):
    """Queries, keys and values by three layers, as Hugging Face writes them, with a token that is selected by a slice."""

    def __init__(self, dim=12, heads=2):
        super().__init__()
        self.heads = heads
        self.patch = nn.Conv2d(3, dim, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.position = nn.Parameter(torch.randn(1, 17, dim))
        self.norm = nn.LayerNorm(dim)
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.head = nn.Linear(dim, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        y = self.norm(x)
        split = lambda t: t.view(t.shape[0], -1, self.heads, t.shape[-1] // self.heads).permute(0, 2, 1, 3)
        q, k, v = split(self.query(y)), split(self.key(y)), split(self.value(y))
        a = (q @ k.transpose(-1, -2) / (k.shape[-1] ** 0.5)).softmax(-1)
        y = (a @ v).permute(0, 2, 1, 3).reshape(x.shape)
        x = x + nn.functional.gelu(self.out(y))
        return self.head(x[:, 0])


class Halves(nn.Module):
    """Channels split, half of them worked on, joined again; gates over tokens; a mean without the first token."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.branch = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.fc1 = nn.Linear(8, 8)
        self.bn1d = nn.BatchNorm1d(8)
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x):
        x = nn.functional.silu(self.stem(x))
        a, b = x.chunk(2, 1)
        x = self.norm(torch.cat([nn.functional.hardswish(self.branch(a)), b], 1))
        x = x.flatten(2).transpose(1, 2)[:, 1:].mean(1)
        x = self.bn1d(self.fc1(x * 2 - 0.5))
        return self.fc2(x).log_softmax(-1)


def vit(**kw):
    return VisionTransformer(img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=3, num_classes=5, **kw)


def unfused(model):
    for m in model.modules():
        if hasattr(m, "fused_attn"):
            m.fused_attn = False
    return model


def mobile(se_gate, act, pad, arch):
    return EfficientNet(block_args=decode_arch_def(arch), stem_size=8, num_features=16, num_classes=5, pad_type=pad, act_layer=act,
                        se_layer=timm.layers.SqueezeExcite if se_gate is None else
                        (lambda *a, **k: timm.layers.SqueezeExcite(*a, **{**k, "gate_layer": se_gate})))


IR = [["ds_r1_k3_s1_e1_c8_se0.25"], ["ir_r1_k5_s2_e2_c12_se0.25"], ["ir_r2_k3_s2_e2_c12_se0.25"]]

MODELS = {
    "resnet_deep_stem": (lambda: ResNet(BasicBlock, [1, 1, 1, 1], channels=(8, 8, 12, 12), stem_width=4, stem_type="deep", avg_down=True,
                                        num_classes=5, block_args=dict(attn_layer="se")), (2, 3, 40, 36)),
    "densenet": (lambda: torchvision.models.DenseNet(4, (2, 2), 8, 2, num_classes=5), (2, 3, 40, 32)),
    "mobile_hard": (lambda: mobile("hard_sigmoid", nn.Hardswish, "", IR), (2, 3, 33, 32)),
    "efficientnet_same": (lambda: mobile(None, nn.SiLU, "same", IR), (2, 3, 33, 30)),
    "convnext": (lambda: ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 12, 12), num_classes=5, ls_init_value=0.5), (2, 3, 64, 32)),
    "vit": (lambda: vit(), (2, 3, 16, 16)),
    "vit_unfused": (lambda: unfused(vit(init_values=0.5)), (2, 3, 16, 16)),
    "vit_registers_mean": (lambda: vit(reg_tokens=2, global_pool="avg", no_embed_class=True), (2, 3, 16, 16)),
    "vit_torchvision": (lambda: torchvision.models.VisionTransformer(16, 4, 2, 3, 24, 48, num_classes=5), (2, 3, 16, 16)),
    "attention_separate": (lambda: SeparateAttention(), (2, 3, 16, 16)),
    "pools": (lambda: Pools(), (2, 3, 17, 17)),
    "halves": (lambda: Halves(), (2, 3, 12, 10)),
}
# (exporter, opset); None is the exporter's own choice.
FORMS = {"legacy": [("legacy", 17)], "dynamo": [("dynamo", None)], "old": [("legacy", 13)], "static": [("static", 17)]}
CASES = [(name, form) for name in MODELS for form in ("legacy", "dynamo")] + [
    ("vit_unfused", "old"), ("convnext", "old"), ("mobile_hard", "old"), ("vit", "static"), ("efficientnet_same", "static"), ("attention_separate", "old"),
    ("halves", "static"),
]


def export(model, x, path, exporter, opset):
    x = torch.from_numpy(x)
    if exporter == "dynamo":
        torch.onnx.export(model, (x,), path, dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False, verbose=False)
    else:
        axes = {} if exporter == "static" else {"input": {0: "batch"}, "output": {0: "batch"}}
        torch.onnx.export(model, x[:1] if exporter == "static" else x, path, dynamo=False, opset_version=opset, input_names=["input"],
                          output_names=["output"], dynamic_axes=axes)
    # Node metadata holds stack traces with paths of the machine: only the module paths are kept.
    m = onnx.load(path)
    for node in m.graph.node:
        kept = [p for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
        node.doc_string = ""
    del m.metadata_props[:], m.graph.metadata_props[:], m.graph.value_info[:]
    onnx.save(m, path)


def channels_last(path):
    """A small Keras-like network as tf2onnx writes it."""
    rng = np.random.default_rng(3)
    inits, nodes = [], []

    def weight(name, *shape, scale=0.3):
        inits.append(numpy_helper.from_array((rng.standard_normal(shape) * scale).astype(np.float32), name))
        return name

    def ints(name, values):
        inits.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def node(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], name=f"StatefulPartitionedCall/net/{output}", **attributes))
        return output

    def conv(name, x, cin, cout, k, stride, groups=1, same=True):
        x = node("Transpose", [x], f"{name}/nchw", perm=[0, 3, 1, 2])
        pads = dict(auto_pad="SAME_UPPER") if same else dict(pads=[0, 0, 0, 0])
        x = node("Conv", [x, weight(f"{name}/kernel", cout, cin // groups, k, k)], f"{name}/Conv2D", strides=[stride, stride], kernel_shape=[k, k],
                 group=groups, dilations=[1, 1], **pads)
        return node("Transpose", [x], f"{name}/nhwc", perm=[0, 2, 3, 1])

    x = node("Sub", ["image", weight("mean", 3)], "normalise/sub")
    x = node("Mul", [x, weight("std", 1, 1, 1, 3)], "normalise/mul")
    x = node("Pad", [x, ints("pads", [0, 1, 1, 0, 0, 2, 2, 0])], "pad/Pad")
    x = conv("conv1", x, 3, 8, 3, 2, same=False)
    x = node("Add", [x, weight("conv1/bias", 8)], "conv1/BiasAdd")
    x = node("Relu", [x], "relu1/Relu")
    x = node("Pad", [x, ints("pads2", [0, 0, 0, 0, 0, 1, 1, 0])], "pool/Pad")
    x = node("Transpose", [x], "pool/nchw", perm=[0, 3, 1, 2])
    x = node("MaxPool", [x], "pool/MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    x = node("Transpose", [x], "pool/nhwc", perm=[0, 2, 3, 1])
    y = conv("depthwise", x, 8, 8, 3, 1, groups=8)
    y = node("Transpose", [y], "bn/nchw", perm=[0, 3, 1, 2])
    inits.append(numpy_helper.from_array(rng.random(8).astype(np.float32) + 0.5, "bn/var"))
    y = node("BatchNormalization", [y, weight("bn/gamma", 8), weight("bn/beta", 8), weight("bn/mean", 8), "bn/var"], "bn/FusedBatchNormV3", epsilon=1e-3)
    y = node("Transpose", [y], "bn/nhwc", perm=[0, 2, 3, 1])
    y = node("Clip", [y, "zero", "six"], "relu6/Relu6")
    inits.extend([numpy_helper.from_array(np.float32(0), "zero"), numpy_helper.from_array(np.float32(6), "six")])
    s = node("ReduceMean", [y], "se/Mean", axes=[1, 2], keepdims=1)
    s = conv("se/reduce", s, 8, 4, 1, 1)
    s = node("Mul", [s, node("Sigmoid", [s], "se/sig")], "se/swish")
    s = conv("se/expand", s, 4, 8, 1, 1)
    s = node("Sigmoid", [s], "se/gate")
    y = node("Mul", [y, s], "se/excite")
    x = node("Add", [x, y], "add/add")
    x = node("Concat", [x, y], "concat/concat", axis=3)
    x = node("Transpose", [x], "mean/nchw", perm=[0, 3, 1, 2])
    x = node("GlobalAveragePool", [x], "mean/Mean")
    x = node("Squeeze", [x], "mean/squeeze", axes=[2, 3])
    x = node("MatMul", [x, weight("fc/kernel", 16, 5)], "fc/MatMul")
    x = node("Add", [x, weight("fc/bias", 5)], "fc/BiasAdd")
    node("Softmax", [x], "probabilities", axis=1)
    graph = helper.make_graph(nodes, "net", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["unk__1", 13, 11, 3])],
                              [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["unk__2", 5])], inits)
    model = helper.make_model(graph, producer_name="tf2onnx (by hand)", opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def expected(path, x):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    y = session.run(None, {session.get_inputs()[0].name: x})[0]
    return [float(f"{v:.8g}") for v in y.reshape(-1).tolist()], list(y.shape)


def main():
    only = set(sys.argv[1:])
    path = OUT / "expected.json"
    record = json.loads(path.read_text())["cases"] if path.exists() else {}
    for name, form in CASES:
        key = f"{name}.{form}"
        if only and key not in only and name not in only:
            continue
        make, shape = MODELS[name]
        torch.manual_seed(1)
        model = lively(make())
        [(exporter, opset)] = FORMS[form]
        file = OUT / f"{key}.onnx"
        try:
            export(model, images(*shape), file, exporter, opset)
        except Exception as e:
            print(key, "EXPORT FAILED", str(e)[:200])
            continue
        if form == "static":
            shape = (1, *shape[1:])
        y, y_shape = expected(file, images(*shape))
        record[key] = {"input": list(shape), "output": y_shape, "values": y}
        print(key, file.stat().st_size // 1000, "kB", flush=True)
    if not only or "channels_last" in only:
        file = OUT / "channels_last.onnx"
        channels_last(file)
        x = images(2, 3, 13, 11)
        y, y_shape = expected(file, np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
        record["channels_last"] = {"input": list(x.shape), "output": y_shape, "values": y}
    versions = {m.__name__: m.__version__ for m in (torch, torchvision, timm, onnx, ort)}
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(record[k], separators=(',', ':'))}" for k in sorted(record))
    path.write_text('{"versions": %s, "cases": {\n%s\n}}\n' % (json.dumps(versions), lines))


main()
