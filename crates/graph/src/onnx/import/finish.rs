//! From drafts to a checked graph: what nothing reads is dropped, names are made unique, stages found.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::draft::{Draft, Drafts, NameRank};
use crate::error::GraphError;
use crate::ir::{Graph, Node, NodeId, Parameter};
use crate::op::Op;
use crate::tensor::Weights;

/// The graph that ends at `output`, and its weights. `stages` are those that the file states: names, each with nodes it may begin at.
pub(super) fn finish(name: &str, drafts: Drafts, output: usize, stages: &[(String, Vec<String>)]) -> Result<(Graph, Weights), GraphError> {
    let mut needed = vec![false; drafts.nodes.len()];
    (needed[0], needed[output]) = (true, true);
    for index in (0..drafts.nodes.len()).rev() {
        if needed[index] {
            drafts.nodes[index].inputs.iter().for_each(|&input| needed[input] = true);
        }
    }
    let mut position = vec![0; drafts.nodes.len()];
    let (mut nodes, mut weights, mut ranks) = (Vec::new(), Weights::new(), Vec::new());
    let mut names = Names::default();
    // The best names first, so that no made-up one takes theirs.
    let mut chosen: Vec<String> = vec![String::new(); drafts.nodes.len()];
    for rank in [NameRank::Module, NameRank::Node, NameRank::Made] {
        for (index, draft) in drafts.nodes.iter().enumerate().filter(|(i, d)| needed[*i] && d.rank == rank) {
            chosen[index] = names.unique(&draft.name);
        }
    }
    for (index, draft) in drafts.nodes.into_iter().enumerate().filter(|(i, _)| needed[*i]) {
        position[index] = nodes.len();
        ranks.push(draft.rank);
        nodes.push(node(draft, std::mem::take(&mut chosen[index]), &position, &nodes, &mut weights));
    }
    let output = NodeId(position[output]);
    let features = features(&nodes, output);
    let mut graph = Graph { name: name.to_string(), nodes, output, taps: BTreeMap::new(), stages: Vec::new() };
    let assigned = stated(&graph, stages).unwrap_or_else(|| guessed(&graph, features, &ranks));
    for (node, stage) in graph.nodes.iter_mut().zip(&assigned.of_node) {
        node.stage = *stage;
    }
    graph.stages = assigned.names;
    for (stage, name) in graph.stages.iter().enumerate() {
        if let Some(last) = graph.nodes.iter().rposition(|node| node.stage == stage) {
            graph.taps.insert(name.clone(), NodeId(last));
        }
    }
    graph.taps.insert("features".into(), features);
    graph.check_classifier()?;
    Ok((graph, weights))
}

/// Names that are taken, and the number that the next one of the same kind gets.
#[derive(Default)]
struct Names {
    taken: HashSet<String>,
    next: HashMap<String, usize>,
}

impl Names {
    fn unique(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_string();
        while !self.taken.insert(name.clone()) {
            let number = self.next.entry(wanted.to_string()).or_insert(2);
            name = format!("{wanted}_{number}");
            *number += 1;
        }
        name
    }
}

fn node(draft: Draft, name: String, position: &[usize], nodes: &[Node], weights: &mut Weights) -> Node {
    let inputs: Vec<NodeId> = draft.inputs.iter().map(|&i| NodeId(position[i])).collect();
    let input = inputs.first().map(|id| nodes[id.0].shape.as_slice()).unwrap_or_default();
    let parameters: Vec<Parameter> = draft
        .op
        .parameters(input)
        .into_iter()
        .map(|(suffix, role, shape)| Parameter {
            name: if suffix.is_empty() { name.clone() } else { format!("{name}.{suffix}") },
            role,
            shape,
        })
        .collect();
    for (parameter, tensor) in parameters.iter().zip(draft.weights) {
        weights.insert(parameter.name.clone(), tensor);
    }
    Node { name, op: draft.op, inputs, parameters, stage: 0, shape: draft.shape }
}

/// What the last linear layer reads, before dropout; the output itself where no linear layer makes it.
fn features(nodes: &[Node], output: NodeId) -> NodeId {
    let mut at = output;
    if !matches!(nodes[at.0].op, Op::Linear(_)) {
        return output;
    }
    loop {
        match (&nodes[at.0].op, nodes[at.0].inputs.as_slice()) {
            (Op::Linear(_), [input]) if at == output && nodes[input.0].shape.len() == 1 => at = *input,
            (Op::Dropout { .. }, [input]) => at = *input,
            _ => return at,
        }
    }
}

struct Stages {
    names: Vec<String>,
    of_node: Vec<usize>,
}

/// Whether exactly one activation crosses from the nodes up to each one to those behind.
fn cuts(graph: &Graph) -> Vec<bool> {
    let count = graph.nodes.len();
    let mut last_reader: Vec<usize> = (0..count).collect();
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|id| last_reader[id.0] = index);
    }
    let mut change = vec![0i64; count + 1];
    for (index, &reader) in last_reader.iter().enumerate() {
        if reader > index {
            change[index] += 1;
            change[reader] -= 1;
        }
    }
    let mut crossing = 0;
    change[..count]
        .iter()
        .map(|change| {
            crossing += change;
            crossing == 1
        })
        .collect()
}

