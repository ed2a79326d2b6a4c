//! The network that a run starts from.

use std::path::Path;

use data::fetch;
use graph::{Graph, Op, Weights};
use images::{ChannelMode, Preprocess};

use crate::{LearnError, Method, Recipe};

/// A network, its weights and the preprocessing it expects.
#[derive(Debug, Clone)]
pub struct Backbone {
    /// The graph, with the classes it was built for.
    pub graph: Graph,
    /// Weights of `graph`.
    pub weights: Weights,
    /// How an image becomes its input.
    pub preprocess: Preprocess,
}

/// What the training images are like; decides the input of a network that is trained from scratch.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Median `[height, width]`.
    pub size: [usize; 2],
    /// Whether every image is grey.
    pub gray: bool,
}

impl Backbone {
    /// What can be said before anything is read: whether the architecture is known and its weights are in the cache.
    ///
    /// # Errors
    /// As [`pretrained`](Self::pretrained) and [`untrained`](Self::untrained).
    pub(crate) fn check(recipe: &Recipe) -> Result<(), LearnError> {
        let name = recipe.model_name();
        let scratch = recipe.method == Method::Scratch;
        if !scratch && Path::new(name).extension().is_some() {
            return Ok(());
        }
        let model = zoo::model(name)?;
        if !scratch && recipe.network.weights.is_none() {
            published_file(recipe, model)?;
        }
        Ok(())
    }

    /// The trained network that a probe or a fine-tuning starts from, with its own head: published weights out of the cache, a weights file
    /// (`network.weights`) for an architecture, a Fieldmark model file, or an ONNX file.
    ///
    /// # Errors
    /// An unknown name, weights that are not there or do not fit.
    pub fn pretrained(recipe: &Recipe) -> Result<Self, LearnError> {
        let name = recipe.model_name();
        if Path::new(name).extension().is_some() {
            let path = Path::new(name);
            let model = match path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")) {
                true => engine::Model::from_onnx(path)?.0,
                false => engine::Model::load(path)?,
            };
            return Ok(Self { graph: model.graph, weights: model.weights, preprocess: recipe.preprocess(model.metadata.preprocess) });
        }
        let model = zoo::model(name)?;
        let mut config = model.config();
        if let Some(size) = recipe.network.image_size {
            config.image_size = size;
            config.stem = if recipe.network.stem == zoo::Stem::Auto { zoo::Stem::Standard } else { recipe.network.stem };
        }
        if recipe.network.channels == Some(ChannelMode::Gray) {
            let problem = "published networks read RGB; grey images are repeated, so leave this out".into();
            return Err(LearnError::Recipe { field: "network.channels".into(), problem });
        }
        let weights = match &recipe.network.weights {
            Some(file) => {
                let path = Path::new(file);
                if path.extension().is_some_and(|e| e == "safetensors") {
                    graph::weights::read_safetensors(path)?
                } else {
                    graph::weights::read_pth(path)?
                }
            }
            None => zoo::load_published(model, &published_file(recipe, model)?)?.1,
        };
        // The file knows how many classes its head tells apart.
        let probe = model.build(&config)?;
        if let Some(rows) = head_weight(&probe).and_then(|name| weights.get(name)).and_then(|w| w.shape.first()) {
            config.num_classes = *rows;
        }
        config.drop_rate = recipe.network.drop_rate.unwrap_or(config.drop_rate);
        config.drop_path_rate = recipe.network.drop_path_rate.unwrap_or(config.drop_path_rate);
        let graph = model.build(&config)?;
        graph.check_weights(&weights)?;
        Ok(Self { graph, weights, preprocess: recipe.preprocess(model.preprocess(&config)) })
    }

    /// An architecture with random weights, its input after the data: grey where all images are, their own size where they are small.
    ///
    /// # Errors
    /// An unknown name or an input the architecture cannot have.
    pub fn untrained(recipe: &Recipe, classes: usize, look: &Look) -> Result<Self, LearnError> {
        let model = zoo::model(recipe.model_name())?;
        let mut config = model.config().with_classes(classes);
        config.in_chans = match recipe.network.channels {
            Some(ChannelMode::Gray) => 1,
            Some(ChannelMode::Rgb) => 3,
            None if look.gray => 1,
            None => 3,
        };
        let small = look.size[0].max(look.size[1]) <= 64;
        config.image_size = recipe.network.image_size.unwrap_or(if small { look.size } else { config.image_size });
        config.stem = recipe.network.stem;
        config.drop_rate = recipe.network.drop_rate.unwrap_or(config.drop_rate);
        config.drop_path_rate = recipe.network.drop_path_rate.unwrap_or(config.drop_path_rate);
        let graph = model.build(&config)?;
        let weights = graph.init_weights(recipe.seed);
        let mut preprocess = model.preprocess(&config);
        preprocess.channels = if config.in_chans == 1 { ChannelMode::Gray } else { ChannelMode::Rgb };
        if preprocess.mean.len() != config.in_chans {
            preprocess.mean = vec![preprocess.mean[0]; config.in_chans];
            preprocess.std = vec![preprocess.std[0]; config.in_chans];
        }
        let preprocess = recipe.preprocess(preprocess);
        preprocess.check().map_err(|e| LearnError::Recipe { field: "network".into(), problem: e.to_string() })?;
        Ok(Self { graph, weights, preprocess })
    }

    /// The same network with a new head for `classes`, drawn from `seed`; all other weights are kept.
    ///
    /// # Errors
    /// A graph whose head cannot be replaced.
    pub fn with_classes(&self, classes: usize, seed: u64) -> Result<Self, LearnError> {
        let graph = self.graph.with_num_classes(classes)?;
        let mut weights = graph.init_weights(seed);
        for (name, tensor) in &mut weights {
            if let Some(trained) = self.weights.get(name).filter(|w| w.shape == tensor.shape && !is_head(&graph, name)) {
                tensor.clone_from(trained);
            }
        }
        Ok(Self { graph, weights, preprocess: self.preprocess.clone() })
    }
}

/// Name of the weight of the last linear layer.
pub(crate) fn head_weight(graph: &Graph) -> Option<&str> {
    let node = graph.nodes.iter().rev().find(|node| matches!(node.op, Op::Linear(_)))?;
    node.parameters.first().map(|p| p.name.as_str())
}

fn is_head(graph: &Graph, parameter: &str) -> bool {
    let head = graph.nodes.iter().rev().find(|node| matches!(node.op, Op::Linear(_)));
    head.is_some_and(|node| node.parameters.iter().any(|p| p.name == parameter))
}

/// The cached file of a model's published weights.
fn published_file(recipe: &Recipe, model: &zoo::Model) -> Result<std::path::PathBuf, LearnError> {
    let published = model.published().ok_or_else(|| no_weights(recipe, model.name()))?;
    let missing = || LearnError::NotFetched { name: published.fetch_name.into() };
    fetch::locate(published.fetch_name, &fetch::cache_dir()).ok_or_else(missing)
}

fn no_weights(recipe: &Recipe, name: &str) -> LearnError {
    let published: Vec<&str> = zoo::published_names().collect();
    let method = if recipe.method == Method::Probe { "a probe" } else { "fine-tuning" };
    LearnError::Recipe {
        field: "model".into(),
        problem: format!(
            "{name} has no published weights for {method} to start from; choose one of {published:?}, give a file as network.weights, or train from scratch"
        ),
    }
}
