//! Packets: a length of three bytes, a number that counts within an exchange, and as much as the length says. Knows
//! nothing of what is in them.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::Error;

/// The longest packet that is taken.
pub(super) const LONGEST: usize = 1 << 20;

/// What a connection runs over: TCP, TLS or a unix socket.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// Packets over a stream.
pub(super) struct Packets {
    pub(super) stream: Box<dyn Stream>,
    sequence: u8,
}

impl Packets {
    pub(super) fn over(stream: Box<dyn Stream>) -> Self {
        Self { stream, sequence: 0 }
    }

    /// The same exchange over a stream that was made around the former one.
    pub(super) fn go_on(stream: Box<dyn Stream>, sequence: u8) -> Self {
        Self { stream, sequence }
    }

    /// The stream, with nothing read that was not asked for, and the number of the next packet.
    pub(super) fn into_parts(self) -> (Box<dyn Stream>, u8) {
        (self.stream, self.sequence)
    }

    /// The next packet of the exchange.
    pub(super) async fn read(&mut self) -> Result<Vec<u8>, Error> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).await?;
        let length = usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16;
        if head[3] != self.sequence {
            return Err(Error::Protocol("not a server of MySQL: its packets are not in order"));
        }
        if length > LONGEST {
            return Err(Error::Protocol("an answer of more than 1 MiB in one piece"));
        }
        self.sequence = self.sequence.wrapping_add(1);
        // Memory for what has come, not for what is announced.
        let mut packet = Vec::new();
        if (&mut self.stream).take(length as u64).read_to_end(&mut packet).await? < length {
            return Err(Error::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(packet)
    }

    /// Sends the next packet of the exchange.
    pub(super) async fn write(&mut self, packet: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(packet.len()).ok().filter(|length| *length < 1 << 24);
        let length = length.ok_or_else(|| Error::Io(io::Error::other("a packet of more than 16 MiB")))?.to_le_bytes();
        let mut bytes = Vec::with_capacity(packet.len() + 4);
        bytes.extend_from_slice(&[length[0], length[1], length[2], self.sequence]);
        bytes.extend_from_slice(packet);
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Begins an exchange with a command.
    pub(super) async fn command(&mut self, command: u8, text: &str) -> Result<(), Error> {
        self.sequence = 0;
        let mut packet = Vec::with_capacity(text.len() + 1);
        packet.push(command);
        packet.extend_from_slice(text.as_bytes());
        self.write(&packet).await
    }
}

/// Reads a packet's fields, in order. What is not there is [`Error::Protocol`].
pub(super) struct Fields<'p>(pub(super) &'p [u8]);

impl<'p> Fields<'p> {
    pub(super) fn bytes(&mut self, length: usize) -> Result<&'p [u8], Error> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, Error> {
        self.bytes(2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    /// Up to a NUL, which is left out; or all there is.
    pub(super) fn terminated(&mut self) -> &'p [u8] {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = &self.0[..end.unwrap_or(self.0.len())];
        self.0 = end.map_or(&[], |end| &self.0[end + 1..]);
        text
    }

    /// A number of 1 to 9 bytes; `None` stands for NULL.
    pub(super) fn number(&mut self) -> Result<Option<u64>, Error> {
        let width = match self.byte()? {
            small @ 0..=0xfa => return Ok(Some(small.into())),
            0xfb => return Ok(None),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            0xff => return Err(SHORT),
        };
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.bytes(width)?);
        Ok(Some(u64::from_le_bytes(bytes)))
    }

    /// A text behind its length; `None` stands for NULL.
    pub(super) fn text(&mut self) -> Result<Option<&'p [u8]>, Error> {
        let Some(length) = self.number()? else { return Ok(None) };
        self.bytes(usize::try_from(length).map_err(|_| SHORT)?).map(Some)
    }
}

const SHORT: Error = Error::Protocol("not a server of MySQL: an answer is cut short");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_are_read_and_what_is_cut_short_is_refused() {
        for (bytes, expected) in [
            (&[0xfa][..], Some(Some(250))),
            (&[0xfb], Some(None)),
            (&[0xfc, 1, 2], Some(Some(0x0201))),
            (&[0xfd, 1, 2, 3], Some(Some(0x03_0201))),
            (&[0xfe, 1, 0, 0, 0, 0, 0, 0, 1], Some(Some(0x0100_0000_0000_0001))),
            (&[0xfc, 1], None),
            (&[0xff], None),
            (&[], None),
        ] {
            assert_eq!(Fields(bytes).number().ok(), expected, "{bytes:?}");
        }
        assert_eq!(Fields(b"\x03abcd").text().ok(), Some(Some(&b"abc"[..])));
        assert!(Fields(b"\x04abc").text().is_err());
        assert!(Fields(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xffabc").text().is_err());
        let mut fields = Fields(b"name\0rest");
        assert_eq!(
            (fields.terminated(), fields.terminated(), fields.terminated()),
            (&b"name"[..], &b"rest"[..], &b""[..])
        );
    }
}
