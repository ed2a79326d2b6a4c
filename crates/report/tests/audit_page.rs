//! The audit's page in a real browser: a script appended to a copy of it filters, decides by keys, undoes and exports, and the document that
//! results is read back.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use audit::{Check, Finding};
use fieldmark_report::{AuditPage, LearningCurve, Queue, render_audit};

fn finding(sample: usize, check: Check, score: f64, given: usize, suggested: Option<usize>, group: Option<usize>) -> Finding {
    Finding { sample: Some(sample), check, score, given: Some(given), suggested, group, detail: format!("why {sample}") }
}

fn queue(check: Check, title: &str, threshold: f64) -> Queue {
    Queue { check, title: title.into(), method: "a <method>".into(), threshold, measure: None, flag_below: false, values: None }
}

/// `n` samples of two classes; every tenth has a label finding, every fiftieth a duplicate; each has a brightness.
fn page(n: usize) -> (Vec<String>, Vec<String>, Vec<Finding>) {
    let classes = vec!["cat, \"tom\"".to_string(), "dog</script>".to_string()];
    let ids = (0..n).map(|i| format!("photos/{i:06}.png")).collect();
    let mut findings = Vec::new();
    for i in (0..n).step_by(10) {
        findings.push(finding(i, Check::Label, 1.0 - i as f64 / n as f64 / 2.0, i % 2, Some(1 - i % 2), None));
    }
    for i in (0..n.saturating_sub(1)).step_by(50) {
        findings.push(finding(i, Check::NearDuplicate, 0.95, i % 2, None, Some(i)));
        findings.push(finding(i + 1, Check::NearDuplicate, 0.95, (i + 1) % 2, None, Some(i)));
    }
    (classes, ids, findings)
}

fn html(n: usize) -> String {
    let (classes, ids, findings) = page(n);
    let values = (0..n).map(|i| Some((i % 100) as f32 / 100.0)).collect();
    let dark = Queue { measure: Some("brightness".into()), flag_below: true, values: Some(values), ..queue(Check::Dark, "Dark", 0.05) };
    render_audit(&AuditPage {
        title: "photos".into(),
        generated_at: "1 January 2027".into(),
        verdict: "Ten in a hundred labels look wrong.".into(),
        facts: vec![("seed".into(), "0".into())],
        classes: &classes,
        ids: ids.iter().map(String::as_str).collect(),
        labels: (0..n).map(|i| Some(i % 2)).collect(),
        splits: (0..n).map(|i| if i % 4 == 0 { "test".into() } else { "train".into() }).collect(),
        hashes: (0..n).map(|i| format!("{i:064x}")).collect(),
        files: vec![String::new(); n],
        pictures: BTreeMap::new(),
        map: (0..n).map(|i| Some([(i % 97) as f32 / 97.0, (i % 89) as f32 / 89.0])).collect(),
        queues: vec![queue(Check::Label, "Labels", 0.0), queue(Check::NearDuplicate, "Near duplicates", 0.9), dark],
        findings: &findings,
        confused: vec![(0, 1, 7)],
        curve: Some(LearningCurve {
            points: vec![(100.0, 0.7), (200.0, 0.8)],
            law: vec![(100.0, 0.7, 0.6, 0.8), (400.0, 0.85, 0.75, 0.9)],
            statement: "About 900 more.".into(),
        }),
        plan_columns: &["content", "id", "decision", "label"],
    })
}

/// The browser in the search path. None is an error where `FIELDMARK_BROWSER=required` says so.
fn chromium() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name))).find(|file| file.is_file());
    let required = std::env::var_os("FIELDMARK_BROWSER").is_some_and(|value| value == "required");
    assert!(found.is_some() || !required, "no Chromium in PATH");
    found
}

