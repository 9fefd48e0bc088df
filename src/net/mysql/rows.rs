//! The answer to a text query.

use super::Error;
use super::packet::{Fields, Packets};

/// Rows that are kept of an answer; more are read and thrown away.
const MOST: usize = 1000;

/// Memory that an answer may take; a longer one is refused.
pub(super) const SIZE: usize = 4 << 20;

/// Columns that an answer may have.
const COLUMNS: u64 = 4096;

/// What is kept of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Whether it came: an operator's query may answer much.
    Nothing,
    /// The first thousand rows.
    Rows,
}

/// Names of columns, and rows in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    columns: Vec<String>,
    /// `None` stands for NULL.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    /// Keeps a value for as long as there is room for it: `room` is what is left.
    fn kept(bytes: &[u8], room: &mut usize) -> Result<String, Error> {
        let text = text(bytes);
        let left = room.checked_sub(size_of::<Option<String>>() + text.len());
        *room = left.ok_or(Error::Protocol("an answer of more than 4 MiB"))?;
        Ok(text)
    }

    /// The value in a row under a column's name, in any case; `None` when there is no such column, or NULL in it.
    pub fn value(&self, row: usize, column: &str) -> Option<&str> {
        let at = self.columns.iter().position(|name| name.eq_ignore_ascii_case(column))?;
        self.rows.get(row)?.get(at)?.as_deref()
    }
}

/// More results follow this one (`SERVER_MORE_RESULTS_EXISTS`).
const MORE: u16 = 8;

/// Reads all that a query answers; the rows are those of the last result that has columns.
pub(super) async fn read(packets: &mut Packets, keep: Keep) -> Result<Rows, Error> {
    let mut answer = Rows::default();
    loop {
        let first = packets.read().await?;
        let more = match first.first() {
            Some(0) => {
                let mut fields = Fields(&first[1..]);
                fields.number()?;
                fields.number()?;
                fields.u16()? & MORE != 0
            }
            Some(0xff) => return Err(refusal(&first)),
            // LOCAL INFILE: the server asks for a file of ours.
            Some(0xfb) => return Err(Error::Protocol("the server asks for a file, which it does not get")),
            Some(_) => {
                answer = Rows::default();
                result(packets, &first, keep, &mut answer).await?
            }
            None => return Err(Error::Protocol("not a server of MySQL: an empty answer")),
        };
        if !more {
            return Ok(answer);
        }
    }
}

/// Reads the columns and rows behind the packet that counts the columns. Returns whether more results follow.
async fn result(packets: &mut Packets, first: &[u8], keep: Keep, answer: &mut Rows) -> Result<bool, Error> {
    let count = Fields(first).number()?.filter(|count| *count <= COLUMNS);
    let count = count.ok_or(Error::Protocol("an answer of too many columns"))?;
    let mut room = SIZE;
    for _ in 0..count {
        let packet = packets.read().await?;
        let mut fields = Fields(&packet);
        // Catalogue, schema, table, the table's own name.
        for _ in 0..4 {
            fields.text()?;
        }
        let name = fields.text()?.unwrap_or_default();
        if keep == Keep::Rows {
            answer.columns.push(Rows::kept(name, &mut room)?);
        }
    }
    if !ends(&packets.read().await?) {
        return Err(Error::Protocol("not a server of MySQL: columns without an end"));
    }
    loop {
        let packet = packets.read().await?;
        match packet.first() {
            Some(0xff) => return Err(refusal(&packet)),
            _ if ends(&packet) => return Ok(Fields(&packet[3..]).u16()? & MORE != 0),
            _ if keep == Keep::Nothing || answer.rows.len() >= MOST => {}
            _ => {
                let mut fields = Fields(&packet);
                let mut value = || match fields.text()? {
                    Some(value) => Rows::kept(value, &mut room).map(Some),
                    None => Rows::kept(b"", &mut room).map(|_| None),
                };
                answer.rows.push((0..count).map(|_| value()).collect::<Result<_, Error>>()?);
            }
        }
    }
}

/// An EOF packet; a row that begins like one is longer.
fn ends(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && (3..9).contains(&packet.len())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What an ERR packet says: number, `#` and SQLSTATE, words.
pub(super) fn refusal(packet: &[u8]) -> Error {
    let mut fields = Fields(packet.get(1..).unwrap_or_default());
    let Ok(code) = fields.u16() else { return Error::Protocol("the server refuses without saying why") };
    let words = fields.0;
    let words = if words.first() == Some(&b'#') { words.get(6..).unwrap_or_default() } else { words };
    Error::Server { code, text: text(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server that sends these packets answers.
    async fn check(sent: &[&[u8]], expected: Result<&[&[Option<&str>]], &str>) {
        let mut bytes = Vec::new();
        for (at, packet) in sent.iter().enumerate() {
            let length = u32::try_from(packet.len()).expect("short").to_le_bytes();
            bytes.extend_from_slice(&[length[0], length[1], length[2], u8::try_from(at).expect("few")]);
            bytes.extend_from_slice(packet);
        }
        let mut packets = Packets::over(Box::new(tokio::io::join(std::io::Cursor::new(bytes), tokio::io::sink())));
        let own = |row: &&[Option<&str>]| row.iter().map(|field| field.map(str::to_owned)).collect::<Vec<_>>();
        let expected = expected.map(|rows| rows.iter().map(own).collect::<Vec<_>>()).map_err(str::to_owned);
        let answer = read(&mut packets, Keep::Rows).await.map(|answer| answer.rows).map_err(|e| e.to_string());
        assert_eq!(answer, expected, "{sent:?}");
    }

    const COLUMN: &[u8] = b"\x03def\x00\x00\x00\x01n\x00\x0c\x2d\x00\x04\x00\x00\x00\x03\x00\x00\x00\x00\x00";
    const END: &[u8] = b"\xfe\0\0\x02\0";

    #[tokio::test]
    async fn rows_are_read_to_their_end_and_refusals_are_said() {
        check(&[b"\0\0\0\x02\0\0\0"], Ok(&[])).await;
        check(&[b"\x01", COLUMN, END, b"\x011", b"\xfb", END], Ok(&[&[Some("1")], &[None]])).await;
        // Two results, as of a procedure.
        let more: &[u8] = b"\xfe\0\0\x0a\0";
        check(&[b"\x01", COLUMN, END, b"\x011", more, b"\0\0\0\x02\0\0\0"], Ok(&[&[Some("1")]])).await;
        check(&[b"\xff\x7a\x04#42S02Table 'd.t' doesn't exist"], Err("Table 'd.t' doesn't exist")).await;
        check(&[b"\x01", COLUMN, END, b"\xff\xb1\x07#70100too long"], Err("too long")).await;
        check(&[b"\xff"], Err("the server refuses without saying why")).await;
        check(&[b"\xfb/etc/passwd"], Err("the server asks for a file, which it does not get")).await;
        check(&[b""], Err("not a server of MySQL: an empty answer")).await;
        check(&[b"\xfd\xff\xff\xff"], Err("an answer of too many columns")).await;
        check(&[b"\x01", COLUMN, END, b"\x051"], Err("not a server of MySQL: an answer is cut short")).await;
        check(&[b"\x01", COLUMN], Err("early eof")).await;
    }
}
