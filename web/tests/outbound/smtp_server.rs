//! A mail server that follows a script: what it answers to each command, and where it hangs or hangs up.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What happens at a command.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// This answer.
    Say(&'static str),
    /// Nothing, for ever.
    Hang,
    /// The connection is closed.
    Drop,
    /// An answer that never ends, a character at a time.
    Drip,
}

/// What came.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) connections: AtomicUsize,
    pub(crate) mails: Mutex<Vec<String>>,
    pub(crate) commands: Mutex<Vec<String>>,
}

pub(crate) struct SmtpServer {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Seen>,
}

type Script = HashMap<&'static str, Act>;

impl SmtpServer {
    /// Takes every mail but for what `script` says: by `banner`, a command's first word, `dot`, or
    /// `MAIL again` for a sender after `RSET`.
    pub(crate) async fn start(script: &[(&'static str, Act)]) -> Self {
        Self::starting_with(&[script]).await
    }

    /// The first connection follows the first script, and so on; the last one is for all that follow.
    pub(crate) async fn starting_with(scripts: &[&[(&'static str, Act)]]) -> Self {
        let scripts: Vec<Script> =
            scripts.iter().map(|script| script.iter().copied().collect()).collect();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::<Seen>::default());
        let server_seen = seen.clone();
        actix_web::rt::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let number = server_seen.connections.fetch_add(1, Ordering::SeqCst);
                let script = scripts[number.min(scripts.len() - 1)].clone();
                let seen = server_seen.clone();
                actix_web::rt::spawn(async move { drop(serve(socket, script, &seen).await) });
            }
        });
        Self { address, seen }
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }
}

async fn serve(socket: TcpStream, script: Script, seen: &Seen) -> std::io::Result<()> {
    let mut socket = BufReader::new(socket);
    act(&mut socket, &script, "banner", "220 mail.test ESMTP").await?;
    let mut was_reset = false;
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        seen.commands.lock().push(line.trim().to_owned());
        let verb = line.split([' ', ':', '\r']).next().unwrap_or_default().to_ascii_uppercase();
        let usual = match verb.as_str() {
            "EHLO" => "250-mail.test\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME",
            "AUTH" => "235 2.7.0 welcome",
            "DATA" => "354 go ahead",
            "QUIT" => "221 bye",
            _ => "250 2.0.0 ok",
        };
        was_reset |= verb == "RSET";
        let at = if was_reset && verb == "MAIL" { "MAIL again" } else { &verb };
        if !act(&mut socket, &script, at, usual).await? || verb != "DATA" {
            continue;
        }
        let mut mail = String::new();
        while !mail.ends_with("\r\n.\r\n") {
            if socket.read_line(&mut mail).await? == 0 {
                return Ok(());
            }
        }
        seen.mails.lock().push(mail);
        act(&mut socket, &script, "dot", "250 2.0.0 queued as 1").await?;
    }
}

/// Whether the answer was a good one.
async fn act(
    socket: &mut BufReader<TcpStream>,
    script: &Script,
    at: &str,
    usual: &'static str,
) -> std::io::Result<bool> {
    match script.get(at).copied().unwrap_or(Act::Say(usual)) {
        Act::Say(answer) => {
            socket.write_all(format!("{answer}\r\n").as_bytes()).await?;
            Ok(answer.starts_with(['2', '3']))
        }
        Act::Hang => std::future::pending().await,
        Act::Drop => {
            socket.shutdown().await?;
            Err(std::io::ErrorKind::ConnectionAborted.into())
        }
        Act::Drip => loop {
            socket.write_all(b"2").await?;
            tokio::task::yield_now().await;
        },
    }
}
