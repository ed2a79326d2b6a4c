//! Weights that others trained and published.

use std::path::Path;

use graph::{Graph, Weights};

use crate::efficientnet_lite::depths;
use crate::error::ZooError;
use crate::model::Model;

/// Published weights of one model: where they are and how their names map to ours.
#[derive(Debug)]
pub struct Published {
    /// The name by which the weights are fetched.
    pub fetch_name: &'static str,
    /// File name of the state dict in the fetched folder.
    pub file: &'static str,
    /// Class names, in the order of the logits.
    pub classes: fn() -> Vec<&'static str>,
    /// Our name of a tensor of the file; `None` for names that the file should not hold.
    pub rename: fn(&str) -> Option<String>,
}

pub(crate) static LITE0: Published = Published {
    fetch_name: "efficientnet_lite0",
    file: "efficientnet-lite0-57934424.pth",
    classes: imagenet_classes,
    rename: lite_name::<0>,
};
pub(crate) static LITE1: Published = Published {
    fetch_name: "efficientnet_lite1",
    file: "efficientnet-lite1-77cc7160.pth",
    classes: imagenet_classes,
    rename: lite_name::<1>,
};
pub(crate) static LITE2: Published = Published {
    fetch_name: "efficientnet_lite2",
    file: "efficientnet-lite2-9656183e.pth",
    classes: imagenet_classes,
    rename: lite_name::<2>,
};

/// The 1,000 classes of ILSVRC 2012 in their standard order, each name once.
pub fn imagenet_classes() -> Vec<&'static str> {
    include_str!("imagenet_classes.txt").lines().collect()
}

/// Builds a model with its published settings and loads its published weights, renamed, from a PyTorch state dict.
///
/// # Errors
/// A model without published weights; a file that is no state dict; tensors that are missing, unexpected or of the wrong shape, all of
/// them in one error.
pub fn load_published(model: &Model, path: &Path) -> Result<(Graph, Weights), ZooError> {
    let published = model.published().ok_or(ZooError::Unpublished { model: model.name() })?;
    let graph = model.build(&model.config())?;
    let here = |source| ZooError::Weights { model: model.name(), path: path.to_path_buf(), source };
    let file = graph::weights::read_pth(path).map_err(here)?;
    // A name that the map does not know is kept, so that the check below lists it beside what is missing.
    let name = |theirs: &str| match theirs.ends_with(".num_batches_tracked") {
        true => None,
        false => Some((published.rename)(theirs).unwrap_or_else(|| theirs.to_string())),
    };
    let weights = graph::weights::rename(file, name).map_err(here)?;
    graph.check_weights(&weights).map_err(here)?;
    Ok((graph, weights))
}

/// From the naming of `efficientnet_lite_pytorch` (lukemelas) to timm's: blocks are counted through in the one and by stage in the other,
/// and the batch norms of a block that does not expand start at 1 there and here.
fn lite_name<const SIZE: usize>(theirs: &str) -> Option<String> {
    if let Some(rest) = theirs.strip_prefix("_blocks.") {
        let (index, layer) = rest.split_once('.')?;
        return lite_block_name(&depths(SIZE), index.parse().ok()?, layer);
    }
    let (module, parameter) = theirs.split_once('.')?;
    let module = match module {
        "_conv_stem" => "conv_stem",
        "_bn0" => "bn1",
        "_conv_head" => "conv_head",
        "_bn1" => "bn2",
        "_fc" => "classifier",
        _ => return None,
    };
    Some(format!("{module}.{parameter}"))
}

fn lite_block_name(depths: &[usize], mut index: usize, layer: &str) -> Option<String> {
    let mut stage = 0;
    while index >= *depths.get(stage)? {
        index -= depths[stage];
        stage += 1;
    }
    let (module, parameter) = layer.split_once('.')?;
    let module = match (stage, module) {
        (0, "_depthwise_conv") => "conv_dw",
        (0, "_bn1") => "bn1",
        (0, "_project_conv") => "conv_pw",
        (0, "_bn2") => "bn2",
        (1.., "_expand_conv") => "conv_pw",
        (1.., "_bn0") => "bn1",
        (1.., "_depthwise_conv") => "conv_dw",
        (1.., "_bn1") => "bn2",
        (1.., "_project_conv") => "conv_pwl",
        (1.., "_bn2") => "bn3",
        _ => return None,
    };
    Some(format!("blocks.{stage}.{index}.{module}.{parameter}"))
}
