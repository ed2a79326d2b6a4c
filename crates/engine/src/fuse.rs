//! Fusion across convolutions: inverted residual blocks run as one step.

use kernels::{Bottleneck, ConvShape};

use crate::plan::Draft;
use crate::step::Work;

/// Joins pointwise, depthwise and pointwise convolutions (the first may be missing) where nobody else reads what lies between.
pub(crate) fn bottlenecks(drafts: Vec<Draft>, wanted: &[usize]) -> Vec<Draft> {
    let readers =
        |value: usize| drafts.iter().filter(|d| d.inputs.contains(&value)).count() + wanted.iter().filter(|&&w| w == value).count();
    let producer = |value: usize| drafts.iter().position(|d| d.value == value).filter(|_| readers(value) == 1);
    // For each projection: the depthwise convolution before it, and the expansion before that.
    let joined: Vec<Option<(usize, Option<usize>)>> = drafts
        .iter()
        .map(|draft| {
            let middle = producer(*draft.inputs.first()?).filter(|&m| is_projection(&draft.work) && is_middle(&drafts[m].work))?;
            let expand = producer(drafts[middle].inputs[0]).filter(|&e| is_expansion(&drafts[e].work));
            // Without a map that is widened here there is something to gain only where maps are large.
            let gains = expand.is_some() || matches!(&drafts[middle].work, Work::Depthwise { shape, .. } if Bottleneck::is_large(shape));
            gains.then_some((middle, expand))
        })
        .collect();
    let mut kept: Vec<Option<Draft>> = drafts.into_iter().map(Some).collect();
    for (index, joined) in joined.into_iter().enumerate() {
        let Some((middle, expand)) = joined else { continue };
        let (middle, expand) = (kept[middle].take(), expand.and_then(|expand| kept[expand].take()));
        kept[index] = match (kept[index].take(), middle) {
            (Some(project), Some(middle)) => Some(join(expand, middle, project)),
            (project, _) => project,
        };
    }
    kept.into_iter().flatten().collect()
}

fn join(expand: Option<Draft>, middle: Draft, project: Draft) -> Draft {
    let (first, expand) = match expand {
        Some(Draft { work: Work::Conv { affine, clamp, .. }, inputs, .. }) => (inputs, Some((affine, clamp))),
        _ => (middle.inputs, None),
    };
    match (middle.work, project.work) {
        (Work::Depthwise { shape, affine: middle, clamp, .. }, Work::Conv { affine, clamp: last, residual, .. }) => {
            let inputs = first.into_iter().chain(project.inputs.iter().copied().skip(1)).collect();
            let work = Work::Bottleneck { expand, shape, middle, clamp, project: affine, last, residual };
            Draft { work, inputs, ..project }
        }
        // `bottlenecks` joins nothing else.
        (_, work) => Draft { work, ..project },
    }
}

fn is_pointwise(shape: &ConvShape) -> bool {
    let w = &shape.window;
    w.kernel == [1, 1] && w.stride == [1, 1] && w.padding == [0, 0] && shape.input == shape.output
}

fn is_projection(work: &Work) -> bool {
    matches!(work, Work::Conv { shape, affine, then: None, .. } if is_pointwise(shape) && affine.groups.len() == 1)
}

fn is_expansion(work: &Work) -> bool {
    matches!(work, Work::Conv { residual: false, .. }) && is_projection(work)
}

fn is_middle(work: &Work) -> bool {
    matches!(work, Work::Depthwise { shape, then: None, .. } if Bottleneck::fits(shape))
}
