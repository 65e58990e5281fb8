//! Which import a client is for, where several share an address: by the name that it asks for in its TLS.

use super::{announced, egress::Client};
use crate::{
    client_hello::{BadHello, Read, Reader, UNRECOGNIZED_NAME},
    close::Closed,
    core::Core,
    metrics::reasons::HelloRefusal,
    socket::Socket,
};
use isthmus_control_api::{Import, Listen, ServerName, Table};
use std::{future::poll_fn, net::SocketAddr, sync::Arc, time::Duration};

/// How long a client may take to say whom it wants, all of it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that are read at once.
const CHUNK: usize = 4096;

/// What a client of an address with names has said, and whom it wants.
#[derive(Debug)]
pub(crate) struct Greeting {
    /// The import that it is for.
    listen: Listen,
    /// Who it is, a proxy having said so, or where it came from.
    pub(super) client: Option<SocketAddr>,
    /// All that was read, from its first byte of TLS on.
    pub(super) bytes: Vec<u8>,
}

/// Why there is no greeting.
enum Unread {
    /// It is to be told, or reset.
    Refused(HelloRefusal, Vec<u8>),
    /// It has gone.
    Gone,
}

/// The import that a client is for, and what it is known by, if there is one; the client is refused otherwise.
pub(super) async fn import_of(core: &Core, client: Client) -> Option<(Listen, Arc<Import>, Client)> {
    let found = known(core, &client);
    match found {
        Known::Import(listen, import) => return Some((listen, import, client)),
        Known::None => {
            // The listener went away while the client was in its queue.
            super::egress::reset(&client.socket);
            return None;
        }
        Known::Named => {}
    }
    // In a box: few clients come to such a listener.
    let client = Box::pin(greet(core, client)).await?;
    match known(core, &client) {
        Known::Import(listen, import) => Some((listen, import, client)),
        Known::Named | Known::None => {
            super::egress::reset(&client.socket);
            None
        }
    }
}

enum Known {
    Import(Listen, Arc<Import>),
    /// Its name decides.
    Named,
    None,
}

fn known(core: &Core, client: &Client) -> Known {
    let table = core.table.borrow();
    if let Some(greeting) = &client.greeting {
        let import = table.imports.get(&greeting.listen).cloned();
        return import.map_or(Known::None, |import| Known::Import(greeting.listen.clone(), import));
    }
    let listen = Listen::tcp(client.listen);
    let mut imports = table.imports_at(&listen);
    match imports.next() {
        None => Known::None,
        Some((listen, import)) if listen.server_name.is_none() && imports.next().is_none() => {
            Known::Import(listen.clone(), import.clone())
        }
        Some(_) => Known::Named,
    }
}

async fn greet(core: &Core, client: Client) -> Option<Client> {
    let Client { socket, listen, from, may_have_joined, .. } = client;
    let socket = Socket::new(socket).ok()?;
    let reading = tokio::time::timeout(PATIENCE, read(core, &socket, listen, from)).await;
    match reading.unwrap_or(Err(Unread::Refused(HelloRefusal::TooLate, Vec::new()))) {
        Ok(greeting) => {
            let greeting = Some(Box::new(greeting));
            return Some(Client { socket: socket.into_fd(), listen, from, may_have_joined, moved: false, greeting });
        }
        Err(Unread::Gone) => socket.reset_on_close(),
        Err(Unread::Refused(reason, alert)) => {
            core.counters.hello_refused(reason);
            tracing::debug!(%listen, reason = reason.as_str(), "refusing a client");
            if socket.try_send(&alert) > 0 {
                // A reset could overtake it.
                socket.finish();
            } else {
                socket.reset_on_close();
            }
        }
    }
    None
}

