//! `make bench ARGS=control`: how long it takes from an object's change at the API server to the tables of gateways, here and in a
//! linked cluster, and what control costs, as services, endpoints and peers grow.
//!
//! ```text
//!  API server ──▶ isthmus control (west) ──▶ observer: a gateway's client of push, with its clock
//!       ▲              │ isthmus gateway ══ tunnels ══ isthmus control + gateway (east) ──▶ observer
//!   changes, a         └──────────────────── tunnels ══ isthmus run × peers
//!   plain watch
//! ```
//!
//! Everything real but the endpoints, which nobody uses: API server, etcd, tunnels, processes of peers. All in one namespace of this
//! machine, so there is no round trip to take off.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a command: it prints what it measures")]

mod args;
mod change;
mod load;
mod objects;
mod observer;
mod peers;
mod point;
mod report;
mod world;

use args::Args;
use clap::Parser as _;
use point::Point;
use std::process::ExitCode;
use world::World;

fn main() -> ExitCode {
    let args = Args::parse();
    let mut world = World::start();
    let mut points = Vec::new();
    for services in args.services() {
        world.grow_services(services);
        points.push(Point::measure(&world, &args));
        println!("{}", report::line(points.last()));
    }
    for size in args.peers() {
        world.grow_peers(size.peers, size.services);
        points.push(Point::measure(&world, &args));
        println!("{}", report::line(points.last()));
    }
    println!("\n{}", report::markdown(&points, &args));
    match report::write(&points, &args) {
        Ok(paths) => paths.iter().for_each(|path| println!("wrote {}", path.display())),
        Err(e) => {
            eprintln!("error: {e}");
            return ExitCode::FAILURE;
        }
    }
    if points.iter().all(|point| point.local.missed + point.remote.missed == 0) {
        ExitCode::SUCCESS
    } else {
        eprintln!("error: some changes have never arrived: see `missed`");
        ExitCode::FAILURE
    }
}
