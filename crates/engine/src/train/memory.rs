//! Where in memory the pieces of a script lie: a slot is free again after the last action that touches its piece.

use super::script::Script;

/// Puts slots in the place of pieces; returns the words for one image of each slot.
///
/// A free slot is chosen that wastes least, so that gradients lie where activations were that are no longer read.
pub(super) fn assign(script: &mut Script) -> Vec<usize> {
    let mut last = vec![0; script.sizes.len()];
    for (at, action) in script.actions.iter_mut().enumerate() {
        action.pieces_mut().into_iter().for_each(|piece| last[*piece] = at);
    }
    let mut place: Vec<Option<usize>> = vec![None; script.sizes.len()];
    let (mut slots, mut free): (Vec<usize>, Vec<usize>) = Default::default();
    for (at, action) in script.actions.iter_mut().enumerate() {
        let mut over = Vec::new();
        for piece in action.pieces_mut() {
            let size = script.sizes[*piece];
            let slot = *place[*piece].get_or_insert_with(|| take(&mut slots, &mut free, size));
            if last[*piece] == at && !over.contains(&slot) {
                over.push(slot);
            }
            *piece = slot;
        }
        free.append(&mut over);
    }
    slots
}

/// The free slot that wastes least, grown where it must be; a new one where growing would cost as much.
fn take(slots: &mut Vec<usize>, free: &mut Vec<usize>, need: usize) -> usize {
    let cost = |slot: usize| if slots[slot] >= need { slots[slot] - need } else { (need - slots[slot]) * 2 };
    let best = (0..free.len()).min_by_key(|&i| cost(free[i])).filter(|&i| cost(free[i]) <= need);
    match best {
        Some(i) => {
            let slot = free.swap_remove(i);
            slots[slot] = slots[slot].max(need);
            slot
        }
        None => {
            slots.push(need);
            slots.len() - 1
        }
    }
}
