//! A reviewer's decisions: kept by content, written as CSV, applied as a new manifest.
//!
//! A decision is on a picture's content ([`crate::Measured::content`]), so that it holds for a file that was moved or renamed and for none that
//! was changed. The file is sorted, one decision a row, so that two versions can be compared line by line; applying it writes a manifest and
//! touches no picture, so that every decision can be taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use data::{Dataset, Source, Target};
use serde::{Deserialize, Serialize};

use crate::{AuditError, Check, Finding, PixelTable};

/// What the reviewer decided.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Verdict {
    /// The finding is no fault: do not show it again.
    Fine,
    /// The picture shows this class, by name.
    Relabel(String),
    /// The picture is to be left out.
    Drop,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The picture as it was called when it was reviewed; for people.
    pub id: String,
    /// The verdict.
    pub verdict: Verdict,
    /// What the reviewer wrote.
    pub note: String,
}

/// Decisions by content and check. A verdict of a check holds for that check's findings; `Relabel` and `Drop` hold for the picture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    decisions: BTreeMap<(String, Option<Check>), Decision>,
}

const COLUMNS: [&str; 6] = ["content", "check", "decision", "label", "id", "note"];

impl Plan {
    /// No decision.
    pub fn new() -> Plan {
        Plan::default()
    }

    /// Number of decisions.
    pub fn len(&self) -> usize {
        self.decisions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.decisions.is_empty()
    }

    /// Sets the decision on a picture's content, for a check or for all; returns the one it replaces.
    pub fn set(&mut self, content: &str, check: Option<Check>, decision: Decision) -> Option<Decision> {
        self.decisions.insert((content.to_string(), check), decision)
    }

    /// Takes a decision back.
    pub fn remove(&mut self, content: &str, check: Option<Check>) -> Option<Decision> {
        self.decisions.remove(&(content.to_string(), check))
    }

