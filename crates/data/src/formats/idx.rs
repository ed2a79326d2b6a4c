//! IDX files, the format of MNIST: a big-endian header (two zero bytes, the type 8 for bytes, the number of dimensions, each
//! dimension as u32) and the bytes. Pictures are `[N, H, W]` or `[N, H, W, 3]`, labels `[N]`; both may be gzipped.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use images::{Image, ImageError};

use super::{folders, name_of, split_name, with_class_list};
use crate::{Classes, DataError, Dataset, OpenOptions, Sample, Source, Target};

/// A larger file is refused rather than read into memory.
const MOST_BYTES: u64 = 8 << 30;

/// The pictures of one IDX file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdxImages {
    count: usize,
    shape: [usize; 3],
    pixels: Vec<u8>,
}

impl IdxImages {
    /// Reads a file of pictures, plain or gzipped.
    ///
    /// # Errors
    /// When the file cannot be read, its header is not one of pictures, or its size is not what the header says.
    pub fn read(path: &Path) -> Result<IdxImages, DataError> {
        let (dims, pixels) = read_idx(path, &[3, 4], "pictures")?;
        let channels = dims.get(3).copied().unwrap_or(1);
        if channels != 1 && channels != 3 {
            return Err(broken(path, format!("expected 1 or 3 channels, found {channels}")));
        }
        if dims[1] == 0 || dims[2] == 0 {
            return Err(broken(path, format!("pictures of {}x{} pixels", dims[2], dims[1])));
        }
        Ok(IdxImages { count: dims[0], shape: [dims[1], dims[2], channels], pixels })
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Height, width and channels (1 or 3) of each picture.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The bytes of picture `index`, rows from the top; empty outside the file.
    pub fn pixels(&self, index: usize) -> &[u8] {
        let size: usize = self.shape.iter().product();
        index.checked_mul(size).and_then(|start| self.pixels.get(start..start + size)).unwrap_or(&[])
    }

    /// Picture `index`.
    ///
    /// # Errors
    /// When the file has no such picture.
    pub fn image(&self, index: usize) -> Result<Image, ImageError> {
        let [height, width, channels] = self.shape;
        let pixels = self.pixels(index).to_vec();
        if channels == 3 { Image::from_rgb8(width, height, pixels) } else { Image::from_gray8(width, height, pixels) }
    }
}

/// A file of pictures and where its labels are expected.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    images: PathBuf,
    /// The images' file name without `.gz`: the first part of the ids.
    id: String,
    /// `train`, `t10k`, ...
    stem: String,
}

/// The pair that `path` is the pictures' file of, by its name: `train-images-idx3-ubyte`, also with `.idx3` and `.gz`.
pub(crate) fn pair_of(path: &Path) -> Option<Pair> {
    let name = path.file_name().map(folders::display_name)?;
    let id = name.strip_suffix(".gz").unwrap_or(&name);
    let stem = ["images-idx3-ubyte", "images.idx3-ubyte", "images-idx4-ubyte", "images.idx4-ubyte"]
        .iter()
        .find_map(|ending| id.strip_suffix(ending))?;
    Some(Pair { images: path.into(), id: id.into(), stem: stem.trim_end_matches(['-', '_', '.']).into() })
}

/// The IDX files of pictures in a folder, sorted; of a plain and a gzipped one the plain one.
pub(crate) fn find_pairs(folder: &Path) -> Result<Vec<Pair>, DataError> {
    let entries = fs::read_dir(folder).map_err(DataError::io("list", folder))?;
    let mut pairs: Vec<Pair> = entries.flatten().map(|e| e.path()).filter(|p| p.is_file()).filter_map(|p| pair_of(&p)).collect();
    pairs.sort_by(|a, b| a.images.cmp(&b.images));
    pairs.dedup_by(|later, first| later.id == first.id);
    Ok(pairs)
}

impl Pair {
    fn labels(&self) -> Result<PathBuf, DataError> {
        let name = self.id.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1");
        let plain = self.images.with_file_name(&name);
        let zipped = self.images.with_file_name(format!("{name}.gz"));
        [plain, zipped]
            .into_iter()
            .find(|p| p.is_file())
            .ok_or_else(|| broken(&self.images, format!("its labels are missing: expected {name} or {name}.gz beside it")))
    }

