//! The safetensors format: an 8-byte length, a JSON header, then the values.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Map, Value, json};

use super::dtype::Dtype;
use super::error::WeightsError;
use crate::tensor::{Tensor, Weights};

/// Reads a `.safetensors` file; `f16`, `bf16`, `f64` and integers become `f32`.
///
/// # Errors
/// A file that cannot be read, is truncated or malformed, or holds a type that has no `f32` meaning.
pub fn read_safetensors(path: &Path) -> Result<Weights, WeightsError> {
    Ok(read_safetensors_with_metadata(path)?.0)
}

/// As [`read_safetensors`], with the file's `__metadata__`.
///
/// # Errors
/// As [`read_safetensors`].
pub fn read_safetensors_with_metadata(path: &Path) -> Result<(Weights, BTreeMap<String, String>), WeightsError> {
    let bytes = std::fs::read(path).map_err(|e| WeightsError::io(path, e))?;
    decode_safetensors(&bytes, path)
}

/// As [`read_safetensors_with_metadata`] on a file's bytes; `path` is for messages only.
///
/// # Errors
/// As [`read_safetensors`].
pub fn decode_safetensors(bytes: &[u8], path: &Path) -> Result<(Weights, BTreeMap<String, String>), WeightsError> {
    let malformed = |problem: String| WeightsError::malformed(path, problem);
    let broken = |e| malformed(format!("not a whole safetensors file ({e}); it may be cut short: copy or download it again"));
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(broken)?;
    let mut weights = Weights::new();
    for (name, view) in tensors.iter() {
        let dtype = Dtype::of_safetensors(view.dtype())
            .ok_or_else(|| malformed(format!("tensor {name:?} is of type {:?}; expected a float, integer or bool type", view.dtype())))?;
        let tensor = Tensor::new(view.shape(), dtype.decode(view.data(), false))
            .ok_or_else(|| malformed(format!("tensor {name:?} does not have the size of its shape {:?}", view.shape())))?;
        weights.insert(name.to_owned(), tensor);
    }
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok((weights, metadata))
}

/// Writes a `.safetensors` file, atomically: a temporary file beside it, flushed to disk, then renamed. The same weights and metadata
/// always give the same bytes.
///
/// # Errors
/// A folder that cannot be written, a full disk, a tensor whose shape and values disagree.
pub fn write_safetensors(path: &Path, weights: &Weights, metadata: &BTreeMap<String, String>) -> Result<(), WeightsError> {
    let header = header(weights, metadata).map_err(|problem| WeightsError::malformed(path, problem))?;
    let io = |e| WeightsError::io(path, e);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".").suffix(".partial").tempfile_in(folder).map_err(io)?;
    let mut writer = BufWriter::with_capacity(1 << 20, file.as_file_mut());
    write_to(&mut writer, &header, weights).and_then(|()| writer.flush()).map_err(io)?;
    drop(writer);
    allow_reading(file.as_file()).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    sync_folder(folder);
    Ok(())
}

/// The bytes of [`write_safetensors`].
///
/// # Errors
/// A tensor whose shape and values disagree, with its name.
pub fn encode_safetensors(weights: &Weights, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, WeightsError> {
    let problem = |problem: String| WeightsError::malformed(Path::new("safetensors"), problem);
    let mut bytes = Vec::new();
    let header = header(weights, metadata).map_err(problem)?;
    write_to(&mut bytes, &header, weights).map_err(|e| problem(e.to_string()))?;
    Ok(bytes)
}

fn header(weights: &Weights, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>, String> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    let mut offset = 0;
    for (name, tensor) in weights {
        if tensor.shape.iter().product::<usize>() != tensor.data.len() {
            return Err(format!("tensor {name:?} has shape {:?} but {} values", tensor.shape, tensor.data.len()));
        }
        let end = offset + 4 * tensor.data.len();
        header.insert(name.clone(), json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [offset, end] }));
        offset = end;
    }
    let mut bytes = Value::Object(header).to_string().into_bytes();
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Ok(bytes)
}

fn write_to(writer: &mut impl Write, header: &[u8], weights: &Weights) -> std::io::Result<()> {
    writer.write_all(&(header.len() as u64).to_le_bytes())?;
    writer.write_all(header)?;
    for tensor in weights.values() {
        for values in tensor.data.chunks(1 << 16) {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            writer.write_all(&bytes)?;
        }
    }
    Ok(())
}

/// Temporary files are private to their owner; a weights file is an ordinary one.
#[cfg(unix)]
fn allow_reading(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn allow_reading(_: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}

/// Makes the rename last through a power cut, where the system has a way to say so; the file itself is already safe.
fn sync_folder(folder: &Path) {
    if let Ok(folder) = std::fs::File::open(folder) {
        let _ = folder.sync_all();
    }
}
