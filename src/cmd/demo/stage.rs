//! Where everything happens: the places, their addresses, and the WAN that can be cut.

use super::{
    error::{Doing, Error},
    layout::{GATEWAY, Layout, POD_A, POD_B, WAN_EAST, WAN_WEST},
    place::Place,
    preflight::Tools,
    process::Crew,
    relay::Relay,
};
use isthmus_wan::{Attachment, Impairments, Prefix, Tun, Wan as Emulator};
use std::{net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

/// How long `ip` or `nft` may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Drops whatever the WAN would forward. Nothing is closed and nobody is told.
const CUT: &str = "add table inet isthmus_demo; \
    add chain inet isthmus_demo cut { type filter hook forward priority 0; policy drop; }";
/// Ends that.
const RESTORE: &str = "delete table inet isthmus_demo";
/// The emulated WAN's dice: the same in each run.
const SEED: u64 = 1;
/// How many round trips more a request may take because of the WAN: what is lost is sent again.
const SLACK: u32 = 10;

/// The places of both clusters.
#[derive(Debug)]
pub(super) struct Stage {
    /// Who has which address.
    pub(super) layout: Layout,
    /// West's client.
    pub(super) client: Place,
    /// West's gateway.
    pub(super) west: Place,
    /// East's gateway.
    pub(super) east: Place,
    /// East's pods, which serve.
    pub(super) pods: [Place; 2],
    wan: Wan,
}

/// What lies between the clusters.
#[derive(Debug)]
enum Wan {
    Namespace(Place),
    Emulator(Arc<Emulator>, Impairments),
    Relay(Relay),
}

impl Stage {
    /// Makes the namespaces and joins them: the clusters by a namespace that routes, or by an emulated WAN.
    pub(super) async fn of_namespaces(
        tools: &Tools,
        crew: &mut Crew,
        emulated: Option<Impairments>,
    ) -> Result<Self, Error> {
        let (client, west, east, pods) = (namespace()?, namespace()?, namespace()?, [namespace()?, namespace()?]);
        let mut ip = Ip { program: tools.path("ip"), crew };
        for place in [&client, &west, &east, &pods[0], &pods[1]] {
            ip.run(place, "link set lo up").await?;
        }
        ip.join_pods(&west, &[(&client, POD_A)]).await?;
        ip.join_pods(&east, &[(&pods[0], POD_A), (&pods[1], POD_B)]).await?;
        let wan = match emulated {
            None => ip.route_between(&west, &east).await?,
            Some(each_way) => ip.emulate_between(&west, &east, each_way).await?,
        };
        Ok(Self { layout: Layout::of_namespaces(), client, west, east, pods, wan })
    }

    /// Chooses addresses of 127.0.0.0/8 and starts the relay.
    pub(super) fn of_loopback() -> Result<Self, Error> {
        let (layout, listener) = Layout::of_loopback().doing("find free ports on 127.0.0.0/8")?;
        let relay = Relay::start(listener, layout.east.tunnel).doing("start the relay")?;
        let here = Place::here;
        Ok(Self { layout, client: here(), west: here(), east: here(), pods: [here(), here()], wan: Wan::Relay(relay) })
    }

    /// What the WAN says to a packet for a pod. It must know no way.
    pub(super) async fn refusal_of_wan(&self, tools: &Tools, crew: &mut Crew) -> Result<Option<String>, Error> {
        let wan = match &self.wan {
            Wan::Namespace(wan) => wan,
            Wan::Emulator(wan, _) => return refusal_of_emulator(wan).map(Some),
            Wan::Relay(_) => return Ok(None),
        };
        let mut command = wan.command(tools.path("ip"));
        command.args(["route", "get"]).arg(POD_A.to_string());
        let asked = crew.run(command, LIMIT).await?;
        if asked.succeeded() {
            return Err(Error::Routed { address: POD_A.to_string(), route: asked.stdout.trim().to_owned() });
        }
        Ok(Some(asked.stderr.trim().trim_start_matches("RTNETLINK answers: ").to_owned()))
    }

    /// From now on the WAN loses everything.
    pub(super) async fn cut(&self, tools: &Tools, crew: &mut Crew) -> Result<(), Error> {
        self.set_open(false, CUT, tools, crew).await
    }

    /// From now on the WAN loses nothing.
    pub(super) async fn restore(&self, tools: &Tools, crew: &mut Crew) -> Result<(), Error> {
        self.set_open(true, RESTORE, tools, crew).await
    }

    /// An error if a part of the stage that runs by itself has ended.
    pub(super) fn check(&self) -> Result<(), Error> {
        match &self.wan {
            Wan::Relay(relay) => relay.check(),
            Wan::Emulator(wan, _) => Ok(wan.unrouted().map(drop)?),
            Wan::Namespace(_) => Ok(()),
        }
    }

    /// The emulated WAN, if there is one.
    pub(super) fn emulator(&self) -> Option<Arc<Emulator>> {
        if let Wan::Emulator(wan, _) = &self.wan { Some(Arc::clone(wan)) } else { None }
    }

    /// How much longer a request may take because of the WAN.
    pub(super) fn slack(&self) -> Duration {
        if let Wan::Emulator(_, each_way) = &self.wan { each_way.round_trip() * SLACK } else { Duration::ZERO }
    }

    async fn set_open(&self, open: bool, rules: &str, tools: &Tools, crew: &mut Crew) -> Result<(), Error> {
        match &self.wan {
            Wan::Namespace(wan) => {
                let mut command = wan.command(tools.path("nft"));
                command.arg(rules);
                crew.run(command, LIMIT).await?.ok().map(drop)
            }
            Wan::Emulator(wan, _) => Ok(if open { wan.restore() } else { wan.cut() }?),
            Wan::Relay(relay) => {
                relay.set_open(open);
                Ok(())
            }
        }
    }
}

/// Runs `ip` in one place after the other.
struct Ip<'a> {
    program: &'a Path,
    crew: &'a mut Crew,
}

