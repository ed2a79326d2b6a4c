//! Bounds a file before it is decoded: a few bytes must not become many megabytes of structs.

use super::error::OnnxError;

/// Largest file: what protobuf itself allows.
const MAX_BYTES: u64 = 1 << 31;
/// Most fields in the parts of the file that become structs; the largest published classifiers have some tens of thousands.
const MAX_FIELDS: u64 = 1 << 21;

/// A kind of message, as far as fields within it are counted.
#[derive(Clone, Copy)]
enum Level {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    /// Nothing but plain fields.
    Leaf,
}

impl Level {
    /// What a field of this level holds, where it is a message that is decoded.
    fn inside(self, field: u64) -> Option<Self> {
        match (self, field) {
            (Self::Model, 7) => Some(Self::Graph),
            (Self::Model, 8 | 14) | (Self::Node, 9) | (Self::Tensor, 13) | (Self::Shape, 1) => Some(Self::Leaf),
            (Self::Graph, 1) => Some(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5) => Some(Self::Tensor),
            (Self::Graph, 11 | 12) => Some(Self::ValueInfo),
            (Self::Node, 5) => Some(Self::Attribute),
            (Self::ValueInfo, 2) => Some(Self::Type),
            (Self::Type, 1) => Some(Self::TensorType),
            (Self::TensorType, 2) => Some(Self::Shape),
            _ => None,
        }
    }
}

/// Refuses what is too large, and what is no protobuf at all.
pub(super) fn check(bytes: &[u8]) -> Result<(), OnnxError> {
    let found = bytes.len() as u64;
    if found > MAX_BYTES {
        return Err(OnnxError::TooLarge { what: "bytes of the file", found, limit: MAX_BYTES });
    }
    let mut fields = 0;
    scan(bytes, Level::Model, &mut fields)
}

fn scan(mut rest: &[u8], level: Level, fields: &mut u64) -> Result<(), OnnxError> {
    while !rest.is_empty() {
        *fields += 1;
        if *fields > MAX_FIELDS {
            return Err(OnnxError::TooLarge { what: "fields of the file", found: *fields, limit: MAX_FIELDS });
        }
        let key = varint(&mut rest)?;
        match key & 7 {
            0 => drop(varint(&mut rest)?),
            1 => drop(take(&mut rest, 8)?),
            2 => {
                let length = varint(&mut rest)?;
                let content = take(&mut rest, length)?;
                if let Some(inside) = level.inside(key >> 3) {
                    scan(content, inside, fields)?;
                }
            }
            5 => drop(take(&mut rest, 4)?),
            other => return Err(OnnxError::malformed(format!("a field of wire type {other}"))),
        }
    }
    Ok(())
}

fn varint(rest: &mut &[u8]) -> Result<u64, OnnxError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first().ok_or_else(|| OnnxError::malformed("it ends within a number"))?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(OnnxError::malformed("a number of more than ten bytes"))
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> Result<&'a [u8], OnnxError> {
    let split = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let (content, tail) = split.ok_or_else(|| OnnxError::malformed(format!("a field of {length} bytes where {} are left", rest.len())))?;
    *rest = tail;
    Ok(content)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn many_tiny_messages_are_refused_before_they_are_decoded() {
        // A graph of nodes without content: two bytes each.
        let nodes = [0x0a, 0x00].repeat(MAX_FIELDS as usize + 1);
        let mut file = vec![0x3a];
        let mut length = nodes.len();
        while length >= 0x80 {
            file.push(length as u8 | 0x80);
            length >>= 7;
        }
        file.push(length as u8);
        file.extend(nodes);
        assert!(matches!(check(&file), Err(OnnxError::TooLarge { what: "fields of the file", .. })));
    }

    #[test]
    fn cut_files_say_where_they_end() {
        assert!(check(&[]).is_ok());
        assert_eq!(
            check(&[0x3a, 0x05, 0x0a]).unwrap_err().to_string(),
            "not a whole ONNX model: a field of 5 bytes where 1 are left; copy or export it again"
        );
        assert!(check(&[0x3a]).is_err());
        assert!(check(&[0xff; 12]).is_err());
        assert!(check(&[0x0b]).is_err());
    }
}
