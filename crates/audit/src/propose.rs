//! A plan that takes every suggestion, for a reviewer to correct.

use std::collections::BTreeMap;

use data::Dataset;

use crate::{Check, Decision, Finding, PixelTable, Plan, Verdict};

/// What stands in the note of a decision that nobody has reviewed.
const NOTE: &str = "proposed, not reviewed";

impl Plan {
    /// Takes the suggested label of every label finding. Samples of a declared test split are left alone: what judges is for people to correct.
    /// Of several suggestions for one content the clearest counts.
    pub fn proposed(findings: &[Finding], dataset: &Dataset, table: &PixelTable) -> Plan {
        let mut order: Vec<&Finding> = findings.iter().collect();
        order.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.sample.cmp(&b.sample)));
        let mut chosen: BTreeMap<&str, (Check, Verdict, &str)> = BTreeMap::new();
        for finding in order {
            let Some((sample, measured)) = finding.sample.and_then(|i| Some((&dataset.samples[i], table.get(i)?))) else { continue };
            let verdict = match (finding.check, finding.suggested.and_then(|k| dataset.classes.names().get(k))) {
                (Check::Label, Some(name)) => Verdict::Relabel(name.clone()),
                _ => continue,
            };
            if sample.split.as_deref() != Some("test") {
                chosen.entry(&measured.content).or_insert((finding.check, verdict, &sample.id));
            }
        }
        let mut plan = Plan::new();
        for (content, (check, verdict, id)) in chosen {
            plan.set(content, Some(check), Decision { id: id.to_string(), verdict, note: NOTE.to_string() });
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pixels::measure_image;
    use data::{Classes, Sample, Source, Target};
    use images::Image;
    use std::sync::Arc;

    #[test]
    fn suggestions_are_taken_but_not_for_the_test_split() {
        let image = |value: u8| Arc::new(Image::from_gray8(8, 8, vec![value; 64]).unwrap());
        let sample = |i: u8, split: &str| Sample {
            target: Some(Target::Label(0)),
            split: Some(split.into()),
            ..Sample::new(format!("{i}.png"), Source::Memory(image(i / 2)))
        };
        // Samples 0 and 1 have one content.
        let samples = vec![sample(0, "train"), sample(1, "train"), sample(2, "test"), sample(4, "train")];
        let rows = samples.iter().map(|s| if let Source::Memory(i) = &s.source { Ok(measure_image(i, None)) } else { unreachable!() });
        let table = PixelTable { rows: rows.collect(), decoded: 4 };
        let classes = Classes::in_order(vec!["cat".into(), "dog".into(), "bird".into()]).unwrap();
        let dataset = Dataset { name: "few".into(), root: ".".into(), classes, samples, warnings: vec![] };
        let finding = |sample: usize, check, score, suggested| Finding {
            sample: Some(sample),
            check,
            score,
            given: Some(0),
            suggested: Some(suggested),
            group: None,
            detail: String::new(),
        };
        let found = [
            finding(0, Check::Label, 0.6, 1),
            finding(1, Check::Label, 0.9, 2),
            finding(2, Check::Label, 0.9, 1),
            finding(3, Check::Outlier, 0.9, 1),
        ];
        let plan = Plan::proposed(&found, &dataset, &table);
        let decisions: Vec<_> = plan.iter().map(|(_, check, d)| (check, d.id.as_str(), d.verdict.clone())).collect();
        assert_eq!(decisions, [(Some(Check::Label), "1.png", Verdict::Relabel("bird".into()))]);
        assert!(plan.to_csv().contains("proposed, not reviewed"));
    }
}
