//! Training: forward passes that keep what the way back needs, gradients by inputs and by weights, losses and update rules.
//!
//! Everything is a function over slices that writes into the caller's memory. What is written needs no zeroing before; what a function works
//! in meanwhile is kept by the calling thread from call to call. Feature maps are `[N, H, W, C]`, channels fastest; tokens `[N, T, D]`;
//! vectors `[N, D]`; weights lie as the graph keeps them: convolutions `[O, I / groups, KH, KW]`, linear layers `[O, I]`. Gradients have the
//! shape of what they belong to. Work is spread over the installed [`Threads`](crate::Threads), else over rayon's current pool; sums are
//! taken over blocks that depend on the sizes alone, in one order: results are the same, bit for bit, for any number of threads.
//!
//! Maps and the gradients by them are f32 or bf16 ([`Values`](crate::Values)); weights, their gradients, statistics and sums are f32. On bf16 a
//! function gives the bits that it gives on the widened values, rounded once to nearest even.
//!
//! | module | forward | backward |
//! |---|---|---|
//! | convolution (dense, grouped, depthwise, 1 × 1) | [`Convolution::forward`] | [`Convolution::input_gradient`], [`Convolution::weight_gradient`], [`column_sums`] for the bias |
//! | linear | [`Linear::forward`] | [`Linear::input_gradient`], [`Linear::weight_gradient`], [`column_sums`] |
//! | batch norm, with residual and activation | [`moments`], [`BatchNorm::forward`] | [`BatchNorm::backward`], [`BatchNorm::backward_in_place`], [`BatchNorm::backward_added`] |
//! | layer norm | [`layer_norm`] | [`layer_norm_gradient`] |
//! | activations | [`clamp`], [`apply`], [`add`], [`multiply`], [`gate`] | [`clamp_gradient_in_place`], [`function_gradient`], [`gate_gradient`] |
//! | softmax, attention | [`crate::softmax`], [`attention`] | [`softmax_gradient`], [`attention_gradient`] |
//! | pooling | [`max_pool`], [`average_pool`], [`global_average`] | [`max_pool_gradient`], [`average_pool_gradient`], [`global_average_gradient`] |
//! | products and sums | [`crate::add`], [`crate::gate_channels`] | [`add_into`], [`gate_gradient`] |
//! | loss | [`cross_entropy`] gives loss and gradient at once | |
//! | updates | [`Sgd::step`], [`AdamW::step`], [`average`] | |

mod activation;
mod attention;
mod convolution;
mod dense;
mod depthwise;
mod layer_norm;
mod layout;
mod linear;
mod loss;
mod norm;
mod optimiser;
mod outer;
mod pool;
mod sums;
#[cfg(test)]
mod tests;
mod weight;
mod winograd_weight;

pub use activation::{
    add, add_into, apply, clamp, clamp_gradient, clamp_gradient_in_place, function_gradient, gate, gate_gradient, mask, mask_in_place,
    multiply, softmax_gradient,
};
pub use attention::{attention, attention_gradient};
pub use convolution::Convolution;
pub use layer_norm::{layer_norm, layer_norm_gradient};
pub use layout::channels_last;
pub use linear::Linear;
pub use loss::cross_entropy;
pub use norm::{BatchNorm, moments};
pub use optimiser::{AdamW, Sgd, average};
pub use pool::{average_pool, average_pool_gradient, global_average, global_average_gradient, max_pool, max_pool_gradient};
pub use sums::column_sums;
