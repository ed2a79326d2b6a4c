//! Preprocessing as nodes in front of the network.

use super::writer::{self, Dimension, Writer, value_info};
use crate::ir::Graph;
use crate::onnx::proto::{ValueInfoProto, data_type};

/// From pixels to the network's input, inside the file: the input is `image`, `uint8` `[N, H, W, C]`, values 0 to 255.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessing {
    /// Subtracted from values in `0..=1`; one a channel.
    pub mean: Vec<f32>,
    /// Divided by afterwards; one a channel.
    pub std: Vec<f32>,
    /// With it the image may have any height and width and is stretched to the network's; without, it must have the network's own.
    pub resize: Option<Resampling>,
}

/// A filter of ONNX's `Resize`, applied as Pillow does: pixel centres at halves, nothing beyond the border, cubic with a = −0.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resampling {
    /// The nearest pixel.
    Nearest,
    /// A triangle.
    Linear {
        /// Widened when the image is reduced; needs opset 18.
        antialias: bool,
    },
    /// A cubic.
    Cubic {
        /// Widened when the image is reduced; needs opset 18.
        antialias: bool,
    },
}

impl Preprocessing {
    /// Writes the nodes; the name of the value that the network reads, and the file's input.
    pub(super) fn write(&self, writer: &mut Writer, graph: &Graph, opset: i64) -> Result<(String, ValueInfoProto), String> {
        let (channels, height, width) = (graph.input_shape()[0], graph.input_shape()[1], graph.input_shape()[2]);
        if self.mean.len() != channels || self.std.len() != channels {
            return Err(format!("expected a mean and a deviation for each of {channels} channels, got {:?} and {:?}", self.mean, self.std));
        }
        writer.node("Cast", "preprocess/Cast", &["image"], "/preprocess/float", vec![writer::int("to", i64::from(data_type::FLOAT))]);
        let perm = vec![writer::ints("perm", &[0, 3, 1, 2])];
        writer.node("Transpose", "preprocess/Transpose", &["/preprocess/float"], "/preprocess/channels", perm);
        let mut x = "/preprocess/channels";
        if let Some(resampling) = self.resize {
            resize(writer, x, [height, width], resampling, opset)?;
            x = "/preprocess/pixels";
        }
        let each = |f: fn(f64, f64) -> f64| -> Vec<f32> {
            self.mean.iter().zip(&self.std).map(|(&m, &s)| f(f64::from(m), f64::from(s)) as f32).collect()
        };
        writer.weight("preprocess.scale", &[1, channels, 1, 1], &each(|_, std| 1.0 / (255.0 * std)));
        writer.weight("preprocess.shift", &[1, channels, 1, 1], &each(|mean, std| -mean / std));
        writer.node("Mul", "preprocess/Mul", &[x, "preprocess.scale"], "/preprocess/scaled", Vec::new());
        writer.node("Add", "preprocess/Add", &["/preprocess/scaled", "preprocess.shift"], "/preprocess/normalised", Vec::new());
        let size = match self.resize {
            Some(_) => [Dimension::Named("H"), Dimension::Named("W")],
            None => [Dimension::Known(height), Dimension::Known(width)],
        };
        let [h, w] = size;
        let info = value_info("image", data_type::UINT8, &[Dimension::Named("N"), h, w, Dimension::Known(channels)]);
        Ok(("/preprocess/normalised".into(), info))
    }
}

fn resize(writer: &mut Writer, x: &str, [height, width]: [usize; 2], resampling: Resampling, opset: i64) -> Result<(), String> {
    let (mode, antialias) = match resampling {
        Resampling::Nearest => ("nearest", false),
        Resampling::Linear { antialias } => ("linear", antialias),
        Resampling::Cubic { antialias } => ("cubic", antialias),
    };
    if antialias && opset < 18 {
        return Err(format!("opset {opset} has no antialiased Resize; export with opset 18 or later, or resize before the model"));
    }
    let shape = vec![writer::int("start", 0), writer::int("end", 2)];
    writer.node("Shape", "preprocess/Shape", &[x], "/preprocess/batch", shape);
    let size = writer.ints(&[height as i64, width as i64]);
    writer.node("Concat", "preprocess/Concat", &["/preprocess/batch", &size], "/preprocess/sizes", vec![writer::int("axis", 0)]);
    let mut attributes = vec![writer::string("mode", mode), writer::string("coordinate_transformation_mode", "half_pixel")];
    match resampling {
        Resampling::Nearest => attributes.push(writer::string("nearest_mode", "floor")),
        Resampling::Linear { .. } => {}
        Resampling::Cubic { .. } => {
            attributes.extend([writer::float("cubic_coeff_a", -0.5), writer::int("exclude_outside", 1)]);
        }
    }
    if antialias {
        attributes.push(writer::int("antialias", 1));
    }
    writer.node("Resize", "preprocess/Resize", &[x, "", "", "/preprocess/sizes"], "/preprocess/resized", attributes);
    // Our resizing ends in whole values from 0 to 255 as well.
    writer.node("Round", "preprocess/Round", &["/preprocess/resized"], "/preprocess/rounded", Vec::new());
    let (low, high) = (writer.float(0.0), writer.float(255.0));
    writer.node("Clip", "preprocess/Clip", &["/preprocess/rounded", &low, &high], "/preprocess/pixels", Vec::new());
    Ok(())
}
