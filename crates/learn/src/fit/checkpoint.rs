//! Checkpoints: everything a fit needs to go on as if it had never stopped.
//!
//! One safetensors file: tensors under `weights/`, `average/`, `best/`, `first/`, `second/`; in `__metadata__` the state as JSON, what the
//! checkpoint belongs to, and a digest over all of it.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

use graph::{Tensor, Weights};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::EpochRecord;
use crate::LearnError;
use crate::optim::Slots;

const FORMAT: &str = "fieldmark-fit-1";

/// The numbers of a fit between two updates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The epoch to go on with, from 0.
    pub epoch: usize,
    /// Batches done in it.
    pub step: usize,
    /// Updates made in all.
    pub updates: u64,
    /// Sum of loss × divisor over the epoch so far.
    pub loss_sum: f64,
    /// Sum of the divisors.
    pub loss_weight: f64,
    /// Images learned in the epoch so far.
    pub images: usize,
    /// Seconds spent in the epoch so far.
    pub seconds: f64,
    /// Seconds of them spent waiting for batches.
    #[serde(default)]
    pub data_seconds: f64,
    /// Finished epochs.
    pub history: Vec<EpochRecord>,
    /// The best epoch so far and its metric.
    pub best: Option<(usize, Option<f64>)>,
    /// Epochs since then.
    pub waited: usize,
    /// Samples that could not be read.
    pub failed: Vec<(usize, String)>,
    /// The bits of every fraction above, as JSON readers may round the last one.
    exact: Vec<u64>,
}

impl State {
    fn fractions(&mut self) -> Vec<&mut f64> {
        let mut list = vec![&mut self.loss_sum, &mut self.loss_weight, &mut self.seconds];
        list.extend(self.best.iter_mut().filter_map(|(_, metric)| metric.as_mut()));
        for record in &mut self.history {
            list.extend([&mut record.train_loss, &mut record.learning_rate]);
            list.extend([&mut record.images_per_second, &mut record.seconds]);
            list.extend(record.validation_loss.as_mut());
            list.extend(record.metric_value.as_mut());
        }
        list.push(&mut self.data_seconds);
        list
    }

    fn to_json(&self) -> Result<String, serde_json::Error> {
        let mut state = self.clone();
        state.exact = state.fractions().into_iter().map(|x| x.to_bits()).collect();
        serde_json::to_string(&state)
    }

    fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        let mut state: Self = serde_json::from_str(text)?;
        let exact = std::mem::take(&mut state.exact);
        state.fractions().into_iter().zip(exact).for_each(|(x, bits)| *x = f64::from_bits(bits));
        Ok(state)
    }
}

/// Everything in a checkpoint file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoint {
    /// The numbers.
    pub state: State,
    /// Weights being trained.
    pub weights: Weights,
    /// Their moving average, where there is one.
    pub average: Weights,
    /// Weights of the best epoch, where they are kept.
    pub best: Weights,
    /// First moments of the optimiser.
    pub first: Slots,
    /// Second moments.
    pub second: Slots,
}

impl Checkpoint {
    /// Writes the file whole or not at all; `belongs_to` names the fit.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn save(&self, path: &Path, belongs_to: &str) -> Result<(), LearnError> {
        let wrong = |problem: String| LearnError::Checkpoint { path: path.to_path_buf(), problem };
        let tensors = self.tensors();
        let state = self.state.to_json().map_err(|e| wrong(e.to_string()))?;
        let digest = digest(belongs_to, &state, tensors.iter().map(|(n, s, b)| (n.as_str(), s.as_slice(), b.as_slice())));
        let metadata: HashMap<String, String> = [
            ("format".to_string(), FORMAT.to_string()),
            ("belongs_to".to_string(), belongs_to.to_string()),
            ("state".to_string(), state),
            ("digest".to_string(), digest),
        ]
        .into();
        let mut views = Vec::with_capacity(tensors.len());
        for (name, shape, bytes) in &tensors {
            views.push((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(|e| wrong(e.to_string()))?));
        }
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| wrong(e.to_string()))?;
        write_atomically(path, &bytes)
    }

    /// Reads and verifies a file written by [`save`](Self::save) for the same fit.
    ///
    /// # Errors
    /// A file that cannot be read, is cut off or altered, or belongs to another fit; each with its cure.
    pub fn load(path: &Path, belongs_to: &str) -> Result<Self, LearnError> {
        let wrong = |problem: String| LearnError::Checkpoint { path: path.to_path_buf(), problem };
        let damaged = |what: &str| wrong(format!("{what}; the file is cut off or altered: remove it and train from the beginning"));
        let bytes = std::fs::read(path).map_err(|source| LearnError::File { action: "read", path: path.to_path_buf(), source })?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(&e.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&e.to_string()))?;
        let metadata = header.metadata().as_ref().ok_or_else(|| damaged("it has no metadata"))?;
        let field = |name: &str| metadata.get(name).ok_or_else(|| damaged(&format!("its metadata has no {name:?}")));
        if field("format")? != FORMAT {
            return Err(wrong(format!("expected the format {FORMAT}, found {}; remove it and train from the beginning", field("format")?)));
        }
        if field("belongs_to")? != belongs_to {
            let cure = "use the recipe, data and model it was made with, or another run folder";
            return Err(wrong(format!("it belongs to another training run (settings, samples or network differ); {cure}")));
        }
        let state = field("state")?;
        let mut tensors: Vec<(String, TensorView<'_>)> = file.tensors();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        if *field("digest")? != digest(belongs_to, state, tensors.iter().map(|(n, v)| (n.as_str(), v.shape(), v.data()))) {
            return Err(damaged("its digest does not fit its content"));
        }
        let state = State::from_json(state).map_err(|e| damaged(&e.to_string()))?;
        let mut checkpoint = Self { state, ..Self::default() };
        for (name, view) in tensors {
            let data = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            checkpoint
                .put(&name, Tensor { shape: view.shape().to_vec(), data })
                .ok_or_else(|| damaged(&format!("unexpected tensor {name:?}")))?;
        }
        Ok(checkpoint)
    }

    /// Name, shape and bytes of every tensor, sorted by name.
    fn tensors(&self) -> Vec<(String, Vec<usize>, Vec<u8>)> {
        let bytes = |data: &[f32]| data.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        let mut list = Vec::new();
        for (part, weights) in [("weights", &self.weights), ("average", &self.average), ("best", &self.best)] {
            list.extend(weights.iter().map(|(name, t)| (format!("{part}/{name}"), t.shape.clone(), bytes(&t.data))));
        }
        for (part, slots) in [("first", &self.first), ("second", &self.second)] {
            list.extend(slots.iter().map(|(name, v)| (format!("{part}/{name}"), vec![v.len()], bytes(v))));
        }
        list.sort_by(|a, b| a.0.cmp(&b.0));
        list
    }

    fn put(&mut self, name: &str, tensor: Tensor) -> Option<()> {
        let (part, name) = name.split_once('/')?;
        let name = name.to_string();
        match part {
            "weights" => drop(self.weights.insert(name, tensor)),
            "average" => drop(self.average.insert(name, tensor)),
            "best" => drop(self.best.insert(name, tensor)),
            "first" => drop(self.first.insert(name, tensor.data)),
            "second" => drop(self.second.insert(name, tensor.data)),
            _ => return None,
        }
        Some(())
    }
}

