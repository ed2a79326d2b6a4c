//! The folder of one training run: recipe, split, metrics, events, checkpoints, predictions and the model.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::LearnError;
use crate::tensorboard::EventFile;

/// A run folder, created where it does not exist.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Creates the folder, or opens one that a run of the same recipe left unfinished.
    ///
    /// # Errors
    /// The folder cannot be created; it holds a finished run, a run of another recipe, or files that are no run.
    pub fn create(path: &Path, recipe: &str) -> Result<Self, LearnError> {
        let folder = Self { path: path.into() };
        folder.check_free()?;
        fs::create_dir_all(path).map_err(|source| LearnError::File { action: "create", path: path.into(), source })?;
        let kept = folder.file("recipe.toml");
        match fs::read_to_string(&kept) {
            Ok(earlier) if earlier != recipe => {
                return Err(
                    folder.taken("holds an unfinished run of other data or another recipe; choose another with --out, or remove it")
                );
            }
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => folder.write("recipe.toml", recipe.as_bytes())?,
            Err(source) => return Err(LearnError::File { action: "read", path: kept, source }),
        }
        Ok(folder)
    }

    /// Whether a run could be put at `path`, as far as that can be told before its recipe is resolved; changes nothing.
    ///
    /// # Errors
    /// It holds a finished run or files that are no run, or it is no place where files can be created.
    pub fn check(path: &Path) -> Result<(), LearnError> {
        Self { path: path.into() }.check_free()?;
        let there = path.ancestors().find(|p| p.exists()).filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let probe = there.join(format!(".fieldmark-{}", std::process::id()));
        let tried = File::create_new(&probe).and_then(|_| fs::remove_file(&probe));
        tried.map_err(|source| LearnError::File { action: "create a run folder in", path: there.into(), source })
    }

    fn check_free(&self) -> Result<(), LearnError> {
        if self.file("result.json").exists() {
            return Err(self.taken("holds a finished run; choose another with --out, or remove it"));
        }
        let visible = |entry: fs::DirEntry| !entry.file_name().to_string_lossy().starts_with('.');
        let is_run = self.file("recipe.toml").exists() || self.file("recipe.toml.partial").exists();
        if !is_run && fs::read_dir(&self.path).is_ok_and(|entries| entries.flatten().any(visible)) {
            return Err(self.taken("holds files of something else than a run; choose another with --out"));
        }
        Ok(())
    }

    fn taken(&self, why: &str) -> LearnError {
        LearnError::RunFolder { path: self.path.clone(), problem: why.into() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A folder inside the folder, created.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn folder(&self, name: &str) -> Result<PathBuf, LearnError> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).map_err(|source| LearnError::File { action: "create", path: path.clone(), source })?;
        Ok(path)
    }

    /// Writes a file whole or not at all.
    ///
    /// # Errors
    /// The disk is full or the folder read-only; the message names the file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), LearnError> {
        let path = self.file(name);
        let partial = self.file(&format!("{name}.partial"));
        let written = File::create(&partial)
            .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&partial, &path));
        written.map_err(|source| {
            let _ = fs::remove_file(&partial);
            LearnError::File { action: "write", path, source }
        })
    }

    /// Writes a value as indented JSON.
    ///
    /// # Errors
    /// As [`RunFolder::write`].
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), LearnError> {
        let text =
            serde_json::to_vec_pretty(value).map_err(|e| LearnError::File { action: "write", path: self.file(name), source: e.into() })?;
        self.write(name, &text)
    }
}

/// Metrics of a run as JSON lines (`metrics.jsonl`) and TensorBoard events.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    events: EventFile,
    kept: Vec<String>,
}

impl MetricsLog {
    /// Opens the log of a folder. Rows of epochs that a resumed run repeats are replaced when they come again.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn open(folder: &Path) -> Result<Self, LearnError> {
        let path = folder.join("metrics.jsonl");
        let kept = match fs::read_to_string(&path) {
            Ok(text) => text.lines().filter(|line| epoch_of(line).is_some()).map(String::from).collect(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(LearnError::File { action: "read", path, source }),
        };
        let events = EventFile::open(folder).map_err(|source| LearnError::File { action: "write", path: path.clone(), source })?;
        Ok(Self { path, events, kept })
    }

    /// Adds a row: a flat object with `epoch` and numbers. Rows of this and later epochs that were there are forgotten.
    ///
    /// # Errors
    /// The disk is full.
    pub fn add(&mut self, row: &impl Serialize) -> Result<(), LearnError> {
        let failed = |source| LearnError::File { action: "write", path: self.path.clone(), source };
        let value = serde_json::to_value(row).map_err(|e| failed(e.into()))?;
        let epoch = value["epoch"].as_u64().unwrap_or(0);
        let repeated = self.kept.iter().any(|line| epoch_of(line).is_some_and(|e| e >= epoch));
        self.kept.retain(|line| epoch_of(line).is_some_and(|e| e < epoch));
        self.kept.push(value.to_string());
        let written = if repeated {
            fs::write(&self.path, self.kept.join("\n") + "\n")
        } else {
            let mut options = OpenOptions::new();
            options.create(true).append(true).open(&self.path).and_then(|mut file| writeln!(file, "{value}"))
        };
        written.map_err(failed)?;
        let numbers = value.as_object().into_iter().flatten().filter(|(key, _)| *key != "epoch");
        let numbers = numbers.filter_map(|(key, v)| v.as_f64().map(|v| (key.as_str(), v)));
        self.events.scalars(epoch, numbers).map_err(failed)
    }
}

fn epoch_of(line: &str) -> Option<u64> {
    serde_json::from_str::<Value>(line).ok()?["epoch"].as_u64()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_run_of_another_recipe_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(folder.path(), "seed = 1\n").unwrap();
        RunFolder::create(folder.path(), "seed = 1\n").unwrap();
        let error = RunFolder::create(folder.path(), "seed = 2\n").unwrap_err().to_string();
        assert!(error.contains("unfinished run of other data or another recipe; choose another with --out, or remove it"), "{error}");
        run.write("result.json", b"{}").unwrap();
        let error = RunFolder::create(folder.path(), "seed = 1\n").unwrap_err().to_string();
        assert!(error.contains("finished run"), "{error}");
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("photo.png"), b"").unwrap();
        let error = RunFolder::create(folder.path(), "seed = 1\n").unwrap_err().to_string();
        assert!(error.contains("holds files of something else than a run; choose another with --out"), "{error}");
        assert!(!folder.path().join("recipe.toml").exists());
        let error = RunFolder::check(&folder.path().join("photo.png/run")).unwrap_err().to_string();
        assert!(error.contains("cannot create a run folder in") && error.contains("choose another folder"), "{error}");
        RunFolder::check(&folder.path().join("new/run")).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "checking leaves nothing behind");
    }

    #[test]
    fn the_log_forgets_what_a_resumed_run_repeats() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = MetricsLog::open(folder.path()).unwrap();
        for epoch in 0..3 {
            log.add(&serde_json::json!({"epoch": epoch, "train_loss": 0.5})).unwrap();
        }
        drop(log);
        MetricsLog::open(folder.path()).unwrap().add(&serde_json::json!({"epoch": 1, "train_loss": 0.25})).unwrap();
        let text = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(rows.len(), 2, "{text}");
        assert_eq!(rows[1]["train_loss"], 0.25);
    }
}