/// Runs `script` at the end of the page; what it puts into the element `result` comes back, or none without a browser.
fn in_browser(page: &str, script: &str) -> Option<String> {
    let browser = chromium()?;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    let driver = format!(
        "<pre id=\"result\"></pre><script>try {{ {script} }} catch (error) {{ result.textContent = 'error: ' + error.stack; }}</script></body>"
    );
    std::fs::write(&file, page.replace("</body>", &driver)).unwrap();
    let profile = format!("--user-data-dir={}", folder.path().join("profile").display());
    let flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--virtual-time-budget=20000",
        "--window-size=1400,1000",
    ];
    let out = Command::new(browser).args(flags).args([&profile, "--dump-dom"]).arg(&file).output().unwrap();
    let dom = String::from_utf8_lossy(&out.stdout).into_owned();
    let start =
        dom.find("<pre id=\"result\">").unwrap_or_else(|| panic!("no result in {dom:.500}\n{}", String::from_utf8_lossy(&out.stderr))) + 17;
    let text = &dom[start..start + dom[start..].find("</pre>").unwrap()];
    Some(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

const REVIEW: &str = r##"
const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const log = [];
const shown = () => document.querySelector("#checks [aria-current]").textContent;
log.push(shown());
document.getElementById("class").value = "1";
document.getElementById("class").dispatchEvent(new Event("change"));
log.push(shown());
document.getElementById("class").value = "";
document.getElementById("class").dispatchEvent(new Event("change"));
document.getElementById("search").value = "0000";
document.getElementById("search").dispatchEvent(new Event("input"));
log.push(shown());
press("r"); press("d"); press("a"); press("d");
log.push(document.getElementById("tally").textContent);
press("u");
log.push(document.getElementById("tally").textContent);
document.querySelector("[data-check=dark]").click();
log.push(shown());
const limit = document.getElementById("limit");
limit.value = "0.1";
limit.dispatchEvent(new Event("input"));
log.push(shown());
let exported = "";
URL.createObjectURL = (blob) => { exported = blob.size; return "#"; };
document.getElementById("export").click();
const map = document.getElementById("map"), box = map.getBoundingClientRect();
const [x, y] = data.map[10];
map.dispatchEvent(new MouseEvent("click", { clientX: box.left + 8 + x * (box.width - 16), clientY: box.top + 8 + y * (box.height - 16) }));
log.push(document.querySelector("#near figcaption").textContent);
document.querySelector("#near [data-open=label]").click();
log.push(shown() + " " + document.querySelector("#detail dd").textContent);
document.getElementById("result").textContent = log.join("\n") + "\n" + exported + "\n" + plan();
"##;

#[test]
fn the_reviewer_filters_relabels_undoes_and_exports() {
    let Some(text) = in_browser(&html(1000), REVIEW) else {
        return println!("skipped: no Chromium on this machine");
    };
    let (log, plan) = text.split_once("content,").unwrap_or_else(|| panic!("{text}"));
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], "Labels100");
    assert_eq!(lines[1], "Labels0", "only even samples were found, all of class 0");
    assert_eq!(lines[2], "Labels10", "photos/000000 to photos/000090");
    assert_eq!(lines[3], "4 decided: 1 fine, 1 relabelled, 2 dropped");
    assert_eq!(lines[4], "3 decided: 1 fine, 1 relabelled, 1 dropped");
    assert_eq!(lines[5], "Dark5", "five of the first hundred are below .05");
    assert_eq!(lines[6], "Dark10", "the threshold moved live to .1");
    assert!(lines[7].ends_with("photos/000010.png"), "the point under the pointer: {}", lines[7]);
    assert_eq!(lines[8], "Labels100 photos/000010.png", "its finding is opened, whatever the filters were");
    assert!(lines[9].parse::<usize>().unwrap() > 200, "a file was exported");
    let rows: Vec<&str> = plan.lines().collect();
    assert_eq!(rows[0], "id,decision,label");
    assert_eq!(rows[1], format!("{:064x},photos/000000.png,relabel,dog</script>", 0));
    assert_eq!(rows[2], format!("{:064x},photos/000010.png,drop,", 10));
    assert_eq!(rows[3], format!("{:064x},photos/000020.png,fine,", 20));
}

