//! Tokens and attention.

use kernels::train::{add_into, attention, attention_gradient};

use super::into;
use crate::train::layer::{Back, Keeps, Layer, There};

/// A learned token in front of the others.
#[derive(Debug)]
pub(in crate::train) struct Prepend {
    /// Values of a token.
    pub width: usize,
    /// Values of an image's tokens.
    pub size: usize,
}

impl Layer for Prepend {
    fn name(&self) -> &'static str {
        "prepend"
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn forward(&mut self, there: There<'_>) {
        let token = there.parameters[0];
        let (out, tokens) = (there.out.f32(), there.inputs[0].f32());
        for (out, image) in out.chunks_exact_mut(self.size + self.width).zip(tokens.chunks_exact(self.size)) {
            out[..self.width].copy_from_slice(token);
            out[self.width..].copy_from_slice(image);
        }
    }

    fn backward(&mut self, back: Back<'_>) {
        let dy = &*back.dy.f32();
        let image = self.size + self.width;
        if let Some(dtoken) = back.gradients.first_mut().filter(|g| !g.is_empty()) {
            dtoken.fill(0.0);
            dy.chunks_exact(image).for_each(|dy| add_into(&mut **dtoken, &dy[..self.width]));
        }
        into(back.sinks, 0, |dx| {
            for (dx, dy) in dx.f32().chunks_exact_mut(self.size).zip(dy.chunks_exact(image)) {
                dx.copy_from_slice(&dy[self.width..]);
            }
        });
    }
}

/// A learned table added to the tokens.
#[derive(Debug)]
pub(in crate::train) struct Position {
    /// Values of an image's tokens.
    pub size: usize,
}

impl Layer for Position {
    fn name(&self) -> &'static str {
        "position"
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn passes(&self, _: usize) -> bool {
        true
    }

    fn forward(&mut self, there: There<'_>) {
        for (out, image) in there.out.f32().chunks_exact_mut(self.size).zip(there.inputs[0].f32().chunks_exact(self.size)) {
            kernels::add(out, image, there.parameters[0]);
        }
    }

    fn backward(&mut self, back: Back<'_>) {
        if let Some(dtable) = back.gradients.first_mut().filter(|g| !g.is_empty()) {
            dtable.fill(0.0);
            back.dy.f32().chunks_exact(self.size).for_each(|dy| add_into(&mut **dtable, dy));
        }
    }
}

/// Multi-head self-attention on joined queries, keys and values.
#[derive(Debug)]
pub(in crate::train) struct Attention {
    pub tokens: usize,
    pub width: usize,
    pub heads: usize,
}

impl Layer for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn keeps(&self) -> Keeps {
        Keeps::INPUTS
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn forward(&mut self, there: There<'_>) {
        attention(there.out, there.inputs[0], self.tokens, self.width, self.heads);
    }

    fn backward(&mut self, back: Back<'_>) {
        let (dy, qkv) = (back.dy.as_ref(), back.inputs[0]);
        into(back.sinks, 0, |dqkv| attention_gradient(dqkv, qkv, dy, self.tokens, self.width, self.heads));
    }
}
