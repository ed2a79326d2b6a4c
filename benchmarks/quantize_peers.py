"""Quantises ONNX files to int8 as the peers do, for peers.sh infer: by NNCF for OpenVINO, by ONNX Runtime's static quantisation.

usage: python quantize_peers.py FILE.onnx IMAGES [COUNT]   writes FILE.openvino_int8.xml and FILE.onnxruntime_int8.onnx beside it

IMAGES is a folder of pictures (searched in depth), of which COUNT (128), evenly spaced by name, calibrate: 224 x 224, (x / 255 - .5) / .5.
Both use per-channel symmetric weights; NNCF its defaults (min-max, fast bias correction), ONNX Runtime QDQ with u8 activations.
Made with openvino 2026.4.1, nncf 3.x, onnxruntime 1.31.1.
"""
import pathlib
import sys
import warnings

import numpy as np

warnings.filterwarnings("ignore")


def images(folder, count):
    from PIL import Image

    paths = sorted(p for p in pathlib.Path(folder).rglob("*") if p.suffix.lower() in {".png", ".jpg", ".jpeg"})
    step = max(1, len(paths) // count)
    for path in paths[::step][:count]:
        pixels = Image.open(path).convert("RGB").resize((224, 224), Image.BICUBIC)
        yield ((np.asarray(pixels, np.float32) / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None]


def batches(file, folder, count):
    import onnx

    batch = onnx.load(file).graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1
    for image in images(folder, count):
        yield np.repeat(image, batch, axis=0)


def openvino_int8(file, folder, count):
    import nncf
    import openvino

    model = openvino.Core().read_model(file)
    dataset = nncf.Dataset(list(batches(file, folder, count)))
    quantised = nncf.quantize(model, dataset, subset_size=count)
    openvino.save_model(quantised, file.removesuffix(".onnx") + ".openvino_int8.xml")


def onnxruntime_int8(file, folder, count):
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self, entry):
            self.rows = ({entry: batch} for batch in batches(file, folder, count))

        def get_next(self):
            return next(self.rows, None)

    prepared = file.removesuffix(".onnx") + ".prepared.onnx"
    quant_pre_process(file, prepared)
    entry = onnx.load(file).graph.input[0].name
    quantize_static(prepared, file.removesuffix(".onnx") + ".onnxruntime_int8.onnx", Reader(entry), quant_format=QuantFormat.QDQ,
                    per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    pathlib.Path(prepared).unlink()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    file, folder, count = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 128
    openvino_int8(file, folder, count)
    onnxruntime_int8(file, folder, count)
