//! The console of real gateways in a real browser. It needs Node, Chromium, and `npm ci` in console/, and fails without.

#![allow(clippy::unwrap_used, reason = "every function here is part of a test, which a panic fails")]

use isthmus_tests::{
    Gateway, Netns, Nginx, Pair, Part, Surroundings, Topology, Transport, admin, eventually, load::Reuse, pair,
    topology::gateway,
};
use std::{
    fs,
    io::{BufRead, BufReader, Lines, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

/// `console/test/live.mjs`, which has the page open and says what it sees.
struct Browser {
    child: Child,
    to: ChildStdin,
    from: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    fn open(netns: &Netns, cluster: &str, service: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../console/test/live.mjs");
        let page = format!("http://{}/console/", admin::ADDRESS);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "node", script, &page, cluster, service]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = netns.run(move || command.spawn()).unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, to, from: BufReader::new(from).lines() }
    }

    /// The next that it says; it ends with an error where it does not see what it waits for.
    fn says(&mut self) -> String {
        let line = self.from.next();
        line.unwrap_or_else(|| panic!("the browser has ended: its error is above")).unwrap()
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.to, "{word}").unwrap();
    }

    /// No error was on its console.
    fn close(self) {
        let Self { mut child, to, .. } = self;
        drop(to);
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_link_that_is_cut_is_seen_within_two_seconds_and_so_is_its_return() {
    let topology = Topology::west_and_east();
    let east = topology.cluster("east");
    let _nginx = Nginx::start(east.pods(), &topology.dir().join("nginx"), pair::endpoint(), "hello");
    let pair = Pair::start(&topology, Transport::Tls, &[pair::endpoint()]);
    let load = pair.load(4, Reuse::ConnectionPerRequest, "hello");
    let mut browser = Browser::open(topology.cluster("west").edge(), "east", pair::SERVICE);
    assert_eq!(browser.says(), "up");
    browser.tell("cut");
    topology.cut_wan();
    let broken = browser.says();
    let millis: u64 = broken.strip_prefix("broken ").unwrap().parse().unwrap();
    assert!(Duration::from_millis(millis) <= Duration::from_secs(2), "{broken} ms");
    browser.tell("healed");
    topology.restore_wan();
    assert_eq!(browser.says(), "up");
    browser.tell("link");
    let history = browser.says();
    assert!(history.contains("up") && history.contains("tls") && history.contains("direct"), "{history}");
    browser.tell("service");
    assert_eq!(browser.says(), "service");
    let stream = browser.says();
    assert!(stream.contains("egress east") && stream.contains(" fin "), "{stream}");
    browser.close();
    drop(load);
}

#[test]
fn off_loopback_the_console_wants_its_token() {
    let topology = Topology::west_and_east();
    let west = topology.cluster("west");
    let address = gateway(admin::ADDRESS.port());
    let config = pair::west_config(&topology, Transport::Tls);
    let yaml = config.to_yaml().replace(&admin::ADDRESS.to_string(), &format!("0.0.0.0:{}", address.port()));
    let open = Gateway::start_part(west, Part::Both, &yaml, &Surroundings::default());
    let ask = |path: &str| admin::get(west.pods(), address, path).unwrap();
    let (code, why) = ask("/console/");
    assert!(code == 403 && why.contains("set console.tokenFile"), "{code} {why}");
    assert_eq!(ask("/console/events").0, 403);
    assert_eq!(ask("/livez").0, 200);
    drop(open);

    let token = topology.dir().join("console-token");
    let with_token = format!("{yaml}console: {{tokenFile: {:?}}}\n", token.display().to_string());
    let mut refused = Gateway::launch(west, Part::Both, &with_token, &Surroundings::default());
    eventually("it does not start without its token", || match refused.runs() {
        false => Ok(()),
        true => Err(refused.log()),
    });
    refused.wait_log(&["console.tokenFile: cannot read"]);
    fs::write(&token, "a token of ours, as long as need be".replace([' ', ','], "-")).unwrap();
    refused.restart();
    eventually("the console asks for the token", || match admin::get(west.pods(), address, "/console/") {
        Ok((401, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let bearer = "Authorization: Bearer a-token-of-ours--as-long-as-need-be";
    let page = west
        .pods()
        .exec("curl", &["-sS", "--fail", "--compressed", "-H", bearer, &format!("http://{address}/console/")]);
    assert!(page.contains("<title>Isthmus console</title>"), "{page}");
}