    /// Decisions in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<Check>, &Decision)> {
        self.decisions.iter().map(|((content, check), decision)| (content.as_str(), *check, decision))
    }

    /// Decisions of `later` over those of this plan.
    pub fn merge(&mut self, later: Plan) {
        self.decisions.extend(later.decisions);
    }

    /// Reads a plan: CSV with the columns content, check, decision (`fine`, `relabel` or `drop`), label, id, note.
    ///
    /// # Errors
    /// A file that cannot be read, or a row that names the row and what is wrong with it.
    pub fn read(path: &Path) -> Result<Plan, AuditError> {
        Plan::parse(&fs::read_to_string(path).map_err(AuditError::io("read", path))?, path)
    }

    /// Writes the plan, sorted, by way of a second file, so that no half of one is ever seen.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), AuditError> {
        let fresh = path.with_extension("csv.new");
        fs::write(&fresh, self.to_csv()).map_err(AuditError::io("write", &fresh))?;
        fs::rename(&fresh, path).map_err(AuditError::io("write", path))
    }

    /// The file's text.
    pub fn to_csv(&self) -> String {
        let mut rows = vec![COLUMNS.map(String::from).to_vec()];
        for (content, check, decision) in self.iter() {
            let (verdict, label) = match &decision.verdict {
                Verdict::Fine => ("fine", ""),
                Verdict::Relabel(label) => ("relabel", label.as_str()),
                Verdict::Drop => ("drop", ""),
            };
            let check = check.map_or(String::new(), check_name);
            rows.push([content, &check, verdict, label, &decision.id, &decision.note].map(String::from).to_vec());
        }
        csv_text(&rows)
    }

    /// [`Plan::read`] of a text; `path` is for errors.
    ///
    /// # Errors
    /// As [`Plan::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Plan, AuditError> {
        let bad = |row: u64, message: String| AuditError::Plan { path: path.to_path_buf(), row, message };
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.trim_start_matches('\u{feff}').as_bytes());
        let header = reader.headers().map_err(|e| bad(1, e.to_string()))?.clone();
        let column = |name: &str| header.iter().position(|h| h.trim().eq_ignore_ascii_case(name));
        let needed = |name: &str| column(name).ok_or_else(|| bad(1, format!("no column `{name}`; expected {}", COLUMNS.join(", "))));
        let (content, verdict) = (needed("content")?, needed("decision")?);
        let mut plan = Plan::new();
        for record in reader.records() {
            let record = record.map_err(|e| bad(e.position().map_or(0, csv::Position::line), e.to_string()))?;
            let row = record.position().map_or(0, csv::Position::line);
            let value = |i: Option<usize>| i.and_then(|i| record.get(i)).unwrap_or("").trim();
            let content = value(Some(content));
            if content.len() != 64 || !content.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad(row, format!("expected a content of 64 hexadecimal digits, found `{content}`")));
            }
            let verdict = match (value(Some(verdict)), value(column("label"))) {
                ("fine", _) => Verdict::Fine,
                ("drop", _) => Verdict::Drop,
                ("relabel", "") => return Err(bad(row, "`relabel` needs a label".into())),
                ("relabel", label) => Verdict::Relabel(label.to_string()),
                (other, _) => return Err(bad(row, format!("expected the decision fine, relabel or drop, found `{other}`"))),
            };
            let check = match value(column("check")) {
                "" => None,
                name => Some(check_named(name).ok_or_else(|| bad(row, format!("there is no check `{name}`")))?),
            };
            let decision = Decision { id: value(column("id")).to_string(), verdict, note: value(column("note")).to_string() };
            if plan.set(&content.to_ascii_lowercase(), check, decision).is_some() {
                return Err(bad(row, format!("a second decision on {content} for the same check; keep one")));
            }
        }
        Ok(plan)
    }

    /// The findings that are still open: those of a picture and check that the reviewer called fine are left out, as are all of a picture
    /// that is dropped, and label findings of one that was relabelled. Findings about the whole set stay.
    pub fn open_findings(&self, findings: Vec<Finding>, table: &PixelTable) -> Vec<Finding> {
        let settled = |finding: &Finding| {
            let Some(measured) = finding.sample.and_then(|i| table.get(i)) else { return false };
            let about = |check: Option<Check>| self.decisions.get(&(measured.content.clone(), check)).map(|d| &d.verdict);
            [Some(finding.check), None].into_iter().any(|check| about(check) == Some(&Verdict::Fine)) || {
                let verdicts = self.verdicts(&measured.content);
                verdicts.contains(&Verdict::Drop)
                    || matches!(finding.check, Check::Label | Check::LabelConflict)
                        && verdicts.iter().any(|v| matches!(v, Verdict::Relabel(_)))
            }
        };
        findings.into_iter().filter(|finding| !settled(finding)).collect()
    }

    fn verdicts(&self, content: &str) -> BTreeSet<Verdict> {
        let from = (content.to_string(), None);
        self.decisions.range(from..).take_while(|((c, _), _)| c == content).map(|(_, d)| d.verdict.clone()).collect()
    }

    /// The data set after the decisions, as the text of a manifest (CSV: path, label, split, group, weight and further columns). Paths are ids,
    /// so that the file belongs into [`Dataset::root`]. No picture is touched.
    ///
    /// # Errors
    /// [`AuditError::Decision`] where one picture is given two labels, or a data set is not of files.
    pub fn apply(&self, dataset: &Dataset, table: &PixelTable) -> Result<Applied, AuditError> {
        let mut applied = Applied::default();
        let shape = ManifestShape::of(dataset);
        let mut rows = vec![shape.header()];
        for (i, sample) in dataset.samples.iter().enumerate() {
            let bad = |message: String| AuditError::Decision { id: sample.id.clone(), message };
            if matches!(sample.source, Source::Memory(_)) {
                return Err(bad("a manifest lists files, and this picture is in memory only: write it to a file first".into()));
            }
            let verdicts = table.get(i).map(|m| self.verdicts(&m.content)).unwrap_or_default();
            let labels: Vec<&String> = verdicts.iter().filter_map(|v| if let Verdict::Relabel(l) = v { Some(l) } else { None }).collect();
            if verdicts.contains(&Verdict::Drop) {
                applied.dropped.push(i);
                continue;
            }
            let given = shape.label(dataset, i);
            let label = match labels.as_slice() {
                [] => given,
                [label] => {
                    if **label != given {
                        applied.relabelled.push(i);
                    }
                    (*label).clone()
                }
                several => return Err(bad(format!("two labels, {} and {}: keep one in the plan", several[0], several[1]))),
            };
            rows.push(shape.row(dataset, i, label));
        }
        applied.manifest = csv_text(&rows);
        Ok(applied)
    }
}

