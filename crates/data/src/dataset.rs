//! A labelled set of pictures, whatever it was read from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use images::{DecodeOptions, Image, ImageError, Picture, Pixels, Preprocess, Reader};

use crate::{Classes, DataError, Sample, Source, Target, fetch, formats};

/// What to make of the data; every field may be left at its default.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Manifest column holding the label; default: `label`, `class`, `target` or `labels`.
    pub label_column: Option<String>,
    /// Manifest column holding the file; default: `path`, `file`, `filename` or `image`.
    pub path_column: Option<String>,
    /// Manifest column holding the split; default: `split`.
    pub split_column: Option<String>,
    /// Manifest column holding the group; default: `group`.
    pub group_column: Option<String>,
    /// Keep probabilities as soft targets where the data has them (ELPV), rather than the likelier class.
    pub soft: bool,
    /// The classes to use, in this order; a label outside it is an error. Default: the names in the data, sorted.
    pub class_list: Option<Classes>,
    /// The cache in which fetched names are looked for; default: [`fetch::cache_dir`].
    pub cache: Option<PathBuf>,
}

/// A labelled set of pictures.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The folder's or manifest's name, or the fetched name.
    pub name: String,
    /// The folder that sample ids are relative to.
    pub root: PathBuf,
    /// Class names; the label in a target is a position in this list.
    pub classes: Classes,
    /// The pictures, ordered by id (manifests: by row; IDX: by file and position).
    pub samples: Vec<Sample>,
    /// What was set aside or looks wrong, each a sentence for people.
    pub warnings: Vec<String>,
}

impl Dataset {
    /// Opens a folder of class folders, a manifest, IDX files, the ELPV layout, or a fetched data set by name.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # for class in ["cat", "dog"] {
    /// #     std::fs::create_dir(dir.path().join(class))?;
    /// #     std::fs::write(dir.path().join(class).join("1.png"), b"")?;
    /// # }
    /// # let folder = dir.path().to_str().ok_or("path")?;
    /// let dataset = data::Dataset::open(folder)?;
    /// assert_eq!(dataset.classes.names(), ["cat", "dog"]);
    /// assert_eq!(dataset.samples[1].id, "dog/1.png");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`DataError`]: nothing by this name, no images, wrong columns, unusable rows. Pictures are not decoded here.
    pub fn open(spec: &str) -> Result<Dataset, DataError> {
        Dataset::open_with(spec, &OpenOptions::default())
    }

    /// [`Dataset::open`] with column names, class list and cache chosen by the caller.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_with(spec: &str, options: &OpenOptions) -> Result<Dataset, DataError> {
        let path = Path::new(spec);
        let mut dataset = if path.exists() { formats::open_path(path, options)? } else { open_fetched(spec, options)? };
        dataset.warnings.extend(dataset.balance_warnings());
        Ok(dataset)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Decodes sample `i`.
    ///
    /// # Errors
    /// When the picture cannot be read or decoded; the error names the sample.
    pub fn image(&self, i: usize, options: &DecodeOptions) -> Result<Image, DataError> {
        let sample = self.sample(i)?;
        match &sample.source {
            Source::File(path) => images::open(path, options).map_err(|reason| named(sample, reason)),
            Source::Idx { images, index } => images.image(*index).map_err(|reason| named(sample, reason)),
            Source::Memory(image) => Ok(Image::clone(image)),
        }
    }

    /// Decodes sample `i` no larger than `preprocess` needs it, see [`images::decode_for`].
    ///
    /// # Errors
    /// As [`Dataset::image`].
    pub fn picture(&self, i: usize, preprocess: &Preprocess, options: &DecodeOptions) -> Result<Picture, DataError> {
        let sample = self.sample(i)?;
        match &sample.source {
            Source::File(path) => images::open_for(path, preprocess, options).map_err(|reason| named(sample, reason)),
            Source::Idx { .. } | Source::Memory(_) => self.image(i, options).map(Picture::from),
        }
    }

    /// Writes the values `[C, H, W]` of sample `i`, as the reader prepares them for a model, into `out`.
    ///
    /// # Errors
    /// As [`Dataset::image`].
    ///
    /// # Panics
    /// When the slice has another length.
    pub fn input(&self, i: usize, reader: &mut Reader, out: &mut [f32]) -> Result<(), DataError> {
        let sample = self.sample(i)?;
        match &sample.source {
            Source::File(path) => reader.open(path, out).map_err(|reason| named(sample, reason)),
            Source::Idx { images, index } => {
                reader.prepare(&images.image(*index).map_err(|reason| named(sample, reason))?, out);
                Ok(())
            }
            Source::Memory(image) => {
                reader.prepare(image, out);
                Ok(())
            }
        }
    }

