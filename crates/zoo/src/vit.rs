//! Vision transformer (Dosovitskiy et al., 2021; the tiny size of DeiT) with timm's names.

use graph::{Activation, Conv2d, Graph, GraphBuilder, GraphError, NodeId, Op};

use crate::block::{channels, classifier, next_stage, residual};
use crate::config::Config;

const EPS: f32 = 1e-6;
const DEPTH: usize = 12;
/// Blocks that freeze together.
const GROUP: usize = 3;

#[derive(Clone, Copy)]
struct Size {
    width: usize,
    heads: usize,
}

/// Pixels along each side of a patch.
pub(crate) fn patch_size(config: &Config) -> usize {
    if config.small_stem() { 4 } else { 16 }
}

pub(crate) fn vit_tiny(name: &'static str, config: &Config) -> Result<Graph, GraphError> {
    let size = Size { width: 192, heads: 3 };
    let patch = patch_size(config);
    let mut b = GraphBuilder::new(name, config.input_shape());
    let x = b.input();
    let conv = Conv2d::new(channels(&b, x), size.width, patch).stride(patch).with_bias();
    let x = b.conv("patch_embed.proj", x, conv);
    let x = b.add("patch_embed.tokens", Op::ToTokens, &[x]);
    let x = b.add("cls_token", Op::PrependToken, &[x]);
    let mut x = b.add("pos_embed", Op::AddPosition, &[x]);
    next_stage(&mut b, "stem", x, &group_name(0));
    for index in 0..DEPTH {
        let drop_path = config.drop_path_rate * index as f32 / (DEPTH - 1) as f32;
        x = block(&mut b, &format!("blocks.{index}"), x, size, drop_path);
        if (index + 1) % GROUP == 0 {
            let next = if index + 1 == DEPTH { "norm".to_string() } else { group_name(index + 1) };
            next_stage(&mut b, &group_name(index), x, &next);
        }
    }
    let x = b.layer_norm("norm", x, EPS);
    next_stage(&mut b, "norm", x, "head");
    let x = b.add("global_pool", Op::SelectToken { index: 0 }, &[x]);
    let logits = classifier(&mut b, "head", x, config.drop_rate, config.num_classes);
    b.finish(logits)
}

/// `blocks.3-5` for the blocks 3, 4 and 5.
fn group_name(block: usize) -> String {
    let first = block / GROUP * GROUP;
    format!("blocks.{first}-{}", first + GROUP - 1)
}

fn block(b: &mut GraphBuilder, name: &str, x: NodeId, size: Size, drop_path: f32) -> NodeId {
    let y = b.layer_norm(format!("{name}.norm1"), x, EPS);
    let y = b.linear(format!("{name}.attn.qkv"), y, 3 * size.width);
    let y = b.add(format!("{name}.attn"), Op::Attention { heads: size.heads }, &[y]);
    let y = b.linear(format!("{name}.attn.proj"), y, size.width);
    let x = residual(b, &format!("{name}.attn"), y, x, drop_path);
    let y = b.layer_norm(format!("{name}.norm2"), x, EPS);
    let y = b.linear(format!("{name}.mlp.fc1"), y, 4 * size.width);
    let y = b.activation(format!("{name}.mlp.act"), y, Activation::Gelu);
    let y = b.linear(format!("{name}.mlp.fc2"), y, size.width);
    residual(b, &format!("{name}.mlp"), y, x, drop_path)
}
