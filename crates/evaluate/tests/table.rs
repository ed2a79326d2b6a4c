//! Tables of predictions as CSV and Parquet: what is written comes back, what is wrong is named.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use fieldmark_evaluate::{EvaluateError, Predictions};

fn awkward() -> Predictions {
    let mut predictions = Predictions::new(
        vec!["zebra, \"plain\"".into(), "ant".into(), "käfer\nx".into()],
        vec!["a/1.png".into(), "b,2.png".into(), "c \"3\".png".into()],
        vec![Some(2), None, Some(0)],
        vec![0.1, 0.2, 0.7, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 - 1e-12, 1e-12, 0.0],
    )
    .unwrap();
    predictions.fold = Some(vec![0, 1, 1]);
    predictions.columns.insert("type".into(), vec!["mono".into(), "".into(), "poly, \"x\"".into()]);
    predictions
}

type Write = fn(&Predictions, &Path) -> Result<(), EvaluateError>;
type Read = fn(&Path) -> Result<Predictions, EvaluateError>;
const FORMATS: [(&str, Write, Read); 2] =
    [("csv", Predictions::write_csv, Predictions::read_csv), ("parquet", Predictions::write_parquet, Predictions::read_parquet)];

#[test]
fn tables_come_back_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let mut plain = awkward();
    plain.fold = None;
    plain.columns.clear();
    let many: Vec<usize> = (0..70_000).map(|i| i % 3).collect();
    let empty = awkward().select(&[]);
    for (format, write, read) in FORMATS {
        for (name, table) in [("awkward", awkward()), ("plain", plain.clone()), ("long", awkward().select(&many))] {
            let path = folder.path().join(format!("{name}.{format}"));
            write(&table, &path).unwrap();
            let back = read(&path).unwrap();
            assert!(back == table, "{name} {format}");
        }
        let path = folder.path().join(format!("empty.{format}"));
        write(&empty, &path).unwrap();
        assert_eq!(read(&path).unwrap().classes, empty.classes);
    }
    // Nothing temporary stays behind.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 8);
}

#[test]
fn columns_of_unequal_length_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.csv");
    fs::write(&path, "\u{feff}id,p:a\nx,1\n").unwrap();
    assert_eq!(Predictions::read_csv(&path).unwrap().ids, ["x"], "a byte order mark is no part of the name");
    let mut ragged = awkward();
    ragged.columns.insert("type".into(), vec![String::new()]);
    for (_, write, _) in FORMATS {
        assert!(matches!(write(&ragged, &path), Err(EvaluateError::Length { expected: 3, found: 1, .. })));
    }
}

#[test]
fn the_csv_has_the_documented_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.csv");
    let mut table = awkward();
    table.classes = vec!["a".into(), "b".into(), "c".into()];
    table.write_csv(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "id,truth,predicted,probability,fold,p:a,p:b,p:c,type");
    assert_eq!(lines[1], "a/1.png,c,c,0.7,0,0.1,0.2,0.7,mono");
    assert!(lines[2].starts_with("\"b,2.png\",,a,0.333"), "{}", lines[2]);
}