    fn sample(&self, i: usize) -> Result<&Sample, DataError> {
        self.samples.get(i).ok_or(DataError::Index { index: i, len: self.samples.len() })
    }

    /// Indices of the samples of a split by its name. `val`, `valid` and `validation` are one name.
    pub fn split(&self, name: &str) -> Vec<usize> {
        let name = formats::split_name(name);
        (0..self.samples.len()).filter(|&i| self.samples[i].split.as_deref() == Some(name.as_str())).collect()
    }

    /// The names of the splits, sorted.
    pub fn split_names(&self) -> Vec<String> {
        self.samples.iter().filter_map(|s| s.split.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The names of the further columns, sorted.
    pub fn column_names(&self) -> Vec<String> {
        self.samples.iter().flat_map(|s| s.columns.keys().cloned()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Samples of each class among `indices`; several labels count once each, soft targets by their likeliest class.
    pub fn class_counts<'a>(&self, indices: impl IntoIterator<Item = &'a usize>) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        let add = |counts: &mut Vec<usize>, label: usize| counts.get_mut(label).into_iter().for_each(|c| *c += 1);
        for &i in indices {
            match self.samples.get(i).and_then(|s| s.target.as_ref()) {
                Some(Target::Labels(labels)) => labels.iter().for_each(|&l| add(&mut counts, l)),
                Some(target) => target.argmax().into_iter().for_each(|l| add(&mut counts, l)),
                None => {}
            }
        }
        counts
    }

    /// The strata of a stratified split: one number for each sample, equal where the class and the values of all
    /// `columns` are equal (`group` and `split` may be named too). Unlabelled samples and several labels make strata of their own.
    pub fn strata(&self, columns: &[&str]) -> Vec<usize> {
        let keys: Vec<Vec<String>> = self.samples.iter().map(|sample| stratum_key(sample, columns)).collect();
        let numbers: BTreeMap<&Vec<String>, usize> =
            keys.iter().collect::<BTreeSet<_>>().into_iter().enumerate().map(|(n, key)| (key, n)).collect();
        keys.iter().map(|key| numbers[key]).collect()
    }

    /// The group of each sample, for a grouped split: its `group`, or a group of its own. `None` when no sample has one.
    pub fn groups(&self) -> Option<Vec<String>> {
        self.samples.iter().any(|s| s.group.is_some()).then(|| {
            let own = |s: &Sample| s.group.as_ref().map_or_else(|| format!("sample:{}", s.id), |g| format!("group:{g}"));
            self.samples.iter().map(own).collect()
        })
    }

    /// Rewrites the labels for another class list, by name.
    ///
    /// # Errors
    /// When a class that has samples is not in `to`; then nothing is changed.
    pub fn remap_classes(&mut self, to: &Classes) -> Result<(), DataError> {
        let map = self.classes.remap(to);
        let counts = self.class_counts(&(0..self.samples.len()).collect::<Vec<_>>());
        let soft = self.samples.iter().any(|s| matches!(s.target, Some(Target::Soft(_))));
        let missing: Vec<&str> =
            (0..map.len()).filter(|&l| map[l].is_none() && (counts[l] > 0 || soft)).map(|l| self.classes.names()[l].as_str()).collect();
        if !missing.is_empty() {
            return Err(DataError::UnknownClasses { missing: missing.join(", "), classes: to.names().join(", ") });
        }
        for target in self.samples.iter_mut().filter_map(|s| s.target.as_mut()) {
            remap_target(target, &map, to.len());
        }
        self.classes = to.clone();
        Ok(())
    }

    /// A digest of what the data set is: ids, targets by class name, weights and file sizes, in the order of ids; not of
    /// where it lies, of times, or of the order of the samples. Pixels of files are not read. 64 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let mut order: Vec<&Sample> = self.samples.iter().collect();
        order.sort_by(|a, b| a.id.cmp(&b.id));
        let mut hash = blake3::Hasher::new();
        let mut field = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        self.classes.names().iter().for_each(|name| field(name.as_bytes()));
        for sample in order {
            field(sample.id.as_bytes());
            field(format!("{:?} {:?} {}", sample.target, sample.split, sample.weight).as_bytes());
            match &sample.source {
                Source::File(path) => field(&fs::metadata(path).map_or(0, |m| m.len()).to_le_bytes()),
                Source::Idx { images, index } => field(images.pixels(*index)),
                Source::Memory(image) => field(&pixel_bytes(image)),
            }
        }
        hash.finalize().to_hex().to_string()
    }

    /// One class only, and classes that a split lacks.
    fn balance_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let [only] = self.classes.names() {
            warnings.push(format!("there is one class only (`{only}`): a classifier needs at least two"));
        }
        let all: Vec<usize> = (0..self.samples.len()).collect();
        let overall = self.class_counts(&all);
        for (label, _) in overall.iter().enumerate().filter(|(_, n)| **n == 0) {
            warnings.push(format!("the class `{}` has no sample", self.classes.names()[label]));
        }
        for split in self.split_names() {
            let counts = self.class_counts(&self.split(&split));
            for label in (0..counts.len()).filter(|&l| counts[l] == 0 && overall[l] > 0) {
                warnings.push(format!("the split `{split}` has no sample of the class `{}`", self.classes.names()[label]));
            }
        }
        warnings
    }
}

