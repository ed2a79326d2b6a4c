//! A model as a plain folder: `config.json`, `model.safetensors`, and a model card.

use std::path::Path;

use serde_json::{Value, json};

use crate::error::ModelError;
use crate::model::{Model, TargetKind};

impl Model {
    /// Writes the model into `folder`, made where it is missing: `model.safetensors` (the model file itself, which any reader of safetensors
    /// opens), `config.json` and `README.md`, a model card. `licence` is that of the weights, where it is known.
    ///
    /// # Errors
    /// Parts that do not fit one another, a folder that cannot be written.
    pub fn save_folder(&self, folder: &Path, licence: Option<&str>) -> Result<(), ModelError> {
        let failed = |source| ModelError::Write { path: folder.to_path_buf(), source, cure: "choose a folder that you may write to" };
        std::fs::create_dir_all(folder).map_err(failed)?;
        self.save(&folder.join("model.safetensors"))?;
        let config = serde_json::to_string_pretty(&self.config()).unwrap_or_default();
        std::fs::write(folder.join("config.json"), config + "\n").map_err(failed)?;
        std::fs::write(folder.join("README.md"), self.card(licence)).map_err(failed)
    }

    /// What `config.json` holds: architecture, input, classes, preprocessing, how it was made.
    pub fn config(&self) -> Value {
        let m = &self.metadata;
        json!({
            "architecture": self.graph.name,
            "num_classes": self.graph.num_classes(),
            "input_shape": self.graph.input_shape(),
            "parameters": self.graph.parameter_count(),
            "id2label": m.classes.iter().enumerate().map(|(i, c)| (i.to_string(), Value::from(c.as_str()))).collect::<serde_json::Map<_, _>>(),
            "target": m.target,
            "preprocess": m.preprocess,
            "temperature": m.temperature,
            "thresholds": m.thresholds,
            "seed": m.seed,
            "data_fingerprint": m.data_fingerprint,
            "metrics": m.metrics,
            "created_by": m.created_by,
            "format_version": m.format_version,
        })
    }

    /// The model card, Markdown. It says what is known, and where something is not, that.
    pub fn card(&self, licence: Option<&str>) -> String {
        let m = &self.metadata;
        let shape = self.graph.input_shape();
        let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "not recorded".into());
        let target = match m.target {
            TargetKind::Label => "exactly one class for each image (softmax of the logits)",
            TargetKind::Labels => "any number of classes for each image (a sigmoid of each logit)",
            TargetKind::Soft => "probabilities over the classes (softmax of the logits)",
        };
        let shown = m.classes.iter().take(20).map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ");
        let more = m.classes.len().saturating_sub(20);
        let more = if more > 0 { format!(", and {more} more in `config.json`") } else { String::new() };
        let p = &m.preprocess;
        let preprocess = format!(
            "{}×{} pixels, {:?}, {:?}{}, {:?}; values `(x / 255 − mean) / std` with mean {:?} and std {:?}",
            p.size[0],
            p.size[1],
            p.resize,
            p.interpolation,
            if p.antialias { " with antialiasing" } else { "" },
            p.channels,
            p.mean,
            p.std
        );
        let recipe =
            m.recipe.as_deref().map_or_else(|| "Not recorded.\n".into(), |recipe| format!("```toml\n{}\n```\n", recipe.trim_end()));
        format!(
            "# {name}\n\nAn image classifier: {name}, {parameters} parameters, input {shape:?}.\n\n\
             ## Intended use\n\nIt tells {count} classes apart: {target}. It was made for images like those it was trained on; on other images \
             its answers mean little, however sure they look. Measure it on your own labelled images before you rely on it.\n\n\
             Classes: {shown}{more}.\n\n\
             ## Data and training\n\n- data fingerprint: {data}\n- seed: {seed}\n- made by: {made}\n\nRecipe:\n\n{recipe}\n\
             ## Metrics\n\n{metrics}\n\
             ## Preprocessing\n\n{preprocess}.\n\n\
             ## Licence\n\nWeights: {licence}. The data that it was trained on has a licence of its own.\n\n\
             ## Files\n\n- `model.safetensors`: weights by name, and in its metadata everything that a prediction needs\n\
             - `config.json`: architecture, classes, preprocessing, metrics\n",
            name = self.graph.name,
            parameters = self.graph.parameter_count(),
            count = m.classes.len(),
            data = known(&m.data_fingerprint),
            seed = m.seed.map_or_else(|| "not recorded".into(), |seed| seed.to_string()),
            made = m.created_by,
            metrics = metrics(&m.metrics),
            licence = licence.unwrap_or("not recorded; ask whoever made the model"),
        )
    }
}

/// Numbers of the metrics as a list; whatever else they hold is in `config.json`.
fn metrics(value: &Value) -> String {
    let mut lines = Vec::new();
    if let Value::Object(entries) = value {
        for (name, value) in entries {
            match value {
                Value::Number(number) => lines.push(format!("- {name}: {number}")),
                Value::Object(inner) => {
                    if let Some(number) = inner.get("value").filter(|v| v.is_number()) {
                        lines.push(format!("- {name}: {number}"));
                    }
                }
                Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) => {}
            }
        }
    }
    if lines.is_empty() { "Not recorded.\n".into() } else { lines.join("\n") + "\n" }
}