#[test]
fn wrong_csv_names_row_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.csv");
    let cases = [
        (
            "id,truth,p:a,p:b\nx,a,0.5,0.5\ny,c,0.5,0.5\n",
            "row 2, column `truth`: unknown class `c`; the file has probabilities for `a`, `b`",
        ),
        ("id,truth,p:a,p:b\nx,a,0.5,half\n", "row 1, column `p:b`: expected a number, found `half`"),
        ("id,truth,p:a,p:b\nx,a,0.5,\n", "row 1, column `p:b`: expected a number, found nothing"),
        ("id,truth,p:a,p:b\nx,a,0.5,NaN\n", "row 1 (`x`): the probability of `b` is NaN, expected a number from 0 to 1"),
        ("id,truth,p:a,p:b\nx,a,0.5,0.2\n", "row 1 (`x`): the probabilities sum to 0.7, expected 1 (within 0.001); apply softmax first"),
        ("id,truth,p:a,p:b\nx,a,0.5\n", "line 2: expected 4 fields as in the header, found 3"),
        ("path,label\nx,a\n", "no column `id`: expected `id` and one `p:<class>` per class, found `path`, `label`"),
        ("id,label\nx,a\n", "no column `p:<class>`: expected `id` and one `p:<class>` per class, found `id`, `label`"),
        ("id,p:a,p:a\nx,0.5,0.5\n", "column `p:a` occurs twice"),
        ("id,predicted,p:a,p:b\nx,b,0.6,0.4\n", "row 1, column `predicted`: `b`, but `a` has the larger probability"),
        ("id,fold,p:a\nx,0,1\ny,,1\n", "row 2, column `fold`: empty, but other rows have a fold"),
        ("id,fold,p:a\nx,-1,1\n", "row 1, column `fold`: expected a whole number from 0, found `-1`"),
    ];
    for (text, expected) in cases {
        fs::write(&path, text).unwrap();
        let error = Predictions::read_csv(&path).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {expected}", path.display()));
    }
    fs::write(&path, b"id,p:a\n\xff,1\n").unwrap();
    let error = Predictions::read_csv(&path).unwrap_err().to_string();
    assert!(error.ends_with("line 2, field 1: not UTF-8 text"), "{error}");
}

#[test]
fn damaged_parquet_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.parquet");
    awkward().write_parquet(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    for cut in [0, 3, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..cut]).unwrap();
        let error = Predictions::read_parquet(&path).unwrap_err().to_string();
        assert!(error.contains("p.parquet: not readable as Parquet"), "{cut}: {error}");
    }
    for at in (4..whole.len()).step_by(11) {
        let mut altered = whole.clone();
        altered[at] ^= 0x55;
        fs::write(&path, &altered).unwrap();
        // Any answer but a panic will do: Parquet pages carry no checksum here.
        let _ = Predictions::read_parquet(&path);
    }
}

#[test]
fn a_missing_folder_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none/p.csv");
    for (_, write, read) in FORMATS {
        assert!(matches!(write(&awkward(), &path), Err(EvaluateError::Io { .. })));
        assert!(matches!(read(&path), Err(EvaluateError::Io { .. })));
    }
}

#[test]
fn a_table_that_is_no_table_is_refused() {
    let good = awkward();
    let error = |change: fn(&mut Predictions)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad.check().unwrap_err().to_string()
    };
    assert_eq!(error(|p| p.classes.clear()), "the predictions name no classes: at least one is needed");
    assert_eq!(error(|p| p.classes[1] = p.classes[2].clone()), "class `käfer\nx` is listed twice: class names must differ");
    assert_eq!(error(|p| p.classes[1].clear()), "class number 1 has an empty name: a table could not tell it from an unknown truth");
    assert_eq!(error(|p| p.truth[1] = Some(3)), "row 2 (`b,2.png`): truth is class number 3, but there are only 3 classes");
    assert_eq!(error(|p| p.probabilities.truncate(8)), "column `probabilities` has 8 entries, expected 9 (one per sample and class)");
    assert_eq!(error(|p| p.fold = Some(vec![0])), "column `fold` has 1 entries, expected 3 (one per sample)");
    assert!(error(|p| p.probabilities[0] = -0.1).starts_with("row 1 (`a/1.png`): the probability of"));
    let reserved = error(|p| drop(p.columns.insert("truth".into(), vec![String::new(); 3])));
    assert_eq!(reserved, "an extra column may not be called `truth`: that name is taken by the table itself");
}

#[test]
fn tables_are_joined_if_they_fit() {
    let (a, b) = (awkward().select(&[0]), awkward().select(&[1, 2]));
    assert_eq!(Predictions::concat(&[a.clone(), b.clone()]).unwrap(), awkward());
    let mut other = b.clone();
    other.classes.swap(0, 1);
    assert!(matches!(Predictions::concat(&[a.clone(), other]), Err(EvaluateError::Mismatch { .. })));
    let mut unfolded = b;
    unfolded.fold = None;
    assert!(matches!(Predictions::concat(&[a, unfolded]), Err(EvaluateError::Mismatch { .. })));
    assert!(matches!(Predictions::concat(&[]), Err(EvaluateError::Mismatch { .. })));
}