/// A fetched data set by its name.
fn open_fetched(spec: &str, options: &OpenOptions) -> Result<Dataset, DataError> {
    let cache = options.cache.clone().unwrap_or_else(fetch::cache_dir);
    let Some(entry) = fetch::entry(spec) else {
        let known = fetch::entries().iter().filter(|e| e.kind == fetch::Kind::Dataset).map(|e| e.name).collect::<Vec<_>>();
        return Err(DataError::NotFound { spec: spec.into(), known: known.join(", ") });
    };
    if entry.kind != fetch::Kind::Dataset {
        return Err(DataError::NotADataset { name: spec.into() });
    }
    let path = fetch::locate(spec, &cache).ok_or(DataError::NotFetched { name: spec.into(), cache })?;
    let mut dataset = formats::open_path(&path, options)?;
    dataset.name = spec.into();
    Ok(dataset)
}

fn stratum_key(sample: &Sample, columns: &[&str]) -> Vec<String> {
    let class = match &sample.target {
        None => String::new(),
        Some(Target::Labels(labels)) => format!("{labels:?}"),
        Some(target) => format!("{:?}", target.argmax()),
    };
    let value = |column: &&str| match *column {
        "group" => sample.group.clone().unwrap_or_default(),
        "split" => sample.split.clone().unwrap_or_default(),
        name => sample.columns.get(name).cloned().unwrap_or_default(),
    };
    std::iter::once(class).chain(columns.iter().map(value)).collect()
}

/// Labels through `map`; labels without an image in it are dropped (the caller has checked that none is used).
fn remap_target(target: &mut Target, map: &[Option<usize>], classes: usize) {
    match target {
        Target::Label(label) => {
            if let Some(&Some(to)) = map.get(*label) {
                *label = to;
            }
        }
        Target::Labels(labels) => {
            *labels = labels.iter().filter_map(|&l| map.get(l).copied().flatten()).collect();
            labels.sort_unstable();
        }
        Target::Soft(p) => {
            let mut out = vec![0.0; classes];
            p.iter().enumerate().for_each(|(l, &v)| {
                if let Some(&Some(to)) = map.get(l) {
                    out[to] = v;
                }
            });
            *p = out;
        }
    }
}

/// BLAKE3 digest of what a sample's pixels come from: the bytes of its file, or the size and pixels of a picture in memory.
/// The key of [`crate::FeatureCache`].
///
/// # Errors
/// When the file cannot be read.
pub fn content_hash(sample: &Sample) -> Result<[u8; 32], DataError> {
    let mut hash = blake3::Hasher::new();
    match &sample.source {
        Source::File(path) => {
            let mut file = fs::File::open(path).map_err(DataError::io("read", path))?;
            std::io::copy(&mut file, &mut hash).map_err(DataError::io("read", path))?;
        }
        Source::Idx { images, index } => {
            let [height, width, channels] = images.shape();
            hash.update(format!("pixels {height}x{width}x{channels}").as_bytes());
            hash.update(images.pixels(*index));
        }
        Source::Memory(image) => {
            hash.update(format!("pixels {}x{}x{}", image.height(), image.width(), image.channels()).as_bytes());
            hash.update(&pixel_bytes(image));
        }
    }
    Ok(*hash.finalize().as_bytes())
}

fn pixel_bytes(image: &Image) -> Vec<u8> {
    match image.pixels() {
        Pixels::U8(bytes) => bytes.clone(),
        Pixels::U16(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

fn named(sample: &Sample, reason: ImageError) -> DataError {
    // The id says which file it is; its path would say it again.
    let reason = if let ImageError::File { source, .. } = reason { *source } else { reason };
    DataError::Image { id: sample.id.clone(), reason }
}
