//! The driver's way to the servers: a SOCKS5 proxy (RFC 1928, RFC 1929) inside this process.
//!
//! The driver looks names up by itself and connects to every member that a server names when it says
//! who it is. Through this proxy each of its connections begins with one lookup, whose addresses are
//! checked, and goes to one of exactly these. TLS is between driver and server as it is without. The
//! proxy listens on loopback, lives as long as its client, and serves nobody who does not know a
//! password that is made for that client.

use std::io::{self, Error, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use mongodb::event::EventHandler;
use mongodb::options::{ClientOptions, Socks5Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::{System, random};
use crate::source::AddressPolicy;
use crate::source::dial::dial;

const VERSION: u8 = 5;
const USER: &str = "dbsnap";
const PASSWORD_METHOD: u8 = 2;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;

/// Replies to a request.
const SUCCEEDED: u8 = 0;
const NOT_ALLOWED: u8 = 2;
const NETWORK_UNREACHABLE: u8 = 3;
const HOST_UNREACHABLE: u8 = 4;
const REFUSED: u8 = 5;
const TTL_EXPIRED: u8 = 6;

/// What the driver's error says of a reply [`NOT_ALLOWED`], in lower case.
pub(super) const NOT_ALLOWED_IN_WORDS: &str = "connection not allowed by ruleset";

/// The driver sends its request at once.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Notices a server that vanished without a word.
const KEEPALIVE: Duration = Duration::from_secs(60);
const BUFFER: usize = 64 << 10;
/// A wait for file descriptors to become free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Has the client of these options connect to what the policy allows, and to nothing else.
pub(super) fn guard(options: &mut ClientOptions, policy: AddressPolicy) -> io::Result<()> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let listener = TcpListener::from_std(listener)?;
    let password = format!("{:032x}", u128::from_le_bytes(random(&System)));
    let connect_timeout = options.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let proxy = Arc::new(Proxy { policy, password: password.clone(), connect_timeout });
    let ended = CancellationToken::new();
    tokio::spawn(proxy.listen(listener, ended.clone()));
    let address = Socks5Proxy::builder().host(Ipv4Addr::LOCALHOST.to_string()).port(port);
    options.socks5_proxy = Some(address.authentication((USER.to_owned(), password)).build());
    // The driver drops its listeners when the last handle of the client is gone.
    let alive = ended.drop_guard();
    options.sdam_event_handler = Some(EventHandler::callback(move |_| {
        let _alive = &alive;
    }));
    Ok(())
}

struct Proxy {
    policy: AddressPolicy,
    password: String,
    connect_timeout: Duration,
}

impl Proxy {
    async fn listen(self: Arc<Self>, listener: TcpListener, ended: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ended.cancelled() => return,
            };
            match accepted {
                Ok((client, _)) => {
                    let proxy = Arc::clone(&self);
                    // Whatever ends a connection, the driver sees it end.
                    tokio::spawn(async move { proxy.serve(client).await });
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let greeting = timeout(GREETING_TIMEOUT, self.greet(&mut client)).await;
        let (host, port) = greeting.map_err(|_| Error::from(ErrorKind::TimedOut))??;
        let opened = timeout(self.connect_timeout, self.open(&host, port)).await;
        let (reply, server) = match opened.unwrap_or(Err(TTL_EXPIRED)) {
            Ok(server) => (SUCCEEDED, Some(server)),
            Err(reply) => (reply, None),
        };
        // With the address that the connection is made from, which is nobody's concern.
        client.write_all(&[VERSION, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
        match server {
            Some(server) => relay(client, server).await,
            None => client.shutdown().await,
        }
    }

    /// Methods, password and request: the host and port that are asked for.
    async fn greet(&self, client: &mut TcpStream) -> io::Result<(String, u16)> {
        let [version, count] = bytes(client).await?;
        let methods = text(client, count).await?;
        if version != VERSION || !methods.contains(&PASSWORD_METHOD) {
            client.write_all(&[VERSION, NO_METHOD]).await?;
            return Err(ErrorKind::PermissionDenied.into());
        }
        client.write_all(&[VERSION, PASSWORD_METHOD]).await?;
        let [_, length] = bytes(client).await?;
        let user = text(client, length).await?;
        let [length] = bytes(client).await?;
        let password = text(client, length).await?;
        let is_known = is_same(&user, USER.as_bytes()) & is_same(&password, self.password.as_bytes());
        client.write_all(&[1, u8::from(!is_known)]).await?;
        if !is_known {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let [version, command, _, kind] = bytes(client).await?;
        let host = match kind {
            1 => Ipv4Addr::from(bytes::<4>(client).await?).to_string(),
            3 => {
                let [length] = bytes(client).await?;
                String::from_utf8(text(client, length).await?)
                    .map_err(|_| Error::from(ErrorKind::InvalidData))?
            }
            4 => Ipv6Addr::from(bytes::<16>(client).await?).to_string(),
            _ => return Err(ErrorKind::InvalidData.into()),
        };
        if (version, command) != (VERSION, CONNECT) {
            return Err(ErrorKind::InvalidData.into());
        }
        let port = u16::from_be_bytes(bytes(client).await?);
        Ok((host.trim_matches(['[', ']']).to_owned(), port))
    }

    /// One lookup; its addresses are checked, and one of them is connected to.
    async fn open(&self, host: &str, port: u16) -> Result<TcpStream, u8> {
        let addresses: Vec<_> = lookup_host((host, port)).await.map_err(|_| HOST_UNREACHABLE)?.collect();
        self.policy.check(host, &addresses).map_err(|_| NOT_ALLOWED)?;
        dial(&addresses).await.map_err(|error| match error.kind() {
            ErrorKind::ConnectionRefused => REFUSED,
            ErrorKind::NetworkUnreachable => NETWORK_UNREACHABLE,
            _ => HOST_UNREACHABLE,
        })
    }
}

async fn bytes<const N: usize>(client: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn text(client: &mut TcpStream, length: u8) -> io::Result<Vec<u8>> {
    let mut text = vec![0; length.into()];
    client.read_exact(&mut text).await?;
    Ok(text)
}

/// Takes the same time wherever the two differ.
fn is_same(told: &[u8], known: &[u8]) -> bool {
    told.len() == known.len() && told.iter().zip(known).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

/// Carries bytes both ways until one side is done: the protocol has no use for half a connection.
async fn relay(mut client: TcpStream, mut server: TcpStream) -> io::Result<()> {
    server.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    socket2::SockRef::from(&server).set_tcp_keepalive(&keepalive)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::select! {
        done = forward(from_client, to_server) => done,
        done = forward(from_server, to_client) => done,
    }
}

async fn forward(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        acknowledge(from.as_ref());
        to.write_all(&buffer[..count]).await?;
    }
}

/// The driver leaves Nagle's algorithm on towards a proxy: the end of a long command would wait for a
/// delayed acknowledgement of what came before it.
#[cfg(target_os = "linux")]
fn acknowledge(stream: &TcpStream) {
    // It is only ever slower without.
    let _ = socket2::SockRef::from(stream).set_tcp_quickack(true);
}

#[cfg(not(target_os = "linux"))]
fn acknowledge(_: &TcpStream) {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    async fn closed_soon(address: SocketAddr) {
        let closed = async {
            while TcpStream::connect(address).await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), closed).await.unwrap();
    }

    /// A proxy with this policy and the password "secret".
    async fn proxy(policy: AddressPolicy) -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, ended) = (listener.local_addr().unwrap(), CancellationToken::new());
        let proxy = Proxy { policy, password: "secret".to_owned(), connect_timeout: Duration::from_secs(5) };
        tokio::spawn(Arc::new(proxy).listen(listener, ended.clone()));
        (address, ended)
    }

    /// Asks for a connection; the reply and the stream, or the refusal of the password.
    async fn ask(proxy: SocketAddr, password: &str, host: &str, port: u16) -> (u8, TcpStream) {
        let mut client = TcpStream::connect(proxy).await.unwrap();
        client.write_all(&[5, 2, 0, 2]).await.unwrap();
        assert_eq!(bytes(&mut client).await.unwrap(), [5, 2]);
        let login = [&[1, 6][..], b"dbsnap", &[password.len() as u8], password.as_bytes()].concat();
        client.write_all(&login).await.unwrap();
        let [_, refused] = bytes(&mut client).await.unwrap();
        if refused != 0 {
            return (u8::MAX, client);
        }
        let request = [&[5, 1, 0, 3, host.len() as u8][..], host.as_bytes(), &port.to_be_bytes()].concat();
        client.write_all(&request).await.unwrap();
        let [_, reply, ..] = bytes::<10>(&mut client).await.unwrap();
        (reply, client)
    }

    #[tokio::test]
    async fn what_the_policy_refuses_is_never_connected_to() {
        let canary = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = canary.local_addr().unwrap().port();
        let (public_only, _) = proxy(AddressPolicy::PublicOnly).await;
        for host in ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]", "0.0.0.0"] {
            assert_eq!(ask(public_only, "secret", host, port).await.0, NOT_ALLOWED, "{host}");
        }
        let (private_too, _) = proxy(AddressPolicy::PrivateToo).await;
        for host in ["169.254.169.254", "2852039166", "[64:ff9b::a9fe:a9fe]"] {
            assert_eq!(ask(private_too, "secret", host, port).await.0, NOT_ALLOWED, "{host}");
        }
        assert_eq!(ask(private_too, "guessed", "127.0.0.1", port).await.0, u8::MAX);
        // The first that comes is one that was allowed.
        let (reply, mut client) = ask(private_too, "secret", "127.0.0.1", port).await;
        let (mut server, _) = canary.accept().await.unwrap();
        assert_eq!(reply, SUCCEEDED);
        client.write_all(b"ping").await.unwrap();
        assert_eq!(&bytes::<4>(&mut server).await.unwrap(), b"ping");
        server.write_all(b"pong").await.unwrap();
        drop(server);
        let mut told = String::new();
        client.read_to_string(&mut told).await.unwrap();
        assert_eq!(told, "pong");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_as_such() {
        let (proxy, ended) = proxy(AddressPolicy::PrivateToo).await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        assert_eq!(ask(proxy, "secret", "127.0.0.1", closed).await.0, REFUSED);
        assert_eq!(ask(proxy, "secret", "no-such-host.invalid", closed).await.0, HOST_UNREACHABLE);
        ended.cancel();
        closed_soon(proxy).await;
    }

    #[tokio::test]
    async fn it_ends_with_its_client() {
        let mut options = ClientOptions::builder().hosts(Vec::new()).build();
        guard(&mut options, AddressPolicy::PrivateToo).unwrap();
        let port = options.socks5_proxy.as_ref().unwrap().port.unwrap();
        let address = (Ipv4Addr::LOCALHOST, port).into();
        TcpStream::connect(address).await.unwrap();
        drop(options);
        closed_soon(address).await;
    }
}
