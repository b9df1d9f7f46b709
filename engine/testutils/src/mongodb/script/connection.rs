//! The threads: one listens, and one serves each connection.

use std::any::Any;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use bson::{Bson, RawDocumentBuf, doc};

use super::wire::{self, Request};
use super::{Command, Reply, State, lock, reply};

/// Takes connections until the server is closed, on the thread that it returns.
pub(super) fn listen(state: &Arc<State>, listener: TcpListener) -> JoinHandle<()> {
    let shared = Arc::clone(state);
    thread::spawn(move || {
        for stream in listener.incoming() {
            if shared.is_closed.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let id = shared.connections_made.fetch_add(1, Ordering::SeqCst) + 1;
            let Ok(for_closing) = stream.try_clone() else { continue };
            lock(&shared.connections).insert(id, for_closing);
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                // Its end, by an error or not, is the end of the connection.
                let _ = stream.set_nodelay(true);
                let _ = match &shared.tls {
                    Some(tls) => over_tls(&shared, &stream, id, tls),
                    None => serve(&shared, &mut &stream, id),
                };
                let _ = stream.shutdown(Shutdown::Both);
                lock(&shared.connections).remove(&id);
            });
        }
    })
}

/// As [`serve`], once the client has shown its certificate.
fn over_tls(
    state: &State,
    stream: &TcpStream,
    id: u64,
    tls: &Arc<rustls::ServerConfig>,
) -> std::io::Result<()> {
    let session = rustls::ServerConnection::new(Arc::clone(tls)).map_err(std::io::Error::other)?;
    serve(state, &mut rustls::StreamOwned::new(session, stream), id)
}

/// Answers the requests of one connection until either side closes it.
fn serve(state: &State, mut stream: &mut (impl Read + Write), id: u64) -> std::io::Result<()> {
    while let Some(request) = wire::read(&mut stream)? {
        let command = command(&request, id);
        state.board().seen.push(command.clone());
        let mut reply = match built_in(state, &command) {
            Some(reply) => reply,
            None => scripted(state, &command),
        };
        while let Reply::Late(time, later) = reply {
            thread::sleep(time);
            reply = *later;
        }
        match reply {
            Reply::Document(document) if !request.is_one_way => {
                wire::write(&mut stream, &request, &completed(state, document))?;
            }
            Reply::Drop => return Ok(()),
            Reply::Shutdown => {
                state.close();
                return Ok(());
            }
            Reply::Document(_) | Reply::Silence | Reply::Late(..) => {}
        }
    }
    Ok(())
}

fn command(request: &Request, connection: u64) -> Command {
    let document = request.document.clone();
    let name = match document.iter().next() {
        Some(Ok((name, _))) => name.as_str().to_owned(),
        _ => String::new(),
    };
    let database = request.database.clone();
    let database = database.unwrap_or_else(|| document.get_str("$db").unwrap_or_default().to_owned());
    Command { name, database, document, connection }
}

/// What every server answers in much the same way.
fn built_in(state: &State, command: &Command) -> Option<Reply> {
    let board = state.board();
    let reply = match command.name.as_str() {
        "hello" | "isMaster" | "ismaster" => {
            let own = state.address.to_string();
            board.persona.hello(&command.document, &own, board.cluster_time, command.connection)
        }
        "ping" | "endSessions" => doc! {},
        "buildInfo" | "buildinfo" => board.persona.build_info(),
        "killCursors" => {
            let killed = command.document.get("cursors").ok().flatten();
            let killed = killed.and_then(|ids| Bson::try_from(ids).ok());
            let none = || Bson::Array(Vec::new());
            doc! {
                "cursorsKilled": killed.unwrap_or_else(none),
                "cursorsNotFound": none(),
                "cursorsAlive": none(),
                "cursorsUnknown": none(),
            }
        }
        _ => return None,
    };
    Some(reply.into())
}

fn scripted(state: &State, command: &Command) -> Reply {
    let answered = {
        let mut script = lock(&state.script);
        catch_unwind(AssertUnwindSafe(|| script(command)))
    };
    answered.unwrap_or_else(|panic| {
        state.board().panic.get_or_insert(panic_message(panic.as_ref()));
        Reply::Drop
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn completed(state: &State, mut document: RawDocumentBuf) -> RawDocumentBuf {
    let board = state.board();
    let time = board.persona.has_cluster_time().then_some(board.cluster_time);
    reply::complete(&mut document, time);
    document
}
