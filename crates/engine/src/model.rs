//! The model file: one `.safetensors` file that holds everything a prediction needs.

use std::io::Write;
use std::path::Path;

use graph::{Graph, Tensor, Weights};
use images::Preprocess;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::quantize::Quantization;

/// The newest format that this build writes and reads.
pub const FORMAT_VERSION: u32 = 2;
const KEY: &str = "fieldmark";
const HEAD: &str = "{\"checksum\":\"";
const HEX: usize = 64;
/// Begins the names of tensors that are a layer's weights in int8.
const BYTES: &str = "int8:";

/// What the logits mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// Exactly one class: softmax.
    #[default]
    Label,
    /// Any number of classes: a sigmoid each.
    Labels,
    /// Trained on probabilities over the classes: softmax.
    Soft,
}

/// What a model file knows beside graph and weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// Program and version that wrote it.
    pub created_by: String,
    /// Class names in the order of the logits.
    pub classes: Vec<String>,
    /// How an image becomes the input.
    pub preprocess: Preprocess,
    /// What the logits mean.
    #[serde(default)]
    pub target: TargetKind,
    /// Calibration: logits are divided by it; above 0.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// Decision threshold of each class, in `0..=1`.
    #[serde(default)]
    pub thresholds: Option<Vec<f64>>,
    /// The resolved training recipe, TOML.
    #[serde(default)]
    pub recipe: Option<String>,
    /// The training seed.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Fingerprint of the training data.
    #[serde(default)]
    pub data_fingerprint: Option<String>,
    /// Measured metrics, free form.
    #[serde(default)]
    pub metrics: serde_json::Value,
    /// What int8 needs to know, and which precision `auto` means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
}

impl Metadata {
    /// The least a model needs: its classes and its preprocessing.
    pub fn new(classes: Vec<String>, preprocess: Preprocess) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            created_by: format!("fieldmark {}", env!("CARGO_PKG_VERSION")),
            classes,
            preprocess,
            target: TargetKind::default(),
            temperature: None,
            thresholds: None,
            recipe: None,
            seed: None,
            data_fingerprint: None,
            metrics: serde_json::Value::Null,
            quantization: None,
        }
    }
}

/// A trained classifier: what `fieldmark train` writes and everything else reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The network, unfolded.
    pub graph: Graph,
    /// Its weights by name.
    pub weights: Weights,
    /// Everything else.
    pub metadata: Metadata,
}

#[derive(Serialize)]
struct DocumentOut<'a> {
    #[serde(flatten)]
    metadata: &'a Metadata,
    graph: &'a Graph,
}

#[derive(Deserialize)]
struct DocumentIn {
    #[serde(flatten)]
    metadata: Metadata,
    graph: Graph,
}

#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