    fn split(&self) -> Option<String> {
        match self.stem.as_str() {
            "" => None,
            "t10k" => Some("test".into()),
            stem => Some(split_name(stem)),
        }
    }
}

/// Opens the given pairs as one data set; class names are the label numbers, in their order.
pub(crate) fn open(root: &Path, pairs: &[Pair], options: &OpenOptions) -> Result<Dataset, DataError> {
    let mut read = Vec::new();
    for pair in pairs {
        let images = IdxImages::read(&pair.images)?;
        let path = pair.labels()?;
        let (dims, labels) = read_idx(&path, &[1], "labels")?;
        if dims[0] != images.len() {
            return Err(broken(&path, format!("it has {} labels for the {} pictures of {}", dims[0], images.len(), pair.id)));
        }
        read.push((pair, Arc::new(images), labels));
    }
    let numbers: std::collections::BTreeSet<u8> = read.iter().flat_map(|r| r.2.iter().copied()).collect();
    if numbers.is_empty() {
        return Err(DataError::Empty { path: root.into(), detail: " in its IDX files".into() });
    }
    let numbers: Vec<u8> = numbers.into_iter().collect();
    let classes = Classes::in_order(numbers.iter().map(u8::to_string).collect())?;
    let mut samples = Vec::new();
    for (pair, images, labels) in read {
        for (index, label) in labels.iter().enumerate() {
            let source = Source::Idx { images: Arc::clone(&images), index };
            let target = numbers.binary_search(label).ok().map(Target::Label);
            samples.push(Sample { target, split: pair.split(), ..Sample::new(format!("{}#{index}", pair.id), source) });
        }
    }
    with_class_list(Dataset { name: name_of(root), root: root.into(), classes, samples, warnings: Vec::new() }, options)
}

/// Dimensions and bytes of an IDX file whose number of dimensions is one of `ranks`.
fn read_idx(path: &Path, ranks: &[usize], what: &str) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let io = |e| DataError::Io { action: "read", path: path.into(), source: e };
    let file = BufReader::new(File::open(path).map_err(io)?);
    let zipped = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"));
    let mut reader: Box<dyn Read> = if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let short = |_| broken(path, "it ends within its header".into());
    let mut magic = [0; 4];
    reader.read_exact(&mut magic).map_err(short)?;
    let rank = usize::from(magic[3]);
    if magic[..3] != [0, 0, 8] || !ranks.contains(&rank) {
        let expected = ranks.iter().map(|r| format!("00 00 08 {r:02x}")).collect::<Vec<_>>().join(" or ");
        let found = magic.map(|b| format!("{b:02x}")).join(" ");
        return Err(broken(path, format!("expected a file of {what}, which starts with the bytes {expected}, found {found}")));
    }
    let mut dims = Vec::new();
    for _ in 0..rank {
        let mut size = [0; 4];
        reader.read_exact(&mut size).map_err(short)?;
        dims.push(u32::from_be_bytes(size) as usize);
    }
    let size = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64)).filter(|&n| n <= MOST_BYTES);
    let size = size.ok_or_else(|| broken(path, format!("its header asks for {dims:?} bytes, more than {MOST_BYTES}")))?;
    let mut bytes = Vec::new();
    reader.take(size + 1).read_to_end(&mut bytes).map_err(|e| broken(path, format!("it cannot be read to its end: {e}")))?;
    match (bytes.len() as u64).cmp(&size) {
        std::cmp::Ordering::Equal => Ok((dims, bytes)),
        std::cmp::Ordering::Less => {
            Err(broken(path, format!("its header {dims:?} asks for {size} bytes, but only {} follow: it was cut off", bytes.len())))
        }
        std::cmp::Ordering::Greater => Err(broken(path, format!("more than the {size} bytes that its header {dims:?} asks for follow"))),
    }
}

fn broken(path: &Path, message: String) -> DataError {
    DataError::Idx { path: path.into(), message }
}
