//! Class names from files that come with models of other programs.

use std::path::Path;

use crate::error::ModelError;

/// Class names in the order of the outputs, from a JSON list, a JSON object of index to name (`id2label` of a `config.json` too), or a text
/// with one name a line.
///
/// # Errors
/// A file that cannot be read, indices that are not 0 to n − 1, or names that are not text.
pub fn read_labels(path: &Path) -> Result<Vec<String>, ModelError> {
    let text = std::fs::read_to_string(path).map_err(|source| ModelError::Read { path: path.to_path_buf(), source })?;
    let problem = |problem: String| ModelError::Labels { path: path.to_path_buf(), problem };
    let text = text.trim_start_matches('\u{feff}');
    if !text.trim_start().starts_with(['[', '{']) {
        return Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect());
    }
    match serde_json::from_str(text).map_err(|e| problem(format!("no list of class names: {e}")))? {
        serde_json::Value::Array(names) => names.iter().map(|name| named(name).map_err(problem)).collect(),
        serde_json::Value::Object(map) => {
            let map = map.get("id2label").and_then(|inner| inner.as_object()).unwrap_or(&map);
            let name = |index: usize| {
                let missing = || {
                    format!("{} class names, but none for index {index}: expected the indices from 0, as in {{\"0\": \"cat\"}}", map.len())
                };
                map.get(&index.to_string()).ok_or_else(missing).and_then(named)
            };
            (0..map.len()).map(|index| name(index).map_err(problem)).collect()
        }
        _ => Err(problem("no list of class names".into())),
    }
}

/// A name; of a list as in ImageNet's `["n01440764", "tench"]` the last.
fn named(value: &serde_json::Value) -> Result<String, String> {
    let value = value.as_array().and_then(|list| list.last()).unwrap_or(value);
    value.as_str().map(String::from).ok_or_else(|| format!("a class name is text, found {value}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels");
        std::fs::write(&path, text).unwrap();
        read_labels(&path).map_err(|e| e.to_string())
    }

    #[test]
    fn every_usual_form_gives_the_same_names() {
        let wanted = Ok(vec!["cat".to_string(), "wild dog".into()]);
        for text in [
            "cat\r\nwild dog\r\n\n",
            r#" ["cat", "wild dog"]"#,
            r#"{"1": "wild dog", "0": "cat"}"#,
            r#"{"0": ["n1", "cat"], "1": ["n2", "wild dog"]}"#,
            r#"{"architectures": [], "id2label": {"0": "cat", "1": "wild dog"}}"#,
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn gaps_and_numbers_are_told() {
        assert!(read(r#"{"0": "cat", "2": "dog"}"#).unwrap_err().contains("none for index 1"));
        assert!(read("[1, 2]").unwrap_err().contains("found 1"));
        assert!(read("[\"cat\"").unwrap_err().contains("no list of class names"));
    }
}
