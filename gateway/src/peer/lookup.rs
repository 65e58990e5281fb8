//! A core's lookups of names. Each runs in a thread that cannot be told to stop, so that there is one of a name at a time.

use crate::socket::udp;
use std::{cell::RefCell, collections::BTreeMap, io, net::IpAddr, net::ToSocketAddrs as _, time::Duration};
use tokio::sync::watch;

/// How long a lookup is waited for. It goes on after that; who asks again meanwhile waits for the same one.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lookups under way at once; more are refused.
const MOST: usize = 1024;

/// What a name was found to have, or why nothing was found, in one line.
pub(super) type Found = Result<Vec<IpAddr>, String>;

/// The lookups of one core that are under way, by their names.
#[derive(Debug, Default)]
pub(super) struct Lookups(RefCell<BTreeMap<String, Answer>>);

/// `None` until there is one.
type Answer = watch::Receiver<Option<Found>>;

/// Asks the system. It may take as long as it wants.
type Resolve = Box<dyn FnOnce(&str) -> io::Result<Vec<IpAddr>> + Send>;

impl Lookups {
    /// The addresses that `host` has.
    pub(super) async fn find(&self, host: &str) -> Found {
        self.find_with(host, Box::new(resolve), PATIENCE).await
    }

    async fn find_with(&self, host: &str, resolve: Resolve, patience: Duration) -> Found {
        let mut answer = self.ask(host, resolve)?;
        match tokio::time::timeout(patience, answer.wait_for(Option::is_some)).await {
            Ok(Ok(found)) => found.clone().unwrap_or_else(|| Ok(Vec::new())),
            Ok(Err(_)) => Err(format!("the lookup of {host} ended without an answer")),
            Err(_) => Err(format!("looking up {host} took over {} s", patience.as_secs())),
        }
    }

    /// Begins a lookup, unless one of the same name is under way.
    fn ask(&self, host: &str, resolve: Resolve) -> Result<Answer, String> {
        let mut under_way = self.0.borrow_mut();
        under_way.retain(|_, answer| answer.borrow().is_none() && answer.has_changed().is_ok());
        if let Some(answer) = under_way.get(host) {
            return Ok(answer.clone());
        }
        if under_way.len() >= MOST {
            return Err(format!("{host} is not looked up: {MOST} other lookups are under way, and none ends"));
        }
        let (done, answer) = watch::channel(None);
        let name = host.to_owned();
        // It ends by itself, and the core does not wait for it: see `start_core`.
        drop(tokio::task::spawn_blocking(move || {
            let found = resolve(&name).map_err(|error| format!("cannot look up {name}: {error}"));
            done.send_replace(Some(found));
        }));
        under_way.insert(host.to_owned(), answer.clone());
        Ok(answer)
    }
}

#[expect(clippy::disallowed_methods, reason = "it runs in a thread of its own, which may block")]
fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    let found = (host, 0).to_socket_addrs()?.map(|address| address.ip()).collect();
    Ok(reachable(found, udp::has_route))
}

/// Without those that there is no route to from here, as of a family that this host has only at home; all of them if that leaves none.
fn reachable(found: Vec<IpAddr>, has_route: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let reachable: Vec<IpAddr> = found.iter().copied().filter(|&address| has_route(address)).collect();
    if reachable.is_empty() { found } else { reachable }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    const SHORT: Duration = Duration::from_millis(1);
    const LONG: Duration = Duration::from_secs(60);

    /// Answers once it is told to.
    struct Slow {
        asked: Arc<AtomicUsize>,
        go: Vec<mpsc::SyncSender<()>>,
    }

    impl Slow {
        fn resolve(&mut self) -> Resolve {
            let (go, told) = mpsc::sync_channel(1);
            self.go.push(go);
            let asked = self.asked.clone();
            Box::new(move |_| {
                asked.fetch_add(1, Ordering::SeqCst);
                // Nobody tells any more: the test is over.
                let _ = told.recv();
                Ok(vec![IpAddr::from([192, 0, 2, 1])])
            })
        }
    }

    #[tokio::test]
    async fn a_name_whose_lookup_hangs_is_not_looked_up_a_second_time() {
        let (lookups, asked) = (Lookups::default(), Arc::new(AtomicUsize::new(0)));
        let mut slow = Slow { asked: asked.clone(), go: Vec::new() };
        for _ in 0..20 {
            let found = lookups.find_with("gw.east", slow.resolve(), SHORT).await;
            assert_eq!(found, Err("looking up gw.east took over 0 s".into()));
        }
        let found = lookups.find_with("gw.west", Box::new(|_| Ok(Vec::new())), LONG).await;
        assert_eq!(found, Ok(vec![]), "another name is");
        // The one that hangs gets through: it is the answer to who asks meanwhile.
        slow.go.remove(0).send(()).unwrap();
        let found = lookups.find_with("gw.east", Box::new(|_| Ok(vec![[192, 0, 2, 1].into()])), LONG).await;
        assert_eq!(found, Ok(vec![[192, 0, 2, 1].into()]));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_name_is_looked_up_anew_once_its_lookup_has_ended() {
        let lookups = Lookups::default();
        for last in 1..4 {
            let address = IpAddr::from([192, 0, 2, last]);
            let found = lookups.find_with("gw.east", Box::new(move |_| Ok(vec![address])), LONG).await;
            assert_eq!(found, Ok(vec![address]));
        }
        let failing: Resolve = Box::new(|_| Err(io::Error::other("no answer")));
        let found = lookups.find_with("gw.east", failing, LONG).await;
        assert_eq!(found, Err("cannot look up gw.east: no answer".into()));
        let panics: Resolve = Box::new(|_| panic!("on purpose"));
        let found = lookups.find_with("gw.east", panics, LONG).await;
        assert_eq!(found, Err("the lookup of gw.east ended without an answer".into()));
        assert!(lookups.find_with("gw.east", Box::new(|_| Ok(vec![])), LONG).await.is_ok());
    }

    #[test]
    fn addresses_without_a_route_are_left_out_as_long_as_others_remain() {
        let [four, six] = ["192.0.2.1", "2001:db8::1"].map(|address| address.parse::<IpAddr>().unwrap());
        assert_eq!(reachable(vec![six, four], |address| address.is_ipv4()), [four]);
        assert_eq!(reachable(vec![six, four], |_| true), [six, four]);
        assert_eq!(reachable(vec![six], |address| address.is_ipv4()), [six], "dialling it says why it fails");
    }

    #[tokio::test]
    async fn lookups_that_hang_are_bounded() {
        let (lookups, asked) = (Lookups::default(), Arc::new(AtomicUsize::new(0)));
        let mut slow = Slow { asked, go: Vec::new() };
        let waiting: Vec<_> = (0..MOST).map(|n| lookups.ask(&format!("gw{n}.east"), slow.resolve()).unwrap()).collect();
        let refused = lookups.ask("gw.east", slow.resolve()).unwrap_err();
        assert!(refused.contains("1024 other lookups are under way"), "{refused}");
        assert!(lookups.ask("gw0.east", slow.resolve()).is_ok(), "it is under way");
        drop((waiting, slow));
    }
}