/// What [`Plan::apply`] gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// The new manifest.
    pub manifest: String,
    /// Samples of the old data set that are left out.
    pub dropped: Vec<usize>,
    /// Samples of the old data set that have another label.
    pub relabelled: Vec<usize>,
}

/// Which columns a data set needs.
struct ManifestShape {
    several: bool,
    split: bool,
    group: bool,
    weight: bool,
    others: Vec<String>,
}

impl ManifestShape {
    fn of(dataset: &Dataset) -> ManifestShape {
        let any = |f: fn(&data::Sample) -> bool| dataset.samples.iter().any(f);
        ManifestShape {
            several: any(|s| matches!(s.target, Some(Target::Labels(_)))),
            split: any(|s| s.split.is_some()),
            group: any(|s| s.group.is_some()),
            weight: any(|s| s.weight != 1.0),
            others: dataset.column_names(),
        }
    }

    fn header(&self) -> Vec<String> {
        let label = if self.several { "labels" } else { "label" };
        let fixed = [(true, "path"), (true, label), (self.split, "split"), (self.group, "group"), (self.weight, "weight")];
        let named = fixed.iter().filter(|(there, _)| *there).map(|(_, name)| (*name).to_string());
        named.chain(self.others.iter().cloned()).collect()
    }

    /// The label as a manifest writes it: class names, several between `|`; the likelier class of probabilities.
    fn label(&self, dataset: &Dataset, i: usize) -> String {
        let name = |label: &usize| dataset.classes.names().get(*label).cloned().unwrap_or_default();
        match &dataset.samples[i].target {
            Some(Target::Labels(labels)) => labels.iter().map(name).collect::<Vec<_>>().join("|"),
            Some(target) => target.argmax().as_ref().map(name).unwrap_or_default(),
            None => String::new(),
        }
    }

    fn row(&self, dataset: &Dataset, i: usize, label: String) -> Vec<String> {
        let sample = &dataset.samples[i];
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let mut row = vec![sample.id.clone(), label];
        row.extend(self.split.then(|| text(&sample.split)));
        row.extend(self.group.then(|| text(&sample.group)));
        row.extend(self.weight.then(|| sample.weight.to_string()));
        row.extend(self.others.iter().map(|name| sample.columns.get(name).cloned().unwrap_or_default()));
        row
    }
}

