//! Batches: order, determinism, broken samples, bounded work, clean shutdown.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data::{Batch, Classes, Dataset, Loader, LoaderOptions, Sample, Source, Target};
use images::{Augment, Image, Preprocess};

/// Grey 4x4 pictures of value `i`; those in `broken` are files that do not exist.
fn dataset(n: usize, broken: &[usize]) -> Arc<Dataset> {
    let sample = |i: usize| {
        let image = Image::from_gray8(4, 4, vec![i as u8; 16]).unwrap();
        let source = match broken.contains(&i) {
            true => Source::File(PathBuf::from("/nowhere/missing.png")),
            false => Source::Memory(Arc::new(image)),
        };
        let new = Sample::new(format!("s{i}"), source);
        Sample { target: Some(Target::Label(i % 2)), columns: BTreeMap::new(), ..new }
    };
    let samples = (0..n).map(sample).collect();
    Arc::new(Dataset { name: "t".into(), root: PathBuf::new(), classes: Classes::sorted(["a", "b"]), samples, warnings: Vec::new() })
}

fn options(batch_size: usize, workers: usize) -> LoaderOptions {
    LoaderOptions { batch_size, workers, ..LoaderOptions::new(Preprocess::gray([4, 4], 0.0, 1.0)) }
}

fn epoch(data: &Arc<Dataset>, options: LoaderOptions, order: &[usize], number: u64) -> Vec<Batch> {
    Loader::new(Arc::clone(data), options).unwrap().epoch(order, number).collect()
}

#[test]
fn batches_keep_the_order_and_hold_the_right_pixels() {
    let data = dataset(23, &[]);
    let order: Vec<usize> = (0..23).rev().collect();
    let batches = epoch(&data, options(5, 3), &order, 0);
    assert_eq!(batches.iter().map(|b| b.shape[0]).collect::<Vec<_>>(), [5, 5, 5, 5, 3]);
    assert_eq!(batches.iter().flat_map(|b| b.indices.clone()).collect::<Vec<_>>(), order);
    for batch in &batches {
        assert_eq!(batch.images.len(), batch.shape.iter().product::<usize>());
        for (row, &i) in batch.images.chunks(16).zip(&batch.indices) {
            assert!(row.iter().all(|v| (v * 255.0 - i as f32).abs() < 1e-3), "{i}: {row:?}");
        }
    }
}

#[test]
fn the_number_of_workers_changes_nothing() {
    let data = dataset(40, &[7]);
    let order: Vec<usize> = (0..40).collect();
    let augmented = |workers| LoaderOptions { augment: Some(Augment::standard()), seed: 5, ..options(8, workers) };
    let one = epoch(&data, augmented(1), &order, 3);
    assert_eq!(one, epoch(&data, augmented(4), &order, 3));
    assert_ne!(one, epoch(&data, augmented(1), &order, 4));
}

#[test]
fn broken_samples_are_reported_and_the_rest_goes_on() {
    let data = dataset(10, &[0, 4, 9]);
    let batches = epoch(&data, options(4, 2), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 77], 0);
    assert_eq!(batches.iter().map(|b| b.shape[0]).collect::<Vec<_>>(), [3, 3, 1]);
    assert_eq!(batches[1].indices, [5, 6, 7]);
    assert_eq!(batches[1].images[0], 5.0 / 255.0);
    let failed: Vec<usize> = batches.iter().flat_map(|b| b.failed.iter().map(|f| f.0)).collect();
    assert_eq!(failed, [0, 4, 9, 77]);
    assert!(!batches[0].failed[0].1.contains("s0"), "the sample is named by its number alone: {:?}", batches[0].failed);
}

#[test]
fn an_epoch_dropped_early_stops_at_once() {
    let data = dataset(200, &[]);
    let order: Vec<usize> = (0..200).cycle().take(2_000_000).collect();
    let start = Instant::now();
    let loader = Loader::new(data, options(16, 4)).unwrap();
    for _ in 0..10 {
        let mut epoch = loader.epoch(&order, 0);
        assert_eq!(epoch.len(), 125_000);
        assert!(epoch.next().is_some());
    }
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(loader.epoch(&[], 0).count(), 0);
}

#[test]
fn decoded_files_are_kept_within_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = Dataset::clone(&dataset(3, &[]));
    for (i, sample) in data.samples.iter_mut().enumerate() {
        let path = dir.path().join(format!("{i}.pgm"));
        let mut bytes = b"P5 4 4 255\n".to_vec();
        bytes.extend([i as u8 * 10; 16]);
        std::fs::write(&path, bytes).unwrap();
        sample.source = Source::File(path);
    }
    let loader = Loader::new(Arc::new(data), LoaderOptions { cache_bytes: 40, ..options(3, 1) }).unwrap();
    let first: Vec<Batch> = loader.epoch(&[0, 1, 2], 0).collect();
    assert!(first[0].failed.is_empty(), "{:?}", first[0].failed);
    drop(dir);
    // two pictures of 16 bytes fit into 40; the third is read again and is gone
    let second: Vec<Batch> = loader.epoch(&[0, 1, 2], 1).collect();
    assert_eq!(second[0].indices, [0, 1]);
    assert_eq!(second[0].images, first[0].images[..32]);
}

#[test]
fn options_that_cannot_be_used_are_named() {
    let error = |options| Loader::new(dataset(1, &[]), options).err().unwrap().to_string();
    assert_eq!(error(options(0, 1)), "loader option batch_size: must be at least 1");
    assert_eq!(error(LoaderOptions { prefetch: 0, ..options(1, 1) }), "loader option prefetch: must be at least 1");
}