fn digest<'a>(belongs_to: &str, state: &str, tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(FORMAT.as_bytes());
    part(belongs_to.as_bytes());
    part(state.as_bytes());
    for (name, shape, bytes) in tensors {
        part(name.as_bytes());
        part(&shape.iter().flat_map(|&d| (d as u64).to_le_bytes()).collect::<Vec<u8>>());
        part(bytes);
    }
    hasher.finalize().to_hex().to_string()
}

/// Writes beside `path`, then renames.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), LearnError> {
    let file = |action| move |source| LearnError::File { action, path: path.to_path_buf(), source };
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = std::fs::File::create(&part).and_then(|mut f| f.write_all(bytes).and_then(|()| f.sync_all()));
    if let Err(source) = written {
        let _ = std::fs::remove_file(&part);
        return Err(file("write")(source));
    }
    std::fs::rename(&part, path).map_err(file("write"))
}

/// What a fit is, in short: two fits with the same identity may continue each other's checkpoints.
pub(super) fn identity(parts: &BTreeMap<&'static str, String>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, value) in parts {
        hasher.update(name.as_bytes());
        hasher.update(&(value.len() as u64).to_le_bytes());
        hasher.update(value.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample() -> Checkpoint {
        let t = |v: &[f32]| Tensor { shape: vec![v.len()], data: v.to_vec() };
        Checkpoint {
            state: State { epoch: 3, step: 7, updates: 99, loss_sum: 0.1 + 0.2, best: Some((2, Some(0.1 + 0.7))), ..State::default() },
            weights: [("a.b".to_string(), t(&[1.0, f32::MIN_POSITIVE, -0.0])), ("c".to_string(), t(&[2.5]))].into(),
            average: [("a.b".to_string(), t(&[1.5, 2.5, 3.5]))].into(),
            best: Weights::new(),
            first: [("c".to_string(), vec![0.25])].into(),
            second: Slots::new(),
        }
    }

    #[test]
    fn what_is_saved_is_loaded_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.safetensors");
        sample().save(&path, "me").unwrap();
        let back = Checkpoint::load(&path, "me").unwrap();
        assert_eq!(back, sample());
        assert_eq!(back.weights["a.b"].data[2].to_bits(), (-0.0f32).to_bits());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn cut_altered_and_foreign_files_are_refused_with_their_cure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.safetensors");
        sample().save(&path, "me").unwrap();
        let good = std::fs::read(&path).unwrap();
        let message = |e: LearnError| e.to_string();
        assert!(message(Checkpoint::load(&path, "you").unwrap_err()).contains("belongs to another training run"));
        std::fs::write(&path, &good[..good.len() / 2]).unwrap();
        assert!(message(Checkpoint::load(&path, "me").unwrap_err()).contains("cut off or altered"));
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &bad).unwrap();
        assert!(message(Checkpoint::load(&path, "me").unwrap_err()).contains("digest"));
        let mut bad = good;
        let at = bad.windows(12).position(|w| w == b"\\\"updates\\\":").unwrap();
        bad[at + 12] = b'8';
        std::fs::write(&path, &bad).unwrap();
        assert!(message(Checkpoint::load(&path, "me").unwrap_err()).contains("digest"));
    }
}
