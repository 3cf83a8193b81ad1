//! The protobuf wire format: tags, varints, lengths.

use super::Problem;

/// What follows a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// Reads the fields of one message.
pub(super) struct Wire<'a> {
    rest: &'a [u8],
}

impl<'a> Wire<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Next field number and payload; `None` at the end of the message.
    pub(super) fn field(&mut self) -> Result<Option<(u64, Payload<'a>)>, Problem> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint()?),
            1 => {
                let (head, rest) = self.rest.split_first_chunk::<8>().ok_or(Problem::Ended)?;
                self.rest = rest;
                Payload::Fixed64(u64::from_le_bytes(*head))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Problem::Overflow)?;
                let (head, rest) = self.rest.split_at_checked(length).ok_or(Problem::Ended)?;
                self.rest = rest;
                Payload::Bytes(head)
            }
            5 => {
                let (_, rest) = self.rest.split_first_chunk::<4>().ok_or(Problem::Ended)?;
                self.rest = rest;
                Payload::Fixed32
            }
            // Groups are deprecated and in no Kubernetes message.
            _ => return Err(Problem::Tag(tag)),
        };
        let number = tag >> 3;
        if number == 0 || number > 0x1fff_ffff {
            return Err(Problem::Tag(tag));
        }
        Ok(Some((number, payload)))
    }

    fn varint(&mut self) -> Result<u64, Problem> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(Problem::Ended)?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                return Err(Problem::Overflow);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Problem::Overflow)
    }
}