impl Ip<'_> {
    async fn run(&mut self, place: &Place, words: &str) -> Result<(), Error> {
        let mut command = place.command(self.program);
        command.args(words.split(' '));
        self.crew.run(command, LIMIT).await?.ok().map(drop)
    }

    /// A bridge in the gateway's namespace, with the gateway's own address and a leg to each pod.
    async fn join_pods(&mut self, gateway: &Place, pods: &[(&Place, Ipv4Addr)]) -> Result<(), Error> {
        self.run(gateway, "link add pods type bridge").await?;
        self.run(gateway, &format!("addr add {GATEWAY}/24 dev pods")).await?;
        self.run(gateway, "link set pods up").await?;
        for (n, (pod, address)) in pods.iter().enumerate() {
            self.run(gateway, &format!("link add pod{n} type veth peer name eth0 netns {}", pod.path())).await?;
            self.run(gateway, &format!("link set pod{n} master pods up")).await?;
            self.run(pod, &format!("addr add {address}/24 dev eth0")).await?;
            self.run(pod, "link set eth0 up").await?;
            self.run(pod, &format!("route add default via {GATEWAY}")).await?;
        }
        Ok(())
    }

    /// A namespace as the router between the clusters.
    async fn route_between(&mut self, west: &Place, east: &Place) -> Result<Wan, Error> {
        let wan = namespace()?;
        self.run(&wan, "link set lo up").await?;
        self.join_wan(&wan, "west", west, WAN_WEST).await?;
        self.join_wan(&wan, "east", east, WAN_EAST).await?;
        forward(&wan)?;
        Ok(Wan::Namespace(wan))
    }

    /// An emulated WAN between the clusters.
    async fn emulate_between(&mut self, west: &Place, east: &Place, each_way: Impairments) -> Result<Wan, Error> {
        let mut attachments = Vec::new();
        for (name, gateway, [_, own]) in [("west", west, WAN_WEST), ("east", east, WAN_EAST)] {
            let making = gateway.thread("tun", || Tun::create("wan")).doing("start a thread")?;
            let tun = making.join().map_err(|_| Error::Thread("tun"))?;
            let tun = tun.doing("make a TUN device for the emulated WAN (it needs /dev/net/tun)")?;
            self.run(gateway, &format!("addr add {own}/24 dev wan")).await?;
            self.run(gateway, "link set wan up").await?;
            self.run(gateway, "route add default dev wan").await?;
            attachments.push(Attachment { name: name.to_owned(), tun, prefixes: vec![Prefix::new(own.into(), 24)] });
        }
        Ok(Wan::Emulator(Arc::new(Emulator::start(attachments, each_way, SEED)?), each_way))
    }

    /// A leg between the WAN's router and a gateway, which routes everything it does not know to it.
    async fn join_wan(
        &mut self,
        wan: &Place,
        name: &str,
        gateway: &Place,
        addresses: [Ipv4Addr; 2],
    ) -> Result<(), Error> {
        let [router, own] = addresses;
        self.run(wan, &format!("link add {name} type veth peer name wan netns {}", gateway.path())).await?;
        self.run(wan, &format!("addr add {router}/24 dev {name}")).await?;
        self.run(wan, &format!("link set {name} up")).await?;
        self.run(gateway, &format!("addr add {own}/24 dev wan")).await?;
        self.run(gateway, "link set wan up").await?;
        self.run(gateway, &format!("route add default via {router}")).await
    }
}

fn namespace() -> Result<Place, Error> {
    Place::namespace().doing("make a network namespace (see `isthmus demo --loopback`)")
}

/// What the emulator answers to a packet for a pod. It must know no way.
fn refusal_of_emulator(wan: &Emulator) -> Result<String, Error> {
    match wan.routes(POD_A.into())[..] {
        [] => Ok("Network is unreachable".into()),
        ref routes => Err(Error::Routed { address: POD_A.to_string(), route: routes.join(", ") }),
    }
}

/// Makes the WAN a router.
fn forward(wan: &Place) -> Result<(), Error> {
    let write = || std::fs::write("/proc/sys/net/ipv4/ip_forward", "1");
    let thread = wan.thread("forward", write).doing("start a thread")?;
    thread.join().map_err(|_| Error::Thread("forward"))?.doing("turn on forwarding in the WAN's namespace")
}