impl Model {
    /// Checks that graph, weights, classes and preprocessing fit one another.
    ///
    /// # Errors
    /// The first part that does not.
    pub fn check(&self) -> Result<(), ModelError> {
        let bad = |problem: String| Err(ModelError::Inconsistent { path: None, problem });
        self.graph.check().map_err(|source| ModelError::Graph { path: None, source })?;
        self.graph.check_weights(&self.weights).map_err(|source| ModelError::Weights { path: None, source })?;
        let m = &self.metadata;
        m.preprocess.check().map_err(|source| ModelError::Preprocess { path: None, source })?;
        if m.classes.len() != self.graph.num_classes() {
            return bad(format!("{} class names for {} logits", m.classes.len(), self.graph.num_classes()));
        }
        let mut names: Vec<&str> = m.classes.iter().map(String::as_str).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return bad(format!("the class {:?} occurs twice", pair[0]));
        }
        if m.preprocess.shape() != self.graph.input_shape() {
            return bad(format!("preprocessing makes {:?}, the graph reads {:?}", m.preprocess.shape(), self.graph.input_shape()));
        }
        if let Some(t) = m.temperature.filter(|t| !(t.is_finite() && *t > 0.0)) {
            return bad(format!("expected a temperature above 0, got {t}"));
        }
        if let Some(thresholds) = &m.thresholds {
            if thresholds.len() != m.classes.len() {
                return bad(format!("{} thresholds for {} classes", thresholds.len(), m.classes.len()));
            }
            if let Some(t) = thresholds.iter().find(|t| !(0.0..=1.0).contains(*t)) {
                return bad(format!("expected thresholds in 0..=1, got {t}"));
            }
        }
        Ok(())
    }

    /// Writes the model file: a temporary file beside `path`, flushed to disk, then renamed over it.
    ///
    /// # Errors
    /// Parts that do not fit one another, a folder that cannot be written, a full disk.
    pub fn save(&self, path: &Path) -> Result<(), ModelError> {
        self.check().map_err(|error| error.at(path))?;
        let bytes = self.to_bytes().map_err(|error| error.at(path))?;
        let failed = |source: std::io::Error| {
            let cure = write_cure(&source);
            ModelError::Write { path: path.to_path_buf(), source, cure }
        };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new().prefix(".model-").suffix(".part").tempfile_in(folder).map_err(failed)?;
        file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        make_readable(file.as_file()).map_err(failed)?;
        file.persist(path).map(|_| ()).map_err(|error| failed(error.error))
    }

    /// Reads and verifies a model file.
    ///
    /// # Errors
    /// A file that cannot be read, is truncated, altered, newer than this build or no model, or parts that do not fit one another.
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let bytes = std::fs::read(path).map_err(|source| ModelError::Read { path: path.to_path_buf(), source })?;
        Self::decode(&bytes, path)
    }

    /// As [`Model::load`] on a file's bytes; `path` is for messages only.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn decode(bytes: &[u8], path: &Path) -> Result<Self, ModelError> {
        let model = Self::from_bytes(bytes, path)?;
        model.check().map_err(|error| error.at(path))?;
        Ok(model)
    }

    fn to_bytes(&self) -> Result<Vec<u8>, ModelError> {
        let inconsistent = |problem: String| ModelError::Inconsistent { path: None, problem };
        let document = DocumentOut { metadata: &self.metadata, graph: &self.graph };
        let document = serde_json::to_string(&document).map_err(|error| inconsistent(error.to_string()))?;
        let kept = || self.weights.iter().filter(|(name, _)| !name.ends_with("num_batches_tracked"));
        let wide = kept().map(|(name, tensor)| {
            let bytes: Vec<u8> = tensor.data.iter().flat_map(|v| v.to_le_bytes()).collect();
            (name.clone(), Dtype::F32, tensor.shape.clone(), bytes)
        });
        let rounded = self.metadata.quantization.iter().flat_map(|q| &q.rounded);
        let narrow = rounded
            .map(|(layer, bytes)| (format!("{BYTES}{layer}"), Dtype::I8, vec![bytes.len()], bytes.iter().map(|&b| b as u8).collect()));
        let mut stored: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = wide.chain(narrow).collect();
        stored.sort_by(|a, b| a.0.cmp(&b.0));
        let sum =
            checksum(&document[1..], stored.iter().map(|(name, _, shape, bytes)| (name.as_str(), shape.as_slice(), bytes.as_slice())));
        let document = format!("{HEAD}{sum}\",{}", &document[1..]);
        let views = stored.iter().map(|(name, dtype, shape, bytes)| {
            TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.as_str(), view)).map_err(|error| inconsistent(error.to_string()))
        });
        let views = views.collect::<Result<Vec<_>, _>>()?;
        safetensors::serialize(views, Some([(KEY.to_string(), document)].into())).map_err(|error| inconsistent(error.to_string()))
    }

    fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, ModelError> {
        let damaged = |problem: String| ModelError::Damaged { path: path.to_path_buf(), problem };
        let file = SafeTensors::deserialize(bytes).map_err(|error| damaged(error.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| damaged(error.to_string()))?;
        let document =
            header.metadata().as_ref().and_then(|m| m.get(KEY)).ok_or_else(|| ModelError::NotAModel { path: path.to_path_buf() })?;
        let (expected, rest) = split_checksum(document).ok_or_else(|| damaged("the metadata does not begin with a checksum".into()))?;
        let document = format!("{{{rest}");
        // The version first: a later format may have any other shape.
        let version: Version = serde_json::from_str(&document).map_err(|error| damaged(format!("metadata: {error}")))?;
        if version.format_version > FORMAT_VERSION {
            return Err(ModelError::Newer { path: path.to_path_buf(), found: version.format_version, supported: FORMAT_VERSION });
        }
        let mut tensors = file.tensors();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let found = checksum(rest, tensors.iter().map(|(name, view)| (name.as_str(), view.shape(), view.data())));
        // Fuzzing looks behind the checksum.
        if found != expected && !cfg!(fuzzing) {
            return Err(ModelError::Checksum { path: path.to_path_buf(), expected: expected.into(), found });
        }
        let parsed: DocumentIn = serde_json::from_str(&document).map_err(|error| damaged(format!("metadata: {error}")))?;
        let (mut weights, mut metadata) = (Weights::new(), parsed.metadata);
        for (name, view) in tensors {
            if let (Some(layer), Dtype::I8) = (name.strip_prefix(BYTES), view.dtype()) {
                let quantization = metadata.quantization.as_mut().ok_or_else(|| damaged(format!("tensor {name:?} of no quantization")))?;
                quantization.rounded.insert(layer.into(), view.data().iter().map(|&b| b as i8).collect());
                continue;
            }
            if view.dtype() != Dtype::F32 {
                return Err(damaged(format!("tensor {name:?}: expected F32, got {:?}", view.dtype())));
            }
            let (values, _) = view.data().as_chunks::<4>();
            let data = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
            let tensor = Tensor::new(view.shape(), data).ok_or_else(|| damaged(format!("tensor {name:?} has the wrong size")))?;
            weights.insert(name, tensor);
        }
        Ok(Self { graph: parsed.graph, weights, metadata })
    }
}

/// BLAKE3 over the document and every tensor's name, shape and bytes, in the order of their names.
fn checksum<'a>(document: &str, tensors: impl Iterator<Item = (&'a str, &'a [usize], &'a [u8])>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(document.len() as u64).to_le_bytes()).update(document.as_bytes());
    for (name, shape, bytes) in tensors {
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        hasher.update(&(shape.len() as u64).to_le_bytes());
        for &size in shape {
            hasher.update(&(size as u64).to_le_bytes());
        }
        hasher.update(bytes);
    }
    hasher.finalize().to_hex().to_string()
}

/// The stated checksum and what it covers of the document.
fn split_checksum(document: &str) -> Option<(&str, &str)> {
    let rest = document.strip_prefix(HEAD)?;
    let (sum, rest) = rest.split_at_checked(HEX)?;
    Some((sum, rest.strip_prefix("\",")?))
}

fn write_cure(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => "free some space or choose another folder",
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => "choose a folder that you may write to",
        std::io::ErrorKind::NotFound => "create the folder first",
        _ => "check the disk, or choose another folder",
    }
}

/// Temporary files are private to the user; a model file is as readable as any other.
#[cfg(unix)]
fn make_readable(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_file: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}
