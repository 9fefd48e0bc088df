//! Logins that MariaDB does not ask for, byte by byte, from a server that plays MySQL: `caching_sha2_password`, a change of the
//! plugin, and servers that lie.

use std::time::Duration;

use tidegate::net::mysql::{Endpoint, Error, Keep};
use tidegate::secret::Secret;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};

const PASSWORD: &str = "s3cr3t";

/// Proofs of the password over the nonce 1, 2, … 20, as PyMySQL makes them.
const NATIVE: &str = "5b020dedd7e93970806c75727c9da7392a248157";
const SHA2: &str = "eaaa1f23aa3a7aa171e525c43fe5fe33338896b259c9cd4c8827d484a76382fc";

const OK: &[u8] = b"\0\0\0\x02\0\0\0";

fn nonce() -> Vec<u8> {
    (1..=20).collect()
}

/// What MySQL 8 greets with, without TLS.
fn greeting(plugin: &str) -> Vec<u8> {
    let nonce = nonce();
    let mut packet = b"\x0a8.0.36\0\x07\0\0\0".to_vec();
    packet.extend_from_slice(&nonce[..8]);
    // Capabilities without SSL (bit 11), utf8mb4, autocommit, 21 bytes of nonce.
    packet.extend_from_slice(&[0, 0xff, 0xf7, 0xff, 2, 0, 0xff, 0xdf, 21]);
    packet.extend_from_slice(&[0; 10]);
    packet.extend_from_slice(&nonce[8..]);
    packet.push(0);
    packet.extend_from_slice(plugin.as_bytes());
    packet.push(0);
    packet
}

fn switch(plugin: &str) -> Vec<u8> {
    [&b"\xfe"[..], plugin.as_bytes(), b"\0", &nonce(), b"\0"].concat()
}

/// One end of the play: packets out, and what comes in, until the client is gone.
async fn play(mut stream: impl AsyncRead + AsyncWrite + Unpin, script: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let (mut heard, mut sequence) = (Vec::new(), 0_u8);
    for packet in script {
        let length = u32::try_from(packet.len()).unwrap().to_le_bytes();
        stream.write_all(&[length[0], length[1], length[2], sequence]).await.unwrap();
        stream.write_all(&packet).await.unwrap();
        // After this one the server has more to say.
        if packet == [1, 3] {
            sequence = sequence.wrapping_add(1);
            continue;
        }
        let mut head = [0; 4];
        if stream.read_exact(&mut head).await.is_err() {
            break;
        }
        sequence = head[3].wrapping_add(1);
        let mut packet = vec![0; usize::from(head[0]) | usize::from(head[1]) << 8];
        stream.read_exact(&mut packet).await.unwrap();
        heard.push(packet);
    }
    heard
}

/// Logs in over TCP to a server that plays `script`: what came of it, and what the server heard.
async fn login(script: Vec<Vec<u8>>) -> (Result<(), Error>, Vec<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mysql://app:{PASSWORD}@{}/orders", listener.local_addr().unwrap());
    let endpoint = Endpoint::new(&Secret::new(url)).unwrap();
    let server = async { play(listener.accept().await.unwrap().0, script).await };
    let client = async {
        let connected = endpoint.connect(Duration::from_secs(20)).await;
        // Dropped: the server sees the end of it.
        connected.map(drop)
    };
    let (client, heard) =
        tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(client, server) }).await.unwrap();
    (client, heard)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_password_that_the_server_has_seen_before_is_proved_without_it() {
    let unknown_variable = b"\xff\xa9\x04#HY000Unknown system variable 'max_execution_time'".to_vec();
    let script = vec![greeting("caching_sha2_password"), vec![1, 3], OK.to_vec(), unknown_variable];
    let (connected, heard) = login(script).await;
    connected.unwrap();
    let response = &heard[0];
    let expected = format!("6170700020{SHA2}{}00", hex(b"orders"));
    assert!(hex(&response[32..]).starts_with(&expected), "{}", hex(response));
    assert!(response.windows(22).any(|part| part == b"caching_sha2_password\0"));
    assert!(!response.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()));
    assert_eq!(heard[1], b"\x03SET SESSION max_execution_time = 20000");
}

#[tokio::test]
async fn a_password_goes_in_the_clear_over_a_unix_socket_and_never_over_the_network() {
    let (connected, heard) = login(vec![greeting("caching_sha2_password"), vec![1, 4]]).await;
    let error = connected.unwrap_err().to_string();
    assert_eq!(error, "the server wants the password in the clear: add ssl-mode=REQUIRED");
    assert_eq!(heard.len(), 1, "nothing is sent after the demand");

    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("mysql.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let url = format!("mysql://app:{PASSWORD}@/orders?socket={}", socket.display());
    let endpoint = Endpoint::new(&Secret::new(url)).unwrap();
    let script = vec![greeting("caching_sha2_password"), vec![1, 4], OK.to_vec(), OK.to_vec(), OK.to_vec()];
    let server = async { play(listener.accept().await.unwrap().0, script).await };
    let client = async {
        let mut connection = endpoint.connect(Duration::from_secs(20)).await.unwrap();
        connection.query("SELECT 1", Keep::Nothing).await.unwrap();
    };
    let ((), heard) = tokio::join!(client, server);
    assert_eq!(heard[1], format!("{PASSWORD}\0").as_bytes());
    assert_eq!(heard[3], b"\x03SELECT 1");
}

#[tokio::test]
async fn another_plugin_is_followed_when_it_is_known() {
    let script = vec![greeting("caching_sha2_password"), switch("mysql_native_password"), OK.to_vec(), OK.to_vec()];
    let (connected, heard) = login(script).await;
    connected.unwrap();
    assert_eq!(hex(&heard[1]), NATIVE);
    let (connected, heard) = login(vec![greeting("mysql_native_password"), switch("client_ed25519")]).await;
    assert_eq!(connected.unwrap_err().to_string(), "authentication plugin client_ed25519 is not supported");
    assert_eq!(heard.len(), 1);
    let (connected, heard) = login(vec![greeting("mysql_native_password"), switch("mysql_clear_password")]).await;
    assert!(connected.unwrap_err().to_string().contains("in the clear"));
    assert_eq!(heard.len(), 1);
}

#[tokio::test]
async fn a_server_that_lies_is_left_with_a_reason() {
    let long = b"\xff\x69\x04#HY000Host 'x' is blocked because of many connection errors".to_vec();
    for (script, reason) in [
        (vec![long], "Host 'x' is blocked because of many connection errors"),
        (vec![b"\x0a5.1".to_vec()], "not a server of MySQL: an answer is cut short"),
        (vec![b"\x09".to_vec()], "not a server of MySQL"),
        (vec![Vec::new()], "not a server of MySQL: an answer is cut short"),
        (vec![greeting("mysql_native_password"), vec![7]], "not a server of MySQL: an unknown step of its handshake"),
        (
            [vec![greeting("caching_sha2_password")], vec![vec![1, 3]; 9]].concat(),
            "the server's handshake does not end",
        ),
    ] {
        let (connected, _) = login(script.clone()).await;
        assert_eq!(connected.unwrap_err().to_string(), reason, "{script:?}");
    }
}
