"""Small PyTorch files of every kind that read_pth should read or refuse. Run: python pth.py (writes pth/*.pth and pth/expected.json)."""

import collections
import io
import json
import os
import pathlib
import pickle
import struct
import zipfile

import torch

torch.manual_seed(7)
HERE = pathlib.Path(__file__).with_name("pth")
HERE.mkdir(exist_ok=True)
EXPECTED = {}


def save(name, value, state, **options):
    torch.save(value, HERE / f"{name}.pth", **options)
    EXPECTED[name] = {k: {"shape": list(v.shape), "data": v.detach().double().flatten().tolist()} for k, v in state.items()}


net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
save("state_dict", net.state_dict(), net.state_dict())

base = torch.arange(24.0).reshape(2, 3, 4)
state = {"whole": base, "transposed": base.permute(2, 0, 1), "slice": base[1, :, 1:3], "step": base.flatten()[1::5],
         "expanded": torch.tensor([1.5, -2.0])[:, None].expand(2, 3), "scalar": torch.tensor(3.25), "empty": torch.zeros(0, 4)}
save("strided_shared", state, state)

state = {str(t).removeprefix("torch."): torch.tensor([0, 1, 2.5, 100]).to(t)
         for t in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool)}
state["half_small"] = torch.tensor([6e-8, -6.1e-5, 65504.0]).half()
save("dtypes", state, state)

state = {"a.weight": torch.randn(2, 2), "a.bias": torch.randn(2)}
save("nested", {"epoch": 3, "best": 0.75, "arch": "tiny", "done": True, "shape": torch.Size([1, 2]), "none": None, "list": [1, (2, 3)],
                "state_dict": collections.OrderedDict(("module." + k, v) for k, v in state.items()), "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}}, state)
save("model_key", {"model": state}, state)
save("parameters", {"w": torch.nn.Parameter(torch.ones(3))}, {"w": torch.ones(3)})
save("protocol4", state, state, pickle_protocol=4)
OLD = {"_use_new_zipfile_serialization": False}
save("legacy", {"state_dict": state, "epoch": 1}, state, **OLD)
views = {"whole": base, "transposed": base.permute(2, 0, 1), "slice": base[1, :, 1:3], "half": base[0].half()}
save("legacy_strided", views, views, **OLD)


class Call:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


torch.save({"w": torch.ones(1), "x": Call(os.system, "true")}, HERE / "calls_system.pth")
torch.save({"w": torch.ones(1), "x": Call(os.system, "true")}, HERE / "legacy_calls_system.pth", **OLD)
torch.save({"w": torch.ones(1), "x": Call(eval, "1")}, HERE / "calls_eval.pth")
torch.save([torch.ones(1)], HERE / "list.pth")
torch.save({"lr": 0.1}, HERE / "no_tensors.pth")


def archive(name, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(HERE / f"{name}.pth", "w", compression) as z:
        for entry, data in entries.items():
            z.writestr(zipfile.ZipInfo(entry), data, compression)


def entries(name):
    with zipfile.ZipFile(HERE / f"{name}.pth") as z:
        return {n: z.read(n) for n in z.namelist()}


archive("deflated", {n.replace("state_dict/", "archive/"): d for n, d in entries("state_dict").items()}, zipfile.ZIP_DEFLATED)
EXPECTED["deflated"] = EXPECTED["state_dict"]

swapped = {n.replace("model_key/", ""): d for n, d in entries("model_key").items()}
for n, d in swapped.items():
    if n.startswith("data/"):
        swapped[n] = struct.pack(f">{len(d) // 4}f", *struct.unpack(f"<{len(d) // 4}f", d))
swapped["byteorder"] = b"big"
archive("big_endian_at_root", swapped)
EXPECTED["big_endian_at_root"] = EXPECTED["model_key"]

archive("opcode_inst", {"archive/data.pkl": b"(S'true'\nios\nsystem\n."})
archive("opcode_newobj", {"archive/data.pkl": b"\x80\x02ccollections\nOrderedDict\n)\x81."})
archive("no_pickle", {"archive/readme": b"nothing"})


def tensor_pickle(storage="FloatStorage", numel=4, offset=0, size=(4,), stride=(1,)):
    """A state dict whose one tensor states whatever it likes."""

    class Rebuild:
        def __reduce__(self):
            return (torch._utils._rebuild_tensor_v2, (Storage(), offset, size, stride, False, collections.OrderedDict()))

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", getattr(torch, storage), "0", "cpu", numel) if isinstance(value, Storage) else None

    out = io.BytesIO()
    Pickler(out, 2).dump({"w": Rebuild()})
    return out.getvalue()


DATA = struct.pack("<4f", 1, 2, 3, 4)
for name, options in {
    "out_of_bounds": {"size": (5,)},
    "negative_offset": {"offset": -1},
    "huge_expanded": {"size": (1 << 20, 1 << 20), "stride": (0, 0)},
    "overflowing": {"size": (1 << 62, 1 << 62), "stride": (1 << 62, 1)},
    "storage_too_long": {"numel": 1 << 40, "size": (1 << 40,)},
}.items():
    archive(name, {"archive/data.pkl": tensor_pickle(**options), "archive/data/0": DATA})
archive("storage_missing", {"archive/data.pkl": tensor_pickle()})

(HERE / "expected.json").write_text(json.dumps({"versions": {"torch": torch.__version__}, "files": EXPECTED}, indent=None, separators=(",", ":")) + "\n")