/// The stages that the file states, where its nodes are still there and the stages can be cut apart.
fn stated(graph: &Graph, stages: &[(String, Vec<String>)]) -> Option<Stages> {
    let starts = stages.iter().map(|(_, firsts)| firsts.iter().find_map(|first| graph.find(first)).map(|id| id.0));
    let mut starts = starts.collect::<Option<Vec<usize>>>()?;
    *starts.first_mut()? = 0;
    let cuts = cuts(graph);
    let in_order = starts.windows(2).all(|pair| pair[0] < pair[1]);
    if !in_order || starts.iter().skip(1).any(|&start| !cuts[start - 1]) {
        return None;
    }
    let of_node = (0..graph.nodes.len()).map(|node| starts.partition_point(|&start| start <= node) - 1).collect();
    Some(Stages { names: stages.iter().map(|(name, _)| name.clone()).collect(), of_node })
}

/// Stages from the names of the layers: what comes before the first numbered block is the stem, what follows the features is the head.
/// Borders lie only where one activation crosses.
fn guessed(graph: &Graph, features: NodeId, ranks: &[NameRank]) -> Stages {
    let cuts = cuts(graph);
    let has_head = features != graph.output && cuts[features.0];
    let keys: Vec<Option<String>> = graph
        .nodes
        .iter()
        .zip(ranks)
        .map(|(node, &rank)| if node.parameters.is_empty() || rank == NameRank::Made { None } else { stage_key(&node.name) })
        .collect();
    let by_size = keys.iter().flatten().collect::<BTreeSet<_>>().len() < 2;
    let mut of_node = Vec::with_capacity(graph.nodes.len());
    let mut names: Vec<String> = vec!["stem".into()];
    let mut current: Option<String> = None;
    let mut taken = Names::default();
    for reserved in ["stem", "head", "features"] {
        taken.unique(reserved);
    }
    let mut start = 0;
    while start < graph.nodes.len() {
        let end = (start..graph.nodes.len()).find(|&i| cuts[i]).unwrap_or(graph.nodes.len() - 1);
        let head = has_head && start > features.0;
        let key = match (head, by_size) {
            (true, _) => Some("head".to_string()),
            (false, true) => (start > 0).then(|| size_key(graph, end)).flatten(),
            (false, false) => keys[start..=end].iter().flatten().next().cloned(),
        };
        if let Some(key) = key.filter(|key| current.as_ref() != Some(key)) {
            names.push(if key == "head" { key.clone() } else { taken.unique(&key) });
            current = Some(key);
        }
        of_node.extend(std::iter::repeat_n(names.len() - 1, end + 1 - start));
        start = end + 1;
    }
    drop_empty(Stages { names, of_node })
}

/// A stem that has no node but the input joins the first stage.
fn drop_empty(stages: Stages) -> Stages {
    let stem_is_input = stages.of_node.iter().filter(|&&s| s == 0).count() == 1;
    if !stem_is_input || stages.names.len() < 2 {
        return stages;
    }
    let of_node = stages.of_node.iter().map(|s| s.saturating_sub(1)).collect();
    Stages { names: stages.names[1..].to_vec(), of_node }
}

/// `28x28` for a map of that size.
fn size_key(graph: &Graph, node: usize) -> Option<String> {
    match graph.nodes[node].shape[..] {
        [_, h, w] => Some(format!("{h}x{w}")),
        _ => None,
    }
}

/// Numbered names of single layers, not of stages.
const LAYERS: [&str; 7] = ["conv", "bn", "norm", "fc", "linear", "ln", "conv_dw"];

/// `layer1` of `layer1.0.conv1`, `blocks.2` of `blocks.2.0.conv_pw`, `backbone.layer1` of `backbone.layer1.0.conv1`.
fn stage_key(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    let number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    let numbered = |part: &str| part.ends_with(|c: char| c.is_ascii_digit());
    for at in 0..parts.len().saturating_sub(1) {
        if numbered(parts[at]) && !LAYERS.contains(&parts[at].trim_end_matches(|c: char| c.is_ascii_digit())) {
            return Some(parts[..=at].join("."));
        }
        if number(parts[at + 1]) && at + 2 < parts.len() {
            return Some(parts[..=at + 1].join("."));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_read_off_the_names() {
        let key = |name: &str| stage_key(name).unwrap_or_default();
        assert_eq!(key("layer1.0.conv1"), "layer1");
        assert_eq!(key("blocks.2.0.conv_pw"), "blocks.2");
        assert_eq!(key("features.denseblock1.denselayer2.conv1"), "features.denseblock1");
        assert_eq!(key("features.0.0"), "features.0");
        assert_eq!(key("encoder.layers.encoder_layer_3.mlp.0"), "encoder.layers.encoder_layer_3");
        assert_eq!(key("conv1"), "");
        assert_eq!(key("conv1.0"), "");
        assert_eq!(key("classifier.1"), "");
        assert_eq!(key("backbone.stem.conv"), "");
    }
}