/// The page of a real audit, which `FIELDMARK_AUDIT_PAGE` names: `.ci/run` audits ELPV for it.
#[test]
fn the_page_of_a_real_audit_is_reviewed() {
    let Some(file) = std::env::var_os("FIELDMARK_AUDIT_PAGE") else {
        return println!("skipped: FIELDMARK_AUDIT_PAGE names no report.html of an audit");
    };
    let script = r##"
const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const filter = (value) => { $("class").value = value; $("class").dispatchEvent(new Event("change")); };
const log = [], tally = () => log.push($("tally").textContent);
document.querySelector("[data-check=label]").click();
const all = state.queue.length;
filter("0");
const first = state.queue.length, others = state.queue.filter((finding) => data.labels[finding.sample] !== 0).length;
filter("1");
log.push(`${all} ${first + state.queue.length} ${others}`);
filter("");
log.push(document.querySelectorAll(".tile img[src^='data:image']").length);
const { sample, suggested } = state.queue[0];
log.push(`${data.hashes[sample]},${data.ids[sample]},${data.classes[suggested]}`);
press("r"); press("d"); tally();
press("u"); tally();
let exported = 0;
URL.createObjectURL = (blob) => { exported = blob.size; return "#"; };
$("export").click();
log.push(exported);
$("result").textContent = log.join("\n") + "\n" + plan();
"##;
    let Some(text) = in_browser(&std::fs::read_to_string(file).unwrap(), script) else {
        return println!("skipped: no Chromium on this machine");
    };
    let lines: Vec<&str> = text.lines().collect();
    let [all, both, others] = lines[0].split(' ').map(|n| n.parse::<usize>().unwrap()).collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert!(all > 1 && both == all && others == 0, "the filter divides the queue by class: {text}");
    assert!(lines[1].parse::<usize>().unwrap() > 5, "pictures are in view: {text}");
    assert_eq!(lines[3..5], ["2 decided: 0 fine, 1 relabelled, 1 dropped", "1 decided: 0 fine, 1 relabelled, 0 dropped"]);
    assert_eq!(
        lines[5].parse::<usize>().unwrap(),
        lines[6..].iter().map(|line| line.len() + 1).sum::<usize>(),
        "what is exported is the plan"
    );
    let [content, id, suggested] = lines[2].split(',').collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert_eq!(lines[6..], ["content,check,decision,label,id,note", &format!("{content},label,relabel,{suggested},{id},")]);
}

#[test]
fn a_hundred_thousand_images_stay_usable() {
    let text = html(100_000);
    assert!(text.len() < 40 << 20, "{} bytes", text.len());
    let script = r##"
const start = performance.now();
for (const check of ["near_duplicate", "dark", "label"]) document.querySelector(`[data-check=${check}]`).click();
const box = document.getElementById("gallery");
box.scrollTop = box.scrollHeight / 2;
box.dispatchEvent(new Event("scroll"));
const tiles = document.querySelectorAll(".tile").length;
document.getElementById("result").textContent = `${tiles} ${document.querySelector("#checks [aria-current]").textContent} ${Math.round(performance.now() - start)}`;
"##;
    let Some(text) = in_browser(&text, script) else {
        return println!("skipped: no Chromium on this machine");
    };
    let tiles: usize = text.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{text}"));
    assert!(tiles > 5 && tiles < 300, "only what is in view is in the document: {text}");
    assert!(text.contains("Labels10,000"), "{text}");
}

#[test]
fn no_text_can_end_the_script() {
    let text = html(20);
    assert_eq!(text.matches("</script>").count(), 2, "the data block and the script end once each");
    assert!(text.contains("dog&lt;/script&gt;") && text.contains(r"dog\u003c/script>"));
}
