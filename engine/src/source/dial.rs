//! Connecting to whichever address of a host answers first.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An address that neither takes nor refuses the connection for so long no longer keeps the next one
/// waiting (RFC 8305).
const HEAD_START: Duration = Duration::from_millis(250);

/// A TCP connection to one of these addresses and to no other. They are tried in turn, each with a
/// head start.
pub(super) async fn dial(addresses: &[SocketAddr]) -> Result<TcpStream, Error> {
    let mut attempts = FuturesUnordered::new();
    let mut last = None;
    for address in addresses {
        attempts.push(TcpStream::connect(address));
        if let Ok(Some(stream)) = timeout(HEAD_START, first(&mut attempts, &mut last)).await {
            return Ok(stream);
        }
    }
    let stream = first(&mut attempts, &mut last).await;
    stream.ok_or_else(|| last.unwrap_or_else(|| ErrorKind::AddrNotAvailable.into()))
}

/// The first attempt that succeeds; none when all have failed.
async fn first<F>(attempts: &mut FuturesUnordered<F>, last: &mut Option<Error>) -> Option<TcpStream>
where
    F: Future<Output = Result<TcpStream, Error>>,
{
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(stream) => return Some(stream),
            Err(error) => *last = Some(error),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn an_address_that_refuses_gives_way_to_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(dial(&[closed, open]).await.unwrap().peer_addr().unwrap(), open);
        assert_eq!(dial(&[closed]).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(dial(&[]).await.unwrap_err().kind(), ErrorKind::AddrNotAvailable);
    }
}