/// Rows as CSV with quotes where needed.
fn csv_text(rows: &[Vec<String>]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing to memory does not fail, and rows of one table have one length.
    let written: Result<(), csv::Error> = rows.iter().try_for_each(|row| writer.write_record(row));
    debug_assert!(written.is_ok(), "{written:?}");
    writer.into_inner().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The name of a check as results have it.
fn check_name(check: Check) -> String {
    serde_json::to_value(check).ok().and_then(|v| v.as_str().map(String::from)).unwrap_or_default()
}

fn check_named(name: &str) -> Option<Check> {
    serde_json::from_value(serde_json::Value::String(name.to_string())).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pixels::measure_image;
    use images::Image;

    fn decision(verdict: Verdict) -> Decision {
        Decision { id: "a, \"b\".png".into(), verdict, note: "seen\ntwice".into() }
    }

    /// Four files in two classes.
    fn four() -> (tempfile::TempDir, Dataset, PixelTable) {
        let dir = tempfile::tempdir().unwrap();
        let mut rows = Vec::new();
        for (i, class) in ["cat", "cat", "dog", "dog"].iter().enumerate() {
            let image = Image::from_gray8(8, 8, (0..64).map(|p| (p * (i + 1)) as u8).collect()).unwrap();
            fs::create_dir_all(dir.path().join(class)).unwrap();
            fs::write(dir.path().join(format!("{class}/{i}.png")), images::encode_png(&image)).unwrap();
            rows.push(Ok(measure_image(&image, None)));
        }
        let dataset = Dataset::open(dir.path().to_str().unwrap()).unwrap();
        (dir, dataset, PixelTable { rows, decoded: 4 })
    }

    fn content(table: &PixelTable, i: usize) -> String {
        table.get(i).unwrap().content.clone()
    }

    #[test]
    fn a_plan_reads_as_it_was_written() {
        let mut plan = Plan::new();
        plan.set(&"a".repeat(64), Some(Check::Label), decision(Verdict::Relabel("dog".into())));
        plan.set(&"0".repeat(64), None, decision(Verdict::Drop));
        plan.set(&"a".repeat(64), Some(Check::Dark), decision(Verdict::Fine));
        let text = plan.to_csv();
        assert_eq!(Plan::parse(&text, Path::new("p.csv")).unwrap(), plan);
        assert!(text.starts_with("content,check,decision,label,id,note\n0000"), "{text}");
        let dir = tempfile::tempdir().unwrap();
        plan.write(&dir.path().join("plan.csv")).unwrap();
        assert_eq!(Plan::read(&dir.path().join("plan.csv")).unwrap(), plan);
        plan.remove(&"0".repeat(64), None).unwrap();
        assert_eq!(plan.len(), 2);
    }

    #[test]
    fn mistakes_are_named_with_their_row() {
        let parse = |rows: &str| Plan::parse(&format!("content,check,decision,label\n{rows}"), Path::new("p.csv")).unwrap_err().to_string();
        let good = "b".repeat(64);
        assert_eq!(parse("xyz,,drop,\n"), "p.csv: row 2: expected a content of 64 hexadecimal digits, found `xyz`");
        assert!(parse(&format!("{good},,keep,\n")).ends_with("expected the decision fine, relabel or drop, found `keep`"));
        assert!(parse(&format!("{good},,relabel,\n")).ends_with("row 2: `relabel` needs a label"));
        assert!(parse(&format!("{good},blury,fine,\n")).ends_with("there is no check `blury`"));
        assert!(parse(&format!("{good},,drop,\n{good},,fine,\n")).contains("row 3: a second decision"));
        assert!(Plan::parse("id,decision\n", Path::new("p.csv")).unwrap_err().to_string().contains("no column `content`"));
    }

    #[test]
    fn applying_writes_a_manifest_that_opens() {
        let (dir, dataset, table) = four();
        let mut plan = Plan::new();
        plan.set(&content(&table, 0), Some(Check::Label), decision(Verdict::Relabel("dog".into())));
        plan.set(&content(&table, 1), None, decision(Verdict::Relabel("cat".into())));
        plan.set(&content(&table, 3), Some(Check::Blurry), decision(Verdict::Drop));
        let applied = plan.apply(&dataset, &table).unwrap();
        assert_eq!((applied.dropped, applied.relabelled), (vec![3], vec![0]));
        fs::write(dir.path().join("new.csv"), &applied.manifest).unwrap();
        let new = Dataset::open(dir.path().join("new.csv").to_str().unwrap()).unwrap();
        let labels: Vec<_> = new.samples.iter().map(|s| (s.id.as_str(), s.target.clone().unwrap())).collect();
        assert_eq!(labels, [("cat/0.png", Target::Label(1)), ("cat/1.png", Target::Label(0)), ("dog/2.png", Target::Label(1))]);
        plan.set(&content(&table, 0), None, decision(Verdict::Relabel("bird".into())));
        assert!(plan.apply(&dataset, &table).unwrap_err().to_string().contains("two labels, bird and dog"));
    }

    #[test]
    fn what_was_called_fine_stays_fine() {
        let (_dir, _, table) = four();
        let finding = |sample: Option<usize>, check| Finding {
            sample,
            check,
            score: 0.9,
            given: None,
            suggested: None,
            group: None,
            detail: String::new(),
        };
        let all = || {
            vec![finding(Some(0), Check::Dark), finding(Some(0), Check::Label), finding(Some(1), Check::Dark), finding(None, Check::Dark)]
        };
        let mut plan = Plan::new();
        assert_eq!(plan.open_findings(all(), &table).len(), 4);
        plan.set(&content(&table, 0), Some(Check::Dark), decision(Verdict::Fine));
        let open: Vec<_> = plan.open_findings(all(), &table).into_iter().map(|f| (f.sample, f.check)).collect();
        assert_eq!(open, [(Some(0), Check::Label), (Some(1), Check::Dark), (None, Check::Dark)]);
        plan.set(&content(&table, 0), Some(Check::Label), decision(Verdict::Relabel("dog".into())));
        plan.set(&content(&table, 1), None, decision(Verdict::Drop));
        assert_eq!(plan.open_findings(all(), &table).len(), 1);
    }
}
