//! TensorBoard event files: scalars only, written without a protobuf library.
//!
//! The format is TensorFlow's record file (length, masked CRC-32C of the length, data, masked CRC-32C of the data) of `Event` messages
//! (`tensorflow/core/util/event.proto`): `wall_time` 1 (double), `step` 2 (int64), `file_version` 3 (string), `summary` 5, whose
//! `value` 1 holds `tag` 1 (string) and `simple_value` 2 (float).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Appends scalars to one event file.
#[derive(Debug)]
pub struct EventFile {
    file: File,
}

impl EventFile {
    /// Opens (or continues) the event file of a run folder.
    ///
    /// # Errors
    /// The file cannot be opened or written.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("events.out.tfevents.fieldmark");
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let mut events = Self { file };
        if events.file.metadata()?.len() == 0 {
            let mut event = wall_time();
            bytes_field(&mut event, 3, b"brain.Event:2");
            events.record(&event)?;
        }
        Ok(events)
    }

    /// Adds named scalars at a step.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn scalars<'a>(&mut self, step: u64, values: impl IntoIterator<Item = (&'a str, f64)>) -> io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut entry = Vec::new();
            bytes_field(&mut entry, 1, tag.as_bytes());
            entry.push(2 << 3 | 5);
            entry.extend((value as f32).to_le_bytes());
            bytes_field(&mut summary, 1, &entry);
        }
        let mut event = wall_time();
        event.push(2 << 3);
        varint(&mut event, step);
        bytes_field(&mut event, 5, &summary);
        self.record(&event)
    }

    fn record(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(data.len() + 16);
        record.extend(length);
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(data);
        record.extend(masked_crc(data).to_le_bytes());
        self.file.write_all(&record)
    }
}

fn wall_time() -> Vec<u8> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
    let mut event = vec![1 << 3 | 1];
    event.extend(seconds.to_le_bytes());
    event
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes_field(out: &mut Vec<u8>, field: u8, data: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, data.len() as u64);
    out.extend(data);
}

/// CRC-32C (Castagnoli), rotated and offset as record files want it.
fn masked_crc(data: &[u8]) -> u32 {
    let mut crc = !0u32;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn crc_is_castagnoli() {
        // RFC 3720, B.4: 32 bytes of zeros.
        let unmasked = masked_crc(&[0; 32]).wrapping_sub(0xa282_ead8).rotate_left(15);
        assert_eq!(unmasked, 0x8a91_36aa);
    }

    #[test]
    fn a_file_is_whole_records() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::open(folder.path()).unwrap();
        events.scalars(300, [("train/loss", 0.5), ("validation/accuracy", 0.25)]).unwrap();
        drop(events);
        EventFile::open(folder.path()).unwrap().scalars(301, [("train/loss", 0.25)]).unwrap();
        let bytes = std::fs::read(folder.path().join("events.out.tfevents.fieldmark")).unwrap();
        let (mut rest, mut records) = (bytes.as_slice(), 0);
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8..12], masked_crc(&rest[..8]).to_le_bytes());
            assert_eq!(rest[12 + length..16 + length], masked_crc(&rest[12..12 + length]).to_le_bytes());
            rest = &rest[16 + length..];
            records += 1;
        }
        assert_eq!(records, 3, "the version record stands once, before two events");
    }
}