async fn read(core: &Core, socket: &Socket, listen: SocketAddr, from: Option<SocketAddr>) -> Result<Greeting, Unread> {
    // All imports of an address take the same proxies.
    let first = core.table.borrow().imports_at(&Listen::tcp(listen)).map(|(_, import)| import.clone()).next();
    let first: Arc<Import> = first.ok_or(Unread::Gone)?;
    let who = announced::who(core, &first, socket, from).await.map_err(|closed| match closed {
        Closed::BadProxyHeader => Unread::Refused(HelloRefusal::BadProxyHeader, Vec::new()),
        _ => Unread::Gone,
    })?;
    let (mut bytes, mut reader, mut taken) = (who.bytes, Reader::default(), 0);
    let name = loop {
        match reader.take(&bytes[taken..]).map_err(refused)? {
            Read::Whole(name) => break name,
            Read::More => taken = bytes.len(),
        }
        let reading = poll_fn(|cx| {
            let mut scratch = core.scratch.borrow_mut();
            socket.poll_recv(cx, &mut scratch[..CHUNK]).map_ok(|n| {
                bytes.extend_from_slice(&scratch[..n]);
                n
            })
        });
        if reading.await.map_err(|_| Unread::Gone)? == 0 {
            return Err(Unread::Gone);
        }
    };
    let listen = route(&core.table.borrow(), listen, name.as_deref())
        .map_err(|reason| Unread::Refused(reason, UNRECOGNIZED_NAME.into()))?;
    Ok(Greeting { listen, client: who.client, bytes })
}

fn refused(bad: BadHello) -> Unread {
    tracing::debug!(%bad, "no ClientHello");
    match bad {
        BadHello::NotTls => Unread::Refused(HelloRefusal::NotTls, Vec::new()),
        BadHello::TooLong => Unread::Refused(HelloRefusal::TooLong, Vec::new()),
        BadHello::Malformed { alert, .. } => Unread::Refused(HelloRefusal::Malformed, alert),
    }
}

/// Who is asked for: the one of that name, of its wildcard, or the one for all others.
fn route(table: &Table, listen: SocketAddr, name: Option<&str>) -> Result<Listen, HelloRefusal> {
    let known = |at: Listen| table.imports.contains_key(&at).then_some(at);
    let named = |name: ServerName| known(Listen::tls(listen, name));
    let exact = name.and_then(|name| named(name.parse().ok()?));
    let wildcard = || name.and_then(|name| named(ServerName::wildcard_of(name)?));
    let found = exact.or_else(wildcard).or_else(|| known(Listen::tcp(listen)));
    found.ok_or(if name.is_some() { HelloRefusal::UnknownName } else { HelloRefusal::NoName })
}

#[cfg(test)]
mod tests {
    use super::*;
    use isthmus_control_api::{Affinity, ServicePort};

    fn table(listens: &[&str]) -> Table {
        let import = Arc::new(Import {
            service: ServicePort::tcp("shop/api".parse().unwrap(), 443),
            affinity: Affinity::None,
            clusters: Default::default(),
            weights: None,
            sticky: false,
            policy: Arc::default(),
        });
        Table {
            imports: listens.iter().map(|listen| (listen.parse().unwrap(), import.clone())).collect(),
            ..Table::default()
        }
    }

    #[test]
    fn the_exact_name_comes_before_its_wildcard_and_that_before_the_others() {
        const AT: &str = "127.0.0.1:443";
        let [exact, wildcard] = ["api.example", "*.example"].map(|name| format!("{AT}/tls/{name}"));
        let (all, elsewhere) = (table(&[AT, &exact, &wildcard]), "127.0.0.1:444/tls/web.test");
        let route = |table: &Table, name| route(table, AT.parse().unwrap(), name).map(|listen| listen.to_string());
        for (name, found) in [
            (Some("api.example"), &exact[..]),
            (Some("web.example"), &wildcard),
            (Some("a.web.example"), AT),
            (Some("example"), AT),
            (None, AT),
        ] {
            assert_eq!(route(&all, name).as_deref(), Ok(found), "{name:?}");
        }
        let named = table(&[&exact, elsewhere]);
        assert_eq!(route(&named, Some("web.test")), Err(HelloRefusal::UnknownName));
        assert_eq!(route(&named, Some("a b")), Err(HelloRefusal::UnknownName));
        assert_eq!(route(&named, None), Err(HelloRefusal::NoName));
    }
}
