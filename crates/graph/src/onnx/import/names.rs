//! Names of nodes from what the exporters leave of them.

/// What ends a weight's name.
const SUFFIXES: [&str; 6] = [".weight", ".bias", ".gamma", ".beta", ".kernel", ".weight_bias"];

/// The module of a weight that is named as torch names it (`layer1.0.conv1.weight`); `None` for names that exporters make up.
pub(super) fn of_module(weight: &str) -> Option<String> {
    let module = SUFFIXES.iter().find_map(|suffix| weight.strip_suffix(suffix))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (!module.is_empty() && module.chars().all(plain)).then(|| module.to_string())
}

/// A table or token that is a weight itself (`cls_token`).
pub(super) fn of_parameter(weight: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (!weight.is_empty() && weight.chars().all(plain) && !weight.starts_with("val_")).then(|| weight.to_string())
}

/// The name of a node: torch's `/layer1/layer1.0/conv1/Conv` is `layer1.0.conv1`, TensorFlow's `model/block1/conv/Conv2D` is
/// `model.block1.conv`, anything else stays.
pub(super) fn of_node(node: &str, op: &str) -> String {
    let parts: Vec<&str> = node.split('/').filter(|p| !p.is_empty() && !p.starts_with("StatefulPartitionedCall")).collect();
    let Some((last, path)) = parts.split_last() else { return op.to_lowercase() };
    if path.is_empty() {
        return last.to_string();
    }
    let (mut name, mut last_part) = (String::new(), "");
    for &part in path {
        // `block/block.0`: the part says again what it is within.
        if !last_part.is_empty() && part.strip_prefix(last_part).is_some_and(|rest| rest.starts_with('.')) {
            name.truncate(name.len() - last_part.len());
        } else if !name.is_empty() {
            name.push('.');
        }
        name.push_str(part);
        last_part = part;
    }
    // Layers with weights are called as their module; what else a module does, by the operator too.
    let layer = last.starts_with(op) || ["Conv2D", "DepthwiseConv2dNative", "depthwise", "BiasAdd", "MatMul"].contains(last);
    if layer { name } else { format!("{name}.{last}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exporters_names_become_module_paths() {
        assert_eq!(of_node("/layer1/layer1.0/conv1/Conv", "Conv"), "layer1.0.conv1");
        assert_eq!(of_node("/blocks/blocks.0/blocks.0.0/conv_dw/Conv", "Conv"), "blocks.0.0.conv_dw");
        assert_eq!(of_node("/features/features.1/block/block.0/block.0.0/Conv", "Conv"), "features.1.block.0.0");
        assert_eq!(of_node("StatefulPartitionedCall/net/block1/conv/Conv2D", "Conv"), "net.block1.conv");
        assert_eq!(of_node("layer1.0.bn1.act", "Relu"), "layer1.0.bn1.act");
        assert_eq!(of_node("/", "Relu"), "relu");
    }

    #[test]
    fn only_names_of_the_original_name_a_module() {
        assert_eq!(of_module("layer1.0.conv1.weight").as_deref(), Some("layer1.0.conv1"));
        assert_eq!(of_module("onnx::Conv_193"), None);
        assert_eq!(of_module("x::y.weight"), None);
        assert_eq!(of_parameter("cls_token").as_deref(), Some("cls_token"));
        assert_eq!(of_parameter("val_13"), None);
    }
}
