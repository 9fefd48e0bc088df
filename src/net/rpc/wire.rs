//! Protocol buffers' wire format (<https://protobuf.dev/programming-guides/encoding/>): fields read in place from a
//! message's bytes, and written to a buffer. Pure, and it knows no message.

/// A message that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends in the middle of a field.
    #[error("the message is cut short")]
    Short,
    /// A number of more than 64 bits.
    #[error("a number of the message is too long")]
    Varint,
    /// A field of number 0, or of a wire type that proto3 does not have.
    #[error("the message has a field of an unknown kind")]
    Field,
    /// A known field of another type than it has.
    #[error("a field of the message is of another type")]
    Type,
    /// Text that is not UTF-8.
    #[error("a text of the message is not UTF-8")]
    Text,
    /// Messages within messages, beyond the limit.
    #[error("the message nests too deep")]
    Depth,
}

/// A field's value as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire<'b> {
    /// int32, int64, bool, enum
    Varint(u64),
    /// double
    Fixed64(u64),
    /// string, bytes, message
    Bytes(&'b [u8]),
    /// float
    Fixed32(u32),
}

impl<'b> Wire<'b> {
    /// A `bytes` field or an embedded message.
    ///
    /// # Errors
    /// [`Malformed::Type`]
    pub fn bytes(self) -> Result<&'b [u8], Malformed> {
        if let Wire::Bytes(bytes) = self { Ok(bytes) } else { Err(Malformed::Type) }
    }

    /// A `string` field.
    ///
    /// # Errors
    /// [`Malformed::Type`], [`Malformed::Text`]
    pub fn text(self) -> Result<&'b str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Text)
    }

    /// A `bool` field.
    ///
    /// # Errors
    /// [`Malformed::Type`]
    pub fn bool(self) -> Result<bool, Malformed> {
        if let Wire::Varint(number) = self { Ok(number != 0) } else { Err(Malformed::Type) }
    }

    /// A `double` field.
    ///
    /// # Errors
    /// [`Malformed::Type`]
    pub fn double(self) -> Result<f64, Malformed> {
        if let Wire::Fixed64(bits) = self { Ok(f64::from_bits(bits)) } else { Err(Malformed::Type) }
    }
}

/// The fields of a message, in order.
#[derive(Debug, Clone)]
pub struct Fields<'b> {
    rest: &'b [u8],
}

impl<'b> Fields<'b> {
    /// The fields of `message`.
    pub fn of(message: &'b [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Result<(u32, Wire<'b>), Malformed> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed::Field)?;
        if number == 0 {
            return Err(Malformed::Field);
        }
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| Malformed::Short)?;
                let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Short)?;
                self.rest = rest;
                Wire::Bytes(bytes)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.fixed()?)),
            _ => return Err(Malformed::Field),
        };
        Ok((number, wire))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(number);
            }
        }
        Err(if self.rest.len() < 10 { Malformed::Short } else { Malformed::Varint })
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u32, Wire<'b>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Appends a `string` or `bytes` field.
pub fn put_bytes(buffer: &mut Vec<u8>, number: u32, bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    put_varint(buffer, u64::from(number << 3 | 2));
    put_varint(buffer, bytes.len() as u64);
    buffer.extend_from_slice(bytes);
}

/// Appends an integer, `bool` or enum field.
pub fn put_number(buffer: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(buffer, u64::from(number << 3));
    put_varint(buffer, value);
}

/// Appends a `double` field.
pub fn put_double(buffer: &mut Vec<u8>, number: u32, value: f64) {
    put_varint(buffer, u64::from(number << 3 | 1));
    buffer.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// Appends an embedded message that `write` appends the fields of.
pub fn put_message(buffer: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    put_varint(buffer, u64::from(number << 3 | 2));
    // Most are short: one byte is kept for the length, and the message is moved when that is not enough.
    let at = buffer.len();
    buffer.push(0);
    write(buffer);
    let len = buffer.len() - at - 1;
    if len < 0x80 {
        buffer[at] = len as u8;
        return;
    }
    let mut prefix = Vec::with_capacity(5);
    put_varint(&mut prefix, len as u64);
    buffer.splice(at..=at, prefix);
}

fn put_varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let long = "x".repeat(300);
        let mut message = Vec::new();
        put_number(&mut message, 1, u64::MAX);
        put_double(&mut message, 2, -1.5);
        put_message(&mut message, 3, |inner| put_message(inner, 536_870_911, |inner| put_bytes(inner, 1, &long)));
        put_message(&mut message, 4, |_| {});
        let fields: Vec<_> = Fields::of(&message).map(|field| field.expect("sound")).collect();
        assert_eq!(fields[0], (1, Wire::Varint(u64::MAX)));
        assert_eq!(fields[1].1.double(), Ok(-1.5));
        assert_eq!(fields[3], (4, Wire::Bytes(b"")));
        let inner = Fields::of(fields[2].1.bytes().expect("a message")).next().expect("a field").expect("sound");
        assert_eq!(inner.0, 536_870_911);
        let text = Fields::of(inner.1.bytes().expect("a message")).next().expect("a field").expect("sound");
        assert_eq!(text.1.text(), Ok(long.as_str()));
    }

    #[test]
    fn what_is_no_message_is_told_and_ends() {
        for (bytes, wrong) in [
            (&b"\x08"[..], Malformed::Short),
            (b"\x08\x80", Malformed::Short),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Malformed::Varint),
            (b"\x00\x00", Malformed::Field),
            (b"\x0b\x0c", Malformed::Field),
            (b"\x0a\x02x", Malformed::Short),
            (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Malformed::Short),
            (b"\x09\x00", Malformed::Short),
            (b"\x0d\x00", Malformed::Short),
        ] {
            let read: Vec<_> = Fields::of(bytes).collect();
            assert_eq!(read, [Err(wrong)], "{bytes:?}");
        }
        assert_eq!(Wire::Bytes(b"\xff").text(), Err(Malformed::Text));
    }
}
