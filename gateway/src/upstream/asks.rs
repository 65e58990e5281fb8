//! ● Which endpoints are being asked whether they take connections from the gateway's own address, as those from clients' own have failed
//! (docs/transparent-source.md). Clients bring such failures about as often as they like: a core asks an endpoint once at a time, and few
//! endpoints at once.

use std::{cell::RefCell, collections::HashMap, net::SocketAddr, rc::Rc};

/// Endpoints that a core asks at once.
pub(super) const MOST: usize = 16;

/// One core's: how many failures there were of connections to each endpoint since it began to be asked.
#[derive(Debug, Default)]
pub(crate) struct Asks(RefCell<HashMap<SocketAddr, u64>>);

/// What becomes of a failure.
#[derive(Debug)]
pub(super) enum Then {
    /// The endpoint is to be asked.
    Ask(Ask),
    /// It is being asked: what it answers is true of this one, too.
    Wait,
    /// Too many are being asked: nobody knows whose fault it was.
    Leave,
}

/// An endpoint that is being asked, as long as this lives.
#[derive(Debug)]
pub(super) struct Ask {
    asks: Rc<Asks>,
    endpoint: SocketAddr,
}

impl Asks {
    /// A connection to `endpoint` from a client's own address has failed.
    pub(super) fn failed(self: &Rc<Self>, endpoint: SocketAddr) -> Then {
        let mut asked = self.0.borrow_mut();
        if let Some(failures) = asked.get_mut(&endpoint) {
            *failures += 1;
            return Then::Wait;
        }
        if asked.len() >= MOST {
            return Then::Leave;
        }
        asked.insert(endpoint, 1);
        Then::Ask(Ask { asks: self.clone(), endpoint })
    }
}

impl Ask {
    /// How many failures the answer is for.
    pub(super) fn failures(&self) -> u64 {
        self.asks.0.borrow().get(&self.endpoint).copied().unwrap_or_default()
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        self.asks.0.borrow_mut().remove(&self.endpoint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 2], port))
    }

    #[test]
    fn an_endpoint_is_asked_once_at_a_time() {
        let asks = Rc::new(Asks::default());
        let Then::Ask(ask) = asks.failed(at(1)) else { panic!("nobody is asked yet") };
        assert!(matches!(asks.failed(at(1)), Then::Wait));
        assert!(matches!(asks.failed(at(1)), Then::Wait));
        let Then::Ask(other) = asks.failed(at(2)) else { panic!("it is another one") };
        assert_eq!((ask.failures(), other.failures()), (3, 1));
        drop(ask);
        let Then::Ask(again) = asks.failed(at(1)) else { panic!("it has answered") };
        assert_eq!(again.failures(), 1);
    }

    proptest! {
        /// However failures and answers come: no more than so many are asked, and each failure is answered or left.
        #[test]
        fn what_is_asked_is_bounded_and_each_failure_has_one_end(
            steps in prop::collection::vec((0_u16..24, any::<bool>()), 0..400)
        ) {
            let asks = Rc::new(Asks::default());
            let mut asking: HashMap<SocketAddr, Ask> = HashMap::new();
            let (mut failed, mut left, mut answered) = (0, 0, 0);
            for (port, answers) in steps {
                if answers {
                    answered += asking.remove(&at(port)).map_or(0, |ask| ask.failures());
                    continue;
                }
                failed += 1;
                match asks.failed(at(port)) {
                    Then::Ask(ask) => prop_assert!(asking.insert(at(port), ask).is_none()),
                    Then::Wait => prop_assert!(asking.contains_key(&at(port))),
                    Then::Leave => {
                        prop_assert!(asking.len() == MOST && !asking.contains_key(&at(port)));
                        left += 1;
                    }
                }
                prop_assert!(asking.len() <= MOST);
            }
            answered += asking.drain().map(|(_, ask)| ask.failures()).sum::<u64>();
            prop_assert_eq!(answered + left, failed);
            prop_assert!(asks.0.borrow().is_empty());
        }
    }
}
