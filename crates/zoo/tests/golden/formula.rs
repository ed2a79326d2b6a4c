//! Weights and inputs by formula, as in `make.py`.
#![allow(dead_code)] // each test file uses its part

use graph::{Graph, Tensor, Weights};

/// Values in 0..1: splitmix64 seeded by the FNV-1a hash of a name, 24 bits each.
pub fn uniform(name: &str) -> impl Iterator<Item = f64> {
    let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (1u64..).map(move |index| {
        let mut z = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 24)
    })
}

/// One parameter.
pub fn parameter(name: &str, shape: &[usize]) -> Tensor {
    let (scale, offset) = match shape.len() {
        _ if name.ends_with("running_var") => (1.0, 0.25),
        _ if name.ends_with("running_mean") => (0.4, -0.2),
        _ if name.ends_with("bias") => (0.6, -0.2),
        1 => (0.6, 0.5),
        3 => (1.0, -0.5),
        _ => {
            let limit = (6.0 / shape[1..].iter().product::<usize>() as f64).sqrt();
            (2.0 * limit, -limit)
        }
    };
    let data = uniform(name).take(shape.iter().product()).map(|u| (scale * u + offset) as f32).collect();
    Tensor { shape: shape.to_vec(), data }
}

/// All parameters of a graph.
pub fn weights(graph: &Graph) -> Weights {
    graph.parameters().map(|p| (p.name.clone(), parameter(&p.name, &p.shape))).collect()
}

/// A batch `[n, c, h, w]`.
pub fn images([n, c, h, w]: [usize; 4]) -> Tensor {
    let noise = uniform("input").map(|u| 2.0 * u - 1.0);
    let data = noise.take(n * c * h * w).enumerate().map(|(index, noise)| {
        let (column, row, sample) = (index % w, index / w % h, index / (w * h * c));
        (noise + (1 + sample) as f64 * (row as f64 / h as f64) - column as f64 / w as f64) as f32
    });
    Tensor { shape: vec![n, c, h, w], data: data.collect() }
}

/// The greatest difference, as a share of the greatest expected value.
pub fn relative_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let greatest = expected.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    let difference = found.iter().zip(expected).fold(0.0f32, |a, (x, y)| if x.is_nan() { f32::INFINITY } else { a.max((x - y).abs()) });
    difference / greatest
}
