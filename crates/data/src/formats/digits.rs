//! optdigits as scikit-learn packs it: `digits.csv.gz`, each line 64 grey values in 0..=16 (8x8, rows from the top) and the digit.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use images::Image;

use super::{name_of, with_class_list};
use crate::{Classes, DataError, Dataset, OpenOptions, Sample, Source, Target};

/// Opens `digits.csv.gz`; the grey values are scaled from 0..=16 to 0..=255.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
    let root = path.parent().unwrap_or(Path::new("."));
    let file = File::open(path).map_err(DataError::io("read", path))?;
    let classes = Classes::sorted((0..10).map(|d: u8| d.to_string()));
    let mut samples = Vec::new();
    for (index, line) in BufReader::new(MultiGzDecoder::new(file)).lines().enumerate() {
        let line = line.map_err(DataError::io("read", path))?;
        let layout = |message: String| DataError::Layout { path: path.into(), message: format!("line {}: {message}", index + 1) };
        let (pixels, digit) = parse(&line).map_err(layout)?;
        let image = Image::from_gray8(8, 8, pixels).map_err(|e| layout(e.to_string()))?;
        let sample = Sample::new(format!("digits.csv#{index}"), Source::Memory(Arc::new(image)));
        samples.push(Sample { target: Some(Target::Label(digit)), ..sample });
    }
    if samples.is_empty() {
        return Err(DataError::Empty { path: path.into(), detail: " in it".into() });
    }
    with_class_list(Dataset { name: name_of(root), root: root.into(), classes, samples, warnings: Vec::new() }, options)
}

fn parse(line: &str) -> Result<(Vec<u8>, usize), String> {
    let values: Vec<f32> =
        line.split(',').map(|v| v.trim().parse().map_err(|_| format!("expected a number, found `{v}`"))).collect::<Result<_, String>>()?;
    let [pixels @ .., digit] = values.as_slice() else { return Err("it is empty".into()) };
    if pixels.len() != 64 {
        return Err(format!("expected 65 values, found {}", values.len()));
    }
    if let Some(v) = pixels.iter().find(|v| !(0.0..=16.0).contains(*v)) {
        return Err(format!("expected grey values in 0..=16, found {v}"));
    }
    if !(0.0..=9.0).contains(digit) || digit.fract() != 0.0 {
        return Err(format!("expected a digit, found {digit}"));
    }
    Ok((pixels.iter().map(|v| (v * 255.0 / 16.0).round() as u8).collect(), *digit as usize))
}
