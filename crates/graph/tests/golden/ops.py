"""Golden values of every op, computed by PyTorch in float64 on float32 inputs. Run: python ops.py (writes ops.json beside it)."""

import json
import pathlib

import torch
import torch.nn.functional as F

torch.manual_seed(20)
CASES = []


def values(*shape, scale=1.0):
    return (torch.randn(*shape) * scale).mul(1000).round().div(1000).float().double()


def dump(t):
    return {"shape": list(t.shape), "data": [float(f"{v:.8g}") for v in t.flatten().tolist()]}


def case(name, op, inputs, parameters, output):
    CASES.append({"name": name, "op": op, "inputs": [dump(t) for t in inputs], "parameters": [dump(t) for t in parameters], "output": dump(output)})


def padding(top, left, bottom, right):
    return {"top": top, "left": left, "bottom": bottom, "right": right}


def conv(name, x, out, kernel, stride=(1, 1), pad=(0, 0, 0, 0), dilation=(1, 1), groups=1, bias=False):
    w = values(out, x.shape[1] // groups, *kernel)
    b = values(out) if bias else None
    top, left, bottom, right = pad
    y = F.conv2d(F.pad(x, (left, right, top, bottom)), w, b, stride, 0, dilation, groups)
    op = {"in_channels": x.shape[1], "out_channels": out, "kernel": list(kernel), "stride": list(stride), "padding": padding(*pad),
          "dilation": list(dilation), "groups": groups, "bias": bias}
    case(name, {"conv2d": op}, [x], [w, b] if bias else [w], y)


conv("conv plain", values(2, 3, 5, 6), 4, (3, 3))
conv("conv bias stride 2 padding 1", values(1, 2, 7, 6), 3, (3, 3), (2, 2), (1, 1, 1, 1), bias=True)
conv("conv tensorflow same padding", values(1, 2, 6, 6), 2, (3, 3), (2, 2), (0, 0, 1, 1))
conv("conv lopsided kernel, stride and padding", values(1, 2, 6, 9), 2, (1, 5), (1, 3), (0, 3, 2, 1))
conv("conv dilation", values(1, 2, 8, 9), 2, (3, 2), (1, 2), (2, 1, 0, 3), (2, 3))
conv("conv groups", values(1, 4, 5, 5), 6, (3, 3), (1, 1), (1, 1, 1, 1), groups=2, bias=True)
conv("conv depthwise", values(2, 3, 6, 5), 3, (3, 3), (2, 2), (1, 1, 1, 1), groups=3)
conv("conv depthwise with multiplier", values(1, 2, 4, 4), 4, (3, 3), groups=2)
conv("conv 1x1", values(1, 5, 3, 2), 4, (1, 1))

x, w, b = values(3, 11), values(4, 11), values(4)
case("linear", {"linear": {"in_features": 11, "out_features": 4, "bias": True}}, [x], [w, b], F.linear(x, w, b))
x, w = values(2, 3, 5), values(2, 5)
case("linear on tokens, no bias", {"linear": {"in_features": 5, "out_features": 2, "bias": False}}, [x], [w], F.linear(x, w))

for name, x in [("batch norm of maps", values(2, 3, 2, 4)), ("batch norm of vectors", values(4, 3))]:
    w, b, mean, var = values(3), values(3), values(3), values(3).abs() + 0.01
    eps = float(torch.tensor(1e-3))  # as f32
    y = F.batch_norm(x, mean, var, w, b, False, 0.1, eps)
    case(name, {"batch_norm": {"channels": 3, "eps": 1e-3, "momentum": 0.1}}, [x], [w, b, mean, var], y)

x, w, b = values(2, 3, 6), values(6), values(6)
case("layer norm", {"layer_norm": {"features": 6, "eps": 1e-6}}, [x], [w, b], F.layer_norm(x, [6], w, b, 1e-6))

x = torch.cat([values(1, 20, scale=3), torch.tensor([[-100.0, -6, -3, 0, 3, 6, 100]]).double()], 1)
for name, f in [("relu", F.relu), ("relu6", F.relu6), ("gelu", F.gelu), ("silu", F.silu), ("hard_swish", F.hardswish), ("hard_sigmoid", F.hardsigmoid),
                ("sigmoid", torch.sigmoid), ("tanh", torch.tanh)]:
    case(name, {"activation": name}, [x], [], f(x))


def pool(kernel, stride, pad, include=True):
    return {"kernel": list(kernel), "stride": list(stride), "padding": padding(*pad), "count_include_pad": include}


x = values(2, 2, 7, 6)
case("max pool", {"max_pool2d": pool((3, 3), (2, 2), (1, 1, 1, 1))}, [x], [], F.max_pool2d(x, 3, 2, 1))
case("max pool of negatives with padding", {"max_pool2d": pool((3, 2), (2, 1), (1, 0, 1, 0))}, [-x.abs() - 1], [], F.max_pool2d(-x.abs() - 1, (3, 2), (2, 1), (1, 0)))
case("average pool counts padding", {"avg_pool2d": pool((3, 3), (2, 2), (1, 1, 1, 1))}, [x], [], F.avg_pool2d(x, 3, 2, 1))
case("average pool does not count padding", {"avg_pool2d": pool((3, 3), (2, 2), (1, 1, 1, 1), False)}, [x], [], F.avg_pool2d(x, 3, 2, 1, count_include_pad=False))
case("average pool lopsided", {"avg_pool2d": pool((2, 3), (1, 2), (1, 1, 1, 1), False)}, [x], [], F.avg_pool2d(x, (2, 3), (1, 2), 1, count_include_pad=False))
case("global average pool", "global_avg_pool", [x], [], x.mean((2, 3)))
case("flatten", "flatten", [x], [], x.flatten(1))

a, b, gate = values(2, 3, 2, 2), values(2, 3, 2, 2), values(2, 3)
case("add", "add", [a, b], [], a.float().add(b.float()))
case("mul", "mul", [a, b], [], a * b)
case("mul by channel gates", "mul", [a, gate], [], a * gate[:, :, None, None])
case("mul of vectors", "mul", [gate, gate + 1], [], gate * (gate + 1))
c = values(2, 1, 2, 2)
case("concat", "concat", [a, c, b], [], torch.cat([a, c, b], 1))

case("to tokens", "to_tokens", [values(2, 3, 2, 4)], [], torch.empty(0))
CASES[-1]["output"] = dump(torch.tensor(CASES[-1]["inputs"][0]["data"]).double().reshape(2, 3, 8).transpose(1, 2).contiguous())
CASES.append({"name": "to map", "op": {"to_map": {"size": [2, 4]}}, "inputs": [CASES[-1]["output"]], "parameters": [], "output": CASES[-1]["inputs"][0]})
x, token, table = values(2, 3, 4), values(1, 1, 4), values(1, 3, 4)
case("prepend token", "prepend_token", [x], [token], torch.cat([token.expand(2, -1, -1), x], 1))
case("add position", "add_position", [x], [table], x.float().add(table.float()))
case("select token", {"select_token": {"index": 1}}, [x], [], x[:, 1])

for kind, x in [("maps", values(2, 5, 2, 3)), ("tokens", values(2, 5, 3)), ("vectors", values(2, 5))]:
    case(f"slice of {kind}", {"slice": {"start": 1, "len": 3}}, [x], [], x[:, 1:4])

x = values(2, 5, 3 * 8)
for heads in (1, 2):
    q, k, v = x.reshape(2, 5, 3, heads, 8 // heads).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 5, 8)
    case(f"attention, {heads} heads", {"attention": {"heads": heads}}, [x], [], y)
case("softmax", "softmax", [values(2, 3, 4, scale=20)], [], torch.empty(0))
CASES[-1]["output"] = dump(torch.tensor(CASES[-1]["inputs"][0]["data"]).double().reshape(2, 3, 4).softmax(-1))

path = pathlib.Path(__file__).with_name("ops.json")
lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in CASES)
path.write_text('{"versions": {"torch": "%s"}, "cases": [\n%s\n]}\n' % (torch.__version__, lines))
